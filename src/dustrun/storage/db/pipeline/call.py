"""Statements on their way to PostgreSQL, and its answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dustrun.records import dataclass
from dustrun.storage.db.statement import Row

_PARAMETER = re.compile(r"%\((\w+)\)s|%%")


@dataclass(frozen=True, slots=True)
class StatementCall:
    """One statement with the values of its parameters."""

    sql: bytes
    values: Sequence[Any] = ()
    is_prepared: bool = True


@dataclass(frozen=True, slots=True)
class StatementAnswer:
    """The database's answer to a call."""

    rows: Sequence[Row] = ()
    count: int = 0
    status: str = ""


class NumberedSql:
    """SQL whose named parameters (`%(name)s`) have become numbered ones (`$1`)."""

    def __init__(self, sql: str) -> None:
        numbers: dict[str, int] = {}

        def number(found: re.Match[str]) -> str:
            return "%" if found[1] is None else f"${numbers.setdefault(found[1], len(numbers) + 1)}"

        self._sql = _PARAMETER.sub(number, sql).encode()
        self._names = tuple(numbers)

    def call(self, values: Mapping[str, Any], *, is_prepared: bool = True) -> StatementCall:
        """The statement with these values."""
        return StatementCall(self._sql, tuple([values[name] for name in self._names]), is_prepared)


def fixed(sql: str) -> StatementCall:
    """A statement without parameters that is not worth preparing."""
    return StatementCall(sql.encode(), (), is_prepared=False)
