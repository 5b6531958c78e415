"""A cancel starts nothing new, whenever it comes: between a node's record and its beginning, and before a restart."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import events, runs
from engine.conftest import OWN_ACTIONS, Bench, attempts, let_go, trial
from testkit.composition import composed
from testkit.postgres import Cluster


async def test_cancel_while_a_start_is_being_recorded_starts_nothing(bench: Bench) -> None:
    """The record of the end of "a" and of the start of "b" waits for the writer when the cancel comes."""
    run = await _cancelled_behind_a_record(bench, {"b": trial(name="c2")})
    assert (run["status"], run["executionState"]["b"]["status"]) == ("cancelled", "cancelled")
    assert [name for name, _ in attempts()] == ["c1"]
    assert ("node_cancelled", "b") in await bench.events(run["id"])


async def test_cancel_while_a_wait_is_being_recorded_ends_the_run(bench: Bench) -> None:
    """One commit says that the run waits and that it is cancelled; nothing else would ever wake it."""
    run = await _cancelled_behind_a_record(bench, {"b": {"type": "wait", "payload": {"timeoutMs": 600_000}}})
    assert (run["status"], run["executionState"]["b"]["status"]) == ("cancelled", "cancelled")


async def _cancelled_behind_a_record(bench: Bench, then: dict[str, Any]) -> dict[str, Any]:
    """A run that is cancelled while the record of what follows its first node waits for the writer."""
    gate, is_held = threading.Event(), threading.Event()

    def hold(_tx: Tx) -> None:
        is_held.set()
        gate.wait(60)

    writer = bench.composition.parts.writer
    run_id = await bench.start({"a": trial(name="c1", held=True, children=list(then)), **then})
    async with asyncio.timeout(60):
        while not await bench.composition.rows(sa.select(events.c.seq).where(events.c.type == "node_progress")):
            await asyncio.sleep(0.01)
    held = writer.write(hold)
    assert await asyncio.to_thread(is_held.wait, 60)
    let_go("c1")
    async with asyncio.timeout(60):
        while not (waiting := writer.backlog):
            await asyncio.sleep(0.01)
    cancelling = asyncio.create_task(bench.api.post(f"/v1/runs/{run_id}/cancel"))
    async with asyncio.timeout(60):
        while writer.backlog == waiting:
            await asyncio.sleep(0.01)
    gate.set()
    await held
    assert (await cancelling).status == 200
    return await bench.ended(run_id)


@pytest.mark.both_stores
async def test_cancelled_run_does_not_begin_its_nodes_again_after_a_restart(tmp_path: Path, store_url: str) -> None:
    nodes = {
        "plain": trial(name="r1", sleepMs=60_000),
        "keyed": trial(name="r2", sleepMs=60_000, idempotent=True),
        "read": trial(name="r3", sleepMs=60_000, effect="read"),
    }
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS, shutdown_grace_s=0) as composition:
        bench = Bench(composition)
        run_id = await bench.start(nodes)
        await bench.until(run_id, lambda run: len(attempts()) == 3)
        await composition.execute(sa.update(runs).values(cancel_requested_at=1))
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS, shutdown_grace_s=0) as composition:
        bench = Bench(composition)
        run = await bench.ended(run_id)
        assert attempts() == []
    assert run["status"] == "cancelled"
    assert {node: state["status"] for node, state in run["executionState"].items()} == {
        "root": "success",
        "plain": "cancelled",
        "keyed": "cancelled",
        "read": "cancelled",
    }
    assert "It may have happened" in run["executionState"]["keyed"]["error"]["message"]


async def test_cancel_reaches_a_run_that_is_just_being_read(tmp_path: Path, cluster: Cluster) -> None:
    """The rows were read before the cancel was written, and the run goes on after it: what it reads next is locked."""
    url = cluster.fresh()
    waits = {
        "root": {"type": "manual", "children": ["w"]},
        "w": {"type": "wait", "payload": {"timeoutMs": 60_000}},
    }
    async with composed(tmp_path, database_url=url, shutdown_grace_s=0) as composition:
        workflow = await composition.owner.create_workflow({"nodes": waits, "triggerNodeIds": ["root"]})
        run_id = (await composition.owner.post(f"/v1/workflows/{workflow['id']}/run", {})).data["runId"]
        await Bench(composition).until(run_id, lambda run: run["status"] == "waiting")
        await composition.execute(sa.update(runs).values(status="running"))  # as a server that was killed leaves it
    engine = sa.create_engine(url)
    with engine.connect() as locking:
        locking.execute(sa.text("LOCK TABLE workflow_versions IN ACCESS EXCLUSIVE MODE"))
        async with composed(tmp_path, database_url=url, shutdown_grace_s=0) as composition:
            async with asyncio.timeout(60):
                while not await composition.rows(sa.text("SELECT 1 FROM pg_locks WHERE NOT granted")):
                    await asyncio.sleep(0.01)
            cancelling = asyncio.create_task(composition.owner.post(f"/v1/runs/{run_id}/cancel"))
            async with asyncio.timeout(60):
                while (await composition.rows(sa.select(runs.c.cancel_requested_at))) == [(None,)]:
                    await asyncio.sleep(0.01)
            locking.rollback()
            assert (await cancelling).status == 200
            run = await Bench(composition).ended(run_id)
    engine.dispose()
    cluster.drop(url)
    assert (run["status"], run["executionState"]["w"]["status"]) == ("cancelled", "cancelled")


@pytest.mark.of_one_process("it lays hands on that engine's tasks, to cancel one before its first step")
async def test_cancel_reaches_nodes_that_have_not_taken_their_first_step(bench: Bench) -> None:
    """A task that is cancelled before its first step never runs its coroutine."""
    known = bench.composition.engine._known

    async def cancel_between() -> None:
        """A turn of the loop is enough: it comes either before the tasks' first steps or before they are made."""
        while True:
            for runner in [run.runner for run in known.values() if run.runner is not None]:
                tasks = runner._tasks._tasks.values()
                if len(tasks) == 2 and all("CREATED" in _state(task) for task in tasks):
                    return runner.cancel()
            await asyncio.sleep(0)

    cancelling = asyncio.create_task(cancel_between())
    both = {name: trial(name=name, sleepMs=60_000) for name in ("u1", "u2")}
    run_id = await bench.start({"first": trial(name="u0", sleepMs=50, children=list(both)), **both})
    run = await bench.ended(run_id)
    await cancelling
    assert [run["executionState"][name]["status"] for name in both] == ["cancelled"] * 2
    assert [name for name, _ in attempts()] == ["u0"]


def _state(task: asyncio.Task[None]) -> str:
    coroutine = task.get_coro()
    assert inspect.iscoroutine(coroutine)
    return inspect.getcoroutinestate(coroutine)
