"""Runs per second of one server on PostgreSQL, and of several that share its store, under the same load.

    scripts/bench processes [--scale RUNS] [--set inflight=50,200,800] [--set share=0.25]

Each run is started over HTTP and seen to end on the workflow's stream of the server that was called; the callers are
spread evenly. Rounds alternate between the set-ups, on one durable PostgreSQL. The load generator and PostgreSQL run on
the same machine, so their processor time is told too: with two processors, all of it together cannot exceed two seconds
a second. `twoAtFullUseOfTheMachine`: the ratio if the processors did nothing else and never waited.

With a `share`, each server gets at most that part of one processor, and PostgreSQL and the load generator have the
rest: what servers carry that have a processor each. Recorded under a name of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import load
from bench.load import cpu_s_of
from bench.quota import confined
from testkit.postgres import Cluster

AIMS = {"twoInsteadOfOne": 1.6}
_ROUNDS, _LEAST, _MANY = 3, 10, "50,200,800"
_SHAPES = {"pure": load.chain(3, "log"), "writes": load.chain(3)}
_SETUPS: dict[str, tuple[dict[str, str], ...]] = {
    "one": ({},),
    "oneThatShares": ({"DUSTRUN_SHARED": "1"},),
    "two": ({"DUSTRUN_SHARED": "1"},) * 2,
    "apiAndEngine": (
        {"DUSTRUN_SHARED": "1", "DUSTRUN_ROLES": "api"},
        {"DUSTRUN_SHARED": "1", "DUSTRUN_ROLES": "engine,triggers"},
    ),
}
Rate = dict[str, float]


def run(
    scale: int | None = None, seed: int = 0, inflight: str = _MANY, share: str = "1", *, quick: bool = False
) -> dict[str, Any]:
    """`scale` = runs in each round; `inflight`: how many runs are under way at once, one comparison for each. A round
    has ten times as many runs at least: the last ones, among fewer and fewer others, show latency."""
    del seed
    runs = scale or (300 if quick else 2000)
    least = 0 if quick else _LEAST
    part = float(share)
    found = {many: _measure(max(runs, least * int(many)), int(many), part) for many in inflight.split(",")}
    most, aim = found[inflight.split(",")[-1]], AIMS["twoInsteadOfOne"]
    failures = [
        f"{shape}: two servers carry {ratio} times what one does, not {aim}"
        for shape, ratio in most["ratios"]["two"].items()
        if ratio < aim
    ]
    result = {"nodesPerRun": 3, "processorsPerServer": part, "aims": AIMS, "inFlight": found, "failures": failures}
    return result if part == 1 else {"variant": "confined", **result}


def _measure(runs: int, in_flight: int, share: float) -> dict[str, Any]:
    cluster = Cluster(durable=True)
    try:
        found = {shape: asyncio.run(_compare(cluster, shape, (runs, in_flight, share))) for shape in _SHAPES}
    finally:
        cluster.end()
    ratios = {
        name: {
            shape: round(rates[name]["runsPerSecond"] / rates["one"]["runsPerSecond"], 2)
            for shape, rates in found.items()
        }
        for name in ("two", "apiAndEngine")
    }
    possible = {
        shape: round((os.cpu_count() or 1) * 1000 / _cpu_ms(rates["two"]) / rates["one"]["runsPerSecond"], 2)
        for shape, rates in found.items()
    }
    return {"ratios": ratios, "twoAtFullUseOfTheMachine": possible, "rates": found}


def _cpu_ms(rate: Rate) -> float:
    """The processor time of a run, in milliseconds: of servers, database and load generator."""
    return sum(value for name, value in rate.items() if name.endswith("CpuMsPerRun"))


@contextlib.contextmanager
def _servers(cluster: Cluster, settings: Sequence[dict[str, str]], share: float) -> Iterator[list[load.Process]]:
    url = cluster.fresh()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-processes-")))
        servers = [
            stack.enter_context(load.server(folder / "data", DUSTRUN_DATABASE_URL=url, **one)) for one in settings
        ]
        if share < 1:
            for server in servers:
                stack.enter_context(confined(server.pid, share))
        yield servers


async def _compare(cluster: Cluster, shape: str, much: tuple[int, int, float]) -> dict[str, Rate]:
    """The medians of each set-up."""
    runs, in_flight, share = much
    rounds: dict[str, list[Rate]] = {name: [] for name in _SETUPS}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(_servers(cluster, settings, share)) for name, settings in _SETUPS.items()}
        flows = {name: await _create(some[0], shape) for name, some in servers.items()}
        for number in range(_ROUNDS + 1):
            for name, some in servers.items():
                rounds[name].append(await _rate(cluster, some, flows[name], (runs, f"{number}", in_flight)))
    return {
        name: {
            key: round(statistics.median(one[key] for one in found[1:]), 3) for key in found[0]
        }  # the first warms up
        for name, found in rounds.items()
    }


async def _create(process: load.Process, shape: str) -> str:
    connection = load.Connection(process)
    workflow_id = await load.create(connection, shape, _SHAPES[shape])
    connection.close()
    return workflow_id


async def _rate(
    cluster: Cluster, servers: Sequence[load.Process], workflow_id: str, much: tuple[int, str, int]
) -> Rate:
    runs, tag, in_flight = much
    async with contextlib.AsyncExitStack() as stack:
        called = sum("api" in server.environment.get("DUSTRUN_ROLES", "api") for server in servers)
        endings = [await stack.enter_async_context(_following(server, workflow_id)) for server in servers[:called]]
        numbers = iter(range(runs))
        used = _used(cluster, servers)
        begun, own = time.perf_counter(), time.process_time()

        async def work(place: int) -> None:
            connection = load.Connection(servers[place])
            for number in numbers:
                run_id = f"run_{tag}-{number}"
                ended = endings[place].expect(run_id)
                status, answer = await connection.call("POST", f"/v1/workflows/{workflow_id}/run", {"runId": run_id})
                assert status == 200, answer
                await ended
            connection.close()

        await asyncio.gather(*(work(number % called) for number in range(in_flight)))
        seconds, load_s = time.perf_counter() - begun, time.process_time() - own
        *each_s, database_s = (after - before for before, after in zip(used, _used(cluster, servers), strict=True))
    return {
        "runsPerSecond": round(runs / seconds, 1),
        "serversCpuMsPerRun": round(sum(each_s) / runs * 1000, 3),
        "busiestServerUses": round(max(each_s) / seconds, 3),
        "databaseCpuMsPerRun": round(database_s / runs * 1000, 3),
        "loadCpuMsPerRun": round(load_s / runs * 1000, 3),
    }


def _used(cluster: Cluster, servers: Sequence[load.Process]) -> list[float]:
    """Processor time so far of each server, and of PostgreSQL's processes together."""
    return [*(server.cpu_s() for server in servers), sum(map(cpu_s_of, cluster.pids))]


@contextlib.asynccontextmanager
async def _following(server: load.Process, workflow_id: str) -> Any:
    endings = load.Endings()
    async with load.stream(server, f"/v1/workflows/{workflow_id}/runs/stream") as reader:
        task = asyncio.create_task(endings.follow(reader))
        try:
            yield endings
        finally:
            task.cancel()
