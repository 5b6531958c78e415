"""Random workflows against a naive interpreter: the planner alone, then the whole engine with restarts.

    scripts/soak graphs [--scale GRAPHS] [--seed S] [--set engine=200]

`scale` graphs (default 10,000) go through the planner in random orders of completion, with waits, answers, retries,
restarts, failures and cancels; `engine` graphs run on a real server that ends abruptly again and again.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from dustrun import log
from testkit.composition import composed
from testkit.models import engine_model, plan_model

_OWN_ACTIONS = Path(__file__).parent.parent / "testkit" / "own_actions"
_AT_ONCE = 50


def run(scale: int | None, seed: int, engine: str = "200") -> dict[str, Any]:
    """Every graph that differs is told with its seed."""
    log.set_up(as_json=True, level="error")
    failures: list[str] = []
    begun = time.monotonic()
    graphs = scale or 10_000
    for number in range(graphs):
        _plan(seed + number, failures)
    planned = time.monotonic() - begun
    wanted = int(engine)
    for first in range(0, wanted, _AT_ONCE):
        numbers = range(seed + first, seed + min(first + _AT_ONCE, wanted))
        with tempfile.TemporaryDirectory(prefix="dustrun-graphs-") as folder:
            failures += asyncio.run(_engine(Path(folder), numbers))
    return {
        "planner": {"graphs": graphs, "seconds": round(planned, 1)},
        "engine": {"graphs": wanted, "seconds": round(time.monotonic() - begun - planned, 1)},
        "failures": failures,
    }


def _plan(seed: int, failures: list[str]) -> None:
    try:
        plan_model.check_graph(seed)
    except AssertionError as error:
        failures.append(f"planner, seed {seed}: {error}")


async def _engine(folder: Path, seeds: range) -> list[str]:
    def compose() -> Any:
        return composed(folder, actions_dir=_OWN_ACTIONS, shutdown_grace_s=0)

    return await engine_model.check(compose, seeds, restarts=4, seed=seeds.start)
