"""Keeps the items of a list that satisfy a condition.

Give either `condition`, an object like that of `if` whose left sides are fields of the item, or one comparison as
`field`, `operator` and `value`. A left side is a path such as `price`, `customer.name` or `rows[0].id`; `$item` is the
item itself.

`{"$and": [{"status": {"$eq": "open"}}, {"$or": [{"usd": {"$gt": 100}}, {"vip": {"$eq": true}}]}]}`

There is no implicit conversion: a number and a text that is not all digits do not compare, and an item without the
field fails the node. Use `onMissing: drop` to leave such items out, or test `{"field": {"$exists": true}}` first in an
`$and`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from dustrun.actions.data.items import ITEM, MISSING, FieldPath, need, parse_path, reach, refuse
from dustrun.core.expression.fault import Fault, suggest
from dustrun.core.expression.values import EvaluationLimits, Meter
from dustrun.core.workflow.condition import OPERATORS
from dustrun.sdk import Context, Effect, Fields, action

_CONNECTIVES: Final = ("$and", "$or")
_EXISTENCE: Final = frozenset({"$exists", "$notExists"})
_MOST_LEVELS: Final = 32
_LIMITS: Final = EvaluationLimits(steps=250_000)

Operator = Literal[
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$contains",
    "$notContains",
    "$startsWith",
    "$endsWith",
    "$exists",
    "$notExists",
]


class Input(Fields):
    """The list and the condition."""

    array: list[Any] = Field(description="The items.")
    condition: dict[str, Any] | None = Field(
        None, description='`{"<field of the item>": {"<operator>": right}}`, combined with `$and` and `$or` as needed.'
    )
    field: FieldPath | None = Field(None, description="The field to compare, instead of `condition`.")
    operator: Operator | None = Field(None, description="The comparison operator.")
    value: Any = Field(None, description="The value to compare with.")
    on_missing: Literal["fail", "drop"] = Field(
        "fail", description="If an item lacks a compared field: fail the node, or leave the item out."
    )

    @field_validator("condition")
    @classmethod
    def _readable(cls, condition: dict[str, Any] | None) -> dict[str, Any] | None:
        if condition is not None:
            _check(condition, "", 0)
        return condition

    @model_validator(mode="after")
    def _one_of_both(self) -> Input:
        if (self.condition is None) == (self.operator is None):
            raise ValueError("give either `condition`, or `field` with `operator` and `value`")
        if self.condition is not None and (self.field is not None or "value" in self.model_fields_set):
            raise ValueError("`field` and `value` belong to `operator`; write them into the condition")
        if self.operator is not None and self.field is None:
            raise ValueError("`operator` needs a `field`; `$item` is the item itself")
        return self

    def test(self) -> Mapping[str, Any]:
        """The condition, in either notation."""
        return self.condition if self.condition is not None else {self.field or "": {self.operator or "": self.value}}


class Output(Fields):
    """The matching items."""

    items: list[Any] = Field(description="The matching items, in their original order.")
    count: int = Field(description="Number of matching items.")


def _check(condition: Any, where: str, level: int) -> None:
    at = f" at {where}" if where else ""
    if not isinstance(condition, dict) or not condition:
        raise ValueError(f'a condition{at} must be an object like {{"price": {{"$gt": 1}}}}')
    if level > _MOST_LEVELS:
        raise ValueError(f"the condition is nested deeper than {_MOST_LEVELS} levels")
    for left, right in condition.items():
        inner = f"{where}.{left}" if where else left
        if left in _CONNECTIVES:
            if not isinstance(right, list) or not right:
                raise ValueError(f'"{left}"{at} takes a list of conditions')
            for number, part in enumerate(right):
                _check(part, f"{inner}[{number}]", level + 1)
        else:
            _check_comparison(left, right, inner)


def _check_comparison(left: str, right: Any, where: str) -> None:
    if left.startswith("$") and left != ITEM and not left.startswith((f"{ITEM}.", f"{ITEM}[")):
        raise ValueError(f'"{left}" at {where} is not a field{suggest(left, _CONNECTIVES)}')
    if "{{" in left:
        raise ValueError(f'the left side "{left}" is a template; write the path of a field of the item')
    parse_path(left)
    if not isinstance(right, dict) or not right:
        raise ValueError(f'"{where}" must be followed by an object of operators like {{"$eq": 1}}')
    for operator in right:
        if operator not in OPERATORS:
            raise ValueError(f'"{operator}" at {where} is not an operator{suggest(operator, OPERATORS)}')


class _Dropped(Exception):
    """The item lacks the field and is left out."""


class _Filter:
    """Applies one condition to many items, within one evaluation budget."""

    def __init__(self, input: Input) -> None:
        self._test = input.test()
        self._lenient = input.on_missing == "drop"
        self._meter = Meter(_LIMITS)

    def matches(self, item: Any, number: int) -> bool:
        """Whether an item satisfies the condition."""
        try:
            return self._matches(self._test, item, number)
        except _Dropped:
            return False
        except Fault as fault:
            message = f"it takes more than {_LIMITS.steps} comparisons" if fault.kind == "limit" else fault.message
            raise refuse(f"Item {number}: {message}", "array") from None

    def _matches(self, condition: Mapping[str, Any], item: Any, number: int) -> bool:
        return all(self._matches_entry(left, right, item, number) for left, right in condition.items())

    def _matches_entry(self, left: str, right: Any, item: Any, number: int) -> bool:
        self._meter.charge(1)
        if left == "$and":
            return all(self._matches(part, item, number) for part in right)
        if left == "$or":
            return any(self._matches(part, item, number) for part in right)
        return all(self._compare(left, operator, value, item, number) for operator, value in right.items())

    def _compare(self, left: str, operator: str, right: Any, item: Any, number: int) -> bool:
        value = reach(item, parse_path(left))
        if value is MISSING and operator in _EXISTENCE:
            value = None
        elif value is MISSING:
            if self._lenient:
                raise _Dropped
            need(item, number, left)
        return OPERATORS[operator](self._meter, value, right)


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={
        "array": [{"symbol": "ETH", "usd": 3127}, {"symbol": "DAI", "usd": 1}],
        "condition": {"usd": {"$gt": 100}},
    },
    example_output={"items": [{"symbol": "ETH", "usd": 3127}], "count": 1},
    idempotent=True,
    tags=("list", "condition"),
)
def filter_items(input: Input, ctx: Context) -> Output:
    """Applies the condition to every item."""
    matcher = _Filter(input)
    kept = [item for number, item in enumerate(input.array) if matcher.matches(item, number)]
    return Output(items=kept, count=len(kept))
