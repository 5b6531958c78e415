"""The language where it departs from CEL, and the parts that people trip over. The rest is CEL's own suite's."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from dustrun.core.expression import ExpressionError

Evaluate = Callable[..., Any]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # integers are unbounded; uint literals are integers
        ("9223372036854775807 * 1500000000000000000", 13835058055282163710500000000000000000),
        ("7u - 8u", -1),
        ("type(1u) == int", True),
        # decimals are exact, and integers mix with them
        ("0.1 + 0.2 == 0.3", True),
        ("0.1 + 0.2", Decimal("0.3")),
        ("2 * 1.25", Decimal("2.50")),
        ("1 == 1.0", True),
        ("[1] == [1.0]", True),
        ("2 > 1.5", True),
        # division is exact
        ("6 / 3", 2),
        ("7 / 2", Decimal("3.5")),
        ("1 / 3", Decimal("0." + "3" * 50)),
        ("2 / 3", Decimal("0." + "6" * 49 + "7")),
        ("div(7, 2)", 3),
        ("div(-7, 2)", -3),
        ("-7 % 2", -1),
        ("7.5 % 2", Decimal("1.5")),
        # no coercion
        ("'5' == 5", False),
        ("int('5') == 5", True),
        ("true == 1", False),
        ("{'a': 1, true: 2, 1: 3}[1]", 3),
        # ?? takes missing and null
        ("a.result.nope ?? 5", 5),
        ("a.result.note ?? 5", 5),
        ("a.result.nope ?? a.result.neither ?? 'x'", "x"),
        ("nobody.at.all ?? 1", 1),
        ("false ?? true", False),
        ("0 ?? 1", 0),
        ("null ?? null", None),
        ("a.result.nope ?? 1 > 0", True),
        # || is CEL's with a bool at the left, else a fallback
        ("a.result.nope || 5", 5),
        ("a.result.note || 'x'", "x"),
        ("'set' || 'default'", "set"),
        ("0 || 1", 0),
        ("'' || 'x'", ""),
        ("false || true", True),
        ("1 / 0 > 1 || true", True),
        ("true || 1 / 0 > 1", True),
        ("false && 1 / 0 > 1", False),
        ("1 / 0 > 1 && false", False),
        ("a.result.nope || false || true", True),
        ("a.result.nope || a.result.neither || 'x'", "x"),
        # has
        ("has(a.result.price)", True),
        ("has(a.result.note)", True),
        ("has(a.result.nope)", False),
        ("has(a.nope.deeper.still)", False),
        ("has(a.result['price'])", True),
        # roots that are reserved words are reached by $nodes
        ("[1, 2].map(x, x * 2).filter(x, x > 2)", [4]),
        ("{'in': 1}.in", 1),
        ("{'a-b': 1}.`a-b`", 1),
        ("[[1, 2], [3]].map(x, x.map(y, y + size(x)))", [[3, 4], [4]]),
        ("[1].map(x, [2].map(x, x) + [x])", [[2, 1]]),
        ("[3, 4].exists_one(x, x > 3)", True),
        ("{'a': 1, 'b': 2}.filter(k, k != 'a')", ["b"]),
        ("[1, 2, 3].map(x, x > 1, x * 10)", [20, 30]),
        ("cel.bind(x, 2, [1].map(y, cel.bind(z, x + y, z * x)) + [x])", [6, 2]),
        ("{'a': [1], 'b': [2, 3]}.transformMap(k, v, v.transformList(i, n, n * i + size(k)))", {"a": [1], "b": [1, 4]}),
        ("$run.transformMap(k, v, k == 'id', v)", {"id": "run_1"}),
        ("[[3, 'x'], [1, 'y']].sortBy(p, p[0]).map(p, p[1])", ["y", "x"]),
        # what leaves the language is JSON
        ("timestamp('2026-05-01T12:00:00.5+02:00')", "2026-05-01T10:00:00.5Z"),
        ("duration('1h') + duration('30m')", "5400s"),
        ("timestamp('2026-05-02T00:00:00Z') - timestamp('2026-05-01T00:00:00Z') > duration('23h')", True),
        ("b'hi'", "aGk="),
        ("{1: 'a', true: 'b'}", {"1": "a", "true": "b"}),
        ("type(1.5)", "decimal"),
        ("now()", "2026-05-01T12:00:00Z"),
        ("now() - duration('1h')", "2026-05-01T11:00:00Z"),
    ],
)
def test_expression_gives(evaluate: Evaluate, text: str, value: Any) -> None:
    found = evaluate(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("a.result.units + 1", "type", "cannot add a.result.units (string) and 1 (int) with +; use int() or dec()"),
        ("a.result.units > 1", "type", "cannot compare a.result.units (string) and 1 (int)"),
        ("1 + null", "type", "(null)"),
        ("!5", "type", "! needs a bool"),
        ("-'x'", "type", "- needs a number"),
        ("5 ? 1 : 2", "type", "must be a bool"),
        ("1 && true", "type", "&& needs bools"),
        ("false || 'x'", "type", "|| needs bools"),
        ("'a' in 'abc'", "type", "cannot look up"),
        ("[1].map(x, x)['a']", "missing", "is a list"),
        ("[1][true]", "type", "whole number"),
        ("1 / 0", "value", "division by zero"),
        ("1.0 / 0", "value", "division by zero"),
        ("1 % 0", "value", "division by zero"),
        ("{'a': 1, 'a': 2}", "value", "twice"),
        ("{1: 'a', '1': 'b'}", "value", "same JSON key"),
        ("sum(['1'])", "type", "use int() or dec()"),
        ("min([])", "value", "empty list"),
        ("a.result.nope.x ?? (1 + 'x')", "type", "cannot add"),
        ("(1 / 0) ?? 5", "value", "division by zero"),
        ("double('NaN')", "value", "NaN do not exist"),
        ("[1, 2].map(3, 4)", "syntax", "loop variable"),
        ("has(5)", "syntax", "has() takes one path"),
        ("[1].all(x, x, true)", "syntax", "two loop variables"),
        ("cel.bind(5, 1, 2)", "syntax", "variable"),
        ("cel.nope(1)", "missing", "cel"),
        ("size()", "syntax", "does not take 0 arguments"),
        ("rond(1.5)", "syntax", 'did you mean "round"'),
        ("'x'.frobnicate()", "syntax", "there is no function"),
        ("if", "syntax", "$nodes.if"),
        ("a = 1", "syntax", '"=="'),
        ("a & b", "syntax", '"&&"'),
        ("'x", "syntax", "unterminated string"),
        ("a.b{c: 1}", "syntax", 'unexpected "{"'),
        ("{{a}} > 5", "syntax", 'write the expression without "{{ }}"'),
        ("'{{' }", "syntax", 'unexpected "}"'),
        ("'\\q'", "syntax", "unknown escape"),
        ("'\\ud800'", "syntax", "not a character"),
    ],
)
def test_expression_fails(evaluate: Evaluate, text: str, kind: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(text)
    assert (caught.value.kind, words in caught.value.message) == (kind, True), caught.value.message
