from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dustrun.actions.data.group import group
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform


async def groups(array: list[Any], **payload: Any) -> list[tuple[Any, list[Any]]]:
    result = await perform(group, {"array": array, **payload})
    assert result["groupCount"] == len(result["groups"])
    assert all(found["count"] == len(found["items"]) for found in result["groups"])
    return [(found["key"], found["items"]) for found in result["groups"]]


async def test_groups_stay_in_the_order_of_their_first_sight() -> None:
    assert await groups(["b", "a", "b"]) == [("b", ["b", "b"]), ("a", ["a"])]


async def test_equal_numbers_are_one_group_and_other_kinds_are_not() -> None:
    array = [1, Decimal("1.0"), "1", True, None]
    assert await groups(array) == [(1, [1, Decimal("1.0")]), ("1", ["1"]), (True, [True]), (None, [None])]


async def test_an_item_without_the_field() -> None:
    rows = [{"s": "x"}, {}]
    with pytest.raises(Invalid, match='Item 1 has no "s"'):
        await groups(rows, field="s")
    assert await groups(rows, field="s", onMissing="null") == [("x", [{"s": "x"}]), (None, [{}])]
    assert await groups(rows, field="s", onMissing="drop") == [("x", [{"s": "x"}])]


async def test_an_object_names_no_group() -> None:
    with pytest.raises(Invalid, match='The "s" of item 0 is an object, which cannot be a group key'):
        await groups([{"s": {}}], field="s")
