"""Extracts one or more fields from every item of a list.

`field` returns a list of plain values; `fields` returns a list of smaller objects, optionally with new names. A path
may go deeper: `customer.name`, `rows[0].id`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, model_validator

from dustrun.actions.data.items import MISSING, FieldPath, need, parse_path, reach
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """The list and the fields to extract."""

    array: list[Any] = Field(description="The items.")
    field: FieldPath | None = Field(None, description="The one field to extract.")
    fields: list[FieldPath] | dict[str, FieldPath] | None = Field(
        None, description='Several fields: a list, or new names mapped to fields: `{"name": "customer.name"}`.'
    )
    on_missing: Literal["fail", "null", "drop"] = Field(
        "fail", description="If an item lacks a field: fail the node, use null, or leave the item out."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Input:
        if (self.field is None) == (self.fields is None):
            raise ValueError("give either `field` or `fields`")
        return self


class Output(Fields):
    """The extracted values."""

    items: list[Any] = Field(description="One value per item, or one object per item with `fields`.")
    count: int = Field(description="Number of results.")


class _Dropped(Exception):
    """The item lacks the field and is left out."""


def _taker(input: Input) -> Callable[[Any, int], Any]:
    def take(item: Any, number: int, field: str) -> Any:
        value = need(item, number, field) if input.on_missing == "fail" else reach(item, parse_path(field))
        if value is MISSING and input.on_missing == "drop":
            raise _Dropped
        return None if value is MISSING else value

    if input.field is not None:
        only = input.field
        return lambda item, number: take(item, number, only)
    given = input.fields or {}
    names = given if isinstance(given, dict) else {field: field for field in given}
    return lambda item, number: {name: take(item, number, field) for name, field in names.items()}


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"array": [{"id": 1, "customer": {"name": "Ann"}}], "field": "customer.name"},
    example_output={"items": ["Ann"], "count": 1},
    idempotent=True,
    tags=("list",),
)
def pluck(input: Input, ctx: Context) -> Output:
    """Extracts the fields of every item."""
    take = _taker(input)
    found: list[Any] = []
    for number, item in enumerate(input.array):
        try:
            found.append(take(item, number))
        except _Dropped:
            continue
    return Output(items=found, count=len(found))
