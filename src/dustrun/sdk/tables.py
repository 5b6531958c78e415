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


@dataclass(frozen=True, slots=True)
class RowChange:
    """One change of a row that is on disk. `seq` numbers the changes of a table in commit order; `before` and `after`
    are the row, None where it is not there; `run_id`: the run that made it, None for a caller of the API; `mode`: of
    that run; `depth`: how many runs in a row the server's own events had started until then."""

    seq: int
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    run_id: str | None
    mode: str
    depth: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class TableNews:
    """The changes of a table after a cursor, oldest first, and the cursor after them. `lost`: the numbers of the first
    and last change in between that are not kept any more; `has_more`: there are more changes than these."""

    table_id: str
    name: str
    primary_key: str
    changes: list[RowChange]
    cursor: dict[str, Any]
    lost: tuple[int, int] | None = None
    has_more: bool = False


class WatchedTables(Protocol):
    """The organisation's tables, for a trigger that watches one."""

    async def changes(self, table: str, cursor: Any) -> TableNews:
        """The changes after a cursor; None: everything on record. Raises `NotFound`."""
        ...

    async def newest(self, table: str) -> TableNews:
        """One row of the table, as if it had just been added, and no cursor; no change if it is empty. Raises
        `NotFound`."""
        ...
