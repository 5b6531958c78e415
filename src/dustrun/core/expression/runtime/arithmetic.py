"""Exact arithmetic: unbounded integers and decimals of 50 digits, rounded half-even; never a binary float."""

from __future__ import annotations

import decimal
import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from dustrun.core.expression.runtime.fault import Fault
from dustrun.core.expression.runtime.limits import Meter

DIGITS = 50
MAX_EXPONENT = 1000

_TRAPS = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.Subnormal]
CONTEXT = decimal.Context(
    prec=DIGITS, rounding=decimal.ROUND_HALF_EVEN, Emax=MAX_EXPONENT, Emin=-MAX_EXPONENT, traps=_TRAPS
)
# Context for operations that never round, such as shifting an amount's decimal point.
WIDE = decimal.Context(prec=5000, Emax=10_000, Emin=-10_000, traps=[*_TRAPS, decimal.Inexact])
_POWER_STEPS = 30

Number = int | Decimal


def exactly(work: Callable[..., Any]) -> Callable[..., Any]:
    """Turns decimal signals into faults."""

    @functools.wraps(work)
    def guarded(*arguments: Any) -> Any:
        try:
            return work(*arguments)
        except decimal.DecimalException:
            raise Fault("limit", f"number out of range; exponents go up to {MAX_EXPONENT}") from None

    return guarded


@exactly
def add(meter: Meter, a: Number, b: Number) -> Number:
    """a + b."""
    if type(a) is int and type(b) is int:
        meter.bits(max(a.bit_length(), b.bit_length()))
        return a + b
    return CONTEXT.add(a, b)


@exactly
def subtract(meter: Meter, a: Number, b: Number) -> Number:
    """a - b."""
    if type(a) is int and type(b) is int:
        meter.bits(max(a.bit_length(), b.bit_length()))
        return a - b
    return CONTEXT.subtract(a, b)


@exactly
def multiply(meter: Meter, a: Number, b: Number) -> Number:
    """a * b; checks the size of the result first."""
    if type(a) is int and type(b) is int:
        meter.bits(a.bit_length() + b.bit_length() - 1)
        return a * b
    return CONTEXT.multiply(a, b)


@exactly
def divide(meter: Meter, a: Number, b: Number) -> Number:
    """a / b: an integer when integers divide, else a decimal of 50 digits."""
    refuse_zero(b)
    if type(a) is int and type(b) is int:
        quotient, rest = divmod(a, b)
        if rest == 0:
            return quotient
    return CONTEXT.divide(Decimal(a), Decimal(b))


@exactly
def quotient(meter: Meter, a: Number, b: Number) -> int:
    """The integer quotient, truncated towards zero as in CEL and the EVM."""
    refuse_zero(b)
    if type(a) is int and type(b) is int:
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return int(CONTEXT.divide_int(Decimal(a), Decimal(b)))


@exactly
def remainder(meter: Meter, a: Number, b: Number) -> Number:
    """The remainder of `quotient`; it has the sign of `a`."""
    refuse_zero(b)
    if type(a) is int and type(b) is int:
        return abs(a) % abs(b) * (1 if a >= 0 else -1)
    return CONTEXT.remainder(Decimal(a), Decimal(b))


@exactly
def negate(meter: Meter, a: Number) -> Number:
    """-a."""
    return -a if type(a) is int else a.copy_negate()  # type: ignore[union-attr]


@exactly
def power(meter: Meter, a: Number, exponent: int) -> Number:
    """a to a whole power; a negative exponent divides. Checks the size of the result first."""
    if abs(exponent) > 100_000:
        raise Fault(
            "limit", f"the exponent {exponent} is too large" if abs(exponent) < 10**9 else "the exponent is too large"
        )
    if exponent < 0:
        return divide(meter, 1, power(meter, a, -exponent))  # type: ignore[no-any-return]
    if type(a) is int:
        if abs(a) > 1:
            meter.bits((a.bit_length() - 1) * exponent + 1)
        return int(a**exponent)
    meter.charge(_POWER_STEPS)
    return CONTEXT.power(Decimal(a), exponent) if exponent else 1


def refuse_zero(divisor: Number) -> None:
    """Division by zero is an error, also for decimals: there is no infinity."""
    if divisor == 0:
        raise Fault("value", "division by zero")


def plain(value: Number) -> str:
    """A number in plain digits, never in exponent notation."""
    return str(value) if isinstance(value, int) else format(value, "f")


def trimmed(value: Decimal) -> Decimal:
    """A decimal without trailing zeros in its fraction."""
    if value == value.to_integral_value():
        return value.quantize(Decimal(1), context=WIDE)
    return value.normalize(WIDE)
