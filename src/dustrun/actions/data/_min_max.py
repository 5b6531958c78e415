"""Shared by `list-min` and `list-max`: finds the smallest or largest item of a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from dustrun.actions.data.items import ITEM, FieldPath, KeyedItem, keyed, refuse
from dustrun.sdk import Fields


class Input(Fields):
    """The list and what to compare."""

    array: list[Any] = Field(description="The items; nulls are ignored.")
    field: FieldPath = Field(ITEM, description="The field to compare; without it, the item itself.")
    numeric: bool = Field(False, description="Compare strings of digits as numbers.")
    on_missing: Literal["fail", "drop"] = Field(
        "fail", description="If an item lacks the field: fail the node, or ignore the item."
    )
    on_empty: Literal["fail", "null"] = Field(
        "fail", description="If there is nothing to compare: fail the node, or return null."
    )


class Output(Fields):
    """The item found; all null when there was nothing to compare."""

    value: Any = Field(description="The compared value; a number if `numeric` is set.")
    item: Any = Field(description="The whole item; the first of several equal ones.")
    index: int | None = Field(description="Its index in the list, from 0.")


def find(input: Input, choose: Callable[..., KeyedItem]) -> Output:
    """`choose` is `min` or `max`; both return the first of equal items."""
    entries = keyed(input.array, input.field, numeric=input.numeric, lenient=input.on_missing == "drop")
    present = [entry for entry in entries if entry.key is not None]
    if present:
        found = choose(present, key=lambda entry: entry.key)
        return Output(value=found.key, item=found.item, index=found.index)
    if input.on_empty == "fail":
        raise refuse("The list has nothing to compare (`onEmpty: null` allows it)", "array")
    return Output(value=None, item=None, index=None)
