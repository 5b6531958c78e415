"""Calls are answered by one process, runs are advanced by another, and triggers are watched by others: what crosses
from one to the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.errors import Code
from dustrun.storage.db.ledger_tables import leases, processes
from dustrun.storage.db.tables import runs
from dustrun.storage.db.trigger_tables import trigger_events
from rehearsals import CHAIN_ID, Studio, open_studio, pay
from testkit.approving import decide_at_once
from testkit.chain.contracts import World
from testkit.composition import Composition, composed
from testkit.postgres import Cluster
from testkit.sharing import ended, events_of, until
from testkit.slow_server import outside_of

Json = dict[str, Any]


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    url = cluster.fresh()
    yield url
    cluster.drop(url)


@contextlib.asynccontextmanager
async def _apart(folder: Path, url: str, *roles: str, **settings: Any) -> AsyncIterator[list[Composition]]:
    """A process for each of the roles, in this order."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                composed(folder, database_url=url, shared=True, roles=tuple(role.split(",")), **settings)
            )
            for role in roles
        ]


def _rests(*children: str, **more: Any) -> Json:
    """A node that no creation executes, so that somebody has to advance the run."""
    return {"type": "delay", "payload": {"delayMs": 1}, "children": [*children], **more}


def _definition(nodes: Json, root: Json | None = None) -> Json:
    first = {"root": root or {"type": "manual", "children": [next(iter(nodes))]}}
    return {"nodes": {**first, **nodes}, "triggerNodeIds": ["root"]}


def _call(workflow: str, payload: Json, **more: Any) -> Json:
    return {"type": "call-workflow", "payload": {"workflowId": workflow, "payload": payload}, **more}


async def _check_numbers(server: Composition, run_id: str) -> None:
    """The stream of a run has every number once, and one end."""
    seen = await events_of(server.owner, run_id)
    assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
    assert [kind for _, kind in seen].count("run_finished") == 1


@pytest.mark.parametrize("mode", [{}, pytest.param({"simulate": True}, marks=pytest.mark.long)])
async def test_a_run_that_calls_others_in_a_loop_is_advanced_elsewhere(tmp_path: Path, url: str, mode: Json) -> None:
    """What it calls is created by an engine, and perhaps advanced by the other one."""
    async with _apart(tmp_path, url, "api", "engine", "engine", max_running_runs=6) as (answers, *engines):
        leaf = await answers.owner.create_workflow(
            _definition({"rest": _rests("say"), "say": {"type": "log", "payload": {"message": "{{$inputs.n}}"}}})
        )
        inner = await answers.owner.create_workflow(_definition({"call": _call(leaf["id"], {"n": "{{$inputs.n}}"})}))
        each: Json = {
            "type": "for-each",
            "payload": {"array": "{{$inputs.list}}", "concurrency": 3},
            "loopBody": ["call"],
        }
        nodes = {"each": each, "call": _call(inner["id"], {"n": "{{$item}}"})}
        outer = await answers.owner.create_workflow(_definition(nodes))
        path = f"/v1/workflows/{outer['id']}/run"
        for number in range(3):
            body = {"runId": f"run_{number}", "payload": {"list": [1, 2, 3, 4]}, **mode}
            assert (await answers.owner.post(path, body)).status == 200
        for number in range(3):
            run = await ended(answers.owner, f"run_{number}")
            items = run["executionState"]["each"]["iterations"]
            assert (run["status"], [one["call"]["status"] for one in items]) == ("success", ["success"] * 4)
            inner_ids = [one["call"]["result"]["runId"] for one in items]
            said = [
                (await ended(answers.owner, one))["executionState"]["call"]["result"]["result"] for one in inner_ids
            ]
            assert [one["message"] for one in said] == ["1", "2", "3", "4"]
            for run_id in (f"run_{number}", *inner_ids):
                await _check_numbers(answers, run_id)
        found = await answers.rows(sa.select(runs.c.id, runs.c.claimed_by))
        assert len(found) == 3 * (1 + 4 + 4)
        assert {holder for _, holder in found} <= {one.parts.database.name for one in engines}


_MOST, _COOLDOWN_MS = 3, 1_200
_TICK = _definition(
    {"rest": _rests()}, {"type": "cronjob", "payload": {"schedule": "* * * * * *"}, "children": ["rest"]}
)


async def _take_over_again_and_again(answers: Composition) -> None:
    """Has the triggers' host change, while the one before goes on for a moment: it says that it lives, but too late.
    Ever more seldom: on a slow machine a host must get to fire at all."""
    pause_s = 0.1
    while True:
        held = sa.text("SELECT holder FROM leases WHERE name = 'triggers'").columns(holder=sa.Text)
        for (holder,) in await answers.rows(held):
            dead = sa.update(processes).where(processes.c.id == holder).values(alive_until=0)
            await answers.execute(dead)
        await asyncio.sleep(pause_s)
        pause_s *= 1.05


