"""Reads and changes rows of managed tables inside one transaction, live or in a simulation's layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from dustrun import ids
from dustrun.core.data import table as core
from dustrun.core.data.table import Misfit, Schema, Test
from dustrun.core.sources import kept
from dustrun.core.sources.kept import Parts
from dustrun.core.triggers.limits import depth_of
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem
from dustrun.records import dataclass
from dustrun.sdk.tables import TableChange, TableQuery, TableWritten
from dustrun.services.access.organizations import used_up
from dustrun.services.runs.engine_port import RunFacts
from dustrun.storage.data import managed_tables as tables
from dustrun.storage.data import store_sources, table_changes
from dustrun.storage.data import table_rows as rows
from dustrun.storage.data.managed_tables import TableRow
from dustrun.storage.data.table_rows import LIVE, RowOrder, StoredRow
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import runs

MAX_CHANGED = 1000
MAX_ROW_BYTES = 262_144
MAX_SIMULATED = 10_000


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its parsed columns."""

    row: TableRow
    schema: Schema

    @property
    def key_kind(self) -> str:
        """The type of the primary key."""
        return self.schema.by_name()[self.schema.primary_key].type

    def key(self, value: Any) -> bytes:
        """Encodes a valid primary key as stored."""
        return core.sortable(self.key_kind, value)


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits on rows and bytes in all tables of one organisation."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Layer:
    """Where a change is written: to live rows, or to simulation `pk`'s layer. `assumed`: it uses assumed values;
    `by`: the run that makes it, as triggers that watch the table are told; None: a person or program, by the API.
    `sources`: what shaped what it writes, by column."""

    pk: int = LIVE
    assumed: bool = False
    by: RunFacts | None = None
    sources: Parts = field(default_factory=dict)


def get_table(tx: Tx, org_id: str, wanted: str) -> Table:
    """Reads a table by id or name; raises `NotFound`."""
    row = tables.find(tx, org_id, wanted)
    if row is None:
        raise NotFound(f'There is no table "{wanted}".', code=Code.TABLE_UNKNOWN)
    return Table(row, Schema.model_validate(loads_own(row.definition)))


def get_row(tx: Tx, table: Table, key: str) -> StoredRow:
    """Reads a live row by its primary key as text; raises `NotFound`."""
    unknown = NotFound(f'The table has no row "{key}".', code=Code.TABLE_ROW_UNKNOWN)
    try:
        value = core.read(table.key_kind, key)
    except ValueError:
        raise unknown from None
    found = rows.find(tx, table.row.id, LIVE, table.key(value))
    if found is None:
        raise unknown
    return found


def find_rows(
    tx: Tx, table: Table, layer: int, where: Mapping[str, Any], sort: str | None, *, limit: int, offset: int
) -> list[StoredRow]:
    """Finds the rows that match a filter; raises `Invalid`."""
    tests = _tests(table, where)
    return rows.list_rows(tx, table.row.id, layer, tests, _order(table, sort), limit=limit, offset=offset)


def sources_of(tx: Tx, table: Table, layer: int, wanted: TableQuery, found: Sequence[StoredRow]) -> Parts:
    """The sources of rows that a query found, by column, and under `""` that it found these: which rows there are, and
    what was tested in them or in others."""
    texts = {row.sources for row in found if row.sources is not None}
    rows_of = kept.joined(kept.of_json(loads_own(text)) for text in texts)
    every = store_sources.list_of(tx, table.row.id, layer, only_changes=wanted.offset == 0)
    if not rows_of and not every:
        return {}
    tested = ("", *wanted.where, *((wanted.sort.removeprefix("-"),) if wanted.sort else ()))
    passed_over = every if wanted.offset else {part: every.get(part, kept.NONE) for part in tested}
    chosen = kept.NONE.union(*(rows_of.get(part, kept.NONE) for part in tested), *passed_over.values())
    return kept.of_json(kept.as_json({**rows_of, "": chosen}))


def values_of(found: Iterable[StoredRow]) -> list[dict[str, Any]]:
    """The rows' values as the API shows them."""
    return [loads_own(row.data) for row in found]


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """A change that was applied; `is_watched`: triggers are to see it."""

    result: TableWritten
    is_watched: bool


