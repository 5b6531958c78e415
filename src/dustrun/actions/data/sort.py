"""Sorts a list by one or more fields.

The sort is stable, and null comes last in both directions. Numbers are compared exactly and texts by code point; a list
with keys of several types fails. Set `numeric` for amounts given as strings of digits, so that "9" comes before "10".
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from dustrun.actions.data.items import ITEM, FieldPath, keyed
from dustrun.sdk import Context, Effect, Fields, action

Order = Literal["asc", "desc"]


class SortKey(Fields):
    """One sort key; later keys break ties of earlier ones."""

    field: FieldPath = Field(ITEM, description="The field to sort by; `$item` is the item itself.")
    order: Order = Field("asc", description="Ascending or descending.")
    numeric: bool = Field(False, description="Compare strings of digits as numbers.")


class Input(Fields):
    """The list and the sort keys."""

    array: list[Any] = Field(description="The items.")
    field: FieldPath = Field(ITEM, description="The field to sort by; without it, the item itself.")
    order: Order = Field("asc", description="Ascending or descending.")
    numeric: bool = Field(False, description="Compare strings of digits as numbers.")
    by: list[SortKey] = Field(
        [], max_length=10, description=("Several keys, instead of `field`; the first has priority.")
    )
    on_missing: Literal["fail", "last"] = Field(
        "fail", description="If an item lacks the field: fail the node, or sort it last like null."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Input:
        if self.by and self.model_fields_set & {"field", "order", "numeric"}:
            raise ValueError("give either `by`, or `field` with `order` and `numeric`")
        return self

    def keys(self) -> list[SortKey]:
        """The sort keys, in either notation."""
        return self.by or [SortKey(field=self.field, order=self.order, numeric=self.numeric)]


class Output(Fields):
    """The sorted list."""

    items: list[Any] = Field(description="The sorted items.")
    count: int = Field(description="Number of items.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"array": [{"usd": 1}, {"usd": 3127}], "field": "usd", "order": "desc"},
    example_output={"items": [{"usd": 3127}, {"usd": 1}], "count": 2},
    idempotent=True,
    tags=("list",),
)
def sort(input: Input, ctx: Context) -> Output:
    """Sorts by the last key first: each stable pass keeps the order of the previous ones."""
    items: list[Any] = input.array
    for key in reversed(input.keys()):
        items = _sorted(items, key, lenient=input.on_missing == "last")
    return Output(items=items, count=len(items))


def _sorted(items: list[Any], by: SortKey, *, lenient: bool) -> list[Any]:
    entries = keyed(items, by.field, numeric=by.numeric, lenient=lenient)
    present = sorted(
        (entry for entry in entries if entry.key is not None), key=lambda entry: entry.key, reverse=by.order == "desc"
    )
    return [entry.item for entry in [*present, *(entry for entry in entries if entry.key is None)]]
