"""Changes of rows, for the triggers that watch a table: read after a cursor that moves in the transaction of the
event."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from dustrun import clock
from dustrun.core.triggers.polling import PollPlace
from dustrun.core.values.exact_json import dumps_text, loads, loads_own
from dustrun.errors import Code, NotFound
from dustrun.sdk.tables import RowChange, TableNews
from dustrun.sdk.threads import run_beside
from dustrun.storage.data import managed_tables, table_changes, table_rows
from dustrun.storage.data.managed_tables import TableRow
from dustrun.storage.data.table_changes import TableRowChange
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

MOST: Final = 50
"""How many changes one look takes."""
_STEP: Final = 10
_MOST_CHARS: Final = 1_048_576


class TableChanges:
    """The view of an organisation's tables for its triggers; `own`: the workflows of a limited key."""

    def __init__(self, database: Database, org_id: str, own: Collection[str] | None = None) -> None:
        self._database = database
        self._org_id = org_id
        self._own = own

    async def changes(self, table: str, cursor: Any) -> TableNews:
        """The changes after a cursor; None, or one of a table of that name that was deleted: all on record."""

        def query(tx: Tx) -> tuple[TableRow, list[TableRowChange], int, int]:
            """All of one moment: what is committed in between is neither lost nor passed over."""
            row = self._get(tx, table)
            after = cursor["seq"] if cursor is not None and cursor["table"] == row.id else 0
            found = _some_after(tx, row.id, after)
            return row, found, after, found[0].seq if found else table_changes.count_of(tx, row.id) + 1

        row, found, after, first = await self._database.read(query)
        lost = (after + 1, first - 1) if first > after + 1 else None
        last = found[-1].seq if found else first - 1
        changes = await run_beside(lambda: [_read(one) for one in found]) if found else []
        return TableNews(row.id, row.name, _key_of(row), changes, _cursor(row.id, last), lost, len(found) >= _STEP)

    async def newest(self, table: str) -> TableNews:
        """One row of the table, as if it had just been added."""

        def query(tx: Tx) -> tuple[TableRow, list[str]]:
            row = self._get(tx, table)
            kept = table_rows.list_rows(tx, row.id, table_rows.LIVE, [], None, limit=1, offset=0)
            return row, [one.data for one in kept]

        row, found = await self._database.read(query)
        changes = [RowChange(1, None, loads(data), None, "live", 0, clock.now_ms()) for data in found]
        return TableNews(row.id, row.name, _key_of(row), changes, {})

    def _get(self, tx: Tx, table: str) -> TableRow:
        row = managed_tables.find(tx, self._org_id, table)
        is_hidden = row is not None and self._own is not None
        if row is None or (is_hidden and managed_tables.is_used_by_others(tx, self._org_id, row.id, self._own or ())):
            raise NotFound(f'There is no table "{table}".', code=Code.TABLE_UNKNOWN)
        return row


def _some_after(tx: Tx, table_id: str, after: int) -> list[TableRowChange]:
    """The next changes, as many as fit into one look."""
    found: list[TableRowChange] = []
    chars = 0
    while len(found) < MOST and chars < _MOST_CHARS:
        part = table_changes.list_after(tx, table_id, found[-1].seq if found else after, _STEP)
        found += part
        chars += sum(len(one.row_before or "") + len(one.row_after or "") for one in part)
        if len(part) < _STEP:
            break
    return found


def _key_of(row: TableRow) -> str:
    return str(loads_own(row.definition)["primaryKey"])


def _read(one: TableRowChange) -> RowChange:
    before, after = (None if text is None else loads(text) for text in (one.row_before, one.row_after))
    return RowChange(one.seq, before, after, one.run_id, one.mode, one.depth, one.changed_at)


def _cursor(table_id: str, seq: int) -> dict[str, Any]:
    return {"table": table_id, "seq": seq}


def cursor_of_now(tx: Tx, org_id: str, table: str) -> str | None:
    """The cursor of a subscription that sees what is changed from this transaction on; None: there is no such table
    yet. Whoever changes rows of it now is waited for."""
    row = managed_tables.find(tx, org_id, table)
    if row is None:
        return None
    return dumps_text(PollPlace(_cursor(row.id, table_changes.count_of(tx, row.id, locks=True))).stored())
