"""Managed tables: columns, validation of rows, and sort order. Pure.

A value is stored as exact JSON, and as bytes that sort like the value, so that any database compares and sorts integers
and decimals of any size exactly, and user-supplied names never get into SQL.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.times import read_moment
from dustrun.core.values.exact_json import plain_digits
from dustrun.core.values.fields import Fields
from dustrun.records import dataclass

Kind = Literal["text", "integer", "decimal", "boolean", "timestamp", "json"]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]

MAX_COLUMNS: Final = 50
MAX_TEXT: Final = 65_536
MAX_DIGITS: Final = 100
_KEY_KINDS: Final = frozenset({"text", "integer", "timestamp"})
_MAX_KEY_BYTES: Final = 512
_MAX_SORTED_BYTES: Final = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER = re.compile(r"-?[0-9]{1,100}", re.ASCII)
_DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
"""Python accepts more: surrounding white space, and `1_5` as 15."""


class Column(Fields):
    """One column."""

    name: ColumnName = Field(description="A letter or _, then letters, digits or _.", examples=["amount"])
    type: Kind = Field(description="The type of its values; integers and decimals are exact.", examples=["decimal"])
    required: bool = Field(False, description="Whether every row must have a value.")
    unique: bool = Field(False, description="Whether values must be unique; nulls may repeat.")
    default: Any = Field(None, description="The value of an inserted row that has none.")
    description: str | None = Field(None, max_length=500, description="Free text.")


class Schema(Fields):
    """The schema of a table's rows."""

    primary_key: ColumnName = Field(
        "id",
        description=(
            "The column that identifies rows: text, integer or timestamp. If `columns` does not define it, a text "
            "column is added whose values the server generates."
        ),
    )
    columns: list[Column] = Field(min_length=1, max_length=MAX_COLUMNS, description="The columns, in order.")

    @model_validator(mode="after")
    def _check(self) -> Schema:
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f'the column "{twice[0]}" is defined twice')
        for column in self.columns:
            if column.name == self.primary_key and column.type not in _KEY_KINDS:
                raise ValueError(f'the primary key "{column.name}" must be text, integer or timestamp')
            if column.type == "json" and column.unique:
                raise ValueError(f'the column "{column.name}" is json, which cannot be unique')
            if column.default is not None:
                _check_default(column)
        return self

    def by_name(self) -> dict[str, Column]:
        """The columns by name, including the primary key."""
        found = {column.name: column for column in self.columns}
        if self.primary_key not in found:
            found = {self.primary_key: Column(name=self.primary_key, type="text"), **found}
        return found

    @property
    def makes_keys(self) -> bool:
        """Whether the server generates missing primary keys."""
        return all(column.name != self.primary_key for column in self.columns)


def _check_default(column: Column) -> None:
    try:
        read(column.type, column.default)
    except ValueError as error:
        raise ValueError(f'the default of "{column.name}" {error}') from None


# --- values ---