def change(tx: Tx, table: Table, wanted: TableChange, layer: Layer, quota: Quota, now: int) -> AppliedChange:
    """Applies a change completely, or raises `Invalid` or `Conflict` and changes nothing."""
    work = _Work(tx, table, layer, now)
    if wanted.mode in ("insert", "upsert"):
        work.take(wanted.rows, replaces=wanted.mode == "upsert")
    else:
        found = _found(tx, table, layer.pk, wanted)
        if wanted.mode == "update":
            work.set(found, wanted.values)
        else:
            work.remove(found)
    is_watched = False
    if layer.pk == LIVE:
        _account(tx, table, work, quota)
        is_watched = _record(tx, table, work)
    elif rows.count_layer(tx, layer.pk) > MAX_SIMULATED:
        raise _limit(f"A simulation may change at most {MAX_SIMULATED} rows.")
    for is_change, parts in work.shaped.items():
        store_sources.add(tx, table.row.id, layer.pk, parts, is_change=is_change)
    return AppliedChange(TableWritten(work.keys, work.inserted, work.updated, work.deleted), is_watched)


def _found(tx: Tx, table: Table, layer: int, wanted: TableChange) -> list[StoredRow]:
    if not wanted.where:
        raise _misfit(
            [Misfit("", "needs at least one condition, so that no whole table is changed by mistake")], "where"
        )
    found = find_rows(tx, table, layer, wanted.where, None, limit=MAX_CHANGED + 1, offset=0)
    if len(found) > MAX_CHANGED:
        message = (
            f"The filter matches more than {MAX_CHANGED} rows, the maximum that one call may change. Narrow the filter."
        )
        raise Invalid(message, code=Code.TABLE_INVALID, details=[Problem("where", message)])
    return found


def _account(tx: Tx, table: Table, work: _Work, quota: Quota) -> None:
    more = work.inserted - work.deleted
    tables.grow(tx, table.row.id, rows=more, size=work.size, now=work.now)
    _, held, size = tables.usage(tx, table.row.org_id)
    if more > 0 and held > quota.rows:
        raise _limit(used_up("rows in tables", held, quota.rows, "max_table_rows", "would have"))
    if work.size > 0 and size > quota.bytes:
        raise _limit(used_up("bytes of rows in tables", size, quota.bytes, "max_table_bytes", "would have"))


def _record(tx: Tx, table: Table, work: _Work) -> bool:
    """Records the changes for the triggers that watch the table, in the transaction that makes them; returns whether
    any does. `_account` has locked the table's row: a trigger that is published meanwhile sees all of them or none."""
    row, by = table.row, work.layer.by
    if not work.changes or not table_changes.is_watched(tx, row.org_id, row.id, row.name):
        return False
    made_by: tuple[str | None, str, int] = (None, "live", 0)
    if by is not None:
        top = runs.get(tx, by.top_pk)
        made_by = (by.id, by.mode.value, depth_of(top.trigger_source, top.payload))
    table_changes.record(tx, row.id, work.changes, made_by, work.now)
    return True


def _limit(message: str) -> Conflict:
    return Conflict(message, code=Code.TABLE_LIMIT)


def _misfit(wrong: Sequence[Misfit], where: str) -> Invalid:
    details = [Problem(f"{where}.{found.column}" if found.column else where, found.message) for found in wrong]
    first = details[0]
    return Invalid(f"{first.field} {first.message}.", code=Code.TABLE_INVALID, details=details)


def _tests(table: Table, where: Mapping[str, Any]) -> list[Test]:
    tests, wrong = core.read_filter(table.schema, where)
    if wrong:
        raise _misfit(wrong, "where")
    return tests


def _order(table: Table, sort: str | None) -> RowOrder | None:
    if not sort:
        return None
    name = sort.removeprefix("-")
    column = table.schema.by_name().get(name)
    if column is None or not core.is_compared(column):
        problem = Problem("sort", f'"{name}" is not a sortable column')
        raise Invalid(f"The sort {problem.message}.", code=Code.TABLE_INVALID, details=[problem])
    return RowOrder(name, sort.startswith("-"))


