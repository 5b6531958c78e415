"""The run call of this commit and of an earlier one, in turns in one run.

    scripts/bench before --rev REV [--scale RUNS] [--rounds 6] [--store postgresql]

Each round starts a new server of each commit on an empty store, in alternating order: two processes of the same code
differ by several percent, so one pair says little. Both run on this commit's Python and libraries. `ratio` is the
median of the rounds' ratios, this commit to the earlier one: above 1 is faster for runs a second, slower for times.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import statistics
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from bench import bench_run_call, load
from testkit.postgres import Cluster

_ALONE = 200
Figures = dict[str, float]


def run(
    scale: int | None = None,
    seed: int = 0,
    rev: str = "",
    rounds: str = "6",
    store: str = "sqlite",
    *,
    quick: bool = False,
) -> dict[str, Any]:
    """`scale` = runs in each round."""
    del seed
    if not rev:
        raise SystemExit("bench before needs --rev: the commit to compare with.")
    runs = scale or (300 if quick else 2000)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-before-"))
        cluster = None
        if store == "postgresql":
            cluster = Cluster(durable=True)
            stack.callback(cluster.end)
        sources = {"before": _source_of(rev, Path(folder)), "now": Path(load.__file__).parents[1] / "src"}
        found: dict[str, list[Figures]] = {name: [] for name in sources}
        for number in range(2 if quick else int(rounds)):
            for name in sorted(sources, reverse=number % 2 == 1):
                found[name].append(_measured(sources[name], runs, cluster))
    return {
        "before": _commit(rev),
        "store": store,
        "rounds": found,
        "medians": {name: _medians(several) for name, several in found.items()},
        "ratio": {
            figure: round(statistics.median(now[figure] / then[figure] for then, now in _pairs(found)), 3)
            for figure in found["now"][0]
        },
    }


def _pairs(found: dict[str, list[Figures]]) -> list[tuple[Figures, Figures]]:
    return list(zip(found["before"], found["now"], strict=True))


def _medians(several: list[Figures]) -> Figures:
    return {figure: round(statistics.median(one[figure] for one in several), 3) for figure in several[0]}


def _commit(rev: str) -> str:
    return subprocess.run(["git", "rev-parse", rev], check=True, capture_output=True, text=True).stdout.strip()


def _source_of(rev: str, folder: Path) -> Path:
    """The sources of an earlier commit, unpacked."""
    packed = subprocess.run(["git", "archive", rev, "src"], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def _measured(source: Path, runs: int, cluster: Cluster | None) -> Figures:
    """A new server's figures, with three awaited writes and with three pure nodes a run."""
    settings = {} if cluster is None else {"DUSTRUN_DATABASE_URL": cluster.empty()}
    with tempfile.TemporaryDirectory(prefix="dustrun-before-") as folder:
        data = Path(folder) / "data"
        with load.server(data, PYTHONPATH=str(source), **settings) as process:
            return asyncio.run(_figures(process, runs))


async def _figures(process: load.Process, runs: int) -> Figures:
    connection = load.Connection(process)
    writes = await load.create(connection, "writes", load.chain(3))
    pure = await load.create(connection, "pure", load.chain(3, "log"))
    connection.close()
    found: Figures = {}
    for name, workflow_id in (("writes", writes), ("pure", pure)):
        await bench_run_call.rate(process, workflow_id, runs // 5, f"warm-{name}")
        rate = await bench_run_call.rate(process, workflow_id, runs, name)
        found |= {f"{name}PerSecond": rate["runsPerSecond"], f"{name}CpuMs": rate["cpuMsPerRun"]}
    alone = await bench_run_call.alone(process, writes, _ALONE, "alone")
    return {**found, "aloneP50Ms": round(statistics.median(alone), 3)}