def read(kind: str, value: Any) -> Any:
    """A value in stored form; raises `ValueError` with what was expected. Null is valid for every type."""
    return None if value is None else _READERS[kind](value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    if "\x00" in value:
        raise ValueError("must not contain a NUL character")
    if len(value) > MAX_TEXT:
        raise ValueError(f"must have at most {MAX_TEXT} characters")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MAX_DIGITS:
        return value
    if isinstance(value, Decimal) and value.is_finite() and abs(value) < 10**MAX_DIGITS and value == int(value):
        return int(value)
    raise ValueError(f"must be an integer of at most {MAX_DIGITS} digits, or a string of one")


def _decimal(value: Any) -> int | Decimal:
    wrong = f"must be an exact number of at most {MAX_DIGITS} digits, or a string of one"
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise ValueError(wrong)
    if isinstance(value, str) and (len(value) > 2 * MAX_DIGITS or not _DECIMAL.fullmatch(value)):
        raise ValueError(wrong)
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(wrong) from None
    if not number.is_finite() or abs(number.adjusted()) > MAX_DIGITS or len(plain_digits(number)) > MAX_DIGITS + 2:
        raise ValueError(wrong)
    return number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _timestamp(value: Any) -> str:
    """The same instant in UTC with milliseconds, so that equal instants are equal strings."""
    try:
        nanos = read_moment(value).nanos if isinstance(value, str) else None
    except Fault:
        nanos = None
    if nanos is None:
        raise ValueError("must be a timestamp like 2026-05-01T12:00:00Z")
    moment = _EPOCH + timedelta(microseconds=nanos // 1000)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "text": _text,
    "integer": _integer,
    "decimal": _decimal,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "json": lambda value: value,
}


# --- rows ---


@dataclass(frozen=True, slots=True)
class Misfit:
    """The problem of one column of a row."""

    column: str
    message: str


def read_row(schema: Schema, values: Mapping[str, Any], *, is_whole: bool) -> tuple[dict[str, Any], list[Misfit]]:
    """The row in stored form, and its problems. `is_whole`: missing columns get their defaults; otherwise it is a
    partial update.

    A whole row may lack the primary key where the server generates it.
    """
    columns = schema.by_name()
    wrong = [Misfit(name, _unknown(name, columns)) for name in values if name not in columns]
    row: dict[str, Any] = {}
    for name, column in columns.items():
        if name not in values and not is_whole:
            continue
        try:
            row[name] = read(column.type, values.get(name, column.default))
        except ValueError as error:
            wrong.append(Misfit(name, str(error)))
            continue
        is_key = name == schema.primary_key
        if row[name] is None and (column.required or is_key) and not (is_key and is_whole and schema.makes_keys):
            wrong.append(Misfit(name, "is required"))
        elif is_key and row[name] is not None and len(sortable(column.type, row[name])) > _MAX_KEY_BYTES:
            wrong.append(Misfit(name, f"is too long for a primary key (at most {_MAX_KEY_BYTES - 1} bytes)"))
    return row, wrong


def _unknown(name: str, columns: Iterable[str]) -> str:
    return f"is not a column of the table; the columns are {', '.join(columns)}"


def sortable(kind: str, value: Any) -> bytes:
    """Bytes that sort like the values of a type; null sorts first. Of a long text only the beginning is compared."""
    if value is None:
        return b""
    if kind in ("integer", "decimal"):
        return b"\x01" + _sortable_number(Decimal(value))
    if kind == "boolean":
        return b"\x01\x01" if value else b"\x01\x00"
    text = b"\x01" + str(value).encode()
    if len(text) <= _MAX_SORTED_BYTES:
        return text
    return text[:_MAX_SORTED_BYTES] + hashlib.sha256(text).digest()


def _sortable_number(number: Decimal) -> bytes:
    """Sign, exponent of the first digit, digits without trailing zeros; inverted for negative numbers."""
    if number == 0:
        return b"\x02"
    digits = "".join(map(str, number.as_tuple().digits)).lstrip("0").rstrip("0")
    size = (number.adjusted() + 2**15).to_bytes(2, "big") + digits.encode()
    if number > 0:
        return b"\x03" + size
    return b"\x01" + bytes(255 - byte for byte in size) + b"\xff"


def is_compared(column: Column) -> bool:
    """Whether rows can be filtered and sorted by a column."""
    return column.type != "json"


def cells(schema: Schema, row: Mapping[str, Any]) -> dict[str, bytes]:
    """The sort keys of a row: column → bytes."""
    return {
        name: sortable(column.type, row.get(name)) for name, column in schema.by_name().items() if is_compared(column)
    }


# --- filters ---

OPERATORS: Final = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in")
MAX_CONDITIONS: Final = 10
MAX_IN: Final = 100


@dataclass(frozen=True, slots=True)
class Test:
    """One condition on one column; `values` are sort keys, exactly one except for `$in`."""

    column: str
    operator: str
    values: tuple[bytes, ...]


def read_filter(schema: Schema, where: Mapping[str, Any]) -> tuple[list[Test], list[Misfit]]:
    """Parses `{"status": "open", "amount": {"$gte": "10.5"}}` into conditions that must all hold, and problems."""
    columns, tests, wrong = schema.by_name(), [], []
    for name, wanted in where.items():
        column = columns.get(name)
        if column is None:
            wrong.append(Misfit(name, _unknown(name, columns)))
        elif not is_compared(column):
            wrong.append(Misfit(name, "is json, which cannot be compared"))
        else:
            asked = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            for operator, value in asked.items():
                try:
                    tests.append(Test(name, operator, _operands(column, operator, value)))
                except ValueError as error:
                    wrong.append(Misfit(name, str(error)))
    if len(tests) > MAX_CONDITIONS:
        wrong.append(Misfit("", f"has {len(tests)} conditions; at most {MAX_CONDITIONS} are allowed"))
    return tests, wrong


def _operands(column: Column, operator: str, value: Any) -> tuple[bytes, ...]:
    if operator not in OPERATORS:
        raise ValueError(f'has no operator "{operator[:40]}"; the operators are {", ".join(OPERATORS)}')
    if operator != "$in":
        if value is None and operator not in ("$eq", "$ne"):
            raise ValueError(f"{operator} needs a non-null value")
        return (sortable(column.type, read(column.type, value)),)
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_IN:
        raise ValueError(f"$in needs a list of 1 to {MAX_IN} values")
    return tuple(sortable(column.type, read(column.type, item)) for item in value)
