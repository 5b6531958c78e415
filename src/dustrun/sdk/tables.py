"""What an action sees of the managed tables: rows by filter, and changes that happen once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Mode = Literal["insert", "upsert", "update", "delete"]


@dataclass(frozen=True, slots=True)
class TableQuery:
    """Which rows of a table are wanted. `where` like `{"status": "open", "amount": {"$gte": "10.5"}}`; `sort` is a
    column, with `-` before it from the largest."""

    table: str
    where: Mapping[str, Any] = field(default_factory=dict)
    sort: str | None = None
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows found; `has_more`: there are others behind them."""

    rows: list[dict[str, Any]]
    has_more: bool


@dataclass(frozen=True, slots=True)
class TableChange:
    """What is to be changed: `rows` are inserted or upserted; the rows that `where` finds get `values`, or go."""

    table: str
    mode: Mode
    rows: tuple[dict[str, Any], ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableWritten:
    """What was changed; `keys` are the primary keys of the rows, in their order."""

    keys: list[Any]
    inserted: int = 0
    updated: int = 0
    deleted: int = 0


class Tables(Protocol):
    """The organisation's tables. In a simulation writes go to an overlay that only this run sees. Raises `NotFound`
    (no such table), `Invalid` (rows or filter do not fit) or `Conflict` (a value is taken, a limit is reached)."""

    async def read(self, query: TableQuery) -> TableRows:
        """The rows that a query finds."""
        ...

    async def write(self, change: TableChange) -> TableWritten:
        """Changes rows, once for this node of this run over attempts and restarts."""
        ...
