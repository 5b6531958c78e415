"""Groups the items of a list by the value of a field.

Groups and their items stay in order of first appearance. Equal numbers are one group; `1`, `"1"` and `true` are three.
The groups are a list, so that a `for-each` can iterate them and keys keep their type.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

from dustrun.actions.data.items import ITEM, MISSING, FieldPath, comparable, kind_of, need, parse_path, reach, refuse
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """The list and the grouping field."""

    array: list[Any] = Field(description="The items.")
    field: FieldPath = Field(ITEM, description="The field to group by; without it, the item itself.")
    on_missing: Literal["fail", "null", "drop"] = Field(
        "fail", description="If an item lacks the field: fail the node, use the group of null, or leave the item out."
    )


class Group(TypedDict):
    """One group. A TypedDict: a hundred thousand models would take a second."""

    key: Annotated[Any, Field(description="The common value of its items.")]
    items: Annotated[list[Any], Field(description="The items.")]
    count: Annotated[int, Field(description="Number of items.")]


class Output(Fields):
    """The groups."""

    groups: list[Group] = Field(description="The groups.")
    group_count: int = Field(description="Number of groups.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"array": [{"side": "buy", "usd": 5}, {"side": "sell", "usd": 7}], "field": "side"},
    example_output={
        "groups": [
            {"key": "buy", "items": [{"side": "buy", "usd": 5}], "count": 1},
            {"key": "sell", "items": [{"side": "sell", "usd": 7}], "count": 1},
        ],
        "groupCount": 2,
    },
    idempotent=True,
    tags=("list",),
)
def group(input: Input, ctx: Context) -> Output:
    """Adds every item to its group."""
    found: dict[Any, Group] = {}
    path = parse_path(input.field)
    for number, item in enumerate(input.array):
        key = reach(item, path)
        if key is MISSING:
            if input.on_missing == "fail":
                need(item, number, input.field)
            if input.on_missing == "drop":
                continue
            key = None
        if isinstance(key, list | dict):
            raise refuse(
                (f'The "{input.field}" of item {number} is {kind_of(key)}, which cannot be a group key'), "array"
            )
        same = comparable(key)
        if (one := found.get(same)) is None:
            one = found[same] = {"key": key, "items": [], "count": 0}
        one["items"].append(item)
        one["count"] += 1
    return Output.model_construct(groups=list(found.values()), group_count=len(found))
