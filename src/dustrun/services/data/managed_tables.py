"""Use cases of managed tables: creating them, reading and changing rows by hand or from nodes, and export."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Mapping
from typing import Any

from dustrun import clock, ids
from dustrun.core.data.table import Schema
from dustrun.core.run.state import Mode
from dustrun.core.sources.kept import Parts
from dustrun.core.values.exact_json import dumps_text, loads_own, plain_digits
from dustrun.errors import Code, Conflict, NotFound, Problem, Temporary
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.sdk.tables import TableChange, TableQuery, TableWritten
from dustrun.services.access import audit, hands, idempotency
from dustrun.services.access.organizations import used_up
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.data import table_rows
from dustrun.services.data.hands_of_runs import HandsOfRuns
from dustrun.services.data.table_rows import Layer, Quota, Table, get_table
from dustrun.services.runs.engine_port import RunFacts
from dustrun.services.runs.shaping import RunShaping
from dustrun.settings import Settings
from dustrun.storage.access.hands import deleted
from dustrun.storage.data import managed_tables as rows
from dustrun.storage.data.managed_tables import TableRow
from dustrun.storage.data.table_rows import LIVE, StoredRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import runs as run_rows

EXPORT_ROWS = 10_000
EXPORT_BYTES = 16_777_216
_FIRST_ROWS = 50


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Rows found by a node's query; `assumed`: this simulation wrote some of them from assumed values; `sources`: what
    shaped them, by column."""

    rows: list[dict[str, Any]]
    has_more: bool
    assumed: bool
    sources: Parts


@dataclass(frozen=True, slots=True)
class WritingNode:
    """A node that changes a table. `key` is the same for every attempt, restart and retry run."""

    path: str
    key: str


@dataclass(frozen=True, slots=True)
class ExportedRows:
    """A range of rows as a file."""

    file_name: str
    content_type: str
    content: str
    rows: int
    has_more: bool


def _get(tx: Tx, principal: Principal, wanted: str) -> Table:
    """A table as people see it: not there for a limited key if workflows beyond its limits name it."""
    table, own = get_table(tx, principal.org_id, wanted), principal.workflow_ids
    if own is not None and rows.is_used_by_others(tx, principal.org_id, table.row.id, own):
        raise NotFound(f'There is no table "{wanted}".', code=Code.TABLE_UNKNOWN)
    return table


def _layer(facts: RunFacts) -> int:
    """The layer that a run reads: live rows or, in a simulation, live rows plus what it and its called runs wrote."""
    return facts.top_pk if facts.mode is Mode.SIMULATE else LIVE


