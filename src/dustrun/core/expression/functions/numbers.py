"""Numbers, all exact; whole results stay integers."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any

from dustrun.core.expression import operators
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.table import FunctionGroup, numbers_of
from dustrun.core.expression.operators import WIDE, Number
from dustrun.core.expression.values import Meter, kind

numbers = FunctionGroup("Numbers")


@numbers.function("abs(x: number) -> number", "The absolute value.", "abs(-1.5)", "1.5")
def absolute(meter: Meter, x: Number) -> Number:
    return abs(x) if isinstance(x, int) else x.copy_abs()


def _extreme(meter: Meter, values: tuple[Any, ...], name: str, better: operators.Operator) -> Any:
    items = values[0] if len(values) == 1 and isinstance(values[0], list) else list(values)
    if not items:
        raise Fault("value", f"{name}() of an empty list")
    meter.charge(len(items))
    best = items[0]
    for item in items[1:]:
        wins = better(meter, item, best)
        if wins is operators.NO:
            raise Fault("type", f"{name}() cannot compare a {kind(item)} with a {kind(best)}")
        best = item if wins else best
    return best


@numbers.function(
    "min(...items: any) -> any", ("The smallest item of a list, or the smallest argument."), "min([3, 1, 2])", "1"
)
def smallest(meter: Meter, *values: Any) -> Any:
    return _extreme(meter, values, "min", operators.less)


@numbers.function(
    "max(...items: any) -> any", ("The largest item of a list, or the largest argument."), "max(3, 1.5)", "3"
)
def largest(meter: Meter, *values: Any) -> Any:
    return _extreme(meter, values, "max", operators.greater)


@numbers.function(
    "round(x: number, digits: int?) -> number",
    "Rounds half to even, to a whole number or to a number of decimal places.",
    "round(2.345, 2)",
    "2.34",
)
def rounded(meter: Meter, x: Number, digits: int | None = None) -> Number:
    if digits is None:
        return _whole(x, ROUND_HALF_EVEN)
    if not 0 <= digits <= operators.MAX_EXPONENT:
        raise Fault("value", f"round(): digits must be from 0 to {operators.MAX_EXPONENT}")
    return Decimal(x).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN, context=_ROUNDING)


_ROUNDING = WIDE.copy()
_ROUNDING.traps = operators.CONTEXT.traps


def _whole(x: Number, rounding: str) -> int:
    return x if isinstance(x, int) else int(x.to_integral_value(rounding=rounding))


@numbers.function("floor(x: number) -> int", "Rounds down to a whole number.", "floor(-1.5)", "-2")
def floor(meter: Meter, x: Number) -> int:
    return _whole(x, ROUND_FLOOR)


@numbers.function("ceil(x: number) -> int", "Rounds up to a whole number.", "ceil(1.2)", "2")
def ceil(meter: Meter, x: Number) -> int:
    return _whole(x, ROUND_CEILING)


@numbers.function(
    "sum(items: list) -> number", ("The sum of a list of numbers; 0 if it is empty."), "sum([1, 2.5])", "3.5"
)
def total(meter: Meter, items: list[Any]) -> Number:
    meter.charge(len(items))
    result: Number = 0
    for item in numbers_of("sum", items):
        result = operators.add_numbers(meter, result, item)
    return result


@numbers.function("avg(items: list) -> number", "The exact mean of a list of numbers.", "avg([1, 2])", "1.5")
def average(meter: Meter, items: list[Any]) -> Number:
    if not items:
        raise Fault("value", "avg() of an empty list")
    return operators.divide(meter, total(meter, items), len(items))  # type: ignore[no-any-return]


@numbers.function(
    "div(a: number, b: number) -> int", ("The integer quotient, truncated towards zero."), "div(-7, 2)", "-3"
)
def whole_quotient(meter: Meter, a: Number, b: Number) -> int:
    return operators.quotient(meter, a, b)  # type: ignore[no-any-return]


@numbers.function(
    "mod(a: number, b: number) -> number", ("The remainder of div(), with the sign of a."), "mod(-7, 2)", "-1"
)
def modulo(meter: Meter, a: Number, b: Number) -> Number:
    return operators.remainder(meter, a, b)  # type: ignore[no-any-return]


@numbers.function(
    "pow(x: number, exponent: int) -> number", "x to a whole power, exact.", "pow(10, 18)", "1000000000000000000"
)
def power(meter: Meter, x: Number, exponent: int) -> Number:
    return operators.power(meter, x, exponent)  # type: ignore[no-any-return]
