"""Equality, order and `+ - * / %` over all kinds of values. `NO` means that the operand types are incompatible."""

from __future__ import annotations

import decimal
import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.times import in_range
from dustrun.core.expression.values import Duration, Lazy, Meter, Timestamp, TypeName, kind, map_key, read_all

# Exact arithmetic: unbounded integers and decimals of 50 digits, rounded half-even; never a binary float.


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
def add_numbers(meter: Meter, a: Number, b: Number) -> Number:
    """a + b."""
    if type(a) is int and type(b) is int:
        meter.bits(max(a.bit_length(), b.bit_length()))
        return a + b
    return CONTEXT.add(a, b)


@exactly
def subtract_numbers(meter: Meter, a: Number, b: Number) -> Number:
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


NO: Any = object()
MAX_VALUE_DEPTH = 100

Operator = Callable[[Meter, Any, Any], Any]

_SIMPLE = frozenset({str, int, bool, Decimal, bytes, type(None), Timestamp, Duration, TypeName})
_ORDERED = frozenset({"string", "bytes", "bool", "timestamp", "duration"})


def is_number(value: Any) -> bool:
    """Whether a value is an integer or a decimal; booleans are not numbers."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def same(meter: Meter, a: Any, b: Any, depth: int = 0) -> bool:
    """CEL's `==`: numbers by value, different kinds are unequal, lists and maps element by element."""
    if type(a) is type(b) and type(a) in _SIMPLE:
        if type(a) is str and len(a) > 1024:
            meter.charge(len(a) >> 8)
        return bool(a == b)
    if isinstance(a, list) and isinstance(b, list):
        _descend(meter, len(a), depth)
        return len(a) == len(b) and all(same(meter, x, y, depth + 1) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict | Lazy) and isinstance(b, dict | Lazy):
        return _same_maps(meter, as_map(a), as_map(b), depth)
    if is_number(a) and is_number(b):
        return bool(a == b)
    return kind(a) == kind(b) and kind(a) in _ORDERED and bool(a == b)


def _same_maps(meter: Meter, a: dict[Any, Any], b: dict[Any, Any], depth: int) -> bool:
    _descend(meter, len(a), depth)
    if len(a) != len(b):
        return False
    return all(key in b and same(meter, item, b[key], depth + 1) for key, item in a.items())


def _descend(meter: Meter, size: int, depth: int) -> None:
    meter.charge(size + 1)
    if depth > MAX_VALUE_DEPTH:
        raise Fault("limit", f"a value is nested deeper than {MAX_VALUE_DEPTH} levels")


def as_map(value: Any) -> dict[Any, Any]:
    """A map; a `Lazy` counts as one."""
    return value if isinstance(value, dict) else read_all(value)


def _less(meter: Meter, a: Any, b: Any) -> Any:
    if type(a) is int and type(b) is int:
        return a < b
    if isinstance(a, str | bytes) and len(a) > 1024:
        meter.charge(len(a) >> 8)
    if (is_number(a) and is_number(b)) or (kind(a) == kind(b) and kind(a) in _ORDERED):
        return a < b
    return NO


def less(meter: Meter, a: Any, b: Any) -> Any:
    """a < b."""
    return _less(meter, a, b)


def greater(meter: Meter, a: Any, b: Any) -> Any:
    """a > b."""
    return _less(meter, b, a)


def less_or_same(meter: Meter, a: Any, b: Any) -> Any:
    """a <= b."""
    found = _less(meter, b, a)
    return found if found is NO else not found


def greater_or_same(meter: Meter, a: Any, b: Any) -> Any:
    """a >= b."""
    found = _less(meter, a, b)
    return found if found is NO else not found


def different(meter: Meter, a: Any, b: Any) -> bool:
    """a != b."""
    return not same(meter, a, b)


def contained(meter: Meter, item: Any, container: Any) -> Any:
    """`in`: whether an item is in a list, or a key in a map."""
    if isinstance(container, list):
        meter.charge(len(container) >> 2)
        return any(same(meter, item, other) for other in container)
    if isinstance(container, dict):
        key = map_key(item)
        return key is not None and key in container
    if isinstance(container, Lazy):
        return isinstance(item, str) and _has(container, item)
    return NO


def _has(lazy: Lazy, key: str) -> bool:
    """Looks up only this key: a host may record which keys were read."""
    try:
        lazy.get(key)
    except KeyError:
        return False
    return True


def add(meter: Meter, a: Any, b: Any) -> Any:
    """Adds numbers, text, bytes and lists; a duration to a timestamp or a duration."""
    if is_number(a) and is_number(b):
        return add_numbers(meter, a, b)
    for joined in (str, bytes, list):
        if isinstance(a, joined) and isinstance(b, joined):
            meter.grow(len(a) + len(b))
            meter.charge((len(a) + len(b)) >> 6)
            return a + b  # type: ignore[operator]
    if isinstance(a, Duration) and isinstance(b, Timestamp | Duration):
        a, b = b, a
    if isinstance(a, Timestamp | Duration) and isinstance(b, Duration):
        nanos = a.nanos + b.nanos
        return in_range(Timestamp(nanos)) if isinstance(a, Timestamp) else in_range(Duration(nanos))
    return NO


def subtract(meter: Meter, a: Any, b: Any) -> Any:
    """Subtracts numbers; a duration from a timestamp or duration; two timestamps give a duration."""
    if is_number(a) and is_number(b):
        return subtract_numbers(meter, a, b)
    if isinstance(a, Timestamp) and isinstance(b, Timestamp):
        return in_range(Duration(a.nanos - b.nanos))
    if isinstance(a, Timestamp | Duration) and isinstance(b, Duration):
        return add(meter, a, Duration(-b.nanos))
    return NO


def _numeric(work: Callable[[Meter, Any, Any], Any]) -> Operator:
    def run(meter: Meter, a: Any, b: Any) -> Any:
        return work(meter, a, b) if is_number(a) and is_number(b) else NO

    return run


# symbol → (verb for the message, implementation)
OPERATORS: dict[str, tuple[str, Operator]] = {
    "==": ("compare", same),
    "!=": ("compare", different),
    "<": ("compare", less),
    "<=": ("compare", less_or_same),
    ">": ("compare", greater),
    ">=": ("compare", greater_or_same),
    "in": ("look up", contained),
    "+": ("add", add),
    "-": ("subtract", subtract),
    "*": ("multiply", _numeric(multiply)),
    "/": ("divide", _numeric(divide)),
    "%": ("take the remainder of", _numeric(remainder)),
}
