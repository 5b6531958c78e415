from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dustrun.actions.data.sort import Input, sort
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform


async def sorted_by(array: list[Any], **payload: Any) -> list[Any]:
    result = await perform(sort, {"array": array, **payload})
    assert result["count"] == len(array)
    items: list[Any] = result["items"]
    return items


async def test_plain_values_are_their_own_key() -> None:
    assert await sorted_by([3, Decimal("1.5"), 2]) == [Decimal("1.5"), 2, 3]
    assert await sorted_by(["b", "B", "a"]) == ["B", "a", "b"]


async def test_amounts_beyond_any_float_are_told_apart() -> None:
    rows = [10**18 + 1, 10**18, Decimal("1000000000000000000.5")]
    assert await sorted_by(rows) == [10**18, Decimal("1000000000000000000.5"), 10**18 + 1]


async def test_texts_of_digits_are_numbers_only_when_told() -> None:
    assert await sorted_by(["10", "9"]) == ["10", "9"]
    assert await sorted_by(["10", "9", 9], numeric=True) == ["9", 9, "10"]


async def test_several_keys_decide_in_turn_and_equal_items_keep_their_order() -> None:
    rows = [
        {"a": 1, "b": "x", "n": 0},
        {"a": 2, "b": "y", "n": 1},
        {"a": 1, "b": "y", "n": 2},
        {"a": 2, "b": "y", "n": 3},
    ]
    by = [{"field": "a", "order": "desc"}, {"field": "b"}]
    assert [row["n"] for row in await sorted_by(rows, by=by)] == [1, 3, 0, 2]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_null_comes_last_and_so_does_a_missing_field_when_told(order: str) -> None:
    rows = [{"n": None}, {"n": 1}, {}]
    assert await sorted_by(rows, field="n", order=order, onMissing="last") == [{"n": 1}, {"n": None}, {}]
    with pytest.raises(Invalid, match='Item 2 has no "n"'):
        await sorted_by(rows, field="n", order=order)


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2))), st.booleans(), st.booleans())
async def test_two_keys_are_a_stable_sort(pairs: list[tuple[int, int]], first: bool, second: bool) -> None:
    rows = [{"a": a, "b": b, "n": n} for n, (a, b) in enumerate(pairs)]
    order = {True: "desc", False: "asc"}
    found = await sorted_by(rows, by=[{"field": "a", "order": order[first]}, {"field": "b", "order": order[second]}])

    def key(row: dict[str, int]) -> tuple[int, int, int]:
        return (-row["a"] if first else row["a"], -row["b"] if second else row["b"], row["n"])

    assert found == sorted(rows, key=key)


def test_one_way_of_naming_keys() -> None:
    with pytest.raises(ValidationError, match="give either `by`"):
        Input.model_validate({"array": [], "field": "a", "by": [{"field": "b"}]})
