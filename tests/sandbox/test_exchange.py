from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dustrun.core.values import exact_json
from dustrun.errors import Invalid
from dustrun.sandbox.exchange import encode_input
from sandbox.limits_in_tests import Run

WEI = 1_500_000_000_000_000_000


@pytest.mark.parametrize(
    ("value", "in_javascript"),
    [
        (1, "number 1"),
        (2**53 - 1, "number 9007199254740991"),
        (2**53, "bigint 9007199254740992"),
        (-(2**53), "bigint -9007199254740992"),
        (WEI, "bigint 1500000000000000000"),
        (10**300, "bigint 1" + "0" * 300),
        (Decimal("2.0"), "number 2"),
        (Decimal("1E+21"), "bigint 1" + "0" * 21),
        (Decimal("0.1"), "number 0.1"),
        (Decimal("1.50"), "number 1.5"),
        (Decimal("0.1234567890123456789"), "string 0.1234567890123456789"),
        (Decimal("1234567.123456789012"), "string 1234567.123456789012"),
        (Decimal("1E-400"), "string 0." + "0" * 399 + "1"),
        ("1.5", "string 1.5"),
        (True, "boolean true"),
    ],
)
async def test_number_enters_as_documented(run: Run, value: Any, in_javascript: str) -> None:
    result = await run("return typeof input + ' ' + String(input)", value)
    assert result.value == in_javascript


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        {"a": [1, {"b": WEI, "c": [WEI, -WEI]}], "d": Decimal("0.1"), "e": "ü\u0000\u2028🦊"},
        {"__proto__": WEI, "constructor": {"__proto__": {"x": WEI}}, "": 1},
        {"toString": 1, "valueOf": None, "length": WEI},
        [[[[WEI]]]],
        "",
        "\ufeff\r\n",
    ],
)
async def test_value_that_is_returned_unchanged_is_unchanged(run: Run, value: Any) -> None:
    assert (await run("return input", value)).value == value


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("return 1n << 200n", 1 << 200),
        ("return 0.1 + 0.2", Decimal("0.30000000000000004")),
        ("return 1e-7", Decimal("1E-7")),
        ("return 5e-324", Decimal("5E-324")),
        ("return 1.0", 1),
        ("return -0", 0),
        ("return", None),
        ("return undefined", None),
        ("return {a: undefined, b: () => 1, c: Symbol('x'), d: [undefined, () => 1]}", {"d": [None, None]}),
        ("return new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("return {toJSON() { return 7n }}", 7),
        ("return [new Number(1.5), new String('a'), Object(true), Object(3n)]", [Decimal("1.5"), "a", True, 3]),
        ("return input.price * 2n", 2 * WEI),
        ("return await Promise.resolve(5)", 5),
        ("return {then(done) { done(6) }}", 6),
        ("return [,1]", [None, 1]),
    ],
)
async def test_value_leaves_exactly(run: Run, code: str, value: Any) -> None:
    assert (await run(code, {"price": WEI})).value == value


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return {a: [1, NaN]}", "value.a[1] is NaN, which JSON cannot hold"),
        ("return -Infinity", "value is -Infinity, which JSON cannot hold"),
        ("return 2 ** 53", "value is 9007199254740992, a number beyond 2^53"),
        ("return {x: new Map()}", "value.x is a Map; use Object.fromEntries(map)"),
        ("return new Set()", "value is a Set; use Array.from(set)"),
        ("return [Promise.resolve(1)]", "value[0] is a Promise; await it"),
        ("return 10n ** 1000n", "value is an integer of more than 1000 digits"),
        ("const a = {}; a.a = a; return a", "contains itself"),
        ("return '\\ud800'", "lone surrogate"),
    ],
)
async def test_value_without_exact_json_is_refused(run: Run, code: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        await run(code)
    assert message in caught.value.message


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("1E+1001"), "\ud800", {1, 2}])
async def test_input_without_json_is_refused(run: Run, value: Any) -> None:
    with pytest.raises(Invalid):
        await run("return 1", value)


async def test_input_nested_too_deeply_is_refused(run: Run) -> None:
    value: Any = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(Invalid):
        await run("return 1", value)


numbers = st.integers(-(10**40), 10**40) | st.decimals(allow_nan=False, allow_infinity=False, places=12)
documents = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


@given(documents)
def test_encoded_input_has_the_same_numbers(value: Any) -> None:
    text, bigints = encode_input(value)
    decoded = exact_json.loads(text)
    for path, digits in bigints:
        decoded = _put(decoded, path, int(digits))
    assert _same(decoded, value)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 2**53), max_size=50))
async def test_double_passes_unchanged(run: Run, values: list[float]) -> None:
    exact = [Decimal(repr(value)) for value in values]
    assert (await run("return input", exact)).value == exact


def _put(root: Any, path: list[str | int], value: int) -> Any:
    if not path:
        return value
    parent = root
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    return root


def _same(decoded: Any, value: Any) -> bool:
    """Equal, where a decimal may have become the string of its digits."""
    if isinstance(value, dict):
        return decoded.keys() == value.keys() and all(_same(decoded[key], value[key]) for key in value)
    if isinstance(value, list):
        return len(decoded) == len(value) and all(map(_same, decoded, value))
    if isinstance(value, Decimal) and isinstance(decoded, str):
        return Decimal(decoded) == value
    return bool(decoded == value) and json.dumps(decoded, default=str) != ""
