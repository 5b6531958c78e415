"""How much work a value is, estimated in a time that does not depend on its size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

MOST: Final = 2000
"""Units that the event loop may handle at once: up to 20 ms of checking, shaping and encoding."""
_CHARS: Final = 64
_FEW: Final = 8
_PLAIN: Final = frozenset({int, float, bool, type(None)})


def is_large(value: Any, most: int = MOST) -> bool:
    """Whether a value has more than `most` units."""
    return weigh(value, most) > most


def weigh(value: Any, most: int = MOST) -> int:
    """The units of a value: one for each item of a list, object or record, and one for each 64 characters of text. It
    stops counting beyond `most`."""
    kind = type(value)
    if kind is dict:
        few = value
    elif kind is str or kind is bytes:
        return len(value) // _CHARS
    elif kind in _PLAIN or (kind is list and not value):
        return 0
    else:
        few = getattr(value, "__dict__", None)  # a record's fields, as a model of pydantic has
    if type(few) is dict and len(few) <= _FEW:
        units = _units_of_few(few)
        if units is not None:
            return units
    left = most
    seen = [value]
    for one in seen:  # which grows meanwhile, by what `left` allows
        kind = type(one)
        if kind is dict:
            left -= len(one)
            if left < 0:
                break
            seen += one.values()
        elif kind is str or kind is bytes:
            left -= len(one) // _CHARS
        elif kind is list:
            left -= len(one)
            if left < 0:
                break
            seen += one
        elif kind not in _PLAIN:
            parts, count = _parts(one)
            left -= count
            if left < 0:
                break
            seen += parts
    return most - left


def _units_of_few(value: dict[Any, Any], deeper: int = 2) -> int | None:
    """The units of a small object of plain values, and of such objects `deeper` levels below, which most are; None if
    it has others."""
    units = len(value)
    if _PLAIN.issuperset(map(type, value.values())):
        return units
    for part in value.values():
        kind = type(part)
        if kind is str:
            units += len(part) // _CHARS
        elif kind is dict and deeper and len(part) <= _FEW:
            below = _units_of_few(part, deeper - 1) if part else 0
            if below is None:
                return None
            units += below
        elif kind not in _PLAIN:
            return None
    return units


def _parts(value: Any) -> tuple[Iterable[Any], int]:
    """The parts of a container or record, and their number."""
    if isinstance(value, (list, tuple)):
        return value, len(value)
    if isinstance(value, dict):
        return value.values(), len(value)
    if isinstance(value, (str, bytes)):
        return (), len(value) // _CHARS
    fields = getattr(value, "__dict__", None)  # before what a model of pydantic would search for in vain
    if fields and isinstance(fields, dict):
        return list(fields.values()), len(fields)
    names = getattr(value, "__dataclass_fields__", None) or ()
    return [getattr(value, name, None) for name in names], len(names)
