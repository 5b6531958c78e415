"""The table of functions: every example gives what it says, and what is beside the examples."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from dustrun.core.expression import ExpressionError
from dustrun.core.expression.functions import FUNCTIONS
from dustrun.core.values.exact_json import dumps_text, loads

Evaluate = Callable[..., Any]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_example_gives_its_result(evaluate: Evaluate, name: str) -> None:
    expected = FUNCTIONS[name].expected
    assert dumps_text(evaluate(expected.example)) == dumps_text(loads(expected.result))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_function_is_also_a_method(evaluate: Evaluate, name: str) -> None:
    function = FUNCTIONS[name]
    with pytest.raises(ExpressionError) as caught:
        evaluate("null." + name + "(" + ", ".join(["null"] * 9) + ")")
    repeated = any(p.repeated for p in function.parameters)
    assert caught.value.kind == ("type" if repeated else "syntax")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("int('0x1F')", 31),
        ("uint('0XffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffFFFF')", 2**256 - 1),
        ("round(2.5)", 2),
        ("round(3.5)", 4),
        ("round(-2.5)", -2),
        ("round(1, 2)", Decimal("1.00")),
        ("max(1, 2.5, 2)", Decimal("2.5")),
        ("min(['b', 'a'])", "a"),
        ("avg([1, 2, 2])", Decimal("1." + "6" * 48 + "7")),
        ("pow(2, -2)", Decimal("0.25")),
        ("pow(1.1, 2)", Decimal("1.21")),
        ("pow(0, 0)", 1),
        ("floor(1e3)", 1000),
        ("percent(1000, 2.5)", Decimal("25.0")),
        ("percent(200, 10)", 20),
        ("bps(1, 1)", Decimal("0.0001")),
        ("toUnits('0.000001', 6)", 1),
        ("toUnits(5, 6)", 5000000),
        ("fromUnits(1, 18)", Decimal("0.000000000000000001")),
        ("fromUnits(20000, 2)", Decimal("200")),
        ("string(fromUnits(10000000000000000000000, 18))", "10000"),
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("'abc'.split('')", ["a", "b", "c"]),
        ("'añb'.substring(1)", "ñb"),
        ("join(['a'])", "a"),
        ("slice('hello', -2)", "lo"),
        ("slice([1], 5)", []),
        ("first([]) ?? 'none'", "none"),
        ("a.result.rows.sortBy('amount').map(r, r.id)", [3, 2, 1]),
        ("a.result.rows.sortBy('city', 'desc').map(r, r.id)", [2, 1, 3]),
        ("a.result.rows.sortBy(r, -r.id).map(r, r.id)", [3, 2, 1]),
        ("sortBy([3, 1.5, null, 2])", [Decimal("1.5"), 2, 3, None]),
        ("a.result.rows.groupBy(r, r.city).map(c, c)", ["Lima", "Oslo"]),
        ("keys(groupBy([{'k': true}, {'k': 1}], 'k'))", [True, 1]),
        ("unique([1, true, '1', 1.0, [1], [1.0], {'a': 1}, {'a': 1.0}])", [1, True, "1", [1], {"a": 1}]),
        ("a.result.rows.unique('city').map(r, r.id)", [1, 2]),
        ("flatten([1, [2, [3]]], 2)", [1, 2, 3]),
        ("merge({'a': 1, 'b': 1}, {'b': 2}, {'c': 3})", {"a": 1, "b": 2, "c": 3}),
        ("pick({'a': 1}, ['a', 'zz'])", {"a": 1}),
        ("parseJson('{\"a\": 0.10}').a", Decimal("0.10")),
        ("json({'n': 123456789012345678901234567890})", '{"n":123456789012345678901234567890}'),
        ("diff('2026-05-01T00:00:00Z', '2026-05-01T01:00:00Z')", "3600s"),
        ("diff('2026-05-02', '2026-05-01', 'hours')", -24),
        ("startOf('2026-05-07', 'week')", "2026-05-04T00:00:00Z"),
        ("startOf('2026-05-07T10:11:12.5Z', 'hour')", "2026-05-07T10:00:00Z"),
        ("startOf('2026-03-29T12:00:00Z', 'day', 'Europe/Berlin')", "2026-03-28T23:00:00Z"),
        ("startOf('2026-10-25T01:30:00Z', 'hour', 'Europe/Berlin')", "2026-10-25T01:00:00Z"),
        ("inZone('2026-05-01T12:00:00.25Z', '-03:30')", "2026-05-01T08:30:00.25-03:30"),
        ("formatTime('2026-05-01T00:05:00Z', \"h:mm a 'o''clock'\")", "12:05 AM o'clock"),
        ("parseTime('Fri 1 May 2026 9:05 pm', 'EEE d MMM yyyy h:mm a')", "2026-05-01T21:05:00Z"),
        ("parseTime('2026-05-01 10:00 +02:00', 'yyyy-MM-dd HH:mm XXX', 'Asia/Tokyo')", "2026-05-01T08:00:00Z"),
        ("isAddress('0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed')", False),
        ("isAddress('0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed')", True),
        ("isAddress(5)", False),
        ("keccak('')", "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        ("selector('f(uint)') == selector('f(uint256)')", True),
        ("hex('hi')", "0x6869"),
        ("base64(fromHex('0xff'))", "/w=="),
        ("hmacSha256('key', 'The quick brown fox jumps over the lazy dog')",
         "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"),
        ("matches('x', 'a|x')", True),
        ("'%d%% of %s'.format([5, 'x'])", "5% of x"),
        ("format('%.3f', [2.0005])", "2.000"),
        ("format('%x', [255])", "ff"),
        ("query({'a': [{'n': 1.5}, {'n': 2}]}, 'sum(a[].n)')", Decimal("3.5")),
        ("query({'a': [1, 2]}, 'avg(a)')", Decimal("1.5")),
        ("query([{'n': 1.5}, {'n': 2.5}], '[?n > `1.5`] | [0].n')", Decimal("2.5")),
        ("query({'a': '1.10'}, 'to_number(a)')", Decimal("1.10")),
        ("query([3, 1.5], 'sort(@)')", [Decimal("1.5"), 3]),
        ("query([1.5], 'type([0])')", "number"),
        ("query({'a': 1}, 'b')", None),
    ],
)  # fmt: skip
def test_function_gives(evaluate: Evaluate, text: str, value: Any) -> None:
    found = evaluate(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        "toUnits(1.0000001, 6)",
        "toUnits('1e5', 6)",
        "toUnits('0x10', 6)",
        "toUnits(1, -1)",
        "toUnits(1, 256)",
        "fromUnits(1.5, 6)",
        "fromUnits('1.5', 6)",
        "clamp(1, 3, 2)",
        "int('1.5')",
        "int('0x')",
        "int('0xfg')",
        "int('-0x1')",
        "int('')",
        "int('١')",
        "dec('1,5')",
        "dec('')",
        "bool('yes')",
        "substring('abc', 2, 9)",
        "padLeft('x', 5, '')",
        "fromHex('0x1')",
        "fromHex('zz')",
        "fromBase64('%%')",
        "checksum('0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed')",
        "checksum('vitalik.eth')",
        "abiEncode(['uint8'], [256])",
        "abiEncode(['uint256'], [-1])",
        "abiEncode(['uint256'], ['1'])",
        "abiEncode(['address'], ['0x00'])",
        "abiEncode(['uint7'], [1])",
        "abiEncode(['uint8[2]'], [[1]])",
        "abiDecode(['uint256'], '0x00')",
        "abiDecode(['bool'], '0x" + "0" * 63 + "2')",
        "abiDecode(['uint256[]'], '0x" + "f" * 64 + "')",
        "selector('transfer')",
        "selector('transfer(uint7)')",
        "uuid5('nope', 'x')",
        "inZone('2026-05-01', 'Mars/Base')",
        "inZone('2026-05-01', '../../etc/passwd')",
        "inZone('2026-05-01', '')",
        "timestamp('2026-02-30T00:00:00Z')",
        "timestamp('2026-05-01T12:00:00')",
        "duration('5 minutes')",
        "formatTime('2026-05-01', 'YYYY')",
        "parseTime('x', 'yyyy')",
        "parseTime('31/02/2026', 'dd/MM/yyyy')",
        "startOf('2026-05-01', 'fortnight')",
        "startOf('0001-01-01', 'week', '-01:00')",
        "addDuration('9999-12-31', '48h')",
        "diff('2026-05-01', '2026-05-02', 'lightyears')",
        "sortBy([1, 'a'])",
        "sortBy([[1], [2]])",
        "sortBy([1], '', 'up')",
        "groupBy([{'k': [1]}], 'k')",
        "groupBy([1], 'k')",
        "matches('a', '(?=a)')",
        "matches('a', '[')",
        "format('%s', [])",
        "format('x', [1])",
        "format('%q', [1])",
        "format('%d', ['1'])",
        "query({}, 'a[')",
        "query({}, 'nope(@)')",
        "query('x', 'abs(@)')",
        "parseJson('{')",
        "parseJson('NaN')",
        "join([[1]])",
        "string([1])",
        "string(b'\\xff')",
    ],
)
def test_function_refuses(evaluate: Evaluate, text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(text)
    assert caught.value.kind in ("value", "type", "missing", "limit")


def test_abi_gives_what_the_contract_abi_specification_says(evaluate: Evaluate) -> None:
    words = [
        "0" * 61 + "123",
        "0" * 62 + "80",
        "31323334353637383930" + "0" * 44,
        "0" * 62 + "e0",
        "0" * 63 + "2",
        "0" * 61 + "456",
        "0" * 61 + "789",
        "0" * 63 + "d",
        "48656c6c6f2c20776f726c6421" + "0" * 38,
    ]
    types = "['uint256', 'uint32[]', 'bytes10', 'bytes']"
    values = [0x123, [0x456, 0x789], "0x31323334353637383930", "0x48656c6c6f2c20776f726c6421"]
    assert evaluate(f"abiEncode({types}, $v)", v=values) == "0x" + "".join(words)
    assert evaluate(f"abiDecode({types}, $d)", d="0x" + "".join(words)) == values
    assert evaluate(
        "abiDecode(['(uint8,string)[]'], abiEncode(['(uint8,string)[]'], $v))", v=[[[1, "a"], [2, "é"]]]
    ) == [[[1, "a"], [2, "é"]]]
