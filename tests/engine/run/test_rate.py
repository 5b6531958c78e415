"""The rate limit of a node: over the items of its loops, in every mode, after a restart, in a retry, and at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import executions, runs
from engine.conftest import OWN_ACTIONS, Bench, Definition, attempts, let_go, trial
from testkit.composition import Composition, composed

RATE = {"count": 2, "perMs": 400}


def limited(items: int, concurrency: int = 10, **payload: Any) -> Definition:
    """A loop over numbers whose one node has a rate."""
    each = {"array": list(range(items)), "concurrency": concurrency}
    node = {**trial(name="r{{$item}}", **payload), "rate": RATE}
    return {"each": {"type": "for-each", "payload": each, "loopBody": ["t"]}, "t": node}


async def begun(composition: Composition, run_id: str) -> list[int]:
    """When the attempts of `t` began in a run, in order."""
    query = (
        sa.select(executions.c.started_at)
        .join(runs, runs.c.pk == executions.c.run_pk)
        .where(runs.c.id == run_id, executions.c.node_id == "t", executions.c.status != "skipped")
    )
    return sorted(at for (at,) in await composition.rows(query))


def assert_kept(times: list[int], per_ms: int = RATE["perMs"]) -> None:
    """No three begin within the span."""
    assert all(third - first >= per_ms for first, third in zip(times, times[2:], strict=False)), times


async def test_rate_holds_in_every_mode_and_a_simulation_takes_no_time(bench: Bench) -> None:
    for mode in ({}, {"dustTest": True}, {"simulate": True}):
        nodes, per_ms = limited(5), 60_000 if "simulate" in mode else RATE["perMs"]
        nodes["t"]["rate"] = {**RATE, "perMs": per_ms}
        run = await bench.run(nodes, **mode)
        assert run["status"] == "success", run["executionState"]
        times = await begun(bench.composition, run["id"])
        assert len(times) == 5
        assert_kept(times, per_ms)
        took = times[-1] - times[0]
        assert took >= 2 * per_ms
    ended = await bench.composition.rows(sa.select(runs.c.finished_at, runs.c.started_at).where(runs.c.id == run["id"]))
    assert ended[0][0] - ended[0][1] < per_ms
    waited = [path for kind, path in await bench.events(run["id"]) if kind == "run_waiting"]
    assert waited == []


async def test_rate_counts_retries_and_lets_other_nodes_run(bench: Bench) -> None:
    nodes = limited(1, outcomes=["temporary", "temporary", "temporary"])
    nodes["t"]["retry"] = {"maxAttempts": 4, "backoffMs": 1, "jitter": False}
    nodes["beside"] = trial(name="beside", held=True)
    run_id = await bench.start(nodes)
    async with asyncio.timeout(60):
        while [name for name, _ in attempts()].count("r0") < 4:  # the node that runs beside it does not hold it up
            await asyncio.sleep(0.01)
    let_go("beside")
    run = await bench.ended(run_id)
    assert run["status"] == "success", run["executionState"]
    times = await begun(bench.composition, run["id"])
    assert len(times) == 4
    assert_kept(times)


async def test_held_nodes_end_with_a_cancel_and_with_a_failure(bench: Bench) -> None:
    slow = limited(6)
    slow["t"]["rate"] = {"count": 1, "perMs": 60_000}
    run_id = await bench.start(slow)
    await bench.until(run_id, lambda run: run["status"] == "waiting")
    await bench.api.post(f"/v1/runs/{run_id}/cancel", {})
    assert (await bench.ended(run_id))["status"] == "cancelled"
    slow["t"]["payload"]["outcomes"] = ["permanent"]
    slow["t"]["payload"]["name"] = "fails{{$item}}"
    failed = await bench.run(slow)
    assert failed["status"] == "failure"
    assert [name for name, _ in attempts()] == ["r0", "fails0"]


@pytest.mark.both_stores
async def test_rate_holds_across_a_restart(tmp_path: Path, store_url: str) -> None:
    settings = {"database_url": store_url, "actions_dir": OWN_ACTIONS}
    async with composed(tmp_path, **settings) as first:
        run_id = await Bench(first).start(limited(6))
        await Bench(first).until(run_id, lambda run: run["status"] == "waiting")
    async with composed(tmp_path, **settings) as second:
        run = await Bench(second).ended(run_id)
        times = await begun(second, run_id)
    assert (run["status"], len(times)) == ("success", 6)
    assert_kept(times)


async def test_rate_of_a_trigger_is_pointless_and_a_wrong_one_refused(bench: Bench) -> None:
    nodes = {"root": {"type": "manual", "rate": RATE}}
    found = (await bench.api.post("/v1/workflows/validate", {"definition": {"nodes": nodes}})).data
    assert [(one["code"], one["field"]) for one in found["warnings"]] == [("rate_without_effect", "nodes.root.rate")]
    nodes["root"]["rate"] = {"count": 0, "perMs": 1}
    found = (await bench.api.post("/v1/workflows/validate", {"definition": {"nodes": nodes}})).data
    assert [one["field"] for one in found["errors"]] == ["nodes.root.rate.count"]