async def test_processes_that_only_watch_keep_the_limits_whoever_of_them_fires(tmp_path: Path, url: str) -> None:
    """`maxRuns` and the cooldown hold, and the runs go to the engine at once."""
    async with _apart(tmp_path, url, "api", "engine", "triggers", "triggers") as (answers, engine, *watching):
        flow = await answers.owner.create_workflow(_TICK, maxRuns=_MOST, cooldownMs=_COOLDOWN_MS)
        assert (await answers.owner.post(f"/v1/workflows/{flow['id']}/publish")).status == 200
        moving = asyncio.create_task(_take_over_again_and_again(answers))

        async def is_used_up() -> bool:
            found = (await answers.owner.get(f"/v1/workflows/{flow['id']}")).data
            return (found["status"], found["pausedReason"]) == ("paused", "max_runs_exhausted")

        try:
            await until(is_used_up)
            await asyncio.sleep(1.5)  # and nothing more is fired
        finally:
            moving.cancel()
        columns = (trigger_events.c.outcome, trigger_events.c.reason, trigger_events.c.key)
        seen = await answers.rows(sa.select(*columns))
        assert Counter(outcome for outcome, _, _ in seen)["started"] == _MOST
        assert len({key for _, _, key in seen}) == len(seen)
        assert {reason for outcome, reason, _ in seen if outcome != "started"} <= {"cooldown", "exhausted", "paused"}
        found = await answers.rows(sa.select(runs.c.id, runs.c.started_at).order_by(runs.c.started_at))
        starts = [at for _, at in found]
        assert len(starts) == _MOST
        assert all(later - earlier >= _COOLDOWN_MS for earlier, later in pairwise(starts))
        for run_id, _ in found:
            assert (await ended(answers.owner, run_id))["status"] == "success"
            await _check_numbers(answers, run_id)
        held = await answers.rows(sa.select(runs.c.claimed_by).distinct())
        assert held == [(engine.parts.database.name,)]
        assert len(watching) == 2


async def test_two_people_decide_through_two_processes_and_a_third_has_the_run(tmp_path: Path, url: str) -> None:
    async with _apart(tmp_path, url, "api", "api", "engine") as (*answering, engine):
        await decide_at_once([one.owner for one in answering], 3)
        held = await answering[0].rows(sa.select(runs.c.claimed_by).distinct())
        assert held == [(engine.parts.database.name,)]


async def test_what_is_rehearsed_in_one_process_counts_in_all(tmp_path: Path, url: str, world: World) -> None:
    """Started through one process that only answers calls, read through the other one."""
    with world.node() as chain:
        shares: Json = {"shared": True, "store_url": url, "roles": ("api",)}
        async with open_studio(tmp_path, world, chain, **shares) as studio:
            described = {"networks_dir": tmp_path / "networks", "chain_endpoints": {CHAIN_ID: (chain.url,)}}
            async with _apart(tmp_path, url, "api", "engine", "engine", **described) as (other, *_):
                await _climb(studio, other)


async def _climb(studio: Studio, other: Composition) -> None:
    child = await studio.workflow({"pay": pay(5)})
    call = {"type": "call-workflow", "payload": {"workflowId": child}}
    flow = await studio.workflow({"own": pay(7, "call"), "call": call}, requireRehearsal="dust")
    here, there = studio.api, other.owner
    plan = f"/v1/workflows/{flow}/dust-plan"
    plans = [(await client.post(plan, {})).data for client in (here, there)]
    assert plans[0]["spends"] == plans[1]["spends"]
    found = {}
    for mode, body in (("simulate", {"simulate": True}), ("dust", {"dustTest": True}), ("live", {})):
        published = await there.post(f"/v1/workflows/{flow}/publish", {})
        assert published.code == (200 if mode == "live" else Code.REHEARSAL_MISSING)
        started = (await here.post(f"/v1/workflows/{flow}/run", body)).data["runId"]
        run = await ended(there, started)
        assert (run["status"], run["passed"]) == ("success", True), run["executionState"]
        found[mode] = started
        for client in (here, there):
            report = (await client.get(f"/v1/runs/{started}/effects")).data
            assert (report["passed"], [one["path"] for one in report["transactions"]]) == (True, ["own", "call/pay"])
            ladder = (await client.get(f"/v1/workflows/{flow}")).data["ladder"]
            assert ladder == {"simulate": None, "dust": None, "live": None} | found
    sides = [
        (await client.get(f"/v1/runs/{found['simulate']}/compare/{found['live']}")).data for client in (here, there)
    ]
    assert sides[0] == sides[1]


async def test_a_back_test_that_two_carry_out_for_a_while_simulates_each_event_once(tmp_path: Path, url: str) -> None:
    """The one that began it is held up, and counts as gone; when it goes on, another one is at it."""
    async with (
        outside_of() as outside,
        _apart(tmp_path, url, "api", "api", "engine", outbound_allow=("127.0.0.1",)) as (slow, other, _),
    ):
        ask = {"type": "http-request", "payload": {"method": "GET", "url": f"{outside.base}/"}}
        hourly = {"type": "cronjob", "payload": {"schedule": "0 * * * *"}, "children": ["ask"]}
        flow = await slow.owner.create_workflow(_definition({"ask": ask}, hourly))
        asked = {"from": "2026-01-01T00:30:00Z", "to": "2026-01-01T12:30:00Z", "waitMs": 0}
        test = (await slow.owner.post(f"/v1/workflows/{flow['id']}/backtest", asked)).data["id"]
        dead = sa.update(processes).where(processes.c.id == slow.parts.database.name).values(alive_until=0)

        async def is_taken_over() -> bool:
            await slow.execute(dead)  # it says that it lives every two seconds
            await other.parts.triggers.backtests.take_over()
            return bool(other.parts.triggers.backtests._tasks)

        await until(is_taken_over)

        async def is_done() -> Json | None:
            found: Json = (await slow.owner.get(f"/v1/backtests/{test}")).data
            return found if found["status"] != "running" else None

        found = await until(is_done)
        assert (found["status"], found["eventsFound"], found["report"]["totals"]["runs"]) == ("done", 12, 12)
        assert (outside.all, outside.most) == (12, 1)

        async def is_left() -> bool:
            return not any(one.parts.triggers.backtests._tasks for one in (slow, other))

        await until(is_left)
        assert (await slow.owner.get(f"/v1/backtests/{test}")).data == found
        assert await slow.rows(sa.select(leases.c.name).where(leases.c.name.like("once:%"))) == []
