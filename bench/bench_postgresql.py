"""The run call on a durable PostgreSQL over HTTP: rate and processor time, and what distance to the database costs.

    scripts/bench postgresql [--scale RUNS] [--set part=distance]

With `part=distance` only the ratio of far to near is measured, which a slow machine changes little. Recorded under a
name of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import bench_run_call, load
from testkit.distance import at_a_distance
from testkit.postgres import Cluster

AIMS = {"runsPerSecond": 1000, "cpuMsPerRun": 0.8, "rateAt10Ms": 0.9}
_IN_FLIGHT, _MANY, _ROUNDS = 50, 1200, 3
"""At a distance each commit of a run waits two round trips longer, so as much work needs more runs in flight."""
_LONGER = 4
"""So many more runs in a round with many in flight: the last ones, among fewer and fewer others, show latency instead
of throughput."""
_AWAY_MS = (0, 10)
_SHAPES = {"pure": load.chain(3, "log"), "writes": load.chain(3)}
Rates = dict[str, dict[str, float]]


def run(scale: int | None = None, seed: int = 0, part: str = "all", *, quick: bool = False) -> dict[str, Any]:
    """`scale` = runs in each round. Distances are milliseconds each way, so a round trip takes twice that. Both go
    through a proxy, and their rounds alternate."""
    del seed
    runs = scale or (600 if quick else 3000)
    cluster = Cluster(durable=True)
    is_whole = part != "distance"
    try:
        near = _measure_near(cluster, runs) if is_whole else {}
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(_server(cluster, delay_ms)) for delay_ms in _AWAY_MS]
            away = asyncio.run(_measure(processes, runs * _LONGER, _MANY))
    finally:
        cluster.end()
    ratios = {shape: round(away[1][shape]["runsPerSecond"] / away[0][shape]["runsPerSecond"], 2) for shape in _SHAPES}
    aim = AIMS["rateAt10Ms"]
    failures = [
        f"{shape} at a distance: {ratio} of the rate near by, not {aim}"
        for shape, ratio in ratios.items()
        if ratio < aim
    ]
    distances = {f"{delay_ms} ms": rates for delay_ms, rates in zip(_AWAY_MS, away, strict=True)}
    return {
        **({} if is_whole else {"variant": "distance"}),
        "nodesPerRun": 3,
        "aims": AIMS,
        **near,
        "atADistance": {"inFlight": _MANY, "ratios": ratios, "rates": distances},
        "failures": failures,
    }


def _measure_near(cluster: Cluster, runs: int) -> dict[str, Any]:
    with _server(cluster, None) as process:
        (near,) = asyncio.run(_measure([process], runs, _IN_FLIGHT))
    return {"inFlight": _IN_FLIGHT, **near}


@contextlib.contextmanager
def _server(cluster: Cluster, delay_ms: int | None) -> Iterator[load.Process]:
    """A server on a fresh database, as far away."""
    url = cluster.fresh()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-postgresql-"))
        if delay_ms is not None:
            url, _ = stack.enter_context(at_a_distance(url, delay_ms / 1000))
        yield stack.enter_context(load.server(Path(folder) / "data", DUSTRUN_DATABASE_URL=url))


async def _measure(processes: list[load.Process], runs: int, in_flight: int) -> list[Rates]:
    """The medians of some rounds on each server, in turn."""
    found: list[Rates] = [{} for _ in processes]
    for shape, definition in _SHAPES.items():
        ids = [await _create(process, shape, definition) for process in processes]
        rounds: list[list[dict[str, float]]] = [[] for _ in processes]
        for number in range(_ROUNDS + 1):
            for process, workflow_id, one in zip(processes, ids, rounds, strict=True):
                one.append(await bench_run_call.rate(process, workflow_id, runs, f"{shape}-{number}", in_flight))
        for rates, (_, *measured) in zip(found, rounds, strict=True):  # the first only warms up
            rates[shape] = {key: statistics.median(one[key] for one in measured) for key in measured[0]}
    return found


async def _create(process: load.Process, name: str, definition: dict[str, Any]) -> str:
    connection = load.Connection(process)
    workflow_id = await load.create(connection, name, definition)
    connection.close()
    return workflow_id
