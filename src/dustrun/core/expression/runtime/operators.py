"""Equality, order and `+ - * / %` over all kinds of values. `NO` means that the operand types are incompatible."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from dustrun.core.expression.runtime import arithmetic
from dustrun.core.expression.runtime.fault import Fault
from dustrun.core.expression.runtime.limits import Meter
from dustrun.core.expression.runtime.times import in_range
from dustrun.core.expression.runtime.values import Duration, Lazy, Timestamp, TypeName, kind, map_key, read_all

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
        return arithmetic.add(meter, a, b)
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
        return arithmetic.subtract(meter, a, b)
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
    "*": ("multiply", _numeric(arithmetic.multiply)),
    "/": ("divide", _numeric(arithmetic.divide)),
    "%": ("take the remainder of", _numeric(arithmetic.remainder)),
}
