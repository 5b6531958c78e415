"""Converts values for scripts and back exactly, although JavaScript's numbers are binary floats.

| Number | In JavaScript |
|---|---|
| an integer up to 2^53 - 1, or a decimal equal to one (`2.0`) | number |
| a larger integer | BigInt |
| a fraction that a double represents with the same digits (`0.1`) | number |
| any other fraction | string of digits |

Integers that become BigInt are 0 in the JSON text and are passed separately as path and digits.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson

from dustrun.core.values import exact_json

SAFE_INTEGER = 2**53 - 1
BigIntegers = list[tuple[list[str | int], str]]


def encode_input(value: Any) -> tuple[bytes, BigIntegers]:
    """The JSON text for the script and its big integers. Raises `ValueError` for values that JSON cannot represent."""
    exact_json.refuse_deep(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER), []
    except TypeError:
        pass
    bigints: BigIntegers = []
    plain = _Plain(bigints).convert(value, [])
    try:
        return orjson.dumps(plain), bigints
    except TypeError as error:
        raise ValueError(str(error)) from None


def decode_value(text: bytes) -> Any:
    """The value a script returned. Raises `exact_json.JsonError`.

    Fractions come from doubles, some of which QuickJS prints with an extra digit: they get their shortest text here.
    """
    value = exact_json.loads(text)
    return _shortest(value) if b"." in text or b"e-" in text else value


def _shortest(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal(repr(float(value)))
    if isinstance(value, dict):
        return {key: _shortest(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortest(item) for item in value]
    return value


class _Plain:
    """Copies a value with its numbers converted for JavaScript."""

    def __init__(self, bigints: BigIntegers) -> None:
        self._bigints = bigints

    def convert(self, value: Any, path: list[str | int]) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self._integer(value, path)
        if isinstance(value, Decimal):
            return self._decimal(value, path)
        if isinstance(value, dict):
            return {key: self.convert(item, [*path, key]) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.convert(item, [*path, index]) for index, item in enumerate(value)]
        return value

    def _integer(self, value: int, path: list[str | int]) -> int:
        if -SAFE_INTEGER <= value <= SAFE_INTEGER:
            return value
        self._bigints.append((path, str(value)))
        return 0

    def _decimal(self, value: Decimal, path: list[str | int]) -> Any:
        if not value.is_finite() or value.adjusted() > exact_json.MAX_EXPONENT:
            raise ValueError(f"the number {str(value)[:40]!r} is out of range")
        if value == value.to_integral_value():
            return self._integer(int(value), path)
        double = float(value)
        return double if Decimal(repr(double)) == value else exact_json.plain_digits(value)
