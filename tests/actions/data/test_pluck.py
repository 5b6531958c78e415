from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dustrun.actions.data.pluck import Input, pluck
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform

ROWS = [{"id": 1, "by": {"name": "Ann"}}, {"id": 2, "by": {}}]


async def test_fields_come_as_objects_under_their_own_or_new_names() -> None:
    rows = ROWS[:1]
    assert await perform(pluck, {"array": rows, "fields": ["id", "by.name"]}) == {
        "items": [{"id": 1, "by.name": "Ann"}],
        "count": 1,
    }
    assert await perform(pluck, {"array": rows, "fields": {"name": "by.name"}}) == {
        "items": [{"name": "Ann"}],
        "count": 1,
    }


@pytest.mark.parametrize(("on_missing", "items"), [("null", ["Ann", None]), ("drop", ["Ann"])])
async def test_an_item_without_the_field_is_null_or_dropped(on_missing: str, items: list[Any]) -> None:
    result = await perform(pluck, {"array": ROWS, "field": "by.name", "onMissing": on_missing})
    assert result == {"items": items, "count": len(items)}


async def test_an_item_without_the_field_fails_unless_told_otherwise() -> None:
    with pytest.raises(Invalid, match=r'Item 1 has no "by\.name"'):
        await perform(pluck, {"array": ROWS, "field": "by.name"})


@pytest.mark.parametrize("payload", [{}, {"field": "a", "fields": ["b"]}, {"fields": {"a": "b..c"}}])
def test_an_input_that_makes_no_sense_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Input.model_validate({"array": [], **payload})
