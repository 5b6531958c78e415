"""No function of the expression language, called by a node with inputs at their limits, holds the event loop for 50 ms
of processor time. `tests/core/expression/test_work.py` tries many more inputs of each, without a server."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from dustrun.core.expression.functions import FUNCTIONS
from dustrun.core.expression.functions.table import FunctionSpec, Parameter
from testkit.composition import Composition
from testkit.loop_watch import least_hold, watched
from testkit.run_drivers import Runs

MOST_S = 0.05
DATA: dict[str, Any] = {
    "text": "a1 %s" * 30_000,
    "hex": "0x" + "ab" * 40_000,
    "digits": "9" * 1_000,
    "json": "[0" + ",0" * 40_000 + "]",
    "numbers": list(range(30_000)),
    "rows": [{"n": number} for number in range(8_000)],
    "texts": ["b" * 20_000, "c" * 20_000],
    "map": {f"k{number}": number for number in range(12_000)},
    "big": 10**999,
    "decimal": 0.5,
    "time": "2026-05-01T12:00:00Z",
    "pattern": "(?:(?:a{0,30}){0,30}){0,1}x",
    "base64": "YWJj" * 20_000,
    "clauses": "%s" * 2_000,
    "few": list(range(2_000)),
    "abi": f"0x{32:064x}{1_000:064x}{'00' * 32_000}",
    "address": "0x" + "ab" * 20,
}
# what stands for each type, in turn
BY_TYPE: dict[str, list[str]] = {
    "string": ["text", "hex", "digits", "json", "pattern", "time"],
    "list": ["numbers", "rows", "texts"],
    "map": ["map"],
    "int": ["big"],
    "number": ["big", "decimal"],
    "decimal": ["decimal"],
    "time": ["time"],
    "data": ["text", "hex"],
    "any": ["text", "numbers", "rows", "map", "big"],
}
TURNS = 3
# calls that do all of their work, where the data above would be refused
ACCEPTED: dict[str, str] = {
    "abiDecode": "['uint256[]'], $d.abi", "abiEncode": "['uint256[]'], [$d.few]", "addDuration": "$d.time, '1h'",
    "avg": "$d.numbers", "bool": "'true'", "bps": "$d.big, 25", "charAt": "$d.text, 5", "checksum": "$d.address",
    "clamp": "$d.big, 1, 2", "diff": "$d.time, $d.time, 'days'", "div": "$d.big, 7", "duration": "'1h'",
    "flatten": "$d.rows", "format": "$d.clauses, $d.few", "formatTime": "$d.time, 'yyyy'", "fromBase64": "$d.base64",
    "fromHex": "$d.hex", "fromUnits": "$d.big, 18", "groupBy": "$d.rows, 'n'", "inZone": "$d.time, 'UTC'",
    "indexOf": "$d.text, 'zz'", "join": "$d.texts, ','", "lastIndexOf": "$d.text, 'zz'", "matches": "$d.text, 'b$'",
    "mod": "$d.big, 7", "omit": "$d.map, ['k1']", "padLeft": "$d.text, 400000, 'x'", "parseJson": "$d.json",
    "parseTime": "'2026-05-01', 'yyyy-MM-dd'", "percent": "$d.big, 25", "pick": "$d.map, ['k1']", "pow": "2, 3000",
    "query": "$d.few, '[0]'", "replace": "$d.text, 'a', 'b'", "round": "$d.decimal, 2",
    "selector": "'transfer(address,uint256)'", "slice": "$d.numbers, 1, 20000", "sortBy": "$d.rows, 'n'",
    "split": "$d.text, 'a'", "startOf": "$d.time, 'day'", "string": "$d.big", "substring": "$d.text, 5",
    "sum": "$d.numbers", "timestamp": "$d.time", "toUnits": "'1.5', 18", "unique": "$d.few", "units": "'1.5', 18",
    "uuid5": "'dns', $d.text", "dec": "$d.digits", "double": "$d.digits", "int": "$d.digits", "uint": "$d.digits",
    **{name: "timestamp($d.time)" for name in FUNCTIONS if name.startswith("get")},
}  # fmt: skip


def _argument(parameter: Parameter, turn: int) -> str:
    """An expression for a parameter; those that no datum stands for get the first of the data."""
    pool = [name for kind in parameter.type.split("|") for name in BY_TYPE.get(kind, [])] or ["text"]
    return f"$d.{pool[turn % len(pool)]}"


def _call(function: FunctionSpec, turn: int) -> str:
    """One call, whose result stays in the expression; in the last turn one that does all of its work."""
    arguments = ", ".join(_argument(parameter, turn + place) for place, parameter in enumerate(function.parameters))
    if turn == TURNS:
        arguments = ACCEPTED.get(function.name, arguments)
    return f"{{{{[{function.name}({arguments.replace('$d.', '$trigger.body.data.')})].size()}}}}"


def _nodes(turn: int) -> dict[str, Any]:
    calls = {name: _call(function, turn) for name, function in sorted(FUNCTIONS.items())}
    on_error = "fail" if turn == TURNS else "continue"
    node = {"type": "log", "onError": on_error}
    nodes = {f"f_{name}": {**node, "payload": {"message": text}} for name, text in calls.items()}
    return {"first": {"type": "log", "payload": {"message": 1}, "children": list(nodes)}, **nodes}


_OTHERS = pytest.param([*range(TURNS)], id="refused", marks=pytest.mark.long)


@pytest.mark.parametrize("turns", [pytest.param([TURNS], id="accepted"), _OTHERS])
async def test_no_function_holds_the_loop(server: Composition, turns: list[int]) -> None:
    runs = Runs(server)
    held: list[float] = []
    statuses: list[set[str]] = []
    with watched() as watch:
        for turn in turns:
            body = runs.body(_nodes(turn), DATA)
            held.append(await least_hold(watch, functools.partial(runs.run, body), MOST_S))
            statuses.append(set(runs.statuses))
            runs.statuses.clear()
    assert max(held) < MOST_S, held
    assert statuses == [{"success"} if turn == TURNS else {"partial"} for turn in turns]
