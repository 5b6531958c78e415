"""Kills a real server, again and again, at random moments under load, and holds what is left against what it promised.

    scripts/soak crash [--scale KILLS] [--seed S] [--set users=40] [--set pause=2.0] [--store postgresql]

A recording HTTP sink is the outside world. At the end: no run that was accepted is missing, none ended twice, no event
of any stream is missing, doubled or changed, no write went out more often than its attempts allow.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.cluster_callers import create_workflows
from bench.crash_check import Store, check, check_activity
from bench.crash_load import ActivityReader, Api, Findings, User
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess
from testkit.sink import SinkProcess

_SETTINGS = {
    "outbound_allow": "127.0.0.1",
    "rate_limit_per_second": "0",
    "max_waiting_streams": "1000",
}
_LEFT_S = 120.0
_READY_S = 180.0  # a start among others on a busy machine; what a start takes is reported
_RUNS_A_KILL = 6
_MOST_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """How often to kill, under how many users, and how long to wait at most between a start and the next kill."""

    kills: int
    seed: int
    users: int
    pause_s: float
    url: str
    cut_off: Callable[[], object] | None = None
    """Ends the server's sessions at the database."""


def run(scale: int | None, seed: int, users: str = "40", pause: str = "2.0", store: str = "sqlite") -> dict[str, Any]:
    """`scale` kills (default 200) under the load of `users` concurrent users, at most `pause` seconds apart. On a
    `store` of "postgresql" the server's sessions end too, before every other kill."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-crash-")))
        plan = partial(Plan, scale or 200, seed, int(users), float(pause))
        if store == "sqlite":
            return asyncio.run(_run(folder, plan(f"sqlite:///{folder / 'data' / 'dustrun.db'}")))
        cluster = Cluster()
        stack.callback(cluster.end)
        url = cluster.fresh()
        return asyncio.run(_run(folder, plan(url, partial(cluster.kill_connections, url))))


async def _run(folder: Path, plan: Plan) -> dict[str, Any]:
    sink = SinkProcess(plan.seed)
    server = ServerProcess(folder / "data", {**_SETTINGS, "database_url": plan.url})
    findings = Findings()
    begun = time.monotonic()
    try:
        server.start()
        await server.wait_ready(_READY_S)
        api = Api(server.base, server.owner_key, findings)
        try:
            found = await _soak(server, api, sink, findings, plan)
        finally:
            await api.close()
    finally:
        await server.stop()
        sink.stop()
    return {**found, "seconds": round(time.monotonic() - begun, 1), "failures": findings.failures}


async def _soak(server: ServerProcess, api: Api, sink: SinkProcess, findings: Findings, plan: Plan) -> dict[str, Any]:
    workflows = await create_workflows(api)
    users = [User(api, sink, workflows, findings, f"{plan.seed}-{number}") for number in range(plan.users)]
    activity = ActivityReader(api, findings)
    enough = asyncio.Event()
    activity.start()
    working = [asyncio.create_task(user.work(enough)) for user in users]
    kills, recovery = await _kill(server, plan, lambda: sum(seen.accepted for user in users for seen in user.seen))
    enough.set()
    await _finish(working, users, findings)
    await asyncio.sleep(0.5)
    await activity.stop()
    await server.stop()
    store = Store(plan.url)
    records, effects = await sink.records()
    check(store, [seen for user in users for seen in user.seen], records, findings)
    check_activity(store, activity.entries, findings)
    return {"kills": kills, **_report(store, findings, recovery, len(records), effects)}


async def _kill(server: ServerProcess, plan: Plan, accepted: Callable[[], int]) -> tuple[int, list[float]]:
    """Kills and starts again; one in ten already while it starts. How often, and each time the seconds to `/readyz`.

    A slow machine starts few runs between two kills: there it goes on until enough were accepted to say something.
    """
    recovery, chance, kills = [], random.Random(plan.seed), 0
    while kills < plan.kills or (accepted() < _RUNS_A_KILL * plan.kills and kills < _MOST_ROUNDS * plan.kills):
        kills += 1
        await asyncio.sleep(chance.uniform(0.05, plan.pause_s))
        if plan.cut_off is not None and kills % 2:
            await asyncio.to_thread(plan.cut_off)
            await asyncio.sleep(chance.uniform(0.05, plan.pause_s))
        begun = time.monotonic()
        server.kill()
        server.start()
        if chance.random() < 0.1:
            await asyncio.sleep(chance.uniform(0.0, 1.5))
        else:
            await server.wait_ready(_READY_S)
            recovery.append(time.monotonic() - begun)
    await server.wait_ready(_READY_S)
    return kills, recovery


async def _finish(working: list[asyncio.Task[None]], users: list[User], findings: Findings) -> None:
    """Gives what runs the time to end."""
    _, late = await asyncio.wait(working, timeout=_LEFT_S)
    if late:
        hanging = [seen.run_id for user in users for seen in user.seen if seen.events[-1:] and not _has_ended(seen)]
        findings.fail(f"{len(late)} users still wait after {_LEFT_S:g} s; open runs: {hanging[:10]}")
    for task in late:
        task.cancel()
    for task in working:
        if task.done() and not task.cancelled() and task.exception() is not None:
            findings.fail(f"a user broke: {task.exception()!r}")
    await asyncio.gather(*late, return_exceptions=True)


def _has_ended(seen: Any) -> bool:
    return bool(seen.events[-1][1] == "run_finished")


def _report(store: Store, findings: Findings, recovery: list[float], requests: int, effects: int) -> dict[str, Any]:
    statuses: dict[str, int] = {}
    for stored in store.runs.values():
        statuses[stored.status] = statuses.get(stored.status, 0) + 1
    cuts = statistics.quantiles(recovery, n=100, method="inclusive") if len(recovery) > 1 else [0.0] * 99
    return {
        "runs": len(store.runs),
        "byStatus": statuses,
        "events": sum(len(stored.events) for stored in store.runs.values()),
        "recoveryMs": {"p50": round(cuts[49] * 1000), "p99": round(cuts[98] * 1000)},
        "sink": {"requests": requests, "effectsByKey": effects},
        "counts": dict(sorted(findings.counts.items())),
    }
