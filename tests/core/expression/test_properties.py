"""Laws that hold for whatever comes: reading and writing agree, nothing escapes, money is exact."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.expression import EvaluationLimits, ExpressionError, ExpressionErrors, compile_value, parse_template
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions import FUNCTIONS
from dustrun.core.expression.macros import NAMES
from dustrun.core.expression.syntax import tree
from dustrun.core.expression.syntax.parse import RESERVED, parse
from dustrun.core.expression.syntax.printer import to_text
from dustrun.core.expression.syntax.tree import Node
from dustrun.core.values.exact_json import dumps_text, loads
from testkit.examples import examples

Evaluate = Callable[..., Any]

SMALL = EvaluationLimits(steps=5_000, size=20_000, integer_bits=2048)

names = st.from_regex(r"\$?[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(
    lambda name: name not in RESERVED | {"true", "false", "null", "in"}
)
plain_names = names.filter(lambda name: name[0] != "$")
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=0, max_value=10**9)
literals = st.one_of(
    st.none(), st.booleans(), st.integers(0, 10**30), decimals, st.text(max_size=8), st.binary(max_size=6)
).map(tree.Literal)


def _operators(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    def chain(symbols: list[str]) -> st.SearchStrategy[Node]:
        rest = st.lists(st.tuples(st.sampled_from(symbols), children), min_size=1, max_size=3)
        return st.builds(lambda first, pairs: tree.Chain(first, tuple(pairs)), children, rest)

    def logic(symbol: str) -> st.SearchStrategy[Node]:
        parts = st.lists(children, min_size=2, max_size=3)
        return parts.map(lambda found: tree.Logic(symbol, tuple(found)))

    return st.one_of(
        chain(["==", "!=", "<", "<=", ">", ">=", "in"]),
        chain(["+", "-"]),
        chain(["*", "/", "%"]),
        *map(logic, ("&&", "||", "??")),
        st.builds(tree.Choice, children, children, children),
        st.builds(tree.Unary, st.sampled_from(["!", "-"]), children),
    )


def _others(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    arguments = st.lists(children, max_size=3).map(tuple)
    step = st.one_of(
        st.builds(tree.Select, st.one_of(plain_names, st.from_regex(r"[a-z0-9./ -]{1,5}", fullmatch=True))),
        st.builds(tree.Index, children),
        st.builds(tree.Method, plain_names, arguments),
    )
    steps = st.lists(step, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(tree.Member, children, steps),
        st.builds(tree.Call, names, arguments),
        st.builds(tree.ListOf, arguments),
        st.builds(tree.MapOf, st.lists(st.tuples(children, children), max_size=3).map(tuple)),
    )


trees = st.recursive(
    st.one_of(literals, names.map(tree.Name)), lambda inner: st.one_of(_operators(inner), _others(inner)), max_leaves=12
)

#: expressions that mostly mean something: known names, functions and macros, so that evaluation gets far
known = st.sampled_from(["x", "y", "$m", "$l", "$s", "$n", "$t"]).map(tree.Name)
known_literals = st.sampled_from(
    [0, 1, -1, 2, 10**20, Decimal("1.5"), "", "a", "a.b", "1", "1h", "UTC", b"\xff", None, True]
)


def _calls(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    few = st.lists(inner, min_size=1, max_size=3).map(tuple)
    calls = st.builds(tree.Call, st.sampled_from(sorted(FUNCTIONS)), few)
    variable = st.sampled_from(["x", "y"]).map(tree.Name)
    bodies = st.lists(inner, min_size=1, max_size=2)
    loop = st.builds(
        lambda start, name, first, rest: tree.Member(start, (tree.Method(name, (first, *rest)),)),
        inner,
        st.sampled_from(sorted(NAMES - {"has", "cel.bind"})),
        variable,
        bodies,
    )
    path = st.builds(
        lambda start, step: tree.Member(start, (step,)),
        inner,
        st.one_of(st.sampled_from(["a", "b"]).map(tree.Select), inner.map(tree.Index)),
    )
    return st.one_of(
        calls, loop, path, _operators(inner), st.lists(inner, max_size=3).map(lambda i: tree.ListOf(tuple(i)))
    )


busy_trees = st.recursive(st.one_of(known, known_literals.map(tree.Literal)), _calls, max_leaves=14)

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**25), 10**25), decimals, st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=10,
)


@examples(250)
@given(trees)
def test_tree_written_and_read_is_the_same_tree(node: Node) -> None:
    assert parse(to_text(node)) == node


@examples(150)
@given(trees, st.dictionaries(names, json_values, max_size=4))
def test_any_tree_gives_a_json_value_or_an_expression_error(
    evaluate: Evaluate, node: Node, roots: dict[str, Any]
) -> None:
    try:
        value = evaluate(to_text(node), SMALL, **{name.lstrip("$"): value for name, value in roots.items()})
    except ExpressionError:
        return
    assert dumps_text(loads(dumps_text(value))) == dumps_text(value)


@examples(300)
@given(busy_trees, json_values)
def test_busy_tree_gives_a_json_value_or_an_expression_error(evaluate: Evaluate, node: Node, value: Any) -> None:
    roots = {"m": {"a": {"b": 1}, "b": value}, "l": [3, 1, value], "s": "a.b,c", "n": Decimal("12.50"),
             "t": "2026-05-01T12:00:00Z"}  # fmt: skip
    try:
        found = evaluate(to_text(node), SMALL, **roots)
    except ExpressionError:
        return
    assert dumps_text(loads(dumps_text(found))) == dumps_text(found)


@examples(300)
@given(st.one_of(st.text(max_size=60), st.text("{}'\"\\ab$.[]()?:|&+-*/%!=<>1,rn\n", max_size=40)))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, "{{" + text + "}}", text + "{{" + text):
        try:
            parse_template(candidate)
        except ExpressionError as error:
            str(error)
    with contextlib.suppress(Fault):
        parse(text)


@examples(100)
@given(json_values)
def test_any_payload_compiles_or_lists_its_errors(value: Any) -> None:
    if "{{" in dumps_text(value):
        with contextlib.suppress(ExpressionErrors):
            compile_value(value)
    else:
        assert compile_value(value).is_static


_ARGUMENTS = st.one_of(
    json_values,
    st.sampled_from(["2026-05-01T12:00:00Z", "1h", "Europe/Berlin", "0x" + "00" * 32, "yyyy-MM-dd", "%s %d", "a.b"]),
    st.lists(st.sampled_from(["uint256", "bytes", "(bool,string)[]", "address", 1, True, "0x"]), max_size=3),
    st.integers(-300, 300),
)


@examples(600)
@given(st.sampled_from(sorted(FUNCTIONS)), st.lists(_ARGUMENTS, min_size=1, max_size=3))
def test_any_function_of_anything_gives_a_value_or_an_expression_error(
    evaluate: Evaluate, name: str, arguments: list[Any]
) -> None:
    roots = {f"x{number}": value for number, value in enumerate(arguments)}
    try:
        value = evaluate(f"{name}({', '.join('$' + root for root in roots)})", SMALL, **roots)
    except ExpressionError:
        return
    dumps_text(value)


@examples(200)
@given(st.text("ab[]().*?|&@!<>=`'{}:,1 \"$", max_size=30), json_values)
def test_any_query_gives_a_value_or_an_expression_error(evaluate: Evaluate, path: str, data: Any) -> None:
    try:
        value = evaluate("query($data, $path)", SMALL, data=data, path=path)
    except ExpressionError:
        return
    assert "float" not in repr(type(value))
    dumps_text(value)


@given(st.integers(-(10**40), 10**40), st.integers(0, 77))
def test_units_there_and_back_are_the_same(evaluate: Evaluate, units: int, decimals: int) -> None:
    amount = evaluate("fromUnits($u, $d)", u=units, d=decimals)
    assert evaluate("toUnits($a, $d)", a=amount, d=decimals) == units
    assert evaluate("toUnits(string($a), $d)", a=amount, d=decimals) == units
    assert evaluate("'' + string($a)", a=amount) == format(amount, "f")


@given(st.integers(0, 10**45), st.integers(0, 100))
def test_percents_add_up_to_the_whole(evaluate: Evaluate, x: int, p: int) -> None:
    assert evaluate("percent($x, $p) + percent($x, 100 - $p) == $x", x=x, p=p) is True
    assert evaluate("bps($x, $p * 100) == percent($x, $p)", x=x, p=p) is True
    assert evaluate("floor(percent($x, $p)) + ceil(percent($x, 100 - $p)) == $x", x=x, p=p) is True


@given(st.integers(-(10**60), 10**60), st.integers(-(10**30), 10**30).filter(bool))
def test_division_is_exact_or_rounds_at_fifty_digits(evaluate: Evaluate, a: int, b: int) -> None:
    assert evaluate("div($a, $b) * $b + mod($a, $b) == $a", a=a, b=b) is True
    assert evaluate("$a * $b / $b == $a", a=a, b=b) is True
    quotient = evaluate("$a / $b", a=a, b=b)
    assert isinstance(quotient, int) == (a % b == 0)
    assert isinstance(quotient, int) or len(quotient.as_tuple().digits) <= 50


@given(decimals, decimals)
def test_decimals_add_as_integers_of_their_smallest_part(evaluate: Evaluate, a: Decimal, b: Decimal) -> None:
    assert evaluate("toUnits($a + $b, 3) == toUnits($a, 3) + toUnits($b, 3)", a=a, b=b) is True


@given(st.lists(json_values, max_size=5), json_values)
def test_equality_is_one_relation_everywhere(evaluate: Evaluate, items: list[Any], item: Any) -> None:
    assert evaluate("$item == $item", item=item) is True
    assert evaluate("($x in $items) == $items.exists(i, i == $x)", items=items, x=item) is True
    assert evaluate("size(unique($items + $items)) == size(unique($items))", items=items) is True
    assert evaluate("unique($items).all(u, $items.exists(i, i == u))", items=items) is True
