"""What commits together with a run's creation: the pure nodes that it begins with, often the whole run."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from rich.console import Console

from dustrun.cli.render import report as drawn_report
from dustrun.storage.db.tables import activity, events, run_counts, runs
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


class Opened(Bench):
    """Starts runs and looks at what is on disk when the answer comes."""

    async def opening(self, nodes: Definition, **body: Any) -> tuple[list[str], dict[str, Any]]:
        """The events that are written by the answer, and the run once it has ended."""
        run_id = await self.start(nodes, **body)
        return await self.kinds(run_id), await self.ended(run_id)

    async def kinds(self, run_id: str) -> list[str]:
        """The kinds of a run's events in the table."""
        of_run = sa.select(events.c.type).join(runs, runs.c.pk == events.c.run_pk).where(runs.c.id == run_id)
        return [row[0] for row in await self.composition.rows(of_run.order_by(events.c.seq))]

    @property
    def unfinished(self) -> int:
        """How many runs the engine has in hand."""
        engine = self.composition.engine
        return engine.advancing + engine.waiting + engine.queued


def opened(tmp_path: Path, store_url: str) -> AbstractAsyncContextManager[Composition]:
    """A server with the scripted action."""
    return composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS)


@pytest.mark.both_stores
async def test_a_run_of_pure_nodes_is_written_with_its_creation_in_every_mode(tmp_path: Path, store_url: str) -> None:
    async with opened(tmp_path, store_url) as server:
        bench = Opened(server)
        for mode, body in MODES.items():
            run_id = await bench.start(PURE, payload={"name": "a"}, **body)
            assert (mode, bench.unfinished) == (mode, 0)
            run = (await server.owner.get(f"/v1/runs/{run_id}")).data
            assert (mode, run["status"], run["passed"]) == (mode, "success", True)
            assert run["executionState"]["last"]["result"] == {"message": "2 of a"}
            assert run["executionState"]["other"]["status"] == "skipped"
            found = await bench.events(run["id"])
            assert (found[0], found[-1], len(found)) == (("run_started", None), ("run_finished", None), 19)
        counts = sa.select(run_counts.c.mode, run_counts.c.status, sa.func.sum(run_counts.c.total))
        counted = await server.rows(counts.group_by(run_counts.c.mode, run_counts.c.status))
        assert {row[0]: (row[1], int(row[2])) for row in counted} == dict.fromkeys(MODES, ("success", 1))
        assert await server.rows(sa.select(sa.func.count()).select_from(activity)) == [(6,)]


async def test_what_a_run_begins_with_is_written_with_its_creation(tmp_path: Path, store_url: str) -> None:
    """The events that the answer waits for, by what the run consists of."""
    said = ["node_started", "log", "node_succeeded"]
    stop = {"type": "stop", "payload": {"status": "failure", "message": "no"}}
    await _check_openings(
        tmp_path,
        store_url,
        [
            ({"a": say("{{$trigger.body.none}}")}, ["node_started", "node_failed", "run_finished"], "failure"),
            ({"a": stop}, ["node_started", "node_succeeded", "run_finished"], "failure"),
            ({"a": say("x", children=["d"]), "d": {"type": "delay", "payload": {"delayMs": 1}}}, said, "success"),
        ],
    )


async def _check_openings(tmp_path: Path, store_url: str, cases: list[tuple[Definition, list[str], str]]) -> None:
    async with opened(tmp_path, store_url) as server:
        bench = Opened(server)
        for nodes, expected, status in cases:
            kinds, run = await bench.opening(nodes)
            assert (list(nodes), kinds[: len(expected) + 1]) == (list(nodes), ["run_started", *expected])
            assert (list(nodes), run["status"]) == (list(nodes), status)


