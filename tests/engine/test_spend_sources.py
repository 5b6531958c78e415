"""What shaped a spend, as the API tells it: for a version, and for a run with what it called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.test_subworkflows import call
from rehearsals import SHOP, Studio, open_studio, pay, say, told
from testkit.chain.contracts import World

Json = dict[str, Any]


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain) as opened:
            yield opened


def named(spend: Json, field: str) -> set[str]:
    """The sources of a field, or of `decides`, without definitions."""
    found = spend[field] if field in spend else next(one for one in spend["fields"] if one["field"] == field)
    return {one["source"] for one in found["sources"] if one["kind"] != "definition"}


async def sources(studio: Studio, run_id: str) -> list[Json]:
    """What shaped the spends of a run."""
    found: list[Json] = (await studio.api.get(f"/v1/runs/{run_id}/effects?include=sources")).data["sources"]
    return found


def check(test: str, *children: str, **more: Any) -> Json:
    return {"type": "if", "payload": {"expression": test}, "children": [*children], **more}


async def test_a_version_tells_what_shapes_its_spends_and_those_that_it_calls(studio: Studio) -> None:
    helper = await studio.workflow({"amount": say("{{$trigger.n}}", "spare"), "spare": pay(1)})
    ask = call(helper, "pay", payload={"payload": {"n": "{{$inputs.n}}"}})
    amount = "{{string(1 + int(ask.result.results.spare.amount))}}"
    top = await studio.workflow({"ask": ask, "pay": pay(amount, to="{{$inputs.to}}")})
    found = (await studio.api.get(f"/v1/workflows/{top}/sources")).data
    own = next(one for one in found["items"] if one["workflowId"] == top)
    assert named(own, "recipient") == {"trigger:manual.to"}
    assert f"definition:{helper}@1#spare.amount" in {one["source"] for one in own["fields"][1]["sources"]}
    assert own["fields"][0]["sources"][0]["says"] == "`$trigger.to` of the manual that started the run"
    shaping = {(one["workflowId"], one["nodeId"], one["level"]) for one in own["nodes"]}
    assert shaping == {
        (helper, "spare", "data"),
        (top, "ask", "data"),
        (top, "root", "data"),
    }
    assert (found["hidden"], found["callsAny"], len(found["items"])) == (0, False, 2)
    limited = await studio.api.post(
        "/v1/api-keys", {"name": "one", "permissions": ["workflow:read"], "workflowIds": [top]}
    )
    client = studio.outbox.composition.client(limited.data["key"])
    seen = (await client.get(f"/v1/workflows/{top}/sources")).data
    assert (seen["hidden"], [one["workflowId"] for one in seen["items"]]) == (1, [top])
    assert helper not in str(seen["items"])
    assert (await studio.api.get(f"/v1/workflows/{top}/sources?version=7")).status == 404


@pytest.mark.parametrize("body", [{"simulate": True}, {}])
async def test_a_run_tells_what_shaped_it_and_what_decided(studio: Studio, body: Json) -> None:
    """Only the branch that was taken gave the amount; the other keeps what decided against it."""
    helper = await studio.workflow({"low": pay("{{string(1 + int($trigger.units))}}")})
    nodes = {
        "large": check("$inputs.n > 5", "some", "none"),
        "some": {"type": "set-variable", "payload": {"name": "v", "value": 3}, "branch": "then"},
        "none": {"type": "set-variable", "payload": {"name": "v", "value": "{{$inputs.other}}"}, "branch": "else"},
        "each": {"type": "for-each", "payload": {"array": [1, 2]}, "loopBody": ["mid"]},
        "mid": call(helper, payload={"payload": {"units": "{{$item + $vars.v}}"}}),
    }
    nodes["some"]["children"] = nodes["none"]["children"] = ["each"]
    defs = [{"name": "v", "type": "any", "default": 1, "lifetime": "reset"}]
    top = await studio.workflow(nodes, defs=defs)
    run = await studio.run(top, payload={"n": 9, "other": 1}, **body)
    assert run["status"] == "success", told(run)
    (spend,) = await sources(studio, run["id"])
    assert (spend["workflowId"], spend["nodeId"], spend["count"]) == (helper, "low", 2)
    assert spend["paths"] == ["each[0].mid/low", "each[1].mid/low"]
    assert named(spend, "amount") == {"trigger:manual.n"}
    assert named(spend, "recipient") == set()
    (always,) = (await studio.api.get(f"/v1/workflows/{top}/sources")).data["items"]
    assert named(always, "amount") == {"trigger:manual.n", "trigger:manual.other"}


async def test_an_approval_shows_fields_and_a_waiting_run_tells_already(studio: Studio) -> None:
    ask = {
        "type": "approve",
        "payload": {"message": "Pay {{$inputs.n}} to {{$inputs.to}}?", "allowStarter": True},
        "children": ["pay"],
    }
    top = await studio.workflow(
        {"ask": ask, "pay": pay("{{string(0 + $inputs.n)}}", to="{{$inputs.to}}", branch="approved")}
    )
    (spend,) = (await studio.api.get(f"/v1/workflows/{top}/sources")).data["items"]
    assert spend["approvals"] == [{"nodeId": "ask", "shows": ["recipient", "amount"]}]
    assert {f"approval:{top}@1#ask", "clock"} <= named(spend, "decides")
    started = await studio.api.post(f"/v1/workflows/{top}/run", {"payload": {"n": 1, "to": SHOP}})
    assert await sources(studio, started.data["runId"]) == []
    items = (await studio.api.get("/v1/approvals")).data["items"]
    (question,) = [one["id"] for one in items if one["runId"] == started.data["runId"]]
    asked = (await studio.api.get(f"/v1/approvals/{question}")).data
    plan = (await studio.api.post(f"/v1/workflows/{top}/dust-plan", {"payload": {"n": 1, "to": SHOP}})).data
    ladder = (await studio.api.get(f"/v1/workflows/{top}/ladder")).data
    assert (asked["sources"], plan["sources"], ladder["sources"]) == ([spend], [spend], [spend])
    assert (await studio.api.post(f"/v1/runs/{started.data['runId']}/cancel")).status == 200


async def test_a_result_that_a_retry_kept_is_a_source_of_the_run_that_gave_it(studio: Studio) -> None:
    top = await studio.workflow({"first": say("{{$inputs.n}}", "pay"), "pay": pay("{{first.result.message}}")})
    failed = await studio.run(top, payload={"n": "1" + "0" * 30})
    assert failed["status"] == "failure"
    retried = await studio.api.post(f"/v1/runs/{failed['id']}/retry", {})
    run = await studio.bench.ended(retried.data["runId"])
    (spend,) = await sources(studio, run["id"])
    assert f"result:{failed['id']}#first" in named(spend, "amount")


async def test_a_run_of_a_definition_that_is_not_saved_tells_too(studio: Studio) -> None:
    run = await studio.simulate({"pay": pay("{{$inputs.n}}")}, payload={"n": "5"})
    (spend,) = await sources(studio, run["id"])
    assert "trigger:manual.n" in named(spend, "amount")
