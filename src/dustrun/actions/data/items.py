"""Items of a list and their fields (`customer.name`, `rows[0].id`), shared by filter, sort, group and similar
actions.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from dustrun.core.expression.fault import suggest
from dustrun.core.expression.operators import is_number
from dustrun.records import dataclass
from dustrun.sdk.action import refuse as refuse

_STEP = re.compile(r'\.([^.\[\]"]+)|\[([0-9]{1,9})\]|\["([^"]+)"\]')
_DIGITS = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
_MOST_DIGITS: Final = 1000
_LONGEST_PATH: Final = 500
ITEM: Final = "$item"
"""The path of the item itself, for lists of plain values."""

MISSING: Final[Any] = object()
"""Returned by `reach` when an item lacks the field."""

Path = tuple[str | int, ...]
_KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "true or false",
    str: "a string",
    list: "a list",
    dict: "an object",
}


@functools.lru_cache(maxsize=1000)
def parse_path(text: str) -> Path:
    """Parses a field path into steps; raises `ValueError` if it is invalid."""
    if text == ITEM:
        return ()
    steps: list[str | int] = []
    rest = text if text.startswith("[") else f".{text}"
    if text.startswith((f"{ITEM}.", f"{ITEM}[")):
        rest = text.removeprefix(ITEM)
    while rest and len(text) <= _LONGEST_PATH:
        found = _STEP.match(rest)
        if found is None:
            break
        name, number, quoted = found.groups()
        steps.append(int(number) if number is not None else name or quoted)
        rest = rest[found.end() :]
    if rest or not steps:
        raise ValueError(f'"{text[:100]}" is not a field path; write it like customer.name, rows[0].id or ["odd.key"]')
    return tuple(steps)


def _check_path(text: str) -> str:
    parse_path(text)
    return text


FieldPath = Annotated[str, Field(max_length=_LONGEST_PATH), AfterValidator(_check_path)]
"""A field path as users write it, validated with the workflow."""


def reach(item: Any, path: Path) -> Any:
    """The field of an item, or `MISSING`."""
    for step in path:
        if isinstance(item, dict) and step in item:
            item = item[step]
        elif isinstance(item, list) and (place := _place(step)) is not None and place < len(item):
            item = item[place]
        else:
            return MISSING
    return item


def _place(step: str | int) -> int | None:
    if isinstance(step, int):
        return step
    return int(step) if step.isascii() and step.isdecimal() and len(step) < 10 else None


def need(item: Any, number: int, field: str) -> Any:
    """The field of an item; raises `Invalid` when it is missing."""
    value = reach(item, parse_path(field))
    if value is MISSING:
        hint = suggest(field, [str(key) for key in item]) if isinstance(item, dict) else "; it is not an object"
        raise refuse(f'Item {number} has no "{field}"{hint}', "array")
    return value


def number_of(value: Any) -> int | Decimal | None:
    """A number, or a string of plain digits as one; `007` is a name, not a number."""
    if is_number(value):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str) and len(value) <= _MOST_DIGITS and _DIGITS.fullmatch(value):
        return Decimal(value) if "." in value else int(value)
    return None


def kind_of(value: Any) -> str:
    """The type of a value, for messages."""
    return "a number" if is_number(value) else _KINDS.get(type(value), "not a JSON value")


@dataclass(frozen=True, slots=True)
class KeyedItem:
    """An item, its index, and its sort key; None for null and for a missing field."""

    key: Any
    item: Any
    index: int


def keyed(array: Sequence[Any], field: str, *, numeric: bool, lenient: bool) -> list[KeyedItem]:
    """Every item with its key, all of one type; raises `Invalid`. `lenient`: a missing field counts as null."""
    path = parse_path(field)
    found: list[KeyedItem] = []
    for index, item in enumerate(array):
        value = reach(item, path) if lenient else need(item, index, field)
        key = None if value is MISSING or value is None else _key(value, index, field, numeric)
        found.append(KeyedItem(key, item, index))
    _refuse_mixed(found, field)
    return found


def _key(value: Any, index: int, field: str, numeric: bool) -> Any:
    if numeric:
        number = number_of(value)
        if number is None:
            raise refuse(f'The "{field}" of item {index} is {kind_of(value)}, not a number', "array")
        return number
    if not isinstance(value, str | bool) and not is_number(value):
        raise refuse(f'The "{field}" of item {index} is {kind_of(value)}, which cannot be ordered', "array")
    return value


def _refuse_mixed(found: Sequence[KeyedItem], field: str) -> None:
    first = next((entry for entry in found if entry.key is not None), None)
    for entry in found:
        if first is not None and entry.key is not None and kind_of(entry.key) != kind_of(first.key):
            raise refuse(
                f'The "{field}" of item {first.index} is {kind_of(first.key)} and that of item {entry.index} is '
                f"{kind_of(entry.key)}, which cannot be compared (`numeric` reads strings of digits as numbers)",
                "array",
            )


def comparable(value: Any) -> Any:
    """A plain value as a dict key: equal numbers are one key; `1`, `"1"` and `true` are three."""
    return kind_of(value), value
