"""Evaluations a second of this language next to cel-python, on the same expressions and values, one core.

    scripts/bench expressions

The peer runs in an interpreter of its own (cel-python pins other libraries). Both sides parse once and evaluate often;
ours goes through the whole template layer, type preservation and limits included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

PEER_VERSION = "0.5.0"
ROWS = [{"id": n, "city": ["Lima", "Oslo"][n % 2], "amount": n * 3} for n in range(20)]
NODES = {"a": {"result": {"price": 7, "status": "ok", "rows": ROWS}}}

#: name → (our template, the peer's expression)
CASES: dict[str, tuple[str, str]] = {
    "path": ("{{$nodes.a.result.price}}", "nodes.a.result.price"),
    "arithmetic": ("{{$nodes.a.result.price * 3 + 4}}", "nodes.a.result.price * 3 + 4"),
    "comparison": (
        "{{$nodes.a.result.price > 5 && $nodes.a.result.status == 'ok'}}",
        "nodes.a.result.price > 5 && nodes.a.result.status == 'ok'",
    ),
    "text": ("{{$nodes.a.result.status + '!'}}", "nodes.a.result.status + '!'"),
    "filter and map of 20": (
        "{{$nodes.a.result.rows.filter(r, r.city == 'Lima').map(r, r.amount * 2)}}",
        "nodes.a.result.rows.filter(r, r.city == 'Lima').map(r, r.amount * 2)",
    ),
}


def rate(work: Callable[[], Any], seconds: float) -> int:
    """Calls a second, the best of three stretches."""
    best = 0.0
    for _ in range(3):
        count, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds / 3:
            for _ in range(50):
                work()
            count += 50
        best = max(best, count / spent)
    return round(best)


def ours(seconds: float) -> dict[str, int]:
    """Our figures, and those that only we have."""
    from dustrun.core.expression import Lazy, compile_value, parse_template

    class Nodes(Lazy):
        def get(self, key: str) -> Any:
            return NODES[key]

        def keys(self) -> list[str]:
            return list(NODES)

    nodes = Nodes()

    class World:
        def root(self, name: str) -> Any:
            if name == "$nodes":
                return nodes
            raise KeyError(name)

    world = World()
    found = {}
    for name, (text, _) in CASES.items():
        template = parse_template(text)
        found[name] = rate(partial(template.evaluate, world), seconds)
    payload = compile_value({"to": "x", "amount": "{{$nodes.a.result.price}}", "rows": [{"fixed": 1}] * 20})
    found["payload with one path"] = rate(lambda: payload.evaluate(world), seconds)
    money = parse_template("{{toUnits(percent($nodes.a.result.price, 2.5), 18)}}")
    assert money.evaluate(world) == int(Decimal("0.175") * 10**18)
    found["toUnits(percent())"] = rate(lambda: money.evaluate(world), seconds)
    found["parse of a path"] = rate(lambda: parse_template("{{$nodes.a.result.price}}"), seconds)
    found["parse of a comparison"] = rate(lambda: parse_template(CASES["comparison"][0]), seconds)
    return found


def peer(seconds: float) -> dict[str, int]:
    """cel-python's figures."""
    import celpy

    environment = celpy.Environment()
    values = {"nodes": celpy.json_to_cel(NODES)}
    found = {}
    for name, (_, text) in CASES.items():
        program = environment.program(environment.compile(text))
        found[name] = rate(partial(program.evaluate, values), seconds)
    return found


def run(scale: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Both sides, `scale` milliseconds a measurement (default 1,000); cel-python in an environment of its own."""
    from bench.peers.installing import environment  # only this side has our folder on its path

    seconds = (scale or 1000) / 1000
    python = environment(f"cel-python-{PEER_VERSION}", f"cel-python=={PEER_VERSION}")
    done = subprocess.run([python, __file__, str(seconds)], check=True, capture_output=True)
    mine, theirs = ours(seconds), json.loads(done.stdout)
    return {
        "unit": "evaluations a second, one core",
        "dustrun": mine,
        "cel-python": {"version": PEER_VERSION, **theirs},
        "ratio": {name: round(mine[name] / theirs[name], 1) for name in theirs},
    }


if __name__ == "__main__":
    print(json.dumps(peer(float(sys.argv[1]))))
