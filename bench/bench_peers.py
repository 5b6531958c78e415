"""Other engines beside us, the same work in one run: workflows of 3 durable steps 50 in flight and one alone, 40 steps
in a row, processor time, memory and start-up. Every step's result is stored before the next step begins, in all.

    scripts/bench peers [--quick] [--only dustrun,restate] [--scale runs]

Each peer is installed at first use in an environment of its own. One that does not install here is named with the
reason. If one gets stuck, the figures found before stand beside what it says of itself, and the next one follows. What
is over HTTP and what runs within the caller's process is said with each: the latter saves it work. Where the caller is
in the peer's process, its processor time includes the caller's.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import bench_run_call, load
from bench.peers import IN_FLIGHT, Unavailable, aims, dbos, measuring, n8n, prefect, restate, temporal
from testkit.postgres import Cluster
from testkit.temporal import TemporalServer

# What part of the runs a peer gets in each of its three rounds, so that each takes seconds and not hours.
_PART = {"dbos": 0.1, "dbos on PostgreSQL": 0.1, "n8n": 0.1, "prefect": 0.02, "temporal": 0.02,
         "dustrun with Temporal": 0.02}  # fmt: skip
_COLUMNS = {
    "runs/s": "runsPerSecond",
    "ms alone": "aloneP50Ms",
    "p99": "aloneP99Ms",
    "40 steps s": "chain40S",
    "ready s": "readyS",
    "MiB": "idleRssMib",
}


def _dustrun(runs: int) -> dict[str, Any]:
    return {"store": "SQLite, WAL, synchronous=FULL (default)", **_served(runs)}


def _on_postgresql(runs: int) -> dict[str, Any]:
    with _postgresql() as cluster:
        settings = {"DUSTRUN_DATABASE_URL": cluster.fresh()}
        return {"store": "PostgreSQL, its own defaults", **_served(runs, **settings)}


def _with_temporal(runs: int) -> dict[str, Any]:
    """One process that does everything, and whom Temporal has advance the runs: what a cluster pays for each run."""
    with _postgresql() as cluster, tempfile.TemporaryDirectory() as folder:
        server = TemporalServer(Path(folder), store=True)
        server.start()
        try:
            settings = {"DUSTRUN_DATABASE_URL": cluster.fresh(), "DUSTRUN_TEMPORAL_ADDRESS": server.address}
            store = f"PostgreSQL, its own defaults; Temporal's development server {temporal.SERVER} on SQLite"
            return {**_served(runs, **settings), "store": store}
        finally:
            server.end(kill=True)


def _dbos_on_postgresql(runs: int) -> dict[str, Any]:
    with _postgresql() as cluster:
        return dbos.measure_on_postgresql(runs, cluster.empty())


@contextmanager
def _postgresql() -> Iterator[Cluster]:
    cluster = Cluster(durable=True)
    try:
        yield cluster
    finally:
        cluster.end()


def _served(runs: int, **settings: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, load.server(Path(folder) / "data", **settings) as process:
        return asyncio.run(_measure(process, runs))


async def _measure(process: load.Process, runs: int) -> dict[str, Any]:
    connection = load.Connection(process)
    three = await load.create(connection, "three writes", load.chain(3))
    forty = await load.create(connection, "forty writes", load.chain(40))
    pure = await load.create(connection, "three pure", load.chain(3, "log"))
    connection.close()
    idle = process.rss_mib()
    writes = await _rounds(process, three, runs, "r")
    alone = await bench_run_call.alone(process, three, min(300, runs), "alone")
    chain = await bench_run_call.alone(process, forty, min(30, runs), "forty")
    return {
        "version": "this commit",
        "overHttp": True,
        "readyS": round(process.started_s, 2),
        "idleRssMib": idle,
        **writes,
        **measuring.alone([ms / 1000 for ms in alone]),
        **measuring.chain([ms / 1000 for ms in chain]),
        "pure": await _rounds(process, pure, runs, "p"),
    }


async def _rounds(process: load.Process, workflow_id: str, runs: int, tag: str) -> dict[str, float]:
    await bench_run_call.rate(process, workflow_id, max(IN_FLIGHT, runs // 10), f"{tag}-warm")
    rounds = [await bench_run_call.rate(process, workflow_id, runs, f"{tag}{number}") for number in range(3)]
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


PEERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "dustrun": _dustrun,
    "dustrun on PostgreSQL": _on_postgresql,
    "dustrun with Temporal": _with_temporal,
    "restate": restate.measure,
    "dbos": dbos.measure,
    "dbos on PostgreSQL": _dbos_on_postgresql,
    "n8n": n8n.measure,
    "prefect": prefect.measure,
    "temporal": temporal.measure,
}


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False, only: str = "") -> dict[str, Any]:
    """`scale` = workflows in each round of the rate; `only` names some of the peers, comma-separated. The aims are
    judged if `only` is empty, and a `quick` run does not fail because of them."""
    del seed
    runs = scale or (300 if quick else 3000)
    chosen = only.split(",") if only else list(PEERS)
    if unknown := set(chosen) - set(PEERS):
        raise SystemExit(f"--only: there is no {', '.join(sorted(unknown))}; there are: {', '.join(PEERS)}")
    found: dict[str, Any] = {}
    failures: list[str] = []
    for name in chosen:
        print(f"  {name} …", file=sys.stderr)
        found[name] = _one(name, max(20, int(runs * _PART.get(name, 1.0))), failures)
        print(f"    {found[name]}", file=sys.stderr)
    print(beside(found), file=sys.stderr)
    judged = [] if only else aims.judge(found)
    if not quick:
        failures += [f"{one['aim']}: {one['measured']}" for one in judged if not one["met"]]
    return {
        "inFlight": IN_FLIGHT,
        "stepsPerRun": 3,
        "quick": quick,
        "peers": found,
        "aims": judged,
        "failures": failures,
    }


def beside(found: dict[str, Any]) -> str:
    """The figures of all, a line each, with what was measured."""
    lines = [f"{'':24}" + "".join(f"{title:>12}" for title in _COLUMNS)]
    for name, one in found.items():
        figures = "".join(f"{one.get(key, '-'):>12}" for key in _COLUMNS.values())
        about = one.get("unavailable") or f"{one.get('version', '')}; {one.get('store', '')}"
        lines.append(f"{name:24}{figures}   {about}")
    return "\n".join(lines)


def _one(name: str, runs: int, failures: list[str]) -> dict[str, Any]:
    try:
        return {"runsPerRound": runs, **PEERS[name](runs)}
    except Unavailable as reason:
        return {"unavailable": str(reason)}
    except Exception as error:  # the figures of the others are worth more than this one's stack
        failures.append(f"{name}: {error!r}")
        return {"unavailable": repr(error)}
