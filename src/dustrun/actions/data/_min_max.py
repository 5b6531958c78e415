"""The smallest or largest item of a list: what `list-min` and `list-max` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from dustrun.actions.data.items import ITEM, FieldPath, Keyed, keyed, refuse
from dustrun.sdk import Fields


class Input(Fields):
    """The list and what to compare."""

    array: list[Any] = Field(description="The items; nulls take no part.")
    field: FieldPath = Field(ITEM, description="The field to compare; without it the item itself.")
    numeric: bool = Field(False, description="Compare texts of digits as numbers.")
    on_missing: Literal["fail", "drop"] = Field(
        "fail", description="An item without the field: fail the node, or take no part."
    )
    on_empty: Literal["fail", "null"] = Field(
        "fail", description="A list with nothing to compare: fail the node, or give null."
    )


class Output(Fields):
    """The item that was found; all null when there was nothing to compare."""

    value: Any = Field(description="The compared value; with `numeric` as a number.")
    item: Any = Field(description="The whole item; the first of several equal ones.")
    index: int | None = Field(description="Its place in the list, from 0.")


def find(input: Input, choose: Callable[..., Keyed]) -> Output:
    """`choose` is `min` or `max`; both take the first of equal ones."""
    entries = keyed(input.array, input.field, numeric=input.numeric, lenient=input.on_missing == "drop")
    present = [entry for entry in entries if entry.key is not None]
    if present:
        found = choose(present, key=lambda entry: entry.key)
        return Output(value=found.key, item=found.item, index=found.index)
    if input.on_empty == "fail":
        raise refuse("The list has nothing to compare (`onEmpty: null` allows it)", "array")
    return Output(value=None, item=None, index=None)
