"""Finds the smallest item of a list, by itself or by a field.

For the cheapest of several offers: the result contains the whole item, so later nodes can use its other fields. Numbers
are compared exactly, texts by code point; set `numeric` for amounts given as strings of digits.
"""

from __future__ import annotations

from dustrun.actions.data._min_max import Input, Output, find
from dustrun.sdk import Context, Effect, action


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"array": [{"venue": "a", "usd": 12}, {"venue": "b", "usd": 9}], "field": "usd"},
    example_output={"value": 9, "item": {"venue": "b", "usd": 9}, "index": 1},
    idempotent=True,
    tags=("list", "number"),
)
def list_min(input: Input, ctx: Context) -> Output:
    """Compares every item once."""
    return find(input, min)
