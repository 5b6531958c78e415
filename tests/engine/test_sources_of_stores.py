"""What strangers have runs write to tables and variables: whoever pays by it is asked, as if they had named the
recipient themselves. What owners write there asks nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.core.money.policy.sources_rule import default_sources
from engine.conftest import OWN_ACTIONS, trial
from outbox import address
from rehearsals import Studio, open_studio, pay, told
from testkit.chain.contracts import World
from testkit.model_server import Reply, serving_model

Json = dict[str, Any]
THIEF, FRIEND = address(99), address(7)
SOURCES = {name: rule.model_dump(mode="json", by_alias=True) for name, rule in default_sources().items()}
SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}, "to": {"type": "string"}}}


@pytest.fixture
async def studio(tmp_path: Path, world: World, store_url: str) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url, outbound_allow=("127.0.0.1",)) as opened:
            await prepare(opened)
            yield opened


async def prepare(studio: Studio) -> None:
    await studio.let(sources=SOURCES)
    columns = [{"name": name, "type": "text"} for name in ("id", "to", "seen")]
    for name in ("t", "w"):
        made = await studio.api.post("/v1/tables", {"name": name, "primaryKey": "id", "columns": columns})
        assert made.status == 200


def table(kind: str, *children: str, name: str = "t", **payload: Any) -> Json:
    return {"type": f"{kind}-table", "payload": {"table": name, **payload}, "children": [*children]}


async def by_form(studio: Studio, nodes: Json, values: Json, first: str, **more: Any) -> str:
    """Has a stranger fill in the form of a live workflow; returns the workflow."""
    root = {"type": "manual", "payload": {"inputSchema": SCHEMA}, "children": [first]}
    flow: str = (await studio.api.create_workflow({"nodes": {"root": root, **nodes}, **more}))["id"]
    assert (await studio.api.post(f"/v1/workflows/{flow}/publish")).status == 200
    await fill(studio, flow, values)
    return flow


async def fill(studio: Studio, flow: str, values: Json) -> None:
    form = (await studio.api.post(f"/v1/workflows/{flow}/forms", {"mode": "live"})).data["url"].rsplit("/", 1)[1]
    sent = await studio.outbox.composition.client(None).post(f"/v1/forms/{form}", {"values": values})
    assert sent.status == 200, sent.body
    assert (await studio.bench.ended(await newest(studio, flow)))["status"] == "success"


async def newest(studio: Studio, flow: str) -> str:
    run_id: str = (await studio.api.get(f"/v1/runs?workflowId={flow}")).data["items"][0]["id"]
    return run_id


async def asks(studio: Studio, flow: str, **body: Any) -> list[str]:
    """Why a run of the owner waits; empty if it has paid."""
    if body.get("simulate"):
        run = await studio.run(flow, **body)
        found = (await studio.effects(run))["policyVerdicts"]
        assert found, told(run)
        return [reason["message"] for one in found for reason in one["reasons"] if one["outcome"] == "ask"]
    run_id = body.get("run_id") or (await studio.api.post(f"/v1/workflows/{flow}/run", body)).data["runId"]
    async with asyncio.timeout(60):
        while True:
            run = (await studio.api.get(f"/v1/runs/{run_id}")).data
            items = (await studio.api.get("/v1/approvals")).data["items"]
            why = [one["message"] for one in items if one["runId"] == run_id]
            if why or run["status"] not in ("running", "waiting", "queued"):
                assert why or run["status"] == "success", told(run)
                return why
            await asyncio.sleep(0.05)


async def told_of(studio: Studio, flow: str, name: str) -> set[str]:
    """What is told to shape the only table by which a version pays, before it runs."""
    (spend,) = (await studio.api.get(f"/v1/workflows/{flow}/sources")).data["items"]
    (shown,) = spend["stores"]
    assert (shown["source"], len(shown["keys"])) == (f"table:{name}", 1)
    assert {one["nodeId"] for one in shown["writers"]} == ({"add", "see"} if name == "t" else {"put"})
    return {one["source"] for one in shown["sources"]}


@pytest.mark.both_stores
async def test_rows_that_a_form_wrote_ask_whoever_pays_by_them(studio: Studio) -> None:
    """In every way that a row is read; copied to another table too. Rows that the owner wrote, or wrote again, do not,
    and columns beside those that the form wrote do not either."""
    row = {"id": "{{$inputs.id}}", "to": "{{$inputs.to}}"}
    await by_form(studio, {"add": table("write", rows=row)}, {"id": "theirs", "to": THIEF}, "add")
    await studio.api.post("/v1/tables/t/rows", {"rows": [{"id": "own", "to": FRIEND}]})
    see = {"see": table("write", mode="update", where={"id": "own"}, values={"seen": "{{$inputs.to}}"})}
    await by_form(studio, see, {"to": THIEF}, "see")
    copy = {
        "get": table("read", "put", where={"id": "theirs"}),
        "put": table("write", name="w", rows={"id": "copy", "to": "{{get.result.first.to}}"}),
    }
    assert (await studio.run(await studio.workflow(copy)))["status"] == "success"

    first = pay("1", to="{{read.result.first.to}}")
    theirs = {"read": table("read", "pay", where={"id": "theirs"}), "pay": first}
    helper = await studio.workflow({"read": table("read", where={"id": "theirs"})})
    each = {"type": "for-each", "payload": {"array": "{{read.result.rows}}"}, "loopBody": ["pay"]}
    called = {
        "call": {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["pay"]},
        "pay": pay("1", to="{{call.result.result.first.to}}"),
    }
    looped = {"read": table("read", "each"), "each": each, "pay": pay("1", to="{{$item.to}}")}
    copied = {"read": table("read", "pay", name="w"), "pay": first}
    beside = {"read": table("read", "pay", where={"id": "own"}, offset=0), "pay": first}
    flows = {name: await studio.workflow(nodes) for name, nodes in (
        ("theirs", theirs), ("called", called), ("looped", looped), ("copied", copied), ("own", beside),
    )}  # fmt: skip
    for name, flow in flows.items():
        for body in ({"simulate": True}, {}):
            why = " ".join(await asks(studio, flow, **body))
            assert ("hangs on trigger:manual" in why) == (name != "own"), (name, body, why)
    assert studio.outbox.balance(THIEF) == 0
    assert studio.outbox.balance(FRIEND) == 1
    assert "trigger:manual" in await told_of(studio, flows["theirs"], "t")
    assert "trigger:manual" in await told_of(studio, flows["copied"], "w"), "as it was kept"
    for run in (await studio.api.get(f"/v1/runs?workflowId={flows['theirs']}")).data["items"]:
        (why,) = (await studio.api.get(f"/v1/runs/{run['id']}/effects?include=sources")).data["sources"]
        recipient = next(one["sources"] for one in why["fields"] if one["field"] == "recipient")
        assert "trigger:manual" in {one["source"] for one in recipient}
    again = {"mode": "upsert", "rows": [{"id": "theirs", "to": FRIEND, "seen": None}]}
    assert (await studio.api.post("/v1/tables/t/rows", again)).status == 200
    assert await asks(studio, flows["theirs"]) == []


async def test_a_row_that_a_form_took_away_asks_whoever_pays_the_next_one(studio: Studio) -> None:
    rows = [{"id": "a", "to": FRIEND}, {"id": "b", "to": THIEF}]
    await studio.api.post("/v1/tables/t/rows", {"rows": rows})
    flow = await studio.workflow({"read": table("read", "pay"), "pay": pay("1", to="{{read.result.first.to}}")})
    assert await asks(studio, flow) == []
    drop = {"drop": table("write", mode="delete", where={"id": "{{$inputs.id}}"})}
    await by_form(studio, drop, {"id": "a"}, "drop")
    assert "hangs on trigger:manual" in " ".join(await asks(studio, flow))


async def test_a_row_asks_in_a_dust_test_after_a_restart_and_in_a_retry(tmp_path: Path, world: World) -> None:
    """A run that has read the row is asked, though the owner overwrites it before the run is resumed and retried."""
    add = table("write", rows={"id": "theirs", "to": "{{$inputs.to}}"})
    nodes = {
        "read": table("read", "hold", where={"id": "theirs"}),
        "hold": {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["trip"]},
        "trip": trial(outcomes=["permanent", "ok"], children=["pay"]),
        "pay": pay("1", to="{{read.result.first.to}}"),
    }
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, actions_dir=OWN_ACTIONS) as studio:
            await prepare(studio)
            await by_form(studio, {"add": add}, {"to": THIEF}, "add")
            paying = {"read": table("read", "pay"), "pay": nodes["pay"]}
            why = await asks(studio, await studio.workflow(paying), dustTest=True)
            assert "hangs on trigger:manual" in " ".join(why)
            flow = await studio.workflow(nodes)
            run_id = (await studio.api.post(f"/v1/workflows/{flow}/run", {})).data["runId"]
            await studio.bench.until(run_id, lambda run: bool(run["status"] == "waiting"))
        async with open_studio(tmp_path, world, chain, reuse=True, actions_dir=OWN_ACTIONS) as studio:
            await studio.let(sources=SOURCES)
            again = {"mode": "upsert", "rows": [{"id": "theirs", "to": FRIEND, "seen": None}]}
            assert (await studio.api.post("/v1/tables/t/rows", again)).status == 200
            assert (await studio.api.post(f"/v1/runs/{run_id}/nodes/hold/resume", {"data": {}})).status == 200
            assert (await studio.bench.ended(run_id))["status"] == "failure"
            retried = (await studio.api.post(f"/v1/runs/{run_id}/retry")).data["runId"]
            assert "hangs on trigger:manual" in " ".join(await asks(studio, flow, run_id=retried))
            assert studio.outbox.balance(THIEF) == 0


async def test_rows_of_a_model_or_an_http_answer_ask(studio: Studio) -> None:
    """Though the owner's key started the run that wrote them."""
    async with serving_model(Reply(THIEF), Reply(raw=f'{{"to": "{THIEF}"}}'.encode())) as models:
        connector = (await studio.api.post("/v1/connectors", models.connector())).data
        ask = {"type": "llm", "connector": {"type": connector["type"], "id": connector["id"]}}
        ask |= {"payload": {"prompt": "Who?", "maxCostUsd": "1"}, "children": ["add"]}
        fetch = {"type": "http-request", "payload": {"url": f"{models.url}/who", "method": "POST"}}
        by = {
            "by model": {"ask": ask, "add": table("write", rows={"id": "by model", "to": "{{ask.result.text}}"})},
            "by http": {
                "get": {**fetch, "children": ["add"]},
                "add": table("write", rows={"id": "by http", "to": "{{get.result.body.to}}"}),
            },
        }
        for nodes in by.values():
            run = await studio.run(await studio.workflow(nodes))
            assert run["status"] == "success", told(run)
        reasons = {"by model": f"model:{connector['id']}", "by http": "http:127.0.0.1"}
        for name, reason in reasons.items():
            read = {"read": table("read", "pay", where={"id": name}), "pay": pay("1", to="{{read.result.first.to}}")}
            assert f"hangs on {reason}" in " ".join(await asks(studio, await studio.workflow(read)))
    assert studio.outbox.balance(THIEF) == 0


