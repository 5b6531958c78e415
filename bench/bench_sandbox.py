"""What a call of a script costs: warm, in a fresh process, many at once, and beside one Node.js process a call.

    scripts/bench sandbox [--scale 300] [--seed 1]

The peer is what a server without a sandbox of its own would do: start `node` for each script, give it the input on its
standard input and read the value from its output. It has the environment and the files of whoever starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dustrun.sandbox import BoundScript, Sandbox, SandboxLimits

CODE = "return {total: input.items.reduce((sum, item) => sum + item.price * item.count, 0), count: input.items.length}"
NODE_PROGRAM = (
    "const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
    f"(async (input) => {{ {CODE} }})(input).then(value => console.log(JSON.stringify(value)))"
)
DEFAULT_SCALE = 300


def run(scale: int | None = None, seed: int = 1) -> dict[str, Any]:
    """Median and 95th percentile in milliseconds of `scale` warm calls, fewer cold ones; calls a second at once."""
    calls = scale or DEFAULT_SCALE
    draw = random.Random(seed)
    items = [{"price": draw.randrange(1000), "count": draw.randrange(10)} for _ in range(100)]
    found = asyncio.run(_ours(calls, {"items": items}))
    found["node process a call, ms"] = _node(max(5, calls // 20), json.dumps({"items": items}).encode())
    found["python"] = platform.python_version()
    return found


async def _ours(calls: int, given: Any) -> dict[str, Any]:
    limits = SandboxLimits()
    sandbox = Sandbox(limits)
    script = sandbox.script(tenant="org_bench", now_ms=0, seed="bench")
    try:
        await script.run(CODE, given)
        warm = await _times(calls, lambda: script.run(CODE, given))
        per_second = await _at_once(calls, script, given)
    finally:
        await sandbox.stop()
    cold = await _times(max(5, calls // 20), lambda: _fresh(limits, given))
    return {"warm call, ms": warm, "fresh process a call, ms": cold, "warm calls a second": per_second}


async def _fresh(limits: SandboxLimits, given: Any) -> None:
    sandbox = Sandbox(limits)
    await sandbox.script(tenant="org_bench", now_ms=0, seed="bench").run(CODE, given)
    await sandbox.stop()


async def _at_once(calls: int, script: BoundScript, given: Any) -> int:
    began = time.perf_counter()
    await asyncio.gather(*(script.run(CODE, given) for _ in range(calls)))
    return round(calls / (time.perf_counter() - began))


async def _times(count: int, call: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return _summary(taken)


def _node(count: int, given: bytes) -> dict[str, float] | str:
    program = shutil.which("node")
    if program is None:
        return "no node on this machine"
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        subprocess.run([program, "-e", NODE_PROGRAM], input=given, capture_output=True, check=True)
        taken.append(time.perf_counter() - began)
    return _summary(taken)


def _summary(taken: list[float]) -> dict[str, float]:
    ordered = sorted(taken)
    return {
        "median": round(1000 * statistics.median(ordered), 2),
        "p95": round(1000 * ordered[int(0.95 * (len(ordered) - 1))], 2),
    }


def main() -> None:
    """Prints the figures as JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", type=int, default=DEFAULT_SCALE)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    print(json.dumps(run(chosen.scale, chosen.seed), indent=2))


if __name__ == "__main__":
    main()
