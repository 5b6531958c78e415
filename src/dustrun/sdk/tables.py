"""Access to the managed tables: queries, and changes that are applied once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, Protocol

from dustrun.records import dataclass

Mode = Literal["insert", "upsert", "update", "delete"]


@dataclass(frozen=True, slots=True)
class TableQuery:
    """A query of one table. `where` is a filter like `{"status": "open", "amount": {"$gte": "10.5"}}`; `sort` is a
    column, descending with a leading `-`."""

    table: str
    where: Mapping[str, Any] = field(default_factory=dict)
    sort: str | None = None
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows found; `has_more`: more rows match than were returned."""

    rows: list[dict[str, Any]]
    has_more: bool


@dataclass(frozen=True, slots=True)
class TableChange:
    """A change of one table: inserts or upserts `rows`, or updates the rows matching `where` with `values`, or deletes
    them."""

    table: str
    mode: Mode
    rows: tuple[dict[str, Any], ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableWritten:
    """The result of a change; `keys` are the primary keys of the rows, in order."""

    keys: list[Any]
    inserted: int = 0
    updated: int = 0
    deleted: int = 0


class Tables(Protocol):
    """The organisation's tables. In a simulation, writes go to an overlay that only this run sees. Raises `NotFound`
    (no such table), `Invalid` (rows or filter do not match the columns) or `Conflict` (duplicate key or a limit)."""

    async def read(self, query: TableQuery) -> TableRows:
        """Rows that match the query."""
        ...

    async def write(self, change: TableChange) -> TableWritten:
        """Applies a change once for this node of this run, across attempts and restarts."""
        ...