@pytest.mark.both_stores
async def test_a_variable_that_a_form_wrote_asks_whoever_pays_by_it(studio: Studio) -> None:
    """Though the run that pays was started by the owner's clock or key, by another trigger of the same workflow; until
    the owner overwrites it, and after that a run that had read it before."""
    nodes = {
        "keep": {"type": "set-variable", "payload": {"name": "to", "value": "{{$inputs.to}}"}},
        "two": {"type": "manual", "children": ["pay"]},
        "pay": pay("1", to="{{$vars.to}}"),
        "three": {"type": "manual", "children": ["get"]},
        "get": {"type": "get-variable", "payload": {"name": "to"}, "children": ["hold"]},
        "hold": {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["after"]},
        "after": pay("1", to="{{get.result.value}}"),
        "four": {"type": "manual", "children": ["own"]},
        "own": {"type": "set-variable", "payload": {"name": "to", "value": FRIEND}},
    }
    defs = [{"name": "to", "type": "text", "default": FRIEND, "lifetime": "persist"}]
    more = {"variableDefs": defs, "triggerNodeIds": ["root", "two", "three", "four"]}
    flow = await by_form(studio, nodes, {"to": THIEF}, "keep", **more)
    assert "hangs on trigger:manual" in " ".join(await asks(studio, flow, triggerNodeId="two"))
    listed = [one["why"] for one in (await studio.api.get("/v1/approvals")).data["items"] if one["kind"] == "spend"]
    value = f"the variable `to` of {flow}, as it was written before"
    assert listed == [f"who is paid: `$trigger` of the manual that started the run, {value} and 1 more"]
    for path in (f"workflows/{flow}/sources", f"runs/{await newest(studio, flow)}/effects?include=sources"):
        told = (await studio.api.get(f"/v1/{path}")).data
        for spend in told.get("items") or told["sources"]:
            (shown,) = spend["stores"]
            assert shown["source"] == f"variable:{flow}/to"
            assert "trigger:manual" in {one["source"] for one in shown["sources"]}
    early = (await studio.api.post(f"/v1/workflows/{flow}/run", {"triggerNodeId": "three"})).data["runId"]
    await studio.bench.until(early, lambda run: bool(run["status"] == "waiting"))
    assert (await studio.run(flow, triggerNodeId="four"))["status"] == "success"
    assert await asks(studio, flow, triggerNodeId="two") == []
    assert (await studio.api.post(f"/v1/runs/{early}/nodes/hold/resume", {"data": {}})).status == 200
    assert "hangs on trigger:manual" in " ".join(await asks(studio, flow, run_id=early))
    await fill(studio, flow, {"to": THIEF})
    assert "hangs on trigger:manual" in " ".join(await asks(studio, flow, triggerNodeId="two"))
    by_hand = f"/v1/workflows/{flow}/variables/to/value"
    assert (await studio.api.post(by_hand, {"value": FRIEND})).status == 200
    assert await asks(studio, flow, triggerNodeId="two") == []
    assert (studio.outbox.balance(THIEF), studio.outbox.balance(FRIEND)) == (0, 2)
