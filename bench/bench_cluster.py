"""Runs per second with 1, 2 and 4 engines that Temporal directs, beside one process on the same PostgreSQL; and what a
run costs the store and Temporal.

A run is three nodes, each of whose results is committed before the next begins. The engines, PostgreSQL and Temporal's
development server share this machine, so the figures say where its limit is, not what more machines would do. What a
run writes and how much of Temporal it uses does not depend on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import sqlalchemy as sa
from temporalio.client import Client

from bench import load
from testkit.machines import Machines
from testkit.postgres import Cluster
from testkit.temporal import TemporalServer

ENGINES = (1, 2, 4)
_IN_FLIGHT = 50
_IDLE_S = 4.0
_LONGEST_S = 240
"""How long one run may take: on a busy machine with as many in flight, longer than other calls."""
_COUNTS = ("xact_commit", "tup_inserted", "tup_updated")


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False) -> dict[str, Any]:
    """`scale` = runs measured in each arrangement."""
    del seed
    runs = scale or (40 if quick else 200)
    with contextlib.ExitStack() as stack:
        database = Cluster(durable=True)
        stack.callback(database.end)
        found: dict[str, Any] = {"one process": asyncio.run(_measure(database, None, 0, runs))}
        for count in ENGINES:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-bench-cluster-")))
            temporal = TemporalServer(folder)
            temporal.start()
            stack.callback(temporal.end, kill=True)
            found[f"engines: {count}"] = asyncio.run(_measure(database, temporal, count, runs))
            temporal.end(kill=True)
    failures = [
        f"{name}: {one['ended']} of {runs} runs succeeded" for name, one in found.items() if one["ended"] != runs
    ]
    return {"nodesPerRun": 3, "inFlight": _IN_FLIGHT, "runs": runs, "measured": found, "failures": failures}


async def _measure(database: Cluster, temporal: TemporalServer | None, engines: int, runs: int) -> dict[str, Any]:
    """One arrangement: an API process and engines, or with none a process that does everything by itself."""
    with tempfile.TemporaryDirectory(prefix="dustrun-bench-cluster-") as folder:
        url = database.fresh()
        more = {"actions_dir": str(Path(__file__).parent / "actions"), "rate_limit_per_second": "0"}
        machines = Machines(Path(folder), url, temporal.address if temporal is not None else None, **more)
        if temporal is None:
            machines.add("api", shared="false")
        else:
            machines.add("api", "api")
            for number in range(engines):
                machines.add(f"engine-{number}", "engine")
        try:
            await machines.start()
            body = {"name": "chain", "description": "", "definition": load.chain(3)}
            workflow = (await machines.post("api", "/v1/workflows", body))["id"]
            await _burst(machines, url, workflow, 20)
            idle = await _idle(url)
            before, begun = _counts(url), time.perf_counter()
            cpu = _cpu(machines, database, temporal)
            seconds = await _burst(machines, url, workflow, runs)
            used = _cpu(machines, database, temporal)
            after, counted_s = _counts(url), time.perf_counter() - begun
            processors = {name: round((used[name] - cpu[name]) / seconds, 2) for name in used}
            return {
                "runsPerSecond": round(runs / seconds, 1),
                "ended": _ended(url) - 20,
                "perRun": {
                    name: round((after[name] - before[name] - idle[name] * counted_s) / runs, 2) for name in _COUNTS
                },
                "idlePerSecond": {name: round(rate, 2) for name, rate in idle.items()},
                "temporal": await _use_of(temporal) if temporal is not None else {},
                "processorsUsed": {**processors, "all": round(sum(processors.values()), 2)},
                "busiest": max(processors, key=lambda name: processors[name]),
            }
        finally:
            await machines.stop()
            database.drop(url)


async def _burst(machines: Machines, url: str, workflow: str, runs: int) -> float:
    """Starts so many runs, never more than some at once under way; the seconds until all have ended."""
    begun, left = time.perf_counter(), _ended(url) + runs
    room = asyncio.Semaphore(_IN_FLIGHT)

    async def one() -> None:
        async with room:
            run_id = (await machines.post("api", f"/v1/workflows/{workflow}/run", {"payload": {}}))["runId"]
            path = f"{machines.servers['api'].base}/v1/runs/{run_id}/stream"
            async with machines.session.get(path, timeout=aiohttp.ClientTimeout(total=_LONGEST_S)) as answer:
                await answer.read()

    await asyncio.gather(*(one() for _ in range(runs)))
    seconds = time.perf_counter() - begun
    assert _ended(url) <= left
    return seconds


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    parsed = sa.make_url(url)
    with psycopg.connect(host=str(parsed.query["host"]), user="postgres", dbname=parsed.database) as connection:
        return connection.execute(query.encode()).fetchall()


def _ended(url: str) -> int:
    return int(_rows(url, "SELECT count(*) FROM runs WHERE status = 'success'")[0][0])


def _counts(url: str) -> dict[str, int]:
    """What the database has done so far: transactions that committed, and rows."""
    time.sleep(1.2)  # sessions tell the statistics once a second
    row = _rows(url, f"SELECT {', '.join(_COUNTS)} FROM pg_stat_database WHERE datname = current_database()")[0]
    return dict(zip(_COUNTS, row, strict=True))


async def _idle(url: str) -> dict[str, float]:
    """What the database does a second while no run is under way: processes say that they live, and look in tables."""
    before, begun = _counts(url), time.perf_counter()
    await asyncio.sleep(_IDLE_S)
    after, seconds = _counts(url), time.perf_counter() - begun
    return {name: (after[name] - before[name]) / seconds for name in _COUNTS}


def _cpu(machines: Machines, database: Cluster, temporal: TemporalServer | None) -> dict[str, float]:
    """Processor time that each part has used so far, in seconds."""
    found = {name: load.cpu_s_of(server.server_pid) for name, server in machines.servers.items()}
    found["PostgreSQL"] = sum(map(load.cpu_s_of, database.pids))
    if temporal is not None:
        found["Temporal"] = load.cpu_s_of(temporal.pid)
    return found


async def _use_of(temporal: TemporalServer) -> dict[str, float]:
    """Of one run: the events of its history, and what Temporal bills as actions: its start, and each activity,
    signal and timer."""
    client = await Client.connect(temporal.address)
    await asyncio.sleep(1)  # the list of workflows is a moment behind
    async for found in client.list_workflows("WorkflowType = 'dustrun-run' AND ExecutionStatus = 'Completed'"):
        history = await client.get_workflow_handle(found.id, run_id=found.run_id).fetch_history()
        kinds = [event.WhichOneof("attributes") or "" for event in history.events]
        billed = (
            "workflow_execution_started",
            "activity_task_scheduled",
            "timer_started",
            "workflow_execution_signaled",
        )
        return {"historyEvents": len(kinds), "actions": sum(kind.startswith(billed) for kind in kinds)}
    return {}
