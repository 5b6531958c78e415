"""Loops up to the limit of 10,000 executions and beyond: whether the time of a run is linear in its size.

    scripts/bench loops [--scale LARGEST] [--set repeats=3]

The whole engine over SQLite (`synchronous=FULL`), without HTTP: a loop whose body is one pure node; the same with ten
items at once; a body of three nodes with a branch; loops in loops; a body that writes to the store at each item; one
that puts the run down at each item.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from dustrun import log
from dustrun.app import Server, compose
from dustrun.core.run.state import RUN_OPEN, RunStatus
from dustrun.services.runs.start_request import RunRequest
from dustrun.settings import Settings
from dustrun.storage.runs import runs

_SIZES = (0.1, 0.25, 0.5, 1.0)
Nodes = dict[str, Any]


def run(scale: int | None, seed: int, repeats: str = "3") -> dict[str, Any]:
    """Each shape at four sizes up to `scale` executions (default 10,000); the best of `repeats` runs each."""
    del seed
    log.set_up(as_json=True, level="error")
    with tempfile.TemporaryDirectory(prefix="dustrun-loops-") as folder:
        return asyncio.run(_run(Path(folder), scale or 10_000, int(repeats)))


async def _run(folder: Path, largest: int, repeats: int) -> dict[str, Any]:
    settings = Settings(data_dir=folder, max_loop_items=largest, max_executions=largest * 2)
    found: dict[str, Any] = {"shapes": {}, "failures": []}
    async with compose(settings) as server:
        await _measure(server, _plain(100), 1)  # warms up
        for name, shape in SHAPES.items():
            found["shapes"][name] = await _shape(server, name, shape, largest, repeats, found["failures"])
    return found


async def _shape(
    server: Server, name: str, shape: Any, largest: int, repeats: int, failures: list[str]
) -> dict[str, Any]:
    points = []
    for part in _SIZES:
        executions, seconds = await _measure(server, shape(int(largest * part)), repeats)
        points.append(
            {"executions": executions, "seconds": round(seconds, 4), "usEach": round(seconds / executions * 1e6, 1)}
        )
    growth = points[-1]["usEach"] / points[0]["usEach"]
    if growth > 1.6:
        failures.append(f"{name}: an execution costs {growth:.2f} times as much in the largest run as in the smallest")
    return {"points": points, "costOfOneInLargestOverSmallest": round(growth, 2)}


async def _measure(server: Server, nodes: Nodes, repeats: int) -> tuple[int, float]:
    """(executions, least seconds from the call to the end on disk): what else runs on the machine only adds."""
    parts = server.app.parts
    principal = await parts.access.keys.find((server.settings.data_dir / "owner.key").read_text().strip())
    assert principal is not None
    definition = {"nodes": nodes}
    counts = {
        node["payload"]["array"][2:-2].rpartition(".")[2] for node in nodes.values() if node["type"] == "for-each"
    }
    payload = {name: list(range(int(name[1:]))) for name in counts}
    took, executed = [], 0
    for _ in range(repeats):
        begun = time.perf_counter()
        created = await parts.starts.start_inline(principal, definition, RunRequest(payload=payload))
        while True:
            row = await parts.database.read(partial(runs.get, run_pk=created.pk))
            if RunStatus(row.status) not in RUN_OPEN:
                break
            await parts.runs.waits.wait(principal.org_id, created.run_id, 60.0)
        took.append(time.perf_counter() - begun)
        if row.status != "success":
            raise RuntimeError(f"the run ended as {row.status}: {row.error}")
        executed = row.nodes_executed
    return executed, min(took)


def _root(*children: str) -> dict[str, Any]:
    return {"type": "manual", "children": [*children]}


def _each(count: int, body: str, **more: Any) -> dict[str, Any]:
    return {"type": "for-each", "payload": {"array": f"{{{{$trigger.body.n{count}}}}}", **more}, "loopBody": [body]}


def _say(message: str, *children: str, **more: Any) -> dict[str, Any]:
    return {"type": "log", "payload": {"message": message}, "children": [*children], **more}


def _plain(size: int) -> Nodes:
    return {"root": _root("each"), "each": _each(size, "say"), "say": _say("{{$index}}")}


def _at_once(size: int) -> Nodes:
    return {"root": _root("each"), "each": _each(size, "say", concurrency=10), "say": _say("{{$index}}")}


def _branch(size: int) -> Nodes:
    test = {"type": "if", "payload": {"expression": "$index % 2 == 0"}, "children": ["even", "odd"]}
    return {
        "root": _root("each"),
        "each": _each(size // 3, "check"),
        "check": test,
        "even": _say("even", "end", branch="then"),
        "odd": _say("odd", "end", branch="else"),
        "end": _say("{{$index}}"),
    }


def _nested(size: int) -> Nodes:
    outer = max(1, int(size**0.5))
    return {
        "root": _root("outer"),
        "outer": _each(outer, "inner"),
        "inner": _each(size // outer, "say"),
        "say": _say("{{$parent_index}}.{{$index}}"),
    }


def _counting(size: int) -> Nodes:
    count = {"type": "increment-variable", "payload": {"name": "n", "by": 1}}
    return {"root": _root("each"), "each": _each(size, "count"), "count": count}


def _waiting(size: int) -> Nodes:
    pause = {"type": "delay", "payload": {"delayMs": 1}, "children": ["say"]}
    return {"root": _root("each"), "each": _each(size // 8, "pause"), "pause": pause, "say": _say("{{$index}}")}


SHAPES = {
    "one pure node an item": _plain,
    "one pure node, ten items at once": _at_once,
    "three nodes and a branch an item": _branch,
    "loops in loops": _nested,
    "a committed write an item": _counting,
    "a wait an item, a quarter of the size": _waiting,
}
