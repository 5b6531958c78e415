"""Workflow variables: value types and increments. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from typing import Any

from dustrun.core.expression import ExpressionError, Template, parse_expression
from dustrun.core.workflow.definition import Definition, VariableDef

WRITERS = frozenset({"set-variable", "increment-variable"})
NODES = WRITERS | {"get-variable"}
PERSIST, RESET = "persist", "reset"


@cache
def _sum() -> Template:
    return parse_expression("$a + $b")  # imported lazily: the parser costs 50 ms and 4 MiB at startup


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; booleans are not."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def fits(kind: str, value: Any) -> bool:
    """Whether a value has a variable's type. `null` is valid for every type and means no value."""
    if value is None or kind == "any":
        return True
    if kind == "number":
        return is_number(value)
    wanted: dict[str, type] = {"text": str, "boolean": bool, "list": list, "object": dict}
    return isinstance(value, wanted[kind])


def kind_of(value: Any) -> str:
    """The variable type of a value."""
    if value is None:
        return "null"
    return next(kind for kind in ("boolean", "number", "text", "list", "object") if fits(kind, value))


def misfit(defined: VariableDef | None, name: str, value: Any) -> str | None:
    """Why a value may not be stored under a name; None when it may."""
    if defined is None or fits(defined.type, value):
        return None
    return f'The variable "{name}" is declared as {defined.type}; {kind_of(value)} does not fit.'


def incremented(value: Any, by: Any) -> Any:
    """The exact sum; a variable without a value counts as 0. Raises `ValueError` for non-numbers."""
    before = 0 if value is None else value
    if not is_number(before) or not is_number(by):
        wrong = before if not is_number(before) else by
        raise ValueError(f"an increment needs numbers, not {kind_of(wrong)}")
    try:
        total = _sum().evaluate(_Pair(before, by))
    except ExpressionError as error:
        raise ValueError(error.message) from None
    return int(total) if isinstance(total, Decimal) and total == total.to_integral_value() else total


class _Pair:
    def __init__(self, a: Any, b: Any) -> None:
        self._values = {"$a": a, "$b": b}

    def root(self, name: str) -> Any:
        """One of the two."""
        return self._values[name]


def declared(definition: Definition, further: Iterable[VariableDef] = ()) -> dict[str, VariableDef]:
    """Declarations by name: the definition's own override those of the workflow."""
    return {
        **{found.name: found for found in further},
        **{found.name: found for found in definition.variable_defs},
    }


def lifetime_of(defined: VariableDef | None, asked: str | None) -> str:
    """Whether a variable is kept between runs: as declared, else as the node says, else it is kept."""
    if defined is not None:
        return defined.lifetime
    return asked or PERSIST
