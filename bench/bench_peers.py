"""Other engines beside us, the same work in one run: workflows of 3 durable steps 50 in flight and one alone, 40 steps
in a row, memory and start-up. Every step's result is on disk before the next step begins, in all of them.

    scripts/bench peers [--quick] [--only dustrun,restate] [--scale runs]

Each peer is installed at first use in an environment of its own. One that does not install here is named with the
reason. What is over HTTP and what runs within the caller's process is said with each: the latter saves it work.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import bench_run_call, load
from bench.peers import IN_FLIGHT, Unavailable, dbos, figures, n8n, prefect, restate

# What part of the runs a peer gets in each of its three rounds, so that each takes seconds and not hours.
_PART = {"dustrun": 1.0, "restate": 1.0, "dbos": 0.1, "n8n": 0.1, "prefect": 0.02}


def _dustrun(runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, load.server(Path(folder) / "data") as process:
        return asyncio.run(_measure(process, runs))


async def _measure(process: load.Process, runs: int) -> dict[str, Any]:
    connection = load.Connection(process)
    three = await load.create(connection, "three writes", load.chain(3))
    forty = await load.create(connection, "forty writes", load.chain(40))
    connection.close()
    idle = process.rss_mib()
    await bench_run_call.rate(process, three, max(IN_FLIGHT, runs // 10), "warm")
    rounds = [await bench_run_call.rate(process, three, runs, f"r{number}") for number in range(3)]
    alone = await bench_run_call.alone(process, three, min(300, runs), "alone")
    chain = await bench_run_call.alone(process, forty, min(30, runs), "forty")
    return {
        "version": "this commit",
        "store": "SQLite, WAL, synchronous=FULL (default)",
        "overHttp": True,
        "readyS": round(process.started_s, 2),
        "idleRssMib": idle,
        **figures([one["runsPerSecond"] for one in rounds], [ms / 1000 for ms in alone], [ms / 1000 for ms in chain]),
    }


PEERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "dustrun": _dustrun,
    "restate": restate.measure,
    "dbos": dbos.measure,
    "n8n": n8n.measure,
    "prefect": prefect.measure,
}


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False, only: str = "") -> dict[str, Any]:
    """`scale` = workflows in each round of the rate; `only` names some of the peers, comma-separated."""
    del seed
    runs = scale or (300 if quick else 3000)
    wanted = [name for name in PEERS if not only or name in only.split(",")]
    found: dict[str, Any] = {}
    for name in wanted:
        print(f"  {name} …", file=sys.stderr)
        share = max(20, int(runs * _PART[name]))
        try:
            found[name] = {"runsPerRound": share, **PEERS[name](share)}
        except Unavailable as reason:
            found[name] = {"unavailable": str(reason)}
        print(f"    {found[name]}", file=sys.stderr)
    return {"inFlight": IN_FLIGHT, "stepsPerRun": 3, "quick": quick, "peers": found}
