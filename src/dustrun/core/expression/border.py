"""Converts results to JSON, and values embedded in text to strings."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

from dustrun.core.expression import times
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.operators import MAX_VALUE_DEPTH, plain
from dustrun.core.expression.values import Duration, Lazy, Meter, Timestamp, TypeName, key_text, kind, read_all
from dustrun.core.values import exact_json

_SHORT_BITS = 3300
_SHORT_DIGITS = 400


def to_json(meter: Meter, value: Any) -> Any:
    """The JSON form of a result: timestamps, durations, bytes, types and map keys become strings.

    A value that is already JSON is returned as is, not copied; its total size is checked on the way.
    """
    if value is None or isinstance(value, bool):
        return value
    return _Outward(meter).convert(value, 0)


class _Outward:
    """One conversion; `size` counts every element and character, shared parts each time."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.size = 0

    def convert(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._grown(value, len(value))
        if isinstance(value, list):
            return self._list(value, depth)
        if isinstance(value, dict):
            return self._map(value, depth)
        if isinstance(value, Lazy):
            return self._map(read_all(value), depth)
        if isinstance(value, int | Decimal):
            self.meter.number(value)
        return self._grown(_scalar(value), 1)

    def _grown(self, value: Any, by: int) -> Any:
        self.size += by
        self.meter.grow(self.size)
        return value

    def _enter(self, count: int, depth: int) -> None:
        if depth > MAX_VALUE_DEPTH:
            raise Fault("limit", f"a value is nested deeper than {MAX_VALUE_DEPTH} levels")
        self._grown(None, count + 1)

    def _list(self, value: list[Any], depth: int) -> list[Any]:
        self._enter(len(value), depth)
        self.meter.charge(len(value) * 5 >> 3)
        items = [self.convert(item, depth + 1) for item in value]
        return value if all(a is b for a, b in zip(value, items, strict=True)) else items

    def _map(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        self._enter(len(value), depth)
        self.meter.charge(len(value))
        found: dict[str, Any] = {}
        for key, item in value.items():
            text = key if type(key) is str else key_text(key)
            self._grown(None, len(text))
            if text in found:
                raise Fault("value", "two keys of a map become the same JSON key")
            found[text] = self.convert(item, depth + 1)
        unchanged = all(type(key) is str and found[key] is item for key, item in value.items())
        return value if unchanged else found


def _scalar(value: Any) -> Any:
    if isinstance(value, Timestamp):
        return times.write_moment(value)
    if isinstance(value, Duration):
        return times.write_span(value)
    if isinstance(value, TypeName):
        return value.name
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | Decimal):
        return _readable(value)
    raise Fault("type", f"a {kind(value)} cannot be represented in JSON")


def _readable(value: int | Decimal) -> int | Decimal:
    """Checks that a number can be parsed again: JSON input limits its digits."""
    if isinstance(value, int):
        short = value.bit_length() <= _SHORT_BITS
    else:
        short = -_SHORT_DIGITS < value.adjusted() < _SHORT_DIGITS and len(value.as_tuple().digits) < _SHORT_DIGITS
    if not short and len(plain(value)) > exact_json.MAX_NUMBER_CHARS:
        raise Fault("limit", f"a number in a result may have at most {exact_json.MAX_NUMBER_CHARS} digits")
    return value


def as_text(meter: Meter, value: Any) -> str:
    """A value embedded in text: plain digits, compact JSON for lists and maps, empty for null."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        meter.number(value)
        return plain(value)
    converted = to_json(meter, value)
    return converted if isinstance(converted, str) else compact(meter, converted)


def compact(meter: Meter, value: Any) -> str:
    """Compact JSON of a value that is JSON already."""
    try:
        text = exact_json.dumps_text(value)
    except (TypeError, UnicodeError, RecursionError):
        raise Fault("value", "the value cannot be written as JSON") from None
    meter.grow(len(text))
    meter.charge(len(text) >> 6)
    return text
