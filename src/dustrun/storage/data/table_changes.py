"""Changes of rows of managed tables, numbered in commit order, for the triggers that watch a table.

Whoever changes rows holds the lock of the table's row from its first change to its commit. A number is given under that
lock, so that a reader who has seen a number has seen all before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import managed_tables, table_changes
from dustrun.storage.db.trigger_tables import subscriptions

TYPE: Final = "table-row"
"""The trigger type that watches tables."""
_Big = sa.BigInteger
t = table_changes


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRowChange:
    """One change of a row; `row_before` and `row_after` are JSON, None where the row is not there."""

    table_id: str
    seq: int
    row_before: str | None
    row_after: str | None
    run_id: str | None
    mode: str
    depth: int
    changed_at: int


_NAMES = tuple(field.name for field in fields(TableRowChange))
_of = managed_tables.c
_IS_WATCHED = Statement(
    sa.select(subscriptions.c.pk)
    .where(
        subscriptions.c.org_id == b("org_id"),
        subscriptions.c.type == sa.literal_column("'table-row'"),
        subscriptions.c.state != sa.literal_column("'ended'"),
        sa.or_(
            subscriptions.c.config.contains(b("by_id", type_=sa.Text)),
            subscriptions.c.config.contains(b("by_name", type_=sa.Text)),
        ),
    )
    .limit(1)
)
_COUNT = Statement(sa.select(_of.change_count).where(_of.id == b("table_id")))
_COUNT_LOCKED = Statement(sa.select(_of.change_count).where(_of.id == b("table_id")).with_for_update())
_SET_COUNT = Statement(
    sa.update(managed_tables).where(_of.id == b("the_id")).values(change_count=b("change_count", type_=_Big))
)
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NAMES}))
_LIST = Statement(
    sa.select(*(t.c[name] for name in _NAMES))
    .where(t.c.table_id == b("table_id"), t.c.seq > b("after", type_=_Big))
    .order_by(t.c.seq)
    .limit(b("count", type_=sa.Integer))
)
_TABLES = Statement(
    sa.select(_of.id, _of.org_id, _of.name, _of.change_count).where(sa.exists().where(t.c.table_id == _of.id))
)
_oldest = (
    sa.select(t.c.seq)
    .where(
        t.c.table_id == b("table_id"),
        sa.or_(t.c.seq <= b("until", type_=_Big), t.c.changed_at < b("before", type_=_Big)),
    )
    .order_by(t.c.seq)
    .limit(b("count", type_=sa.Integer))
    .subquery()
)
_DELETE = Statement(sa.delete(t).where(t.c.table_id == b("table_id"), t.c.seq.in_(sa.select(_oldest.c.seq))))
_WATCHERS = Statement(
    sa.select(subscriptions.c.config, subscriptions.c.cursor).where(
        subscriptions.c.org_id == b("org_id"),
        subscriptions.c.type == sa.literal_column("'table-row'"),
        subscriptions.c.state != sa.literal_column("'ended'"),
    )
)


def is_watched(tx: Tx, org_id: str, table_id: str, name: str) -> bool:
    """Whether a trigger names the table, by id or name."""
    return tx.one(_IS_WATCHED, org_id=org_id, by_id=_named(table_id), by_name=_named(name)) is not None


def _named(text: str) -> str:
    return f'"table":"{text}"'


def count_of(tx: Tx, table_id: str, *, locks: bool = False) -> int:
    """The number of the table's newest change. `locks`: waits for those who change rows now, and lets nobody do so
    before this transaction ends."""
    row = tx.one(_COUNT_LOCKED if locks else _COUNT, table_id=table_id)
    return int(row[0]) if row is not None else 0


def record(
    tx: Tx, table_id: str, changes: Sequence[tuple[str | None, str | None]], by: tuple[str | None, str, int], now: int
) -> None:
    """Records changes, each a row before and after, in order. `by`: run id, mode and depth. The caller has changed the
    table's own row, so it holds its lock."""
    seq = count_of(tx, table_id)
    run_id, mode, depth = by
    told = {"run_id": run_id, "mode": mode, "depth": depth, "changed_at": now}
    tx.many(
        _INSERT,
        [
            {"table_id": table_id, "seq": seq + number, "row_before": before, "row_after": after, **told}
            for number, (before, after) in enumerate(changes, start=1)
        ],
    )
    tx.do(_SET_COUNT, the_id=table_id, change_count=seq + len(changes))


def list_after(tx: Tx, table_id: str, after: int, count: int) -> list[TableRowChange]:
    """Lists the changes after a number, oldest first."""
    rows = tx.all(_LIST, table_id=table_id, after=after, count=count)
    return [TableRowChange(**dict(zip(_NAMES, row, strict=True))) for row in rows]


def list_tables(tx: Tx) -> list[tuple[str, str, str, int]]:
    """The tables of which changes are kept: id, organization, name, and the number of the newest change."""
    return [(str(a), str(c), str(d), int(e)) for a, c, d, e in tx.all(_TABLES)]


def list_watchers(tx: Tx, org_id: str) -> list[tuple[str, str | None]]:
    """Config and cursor, as JSON, of the triggers of an organization that watch tables."""
    return [(str(config), cursor) for config, cursor in tx.all(_WATCHERS, org_id=org_id)]


def delete_some(tx: Tx, table_id: str, *, until: int, before: int, count: int) -> int:
    """Deletes the oldest changes up to a number, or older than a time; returns how many."""
    return tx.run(_DELETE, table_id=table_id, until=until, before=before, count=count)
