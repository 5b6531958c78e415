"""Whether the server's memory grows with the runs that it has carried out: 100,000 of them, one after the other load.

    scripts/bench memory [--quick] [--scale runs]

Runs of three writing nodes, 50 in flight over HTTP, each seen to end on the workflow's stream. Resident memory is read
after each tenth. The first tenths fill caches and the allocator's arenas; the line through the last six must be flat:
less than 1 MiB for 10,000 runs.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import bench_run_call, load

PARTS = 10
SETTLED_AFTER = 4
MOST_MIB_PER_10_000 = 1.0


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False) -> dict[str, Any]:
    """`scale` = runs. A quick one only shows that it works: too few runs say nothing of growth."""
    del seed
    runs = scale or (2_000 if quick else 100_000)
    with tempfile.TemporaryDirectory() as folder, load.server(Path(folder) / "data") as process:
        points = asyncio.run(_measure(process, runs // PARTS))
    settled = points[SETTLED_AFTER:]
    slope = statistics.linear_regression([count for count, _ in settled], [mib for _, mib in settled]).slope
    growth = round(slope * 10_000, 2)
    failures = []
    if growth > MOST_MIB_PER_10_000 and not quick:
        failures.append(f"memory grows by {growth} MiB for 10,000 runs")
    return {
        "runs": runs,
        "rssMib": [{"afterRuns": count, "rssMib": mib} for count, mib in points],
        "mibPer10000Runs": growth,
        "aimMibPer10000Runs": MOST_MIB_PER_10_000,
        "failures": failures,
    }


async def _measure(process: load.Process, part: int) -> list[tuple[int, float]]:
    connection = load.Connection(process)
    workflow_id = await load.create(connection, "three writes", load.chain(3))
    connection.close()
    points = []
    for number in range(PARTS):
        await bench_run_call.rate(process, workflow_id, part, f"m{number}")
        await asyncio.sleep(0.5)
        points.append(((number + 1) * part, process.rss_mib()))
        print(f"  {points[-1][0]} runs: {points[-1][1]} MiB", file=sys.stderr)
    return points