@pytest.mark.of_one_process("Temporal chooses who begins the first node with an effect, after the run's creation")
async def test_the_start_of_the_first_effects_is_written_with_the_creation(tmp_path: Path, store_url: str) -> None:
    said = ["node_started", "log", "node_succeeded"]
    cases: list[tuple[Definition, list[str], str]] = [
        ({"a": say("x", children=["w"]), "w": trial(name="o1")}, [*said, "node_started"], "success"),
        ({"w": trial(name="o2", children=["a"]), "a": say("x")}, ["node_started"], "success"),
    ]
    await _check_openings(tmp_path, store_url, cases)
    assert [name for name, _ in attempts() if name in ("o1", "o2")] == ["o1", "o2"]


async def test_a_long_run_of_pure_nodes_is_not_written_with_its_creation_as_a_whole(
    tmp_path: Path, store_url: str
) -> None:
    async with opened(tmp_path, store_url) as server:
        bench = Opened(server)
        run_id = await bench.start({"each": loop(list(range(500)), "x"), "x": say("{{string($item)}}")})
        assert bench.unfinished == 1
        run = await bench.ended(run_id)
        assert run["status"] == "success"
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
        bench = Opened(server)
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
        bench = Opened(server)
        definition = {"nodes": {"root": {"type": "manual", "children": ["a"]}, "a": say("x")}}
        flow = await server.owner.create_workflow(definition, concurrency={"max": 1, "onLimit": "queue"})
        made = await server.owner.post(f"/v1/workflows/{flow['id']}/run", {})
        assert bench.unfinished == 1
        assert (await bench.ended(made.data["runId"]))["status"] == "success"


@pytest.mark.both_stores
async def test_a_run_of_one_commit_reads_like_one_that_was_executed_step_by_step(
    tmp_path: Path, store_url: str
) -> None:
    """Its record, its report, the comparison, what the command line prints, and who may see it."""
    definition = {"nodes": {"root": {"type": "manual", "children": ["first"]}, **PURE}}
    async with opened(tmp_path, store_url) as server:
        bench, owner = Opened(server), server.owner
        flow = await owner.create_workflow(definition)
        queued = await owner.create_workflow(definition, concurrency={"max": 1, "onLimit": "queue"})
        other = await owner.create_workflow(definition)
        firsts = []
        for mode, body in MODES.items():
            ids, unfinished = [], []
            for workflow in (flow, queued):
                path = f"/v1/workflows/{workflow['id']}/run"
                ids.append((await owner.post(path, {**body, "payload": {"name": "a"}})).data["runId"])
                unfinished.append(bench.unfinished)
                await bench.ended(ids[-1])
            waits = mode != "simulate"  # which has no turn to wait for
            assert (mode, unfinished) == (mode, [0, int(waits)])
            at_once, stepwise = [_record((await owner.get(f"/v1/runs/{one}")).data) for one in ids]
            assert at_once == stepwise
            reports = [(await owner.get(f"/v1/runs/{one}/effects")).data for one in ids]
            assert _drawn(reports[0], ids[0]) == _drawn(reports[1], ids[1])
            firsts.append(ids[0])
        live, simulated, _ = firsts
        paths = [f"/v1/runs/{live}", f"/v1/runs/{live}/effects", f"/v1/runs/{simulated}/compare/{live}"]
        compared = (await owner.get(paths[-1])).data
        assert (compared["verdict"], compared["differences"]) == ("same", [])
        for workflow, expected in ((flow, 200), (other, 404)):
            limits = {"name": "limited", "permissions": ["run:read"], "workflowIds": [workflow["id"]]}
            limited = server.client((await owner.post("/v1/api-keys", limits)).data["key"])
            assert [(await limited.get(path)).status for path in paths] == [expected] * 3


def _record(run: dict[str, Any]) -> dict[str, Any]:
    """What a run's record says of its nodes, without times."""
    states = {path: _timeless(state) for path, state in run["executionState"].items() if path != "root"}
    return {"status": run["status"], "passed": run["passed"], "states": states}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _timeless(part) for name, part in value.items() if not name.endswith("At")}
        return {name: part for name, part in kept.items() if name != "durationMs"}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def _drawn(report: dict[str, Any], run_id: str) -> str:
    """What the command line prints of a report."""
    console = Console(width=120, record=True, file=StringIO())
    console.print(*drawn_report.draw(report))
    return console.export_text().replace(run_id, "run")