class Tables:
    """Use cases of managed tables."""

    def __init__(
        self, database: Database, writer: Writer, settings: Settings, hands_of_runs: HandsOfRuns, shaping: RunShaping
    ) -> None:
        self._database = database
        self._hands = hands_of_runs
        self._shaping = shaping
        self._writer = writer
        self._most_tables = settings.max_tables
        self._quota = Quota(settings.max_table_rows, settings.max_table_bytes)
        self.on_watched: Listeners[[str]] = Listeners()
        """Called with the organisation's id after a commit that changed rows which a trigger watches."""

    # --- tables ---

    async def create(self, principal: Principal, name: str, description: str, schema: Schema) -> Table:
        """Creates a table; raises `Conflict` if the name is taken or there are too many tables."""
        now = clock.now_ms()
        definition = dumps_text(schema.model_dump(by_alias=True, exclude_none=True))
        row = TableRow(
            ids.new_id("tbl"), principal.org_id, name, description, definition, 0, 0, principal.key_id, now, now
        )

        def unit(tx: Tx) -> Table:
            if rows.find(tx, principal.org_id, name) is not None:
                problem = Problem("name", "is already the name of another table")
                raise Conflict(f'There already is a table "{name}".', code=Code.TABLE_VALUE_TAKEN, details=[problem])
            if (there := rows.usage(tx, principal.org_id)[0]) >= self._most_tables:
                raise Conflict(used_up("tables", there, self._most_tables, "max_tables"), code=Code.TABLE_LIMIT)
            rows.insert(tx, row)
            hands.note(tx, principal, "table", row.id, is_new=True)
            audit.record(tx, principal, "table.create", row.id, name=name)
            return Table(row, schema)

        return await idempotency.write(self._writer, unit, creates=("id", row.id))

    async def get(self, principal: Principal, wanted: str) -> Table:
        """Reads a table by id or name; raises `NotFound`."""
        return await self._database.read(lambda tx: _get(tx, principal, wanted))

    async def list_page(self, principal: Principal, paging: Paging) -> Page[Table]:
        """Lists the organisation's tables by name; to a limited key those that no workflow beyond its limits names."""
        page, own = {"limit": paging.peek, "offset": paging.offset}, principal.workflow_ids
        if own is None:
            found = await self._database.read(lambda tx: rows.list_page(tx, principal.org_id, **page))
        else:
            found = await self._database.read(lambda tx: rows.list_of(tx, principal.org_id, own, **page))
        return page_of([Table(row, Schema.model_validate(loads_own(row.definition))) for row in found], paging)

    async def delete(self, principal: Principal, wanted: str) -> Table:
        """Deletes a table with all its rows; nodes that use it fail from then on."""

        def unit(tx: Tx) -> Table:
            table = _get(tx, principal, wanted)
            rows.delete(tx, table.row.id)
            for name in (table.row.id, table.row.name):
                hands.note(tx, principal, "table", deleted(name), is_new=True)
            audit.record(tx, principal, "table.delete", table.row.id, name=table.row.name, rows=table.row.row_count)
            return table

        return await idempotency.write(self._writer, unit)

    # --- rows, changed by people ---

    async def list_rows(
        self, principal: Principal, wanted: str, where: Mapping[str, Any], sort: str | None, paging: Paging
    ) -> Page[StoredRow]:
        """Lists the rows that match a filter."""

        def query(tx: Tx) -> list[StoredRow]:
            table = _get(tx, principal, wanted)
            return table_rows.find_rows(tx, table, LIVE, where, sort, limit=paging.peek, offset=paging.offset)

        return page_of(await self._database.read(query), paging)

    async def get_row(self, principal: Principal, wanted: str, key: str) -> StoredRow:
        """Reads a row by its primary key; raises `NotFound`."""
        return await self._database.read(lambda tx: table_rows.get_row(tx, _get(tx, principal, wanted), key))

    async def change(self, principal: Principal, wanted: TableChange) -> TableWritten:
        """Changes rows by hand, all or none."""

        is_watched = False

        def unit(tx: Tx) -> TableWritten:
            nonlocal is_watched
            table = _get(tx, principal, wanted.table)
            done = table_rows.change(tx, table, wanted, Layer(), self._quota, clock.now_ms())
            written, is_watched = done.result, done.is_watched
            hands.note(tx, principal, "table", table.row.id)
            counts = {"inserted": written.inserted, "updated": written.updated, "deleted": written.deleted}
            audit.record(tx, principal, f"table.{wanted.mode}", table.row.id, **counts)
            return written

        def committed(_: TableWritten) -> None:
            if is_watched:
                self.on_watched(principal.org_id)

        return await idempotency.write(self._writer, unit, committed)

    async def delete_row(self, principal: Principal, wanted: str, key: str) -> TableWritten:
        """Deletes a row by its primary key; raises `NotFound`."""
        table = await self.get(principal, wanted)
        found = await self.get_row(principal, wanted, key)
        name = table.schema.primary_key
        value = loads_own(found.data)[name]
        written = await self.change(principal, TableChange(table.row.id, "delete", where={name: value}))
        if written.deleted == 0:
            raise NotFound(f'The table has no row "{key}".', code=Code.TABLE_ROW_UNKNOWN)
        return written

    async def export(self, principal: Principal, wanted: str, kind: str, offset: int) -> ExportedRows:
        """Exports up to 10,000 rows or about `EXPORT_BYTES` in key order from `offset`, as CSV or JSON lines."""

        def query(tx: Tx) -> tuple[Table, list[StoredRow], bool]:
            table = _get(tx, principal, wanted)
            return table, *_part(tx, table, offset)

        table, part, has_more = await self._database.read(query)
        content = await asyncio.to_thread(_csv if kind == "csv" else _lines, table.schema, part)
        media = "text/csv; charset=utf-8" if kind == "csv" else "application/x-ndjson"
        return ExportedRows(f"{table.row.name}.{kind}", media, content, len(part), has_more)

    # --- rows, read and changed by nodes ---

    async def read_for(self, facts: RunFacts, wanted: TableQuery) -> FoundRows:
        """Lists the rows that a run sees."""

        def query(tx: Tx) -> tuple[list[StoredRow], Parts]:
            table, layer = get_table(tx, facts.org_id, wanted.table), _layer(facts)
            limit = wanted.limit + 1
            rows = table_rows.find_rows(tx, table, layer, wanted.where, wanted.sort, limit=limit, offset=wanted.offset)
            return rows, table_rows.sources_of(tx, table, layer, wanted, rows)

        found, sources = await self._database.read(query)
        part = found[: wanted.limit]
        has_more, assumed = len(found) > wanted.limit, any(row.assumed for row in part)
        return FoundRows(table_rows.values_of(part), has_more, assumed, sources)

    async def write_for(
        self, facts: RunFacts, wanted: TableChange, node: WritingNode, *, assumed: bool
    ) -> TableWritten:
        """Makes a node's change exactly once. What a simulation has changed counts only for itself and what it calls.
        Keeps what shaped the rows with them."""
        layer_pk = _layer(facts)
        own_key = node.key if layer_pk == LIVE else f"{node.key}/{layer_pk}"

        is_watched = False

        def unit(tx: Tx) -> TableWritten:
            nonlocal is_watched
            is_watched = False  # a unit may be repeated
            if not run_rows.holds(tx, facts.pk, facts.fence):
                raise Temporary("Another server process has taken over this run.")
            made = rows.find_write(tx, own_key)
            if made is not None:
                return TableWritten(**loads_own(made))
            table, now = get_table(tx, facts.org_id, wanted.table), clock.now_ms()
            sources, answering = self._shaping.written(tx, facts.org_id, facts.pk, node.path)
            layer = Layer(layer_pk, assumed, facts, sources)
            done = table_rows.change(tx, table, wanted, layer, self._quota, now)
            written, is_watched = done.result, done.is_watched
            if layer_pk == LIVE:
                self._hands.note(tx, facts, "table", table.row.id)
                for hand in answering:
                    hands.note_hand(tx, facts.org_id, "table", table.row.id, hand)
            result = {name: getattr(written, name) for name in TableWritten.__slots__}
            rows.add_write(tx, own_key, table_id=table.row.id, run_pk=facts.pk, result=dumps_text(result), now=now)
            return written

        written = await self._shaping.slicing(lambda: self._writer.write(unit))
        if is_watched:
            self.on_watched(facts.org_id)
        return written


def _part(tx: Tx, table: Table, offset: int) -> tuple[list[StoredRow], bool]:
    """The rows of one export, and whether there are more."""
    part: list[StoredRow] = []
    size, count = 0, _FIRST_ROWS
    while count > 0:
        found = table_rows.find_rows(tx, table, LIVE, {}, None, limit=count + 1, offset=offset + len(part))
        part += found[:count]
        if len(found) <= count:
            return part, False
        size += sum(len(row.data) for row in found[:count])
        count = min(EXPORT_ROWS - len(part), (EXPORT_BYTES - size) * len(part) // size)  # as large as those before
    return part, True


def _lines(schema: Schema, found: list[StoredRow]) -> str:
    return "".join(f"{row.data}\n" for row in found)


def _csv(schema: Schema, found: list[StoredRow]) -> str:
    text = io.StringIO()
    names = list(schema.by_name())
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    for row in found:
        values = loads_own(row.data)
        writer.writerow([_csv_cell(values.get(name)) for name in names])
    return text.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool | dict | list):
        return dumps_text(value)
    return str(value) if isinstance(value, int) else plain_digits(value)
