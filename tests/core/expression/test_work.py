"""Every function of the language with inputs at their limits: no evaluation holds its thread for long."""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from dustrun.core.expression import CompiledValue, EvaluationLimits, ExpressionError, compile_value
from dustrun.core.expression.functions import FUNCTIONS
from dustrun.core.expression.functions.table import FunctionSpec, Parameter
from dustrun.core.expression.values import Duration, Timestamp
from testkit.processor_time import is_within

MOST_S = 0.1
"""Most processor time of one evaluation."""
SIZE = 1_000_000
"""What a body or the result of a node can hold."""
SLOW_PATTERN = "(?:(?:a{0,30}){0,30}){0,1}x"
TOO_LARGE_PATTERN = r"[\pL\pN]{200}"
AT_THEIR_LIMITS: dict[str, list[Any]] = {
    "string": [
        "a" * SIZE, "é" * SIZE, "1h" * (SIZE // 2), "%s" * (SIZE // 2), "\ufdfa" * SIZE, "0x" + "ab" * (SIZE // 2),
        "[0" + ",0" * (SIZE // 2 - 2) + "]", "9" * 2400 + "." + "9" * 100, "", SLOW_PATTERN, TOO_LARGE_PATTERN,
        "map(&sort(@),@)", "uint256[]", "2026-05-01T12:00:00Z",
    ],
    "bytes": [b"a" * SIZE],
    "list": [
        list(range(SIZE // 5)), [[0]] * (SIZE // 6), [{"a": i} for i in range(SIZE // 10)],
        ["a" * (SIZE - i) for i in range(3)], [Decimal("0.5")] * (SIZE // 6), [list(range(400))] * 400,
        [10**2000 + i for i in range(400)], ["uint256[]"], [None] * (SIZE // 5),
    ],
    "map": [{str(i): i for i in range(SIZE // 10)}, {"a": "a" * SIZE}],
    "int": [0, 255, 10**2400, -1, 100_000],
    "decimal": [Decimal("1e1000"), Decimal("1." + "3" * 1000), Decimal("1e-1000")],
    "bool": [True],
    "timestamp": [Timestamp(0)],
    "duration": [Duration(10**18)],
}  # fmt: skip
KINDS = {
    "any": list(AT_THEIR_LIMITS), "number": ["int", "decimal"], "time": ["string", "timestamp"],
    "span": ["string", "duration"],
    "data": ["string", "bytes"],
}  # fmt: skip
FEW = EvaluationLimits(steps=20_000)
"""A fifth of the budget, for a fifth of the time."""
PARTS = 4
"""A change tries a quarter of the inputs of each function."""
Evaluate = Callable[..., Any]


def _inputs(parameter: Parameter) -> list[Any]:
    kinds = [kind for name in parameter.type.split("|") for kind in KINDS.get(name, [name])]
    return [value for kind in kinds for value in AT_THEIR_LIMITS.get(kind, [None])]


def _calls(function: FunctionSpec, turn: int) -> Iterator[list[Any]]:
    """Arguments such that each input meets, in each turn, another one of the next parameter."""
    pools = [_inputs(parameter) for parameter in function.parameters[:3]]
    for number in range(max(map(len, pools), default=1)):
        yield [pool[(number + turn * place * (place + 1)) % len(pool)] for place, pool in enumerate(pools)]


def _turns() -> Iterator[Any]:
    """Each function with a part of its inputs, which is another one in each run, and with all of them; those of several
    parameters also with two more pairings."""
    for name, function in sorted(FUNCTIONS.items()):
        yield pytest.param(name, None, id=name)
        yield pytest.param(name, 0, id=f"{name}-0", marks=pytest.mark.long)
        if len(function.parameters) > 1:
            for turn in (1, 2):
                yield pytest.param(name, turn, id=f"{name}-{turn}", marks=pytest.mark.long)


@pytest.fixture(autouse=True, scope="module")
def _without_garbage_collections() -> Iterator[None]:
    """A garbage collection over the large inputs of this module is not the work of an evaluation."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _is_short(work: Callable[[], Any], most_s: float) -> bool:
    """What the expression is refused for does not matter here."""

    def refused_or_not() -> None:
        with contextlib.suppress(ExpressionError):
            work()

    return is_within(refused_or_not, most_s)


@pytest.mark.parametrize(("name", "turn"), list(_turns()))
def test_function_at_its_limits_is_short_once_and_until_the_budget_ends(
    evaluate: Evaluate, name: str, turn: int | None
) -> None:
    pairs = list(range(300))
    first, step = (random.randrange(PARTS), PARTS) if turn is None else (0, 1)
    for arguments in itertools.islice(_calls(FUNCTIONS[name], turn or 0), first, None, step):
        given = {f"a{number}": value for number, value in enumerate(arguments)}
        text = f"[{name}({', '.join(f'${key}' for key in given)})].size() == 1"
        often = partial(evaluate, f"$m.all(i, $m.all(j, {text}))", FEW, m=pairs, **given)
        seen = (name, [str(value)[:40] for value in arguments])
        once = partial(evaluate, text, **given)
        assert _is_short(once, MOST_S), seen
        assert _is_short(often, MOST_S / 5), seen


def test_templates_of_one_payload_share_its_budget(world: Callable[..., Any]) -> None:
    payload = {"rows": ["{{$m.all(i, $m.all(j, true))}}"] * 10, "text": "{{$t}} {{$t}}"}
    few = compile_value({"rows": ["{{$m.all(i, true)}}"] * 10, "text": payload["text"]})
    assert few.evaluate(world(m=list(range(900)), t="a" * 1000)) == {
        "rows": [True] * 10,
        "text": f"{'a' * 1000} {'a' * 1000}",
    }
    for given in (payload, {"rows": ["{{$m.all(i, $t != '')}} {{$t}}"] * 900}):
        whole = compile_value(given)

        def refused(whole: CompiledValue = whole) -> None:
            with pytest.raises(ExpressionError, match="more than 100000 evaluation steps"):
                whole.evaluate(world(m=list(range(300)), t="a" * 100_000))

        assert is_within(refused, MOST_S)


def test_argument_beyond_a_machine_word_is_refused(evaluate: Evaluate) -> None:
    for text in ("'a,b'.split(',', pow(10, 30))", "'aa'.replace('a', 'b', pow(10, 30))"):
        with pytest.raises(ExpressionError, match="an argument is out of range"):
            evaluate(text)


def test_pattern_costs_program_times_text(evaluate: Evaluate) -> None:
    assert evaluate("$t.matches('b$')", t="a" * 900_000) is False
    assert evaluate("$t.matches($p)", t="a" * 5000, p=SLOW_PATTERN) is False
    with pytest.raises(ExpressionError, match="more than 100000 evaluation steps"):
        evaluate("$t.matches($p)", t="a" * 900_000, p=SLOW_PATTERN)
