from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dustrun.actions.data.filter import Input, filter_items
from dustrun.core.expression import ExpressionError
from dustrun.core.workflow.condition import OPERATORS
from dustrun.core.workflow.condition import parse_condition as parse
from dustrun.errors import Invalid
from dustrun.sdk.testing import FakeRoots, perform

ROWS = [
    {"id": 1, "status": "open", "usd": Decimal("120.50"), "customer": {"name": "Ann"}, "tags": ["vip"]},
    {"id": 2, "status": "open", "usd": "80", "customer": {"name": "Bob"}, "tags": []},
    {"id": 3, "status": "done", "usd": 10**18 + 1, "customer": {"name": "Cy"}, "tags": ["new"], "note": None},
]


async def ids(**payload: Any) -> list[int]:
    result = await perform(filter_items, {"array": ROWS, **payload})
    assert result["count"] == len(result["items"])
    return [row["id"] for row in result["items"]]


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ({"status": {"$eq": "open"}}, [1, 2]),
        ({"usd": {"$gt": 100}}, [1, 3]),
        ({"usd": {"$gt": 10**18}}, [3]),
        ({"usd": {"$gte": "120.5", "$lt": 1000}}, [1]),
        ({"customer.name": {"$startsWith": "B"}}, [2]),
        ({"tags[0]": {"$exists": True}}, [1, 3]),
        ({"note": {"$notExists": True}}, [1, 2, 3]),
        ({"tags": {"$contains": "vip"}}, [1]),
        ({"id": {"$in": [1, 3]}}, [1, 3]),
        ({"$or": [{"id": {"$eq": 1}}, {"status": {"$eq": "done"}}]}, [1, 3]),
        ({"$and": [{"note": {"$exists": False}}, {"$or": [{"id": {"$ne": 2}}]}]}, [1, 3]),
        ({"status": {"$eq": "open"}, "usd": {"$lt": 100}}, [2]),
    ],
)
async def test_items_that_satisfy_the_condition_are_left(condition: dict[str, Any], left: list[int]) -> None:
    assert await ids(condition=condition) == left


async def test_one_comparison_needs_no_condition() -> None:
    assert await ids(field="status", operator="$eq", value="done") == [3]
    result = await perform(filter_items, {"array": [3, 1, "2"], "field": "$item", "operator": "$gte", "value": 2})
    assert result == {"items": [3, "2"], "count": 2}


async def test_an_item_without_the_field_fails_or_is_dropped() -> None:
    with pytest.raises(Invalid, match='Item 0 has no "note"'):
        await ids(condition={"note": {"$ne": "x"}})
    assert await ids(condition={"note": {"$ne": "x"}}, on_missing="drop") == [3]
    assert await ids(condition={"$and": [{"note": {"$exists": True}}, {"note": {"$gt": 1}}]}) == []


async def test_what_does_not_compare_names_the_item() -> None:
    with pytest.raises(Invalid, match=r"Item 0: \$gt cannot compare a string with a number"):
        await ids(condition={"status": {"$gt": 1}})


async def test_right_sides_come_from_templates_and_are_only_compared() -> None:
    world = {"$nodes": {"rows": {"result": ROWS}, "limit": {"result": {"text": "{{$env.SECRET}}"}}}}
    payload = {
        "array": "{{$nodes.rows.result}}",
        "condition": {"status": {"$ne": "{{$nodes.limit.result.text}}"}},
    }
    assert (await perform(filter_items, payload, None, world))["count"] == 3


async def test_work_has_a_limit() -> None:
    with pytest.raises(Invalid, match="it takes more than 250000 comparisons"):
        await perform(filter_items, {"array": [0] * 300, "condition": {"$item": {"$in": [1] * 1000}}})


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "give either `condition`"),
        ({"condition": {}}, "must be an object"),
        ({"condition": {"a": {"$eq": 1}}, "field": "a", "operator": "$eq"}, "give either `condition`"),
        ({"condition": {"a": {"$eq": 1}}, "value": 1}, "write them into the condition"),
        ({"operator": "$eq", "value": 1}, "needs a `field`"),
        ({"condition": {"a": 1}}, "must be followed by an object of operators"),
        ({"condition": {"a": {"$gtt": 1}}}, 'is not an operator; did you mean "\\$gt'),
        ({"condition": {"$an": [{"a": {"$eq": 1}}]}}, 'is not a field; did you mean "\\$and"'),
        ({"condition": {"$items": {"$eq": 1}}}, "is not a field"),
        ({"condition": {"$and": []}}, "takes a list of conditions"),
        ({"condition": {"$or": [{"a..b": {"$eq": 1}}]}}, "not a field path;"),
        ({"condition": {"{{$item.a}}": {"$eq": 1}}}, "is a template"),
        ({"field": "a", "operator": "eq", "value": 1}, r"\$eq"),
        ({"field": "a.", "operator": "$eq", "value": 1}, "not a field path;"),
    ],
)
def test_an_input_that_makes_no_sense_is_refused(payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Input.model_validate({"array": [], **payload})


def test_a_condition_does_not_nest_for_ever() -> None:
    condition: dict[str, Any] = {"a": {"$eq": 1}}
    for _ in range(40):
        condition = {"$and": [condition]}
    with pytest.raises(ValidationError, match="is nested deeper"):
        Input.model_validate({"array": [], "condition": condition})


def test_operators_are_those_of_if() -> None:
    schema = Input.model_json_schema()["properties"]["operator"]
    assert set(next(part for part in schema["anyOf"] if "enum" in part)["enum"]) == set(OPERATORS)


_plain = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "1", "a", "ab"]))


@given(st.sampled_from(sorted(OPERATORS)), _plain, st.one_of(_plain, st.lists(_plain, max_size=3)))
async def test_an_item_is_judged_as_if_would(operator: str, left: Any, right: Any) -> None:
    payload = {"array": [{"x": left}], "field": "x", "operator": operator, "value": right}
    try:
        expected = parse({"{{$item.x}}": {operator: right}}).evaluate(FakeRoots({"$item": {"x": left}}))
    except ExpressionError:
        with pytest.raises(Invalid):
            await perform(filter_items, payload)
    else:
        assert (await perform(filter_items, payload))["count"] == int(expected)
