"""The run call on a durable PostgreSQL over HTTP: rate and processor time, and what distance to the database costs."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench import bench_run_call, load
from testkit.distance import at_a_distance
from testkit.postgres import Cluster

AIMS = {"runsPerSecond": 1000, "cpuMsPerRun": 0.8, "rateAt10Ms": 0.8}
_IN_FLIGHT, _MANY = 50, 600
_AWAY_MS = (0, 10)


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False) -> dict[str, Any]:
    """`scale` = runs in each round. Distances are milliseconds each way, so a round trip takes twice that; both of them
    go through the same proxy."""
    del seed
    runs = scale or (600 if quick else 3000)
    cluster = Cluster(durable=True)
    try:
        near = _on(cluster, runs, _IN_FLIGHT, None)
        away = {f"{delay_ms} ms": _on(cluster, runs, _MANY, delay_ms) for delay_ms in _AWAY_MS}
    finally:
        cluster.end()
    rates = [away[f"{delay_ms} ms"]["pure"]["runsPerSecond"] for delay_ms in _AWAY_MS]
    return {
        "nodesPerRun": 3,
        "aims": AIMS,
        "inFlight": _IN_FLIGHT,
        **near,
        "atADistance": {"inFlight": _MANY, "ratio": round(rates[1] / rates[0], 2), **away},
    }


def _on(cluster: Cluster, runs: int, in_flight: int, delay_ms: int | None) -> dict[str, Any]:
    url = cluster.fresh()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-postgresql-"))
        if delay_ms is not None:
            url, _ = stack.enter_context(at_a_distance(url, delay_ms / 1000))
        process = stack.enter_context(load.server(Path(folder) / "data", DUSTRUN_DATABASE_URL=url))
        return asyncio.run(_measure(process, runs, in_flight))


async def _measure(process: load.Process, runs: int, in_flight: int) -> dict[str, Any]:
    connection = load.Connection(process)
    shapes = {"pure": load.chain(3, "log"), "writes": load.chain(3)}
    found = {}
    for name, definition in shapes.items():
        workflow_id = await load.create(connection, name, definition)
        await bench_run_call.rate(process, workflow_id, max(100, runs // 5), f"{name}-warm", in_flight)
        rounds = [await bench_run_call.rate(process, workflow_id, runs, f"{name}-{n}", in_flight) for n in range(3)]
        found[name] = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    connection.close()
    return found