class _Work:
    """One change in progress."""

    def __init__(self, tx: Tx, table: Table, layer: Layer, now: int) -> None:
        self.now = now
        self.keys: list[Any] = []
        self.inserted = self.updated = self.deleted = 0
        self.size = 0
        self.changes: list[tuple[str | None, str | None]] = []
        """Rows before and after, as JSON."""
        self.shaped: dict[bool, dict[str, frozenset[str]]] = {}
        """By column, what shaped rows that were added, and (True) rows that were changed or removed."""
        self.layer = layer
        self._tx, self._table = tx, table
        self._unique = [column for column in table.schema.by_name().values() if column.unique]

    def take(self, given: Sequence[Mapping[str, Any]], *, replaces: bool) -> None:
        """Inserts rows; with `replaces`, existing rows are updated instead."""
        if not 1 <= len(given) <= MAX_CHANGED:
            wrong = Misfit("", f"has {len(given)} rows; one call takes 1 to {MAX_CHANGED}")
            raise _misfit([wrong], "rows")
        for number, values in enumerate(given):
            where = f"rows[{number}]"
            row, wrong_ones = core.read_row(self._table.schema, values, is_whole=True)
            if wrong_ones:
                raise _misfit(wrong_ones, where)
            name = self._table.schema.primary_key
            if row[name] is None:
                row[name] = ids.new_id("row")
            before = rows.find(self._tx, self._table.row.id, self.layer.pk, self._table.key(row[name]))
            if before is None:
                self._put(row, None, where, self._added(row))
                self.inserted += 1
            elif replaces:
                given_ones = {column: row[column] for column in values}
                sources = self._added(row) if given_ones.keys() == row.keys() else self._changed(before, given_ones)
                self._note(sources, is_change=True)
                self._put({**loads_own(before.data), **given_ones}, before, where, sources)
                self.updated += 1
            else:
                raise self._taken(where, name, row[name])
            self.keys.append(row[name])

    def set(self, found: Sequence[StoredRow], values: Mapping[str, Any]) -> None:
        """Sets new values in the rows."""
        name = self._table.schema.primary_key
        if not values:
            raise _misfit([Misfit("", "needs at least one column")], "values")
        if name in values:
            raise _misfit([Misfit(name, "is the primary key, which cannot be changed")], "values")
        fresh, wrong = core.read_row(self._table.schema, values, is_whole=False)
        if wrong:
            raise _misfit(wrong, "values")
        for before in found:
            old = loads_own(before.data)
            self._put({**old, **fresh}, before, "values", self._changed(before, fresh))
            self.keys.append(old[name])
        self.updated = len(found)

    def remove(self, found: Sequence[StoredRow]) -> None:
        """Deletes the rows."""
        for before in found:
            old = loads_own(before.data)
            cells = core.cells(self._table.schema, old) if before.layer == self.layer.pk else {}
            rows.remove(self._tx, self._table.row.id, self.layer.pk, before.key, cells, self.now)
            self.size -= len(before.data.encode())
            self.changes.append((before.data, None))
            self.keys.append(old[self._table.schema.primary_key])
        if found:
            self._note({"": self.layer.sources.get("", kept.NONE)}, is_change=True)
        self.deleted = len(found)

    def _added(self, row: Mapping[str, Any]) -> Parts:
        if not self.layer.sources:
            return {}
        parts = kept.given_to(self.layer.sources, row, self._table.schema.primary_key)
        self._note(parts, is_change=False)
        return parts

    def _changed(self, before: StoredRow, columns: Mapping[str, Any]) -> Parts:
        if before.sources is None and not self.layer.sources:
            return {}
        name = self._table.schema.primary_key
        old = kept.of_json(loads_own(before.sources)) if before.sources is not None else {}
        parts = kept.changed(old, self.layer.sources, columns, name)
        self._note({column: parts[column] for column in columns}, is_change=True)
        return parts

    def _note(self, parts: Parts, *, is_change: bool) -> None:
        self.shaped[is_change] = kept.joined((self.shaped.get(is_change, {}), parts))

    def _put(self, values: dict[str, Any], before: StoredRow | None, where: str, sources: Parts) -> None:
        schema, table_id, layer = self._table.schema, self._table.row.id, self.layer
        data = dumps_text(values)
        if (size := len(data.encode())) > MAX_ROW_BYTES:
            raise _misfit([Misfit("", f"has {size} bytes of JSON; a row may have at most {MAX_ROW_BYTES}")], where)
        key, cells = self._table.key(values[schema.primary_key]), core.cells(schema, values)
        for column in self._unique:
            value = cells[column.name]
            if value and self._holder(column.name, value) not in (None, key):
                raise self._taken(where, column.name, values[column.name])
        is_own = before is not None and before.layer == layer.pk
        old = core.cells(schema, loads_own(before.data)) if before is not None and is_own else {}
        assumed = layer.assumed or (before is not None and before.assumed)
        created_at = before.created_at if before is not None else self.now
        shaped = dumps_text(found) if (found := kept.as_json(sources)) else None
        rows.put(self._tx, table_id, StoredRow(layer.pk, key, data, assumed, created_at, self.now, shaped), cells, old)
        self.size += size - (len(before.data.encode()) if before is not None else 0)
        if before is None or before.data != data:
            self.changes.append((before.data if before is not None else None, data))

    def _holder(self, column: str, value: bytes) -> bytes | None:
        return rows.find_holder(self._tx, self._table.row.id, self.layer.pk, column, value)

    def _taken(self, where: str, column: str, value: Any) -> Conflict:
        shown = dumps_text(value)[:100]
        problem = Problem(f"{where}.{column}", f"another row has the value {shown}")
        message = f'The table has a row whose "{column}" is {shown}.'
        return Conflict(message, code=Code.TABLE_VALUE_TAKEN, details=[problem])
