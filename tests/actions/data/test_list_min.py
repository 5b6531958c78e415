from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.actions.data.list_min import list_min
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform


async def find(array: list[Any], **payload: Any) -> dict[str, Any]:
    return await perform(list_min, {"array": array, **payload})


@given(st.lists(st.one_of(st.integers(), st.decimals(allow_nan=False, allow_infinity=False)), min_size=1))
async def test_it_is_the_first_of_the_smallest(array: list[int | Decimal]) -> None:
    found = await find(array)
    assert found == {"value": min(array), "item": min(array), "index": array.index(min(array))}


async def test_nulls_take_no_part() -> None:
    rows: list[dict[str, Any]] = [{"usd": None}, {"usd": "10"}, {"usd": "9"}]
    place = 2
    assert await find(rows, field="usd", numeric=True) == {
        "value": int(rows[place]["usd"] or 0),
        "item": rows[place],
        "index": place,
    }


async def test_an_item_without_the_field_fails_or_takes_no_part() -> None:
    with pytest.raises(Invalid, match='Item 0 has no "usd"'):
        await find([{}, {"usd": 1}], field="usd")
    assert (await find([{}, {"usd": 1}], field="usd", onMissing="drop"))["index"] == 1


@pytest.mark.parametrize("array", [[], [None]])
async def test_nothing_to_compare_fails_or_gives_null(array: list[Any]) -> None:
    with pytest.raises(Invalid, match=r"nothing to compare \(`onEmpty: null` allows it\)"):
        await find(array)
    assert await find(array, onEmpty="null") == {"value": None, "item": None, "index": None}
