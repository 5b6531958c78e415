"""Whether the cost of a run grows only with its nodes, up to the 10,000 executions that a run may have, over HTTP.

    scripts/bench growth [--quick] [--scale executions]

Nodes one after the other and side by side, up to the 1,000 that a definition may have, and a synced node in a loop in a
loop beyond that. A node of the largest run may cost the server at most 1.5 times the processor time of one of the run a
tenth as large; the time on the clock is told beside it, and holds what else the machine does.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import load

_SIZES = (0.01, 0.03, 0.1, 0.3, 1.0)
_BASE = 2  # the index of the size that the largest is held against
MOST = 1.5
_MOST_NODES = 990


def _chain(size: int) -> dict[str, Any]:
    return load.chain(size)


def _pure(size: int) -> dict[str, Any]:
    return load.chain(size, "log")


def _wide(size: int) -> dict[str, Any]:
    names = [f"n{number}" for number in range(size - 1)]
    say = {"type": "log", "payload": {"message": "x"}}
    nodes: dict[str, Any] = {name: {**say, "children": ["end"]} for name in names}
    return {"nodes": {"root": {"type": "manual", "children": names}, **nodes, "end": say}}


def _loops(size: int) -> dict[str, Any]:
    outer = max(1, size // 100)
    each = {"type": "for-each", "payload": {"array": list(range(outer))}, "loopBody": ["inner"]}
    inner = {"type": "for-each", "payload": {"array": list(range(size // outer))}, "loopBody": ["write"]}
    write = {"type": "bench-write", "payload": {"value": "{{$parent_index}}.{{$index}}"}}
    root = {"type": "manual", "children": ["outer"]}
    return {"nodes": {"root": root, "outer": each, "inner": inner, "write": write}}


SHAPES = {
    "one after the other, each synced": (_chain, _MOST_NODES),
    "side by side": (_wide, _MOST_NODES),
    "pure, one after the other": (_pure, _MOST_NODES),
    "a synced node in a loop in a loop": (_loops, 10_000),
}


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False, repeats: str = "3") -> dict[str, Any]:
    """`scale` = executions of the largest run; the best of `repeats` runs each."""
    del seed
    largest = scale or (1_000 if quick else 10_000)
    settings = {"DUSTRUN_MAX_EXECUTIONS": str(largest * 2)}
    with tempfile.TemporaryDirectory() as folder, load.server(Path(folder) / "data", **settings) as process:
        return asyncio.run(_measure(process, largest, int(repeats)))


async def _measure(process: load.Process, largest: int, repeats: int) -> dict[str, Any]:
    found: dict[str, Any] = {"largest": largest, "shapes": {}, "failures": []}
    for name, (shape, most) in SHAPES.items():
        points = []
        for part in _SIZES:
            size = max(2, int(min(largest, most) * part))
            runs = [await _one(process, shape(size), f"{len(found['shapes'])}-{size}-{n}") for n in range(repeats)]
            seconds, used = min(took for took, _ in runs), min(used for _, used in runs)
            per_node = {"usPerNode": round(seconds / size * 1e6, 1), "cpuUsPerNode": round(used / size * 1e6, 1)}
            points.append({"nodes": size, "seconds": round(seconds, 4), **per_node})
        growth = round(points[-1]["cpuUsPerNode"] / points[_BASE]["cpuUsPerNode"], 2)
        found["shapes"][name] = {"points": points, "costOfANodeLargestOverMiddle": growth}
        if growth > MOST:
            found["failures"].append(f"{name}: a node costs {growth} times as much in the largest graph")
    return found


async def _one(process: load.Process, definition: dict[str, Any], tag: str) -> tuple[float, float]:
    """Seconds from the call to the run's end, seen on its stream, and the server's processor time meanwhile; the
    definition goes along, parsing included."""
    run_id, connection = f"run_g-{tag}", load.Connection(process)
    async with load.stream(process, f"/v1/runs/{run_id}/stream") as reader:
        await reader.readline()
        cpu = process.cpu_s()
        begun = time.perf_counter()
        status, answer = await connection.call("POST", "/v1/runs", {"definition": definition, "runId": run_id})
        assert status == 200, json.dumps(answer)[:500]
        while not (await reader.readline()).startswith(b"event: run_finished"):
            pass
        took, used = time.perf_counter() - begun, process.cpu_s() - cpu
        assert b'"success"' in await reader.readline()
    connection.close()
    return took, used
