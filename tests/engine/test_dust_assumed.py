"""What a dust test makes up never leaves: also after a restart, in a retry, in called runs, and by a model's tools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import variables
from engine.conftest import OWN_ACTIONS, Bench, Definition, attempts, let_go, trial
from testkit.composition import composed
from testkit.model_server import Asked, Reply, serving_model

MADE_UP = "{{skipped.result.value}}"


@asynccontextmanager
async def server_on(tmp_path: Path, store_url: str) -> AsyncIterator[Bench]:
    settings = {"actions_dir": OWN_ACTIONS, "outbound_allow": ("127.0.0.1",), "shutdown_grace_s": 0}
    async with composed(tmp_path, database_url=store_url, **settings) as composition:
        yield Bench(composition)


def skipped(*children: str) -> Definition:
    """A write whose result is made up, since a dust test skips it."""
    return trial(name="skipped", dust="skip", children=[*children])


def write(name: str, value: str, **more: Any) -> Definition:
    """A write that would send a value."""
    return trial(name=name, value=value, **more)


def writes_of_all_kinds(value: str) -> Definition:
    """All that could send a made-up value, as children of nothing."""
    row = {"table": "notes", "rows": {"text": value}}
    return {
        "sent": write("sent", value),
        "kept": {"type": "set-variable", "payload": {"name": "kept", "value": value, "scope": "persist"}},
        "row": {"type": "write-table", "payload": row},
        "each": {"type": "for-each", "payload": {"array": [value, "2"]}, "loopBody": ["often"]},
        "often": write("often", "always the same"),
    }


async def nothing_left(bench: Bench) -> None:
    """Nothing that `writes_of_all_kinds` could send has left."""
    assert {name for name, _ in attempts()} & {"skipped", "sent", "often"} == set()
    assert (await bench.api.get("/v1/tables/notes/rows")).data["items"] == []
    assert await bench.composition.rows(sa.select(variables.c.name)) == []


async def made_table(bench: Bench) -> None:
    attempts().clear()
    await bench.api.post("/v1/tables", {"name": "notes", "columns": [{"name": "text", "type": "text"}]})


async def called(bench: Bench, nodes: Definition) -> str:
    """A workflow whose root leads to the nodes that nobody names."""
    named = {child for node in nodes.values() for child in (*node.get("children", ()), *node.get("loopBody", ()))}
    root = {"type": "manual", "children": [one for one in nodes if one not in named]}
    workflow: str = (await bench.api.create_workflow({"nodes": {"root": root, **nodes}}))["id"]
    return workflow


def calling(workflow: str, **payload: Any) -> Definition:
    return {"type": "call-workflow", "payload": {"workflowId": workflow, "payload": {"v": MADE_UP}, **payload}}


@pytest.mark.both_stores
async def test_after_a_restart_in_the_middle(tmp_path: Path, store_url: str) -> None:
    pause = trial(name="hold", effect="read", held=True, children=["sent", "kept", "row", "each", "call"])
    async with server_on(tmp_path, store_url) as bench:
        await made_table(bench)
        inner = trial(name="hold", effect="read", held=True, children=["sent", "kept", "row", "each"])
        flow = await called(bench, {"pause": inner, **writes_of_all_kinds("{{$trigger.v}}")})
        begins = {"skipped": skipped("pause", "early"), "early": calling(flow), "pause": pause, "call": calling(flow)}
        run_id = await bench.start({**begins, **writes_of_all_kinds(MADE_UP)}, dustTest=True)
        await bench.until(run_id, lambda run: {"pause", "early"} <= run["executionState"].keys())
    async with server_on(tmp_path, store_url) as bench:
        let_go("hold")
        run = await bench.ended(run_id)
        assert (run["status"], run["passed"]) == ("success", False), run["executionState"]
        for child in (await bench.api.get(f"/v1/runs?workflowId={flow}")).data["items"]:
            assert (await bench.ended(child["id"]))["status"] == "success"
        await nothing_left(bench)


@pytest.mark.parametrize("mode", ["wait", "start"])
async def test_in_a_retry_of_the_calling_run(tmp_path: Path, store_url: str, mode: str) -> None:
    async with server_on(tmp_path, store_url) as bench:
        await made_table(bench)
        flow = await called(bench, writes_of_all_kinds("{{$trigger.v}}"))
        fails = trial(name="fails", effect="read", outcomes=["permanent"])
        fails["children"] = ["again", "sent", "kept", "row", "each"]
        call, again = calling(flow, mode=mode), calling(flow, mode=mode)
        nodes = {"skipped": skipped("call"), "call": {**call, "children": ["fails"]}, "fails": fails, "again": again}
        failed = await bench.run({**nodes, **writes_of_all_kinds("{{call.result.status}}")}, dustTest=True)
        assert failed["status"] == "failure"
        retried = await bench.ended((await bench.api.post(f"/v1/runs/{failed['id']}/retry")).data["runId"])
        assert (retried["status"], retried["passed"]) == ("success", False), retried["executionState"]
        children = (await bench.api.get(f"/v1/runs?workflowId={flow}")).data["items"]
        assert len(children) == 2
        for child in children:
            assert (await bench.ended(child["id"]))["status"] == "success"
        await nothing_left(bench)


@pytest.mark.both_stores
async def test_in_a_retry_of_a_called_run(tmp_path: Path, store_url: str) -> None:
    async with server_on(tmp_path, store_url) as bench:
        await made_table(bench)
        fails = trial(name="fails", effect="read", outcomes=["permanent"], children=["sent", "kept", "row", "each"])
        flow = await called(bench, {"fails": fails, **writes_of_all_kinds("{{$trigger.v}}")})
        failed = await bench.run({"skipped": skipped("call"), "call": calling(flow)}, dustTest=True)
        assert failed["status"] == "failure"
        (child,) = (await bench.api.get(f"/v1/runs?workflowId={flow}")).data["items"]
        retried = await bench.ended((await bench.api.post(f"/v1/runs/{child['id']}/retry")).data["runId"])
        assert (retried["status"], retried["isDustTest"]) == ("success", True), retried["executionState"]
        await nothing_left(bench)


async def test_a_model_sends_nothing_made_up(tmp_path: Path, store_url: str) -> None:
    def calls_all(asked: Asked) -> Reply:
        made = sum(one["role"] == "tool" for one in asked.messages)
        tries = [
            ("send", {"method": "POST", "url": f"{site.url}/w", "body": "x"}),
            ("send", {"method": "POST", "url": f"{site.url}/w", "body": "x", "effect": "read"}),
            ("look", {"url": f"{site.url}/r"}),
        ]
        return Reply(calls=(tries[made],)) if made < len(tries) else Reply("done")

    async with (
        server_on(tmp_path, store_url) as bench,
        serving_model(script=calls_all) as model,
        serving_model(Reply(raw=b'{"seen": 1}')) as site,
    ):
        await made_table(bench)
        listed = [
            {"type": "http-request", "name": "send", "hosts": [site.url]},
            {"type": "http-request", "name": "look", "payload": {"method": "GET"}, "hosts": [site.url]},
        ]
        connector = (await bench.api.post("/v1/connectors", model.connector())).data
        ask: Definition = {
            "type": "llm",
            "connector": {"type": connector["type"], "id": connector["id"]},
            "payload": {"prompt": f"About {MADE_UP}", "maxCostUsd": "1", "tools": listed},
            "children": ["sent", "kept", "row", "each"],
        }
        again = {**ask, "payload": {**ask["payload"], "prompt": "Always the same"}, "children": ["inside"]}
        loop = {"type": "for-each", "payload": {"array": [MADE_UP, "2"]}, "loopBody": ["again"]}
        nodes = {"skipped": skipped("ask", "loop"), "ask": ask, "loop": loop, "again": again}
        nodes["inside"] = write("sent", "{{again.result.text}}")
        run = await bench.run({**nodes, **writes_of_all_kinds("{{ask.result.text}}")}, dustTest=True)
        assert run["status"] == "success", run["executionState"]
        assert [one["ok"] for one in run["executionState"]["ask"]["result"]["toolCalls"]] == [False, False, True]
        assert {one.path for one in site.asked} == {"/r"}
        await nothing_left(bench)
