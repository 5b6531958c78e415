"""Finds the largest item of a list, by itself or by a field.

For the best of several quotes: the result contains the whole item, so later nodes can use its other fields. Numbers are
compared exactly, texts by code point; set `numeric` for amounts given as strings of digits.
"""

from __future__ import annotations

from dustrun.actions.data._min_max import Input, Output, find
from dustrun.sdk import Context, Effect, action


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"array": [{"venue": "a", "usd": 12}, {"venue": "b", "usd": 9}], "field": "usd"},
    example_output={"value": 12, "item": {"venue": "a", "usd": 12}, "index": 0},
    idempotent=True,
    tags=("list", "number"),
)
def list_max(input: Input, ctx: Context) -> Output:
    """Compares every item once."""
    return find(input, max)
