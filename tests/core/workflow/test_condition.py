"""Conditions of `if` and `filter`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.expression import ExpressionError
from dustrun.core.workflow.condition import OPERATORS, find_condition_errors, parse_condition


class World:
    """Roots from a dict."""

    def __init__(self, roots: dict[str, Any]) -> None:
        self._roots = roots

    def root(self, name: str) -> Any:
        return self._roots[name]


WORLD = World({"$item": {"price": 5, "text": "5", "name": "Ann", "tags": ["a", 1], "none": None, "ok": True}})


def holds(condition: Any) -> bool:
    return parse_condition(condition).evaluate(WORLD)


@pytest.mark.parametrize(
    ("left", "operator", "right", "expected"),
    [
        ("{{$item.price}}", "$eq", 5, True),
        ("{{$item.price}}", "$eq", "5", True),
        ("{{$item.price}}", "$eq", "5.0", True),
        ("{{$item.price}}", "$ne", Decimal("5.5"), True),
        ("{{$item.text}}", "$gt", 4, True),
        ("{{$item.text}}", "$gt", "10", False),
        ("{{$item.text}}", "$lt", "{{$item.price + 1}}", True),
        ("10", "$gt", "9", True),
        ("1500000000000000000", "$gte", "1499999999999999999", True),
        ("2026-05-01", "$lt", "2026-06-01", True),
        ("007", "$eq", "7", False),
        ("{{$item.name}}", "$eq", "Ann", True),
        ("{{$item.name}}", "$eq", "Bob", False),
        ("Hello {{$item.name}}", "$eq", "Hello Ann", True),
        ("{{$item.none}}", "$eq", None, True),
        ("{{$item.none}}", "$eq", 5, False),
        ("{{$item.none}}", "$ne", "x", True),
        ("{{$item.ok}}", "$eq", True, True),
        ("{{$item.tags}}", "$eq", ["a", 1], True),
        ("{{$item.price}}", "$in", [1, "5"], True),
        ("{{$item.price}}", "$nin", ["a", None], True),
        ("{{$item.name}}", "$in", "{{['Ann', 'Bob']}}", True),
        ("{{$item.tags}}", "$contains", "1", True),
        ("{{$item.tags}}", "$notContains", "b", True),
        ("{{$item.name}}", "$contains", "nn", True),
        ("{{$item}}", "$contains", "name", True),
        ("{{$item.name}}", "$startsWith", "A", True),
        ("{{$item.name}}", "$endsWith", "n", True),
        ("{{$item.name}}", "$exists", True, True),
        ("{{$item.nope}}", "$exists", True, False),
        ("{{$item.nope}}", "$exists", False, True),
        ("{{$item.none}}", "$exists", True, False),
        ("{{$item.nope.deeper}}", "$notExists", True, True),
        ("{{$item.name}}", "$notExists", True, False),
    ],
)
def test_comparison_holds(left: str, operator: str, right: Any, expected: bool) -> None:
    assert holds({left: {operator: right}}) is expected


@pytest.mark.parametrize(
    ("left", "operator", "right", "kind"),
    [
        ("{{$item.name}}", "$gt", 5, "type"),
        ("{{$item.name}}", "$eq", 5, "type"),
        ("{{$item.price}}", "$ne", "five", "type"),
        ("{{$item.ok}}", "$eq", "true", "type"),
        ("{{$item.ok}}", "$gt", 0, "type"),
        ("{{$item.none}}", "$gt", 0, "type"),
        ("10", "$gt", "abc", "type"),
        ("{{$item.price}}", "$startsWith", "5", "type"),
        ("{{$item.price}}", "$in", 5, "type"),
        ("{{$item.price}}", "$contains", 5, "type"),
        ("{{$item.price}}", "$exists", 1, "type"),
        ("{{$item.nope}}", "$eq", 1, "missing"),
        ("{{$item.nope}}", "$ne", 1, "missing"),
        ("{{$item.price}}", "$eq", "{{$item.nope}}", "missing"),
        ("{{$item.price / 0}}", "$exists", True, "value"),
    ],
)
def test_comparison_that_makes_no_sense_is_an_error(left: str, operator: str, right: Any, kind: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        holds({left: {operator: right}})
    assert (caught.value.kind, caught.value.field) == (kind, f"{left}.{operator}")


def test_connectives_nest() -> None:
    yes, no = {"1": {"$eq": 1}}, {"1": {"$eq": 2}}
    assert holds({"$and": [yes, {"$or": [no, yes]}]})
    assert not holds({"$and": [yes, {"$or": [no, no]}]})
    assert holds({"$or": [{"$and": [yes, no]}, yes]})


def test_several_operators_and_several_entries_are_and() -> None:
    assert holds({"{{$item.price}}": {"$gt": 1, "$lt": 9}})
    assert not holds({"{{$item.price}}": {"$gt": 1, "$lt": 3}})
    assert not holds({"{{$item.price}}": {"$gt": 1}, "{{$item.name}}": {"$eq": "Bob"}})


def test_or_looks_no_further_than_needed() -> None:
    assert holds({"$or": [{"1": {"$eq": 1}}, {"{{$item.nope}}": {"$eq": 1}}]})


def test_references_of_both_sides_are_found() -> None:
    condition = parse_condition({"$or": [{"{{a.x}}": {"$gt": "{{b.y}}"}}, {"{{c}}": {"$exists": True}}]})
    assert [(r.root, r.path, r.guarded) for r in condition.references] == [
        ("a", ("x",), False),
        ("b", ("y",), False),
        ("c", (), True),
    ]


def test_every_problem_is_found_with_its_field() -> None:
    condition = {
        "$and": [{"{{a}}": {"$equals": 1}}, {"{{a": {"$eq": 1}}, {"$gt": 5}, {}, 7],
        "$or": [],
        "{{b}}": 5,
        "{{c}}": {"$eq": ["{{1 +}}"]},
    }
    found = find_condition_errors(condition)
    assert [error.field for error in found] == [
        "$and[0].{{a}}.$equals",
        "$and[1].{{a",
        "$and[2].$gt",
        "$and[3]",
        "$and[4]",
        "$or",
        "{{b}}",
        "{{c}}.$eq[0]",
    ]
    assert 'did you mean "$eq"' not in found[1].message
    with pytest.raises(ExpressionError):
        parse_condition(condition)


def test_endless_nesting_is_refused() -> None:
    condition: Any = {"1": {"$eq": 1}}
    for _ in range(500):
        condition = {"$and": [condition]}
    assert find_condition_errors(condition)


decimals = st.decimals(allow_nan=False, allow_infinity=False, places=2)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), decimals, st.text(max_size=5), st.integers().map(str))


@given(st.sampled_from(sorted(OPERATORS)), scalars, st.one_of(scalars, st.lists(scalars, max_size=3)))
def test_any_comparison_is_answered_or_refused(operator: str, left: Any, right: Any) -> None:
    condition = parse_condition({"{{$l}}": {operator: "{{$r}}"}})
    try:
        assert condition.evaluate(World({"$l": left, "$r": right})) in (True, False)
    except ExpressionError as error:
        assert error.kind == "type"  # noqa: PT017


@given(scalars, scalars)
def test_order_is_total_where_it_is_defined(left: Any, right: Any) -> None:
    world = World({"$l": left, "$r": right})

    def ask(operator: str) -> bool:
        return parse_condition({"{{$l}}": {operator: "{{$r}}"}}).evaluate(world)

    try:
        found = [ask("$lt"), ask("$eq"), ask("$gt")]
    except ExpressionError:
        return
    assert found.count(True) == 1
    assert ask("$lte") is not found[2]
    assert ask("$gte") is not found[0]
