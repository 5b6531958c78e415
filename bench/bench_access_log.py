"""What the access log costs a request: processor time with the log at `info` and at `warning`, in one run.

    scripts/bench access_log [--quick] [--scale requests]

Two servers answer the same reads in short turns, one after the other, so that a busy machine troubles both alike. The
log's cost is the median of the differences.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench import load

AIM_US = 50
IN_FLIGHT = 20
LEVELS = ("warning", "info")


async def _turn(process: load.Process, requests: int) -> float:
    """Microseconds of the server's processor time for each request."""
    before = process.cpu_s()

    async def work() -> None:
        connection = load.Connection(process)
        for _ in range(requests // IN_FLIGHT):
            status, answer = await connection.call("GET", "/v1/organizations")
            assert status == 200, answer
        connection.close()

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return (process.cpu_s() - before) / requests * 1e6


def _measure(servers: dict[str, load.Process], requests: int, turns: int) -> dict[str, list[float]]:
    for process in servers.values():
        asyncio.run(_turn(process, requests))
    found: dict[str, list[float]] = {level: [] for level in servers}
    for _ in range(turns):
        for level, process in servers.items():
            found[level].append(asyncio.run(_turn(process, requests)))
    return found


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False) -> dict[str, Any]:
    """`scale` = requests to each server."""
    del seed
    turns = 4 if quick else 48
    requests = (scale or (1_600 if quick else 16_000)) // turns // IN_FLIGHT * IN_FLIGHT
    with tempfile.TemporaryDirectory() as folder:
        servers = {level: load.Process(Path(folder) / level, DUSTRUN_LOG_LEVEL=level) for level in LEVELS}
        try:
            for level, process in servers.items():
                process.start(Path(folder) / f"{level}.log")
            found = _measure(servers, requests, turns)
        finally:
            for process in servers.values():
                process.stop()
        lines = (Path(folder) / "info.log").read_text().count('"/v1/organizations"')
    cost = statistics.median(info - warning for info, warning in zip(found["info"], found["warning"], strict=True))
    expected = requests * (turns + 1)
    failures = [] if lines == expected else [f"{lines} lines for {expected} requests"]
    return {
        "requests": requests * turns,
        "cpuUsPerRequest": {level: round(statistics.median(times), 1) for level, times in found.items()},
        "logUs": round(cost, 1),
        "aimUs": AIM_US,
        "failures": failures,
    }
