"""What commits together with a run's creation: the pure nodes that it begins with, often the whole run."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import activity, run_counts
from engine.conftest import OWN_ACTIONS, Bench, Definition, attempts, trial
from testkit.composition import Composition, composed

MODES: dict[str, dict[str, Any]] = {"live": {}, "simulate": {"simulate": True}, "dust": {"dustTest": True}}


def say(text: str, **node: Any) -> Definition:
    """A pure node."""
    return {"type": "log", "payload": {"message": text}, **node}


def loop(items: Any, body: str, **node: Any) -> Definition:
    """A loop over items."""
    return {"type": "for-each", "payload": {"array": items}, "loopBody": [body], **node}


PURE: Definition = {
    "first": say("{{$trigger.body.name}}", children=["which"]),
    "which": {"type": "if", "payload": {"expression": "$trigger.body.name == 'a'"}, "children": ["each", "other"]},
    "other": say("no", branch="else"),
    "each": loop([1, 2], "item", branch="then", children=["last"]),
    "item": say("{{string($item)}}"),
    "last": say("{{string(each.result.iterationCount)}} of {{first.result.message}}"),
}


class Counted(Bench):
    """Starts runs and counts what the writer has to write for them."""

    async def begin(self) -> None:
        """Writes what would otherwise be written by the way."""
        await self.api.get("/v1/workflows")
        await self.composition.parts.access.usage.flush()

    async def counted(self, nodes: Definition, **body: Any) -> tuple[int, dict[str, Any]]:
        """How many units a whole run takes, and the run once it has ended."""
        before = self.composition.parts.writer.units
        run = await self.run(nodes, **body)
        return self.composition.parts.writer.units - before, run


def opened(tmp_path: Path, store_url: str) -> AbstractAsyncContextManager[Composition]:
    """A server that writes nothing but what the runs need."""
    return composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS, request_audit_rows=0)


@pytest.mark.both_stores
async def test_a_run_of_pure_nodes_is_written_with_its_creation_in_every_mode(tmp_path: Path, store_url: str) -> None:
    async with opened(tmp_path, store_url) as server:
        bench = Counted(server)
        await bench.begin()
        for mode, body in MODES.items():
            units, run = await bench.counted(PURE, payload={"name": "a"}, **body)
            assert (mode, units, run["status"], run["passed"]) == (mode, 1, "success", True)
            assert run["executionState"]["last"]["result"] == {"message": "2 of a"}
            assert run["executionState"]["other"]["status"] == "skipped"
            found = await bench.events(run["id"])
            assert (found[0], found[-1], len(found)) == (("run_started", None), ("run_finished", None), 19)
        counts = sa.select(run_counts.c.mode, run_counts.c.status, sa.func.sum(run_counts.c.total))
        counted = await server.rows(counts.group_by(run_counts.c.mode, run_counts.c.status))
        assert {row[0]: (row[1], int(row[2])) for row in counted} == dict.fromkeys(MODES, ("success", 1))
        assert await server.rows(sa.select(sa.func.count()).select_from(activity)) == [(6,)]
        assert server.engine.advancing + server.engine.waiting + server.engine.queued == 0


async def test_what_a_run_begins_with_is_written_with_its_creation(tmp_path: Path, store_url: str) -> None:
    """Units of a whole run: its creation, then one for each further commit; a `trial` reports progress in one more."""
    cases: list[tuple[Definition, int, str]] = [
        ({"a": say("{{$trigger.body.none}}")}, 1, "failure"),
        ({"a": {"type": "stop", "payload": {"status": "failure", "message": "no"}}}, 1, "failure"),
        ({"a": say("x", children=["w"]), "w": trial(name="o1")}, 3, "success"),
        ({"w": trial(name="o2", children=["a"]), "a": say("x")}, 3, "success"),
    ]
    async with opened(tmp_path, store_url) as server:
        bench = Counted(server)
        await bench.begin()
        for nodes, expected, status in cases:
            units, run = await bench.counted(nodes)
            assert (list(nodes), units, run["status"]) == (list(nodes), expected, status)
    assert [name for name, _ in attempts() if name in ("o1", "o2")] == ["o1", "o2"]


async def test_a_long_run_of_pure_nodes_is_not_written_with_its_creation_as_a_whole(
    tmp_path: Path, store_url: str
) -> None:
    async with opened(tmp_path, store_url) as server:
        bench = Counted(server)
        await bench.begin()
        units, run = await bench.counted({"each": loop(list(range(500)), "x"), "x": say("{{string($item)}}")})
        assert run["status"] == "success"
        assert units > 1
        iterations = run["executionState"]["each"]["result"]["iterations"]
        assert [one["results"]["x"]["message"] for one in iterations] == [str(number) for number in range(500)]


async def test_a_refused_creation_leaves_no_trace_of_what_it_would_have_executed(
    tmp_path: Path, store_url: str
) -> None:
    counted = ("dustrun_node_executions_total", "dustrun_runs_finished_total", "dustrun_runs_started_total")

    async with opened(tmp_path, store_url) as server:

        async def metrics() -> list[str]:
            text = (await server.owner.http.get("/metrics")).text
            return [line for line in text.splitlines() if line.startswith(counted)]

        flow = await server.owner.create_workflow(
            {"nodes": {"root": {"type": "manual", "children": ["a"]}, "a": say("x")}}
        )
        path, body = f"/v1/workflows/{flow['id']}/run", {"runId": "run_once"}
        assert (await server.owner.post(path, body)).status == 200
        before = await metrics()
        assert (await server.owner.post(path, body)).code == 400079
        assert await metrics() == before
        assert len((await server.owner.get("/v1/runs")).data["items"]) == 1
        key = {"Idempotency-Key": "k1"}
        first = await server.owner.post(path, {}, headers=key)
        again = await server.owner.post(path, {}, headers=key)
        assert first.data == again.data
        assert len((await server.owner.get("/v1/runs")).data["items"]) == 2


async def test_a_retry_and_a_called_run_go_on_after_their_creation(tmp_path: Path, store_url: str) -> None:
    async with opened(tmp_path, store_url) as server:
        bench = Counted(server)
        failed = await bench.run({"a": say("{{$trigger.body.none}}", children=["b"]), "b": say("x")})
        assert failed["status"] == "failure"
        retried = (await server.owner.post(f"/v1/runs/{failed['id']}/retry")).data
        assert retried["status"] == "running"
        assert (await bench.ended(retried["id"]))["status"] == "failure"
        called = await server.owner.create_workflow(
            {"nodes": {"root": {"type": "manual", "children": ["first"]}, **PURE}}
        )
        call = {
            "type": "call-workflow",
            "payload": {"workflowId": called["id"], "payload": {"name": "a"}, "mode": "wait"},
        }
        for body in MODES.values():
            run = await bench.run({"each": loop([1, 2, 3], "call"), "call": call}, **body)
            assert run["status"] == "success"
            assert run["executionState"]["each"]["result"]["iterationCount"] == 3


async def test_a_workflow_with_a_limit_of_unfinished_runs_executes_nothing_before_its_turn(
    tmp_path: Path, store_url: str
) -> None:
    async with opened(tmp_path, store_url) as server:
        bench = Counted(server)
        await bench.begin()
        definition = {"nodes": {"root": {"type": "manual", "children": ["a"]}, "a": say("x")}}
        flow = await server.owner.create_workflow(definition, concurrency={"max": 1, "onLimit": "queue"})
        units = server.parts.writer.units
        made = await server.owner.post(f"/v1/workflows/{flow['id']}/run", {})
        await bench.ended(made.data["runId"])
        assert server.parts.writer.units - units == 2
