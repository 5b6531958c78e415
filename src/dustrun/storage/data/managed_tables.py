"""Rows that describe managed tables, their usage, and the writes that nodes have made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.data.named import used_by_others
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import managed_tables as t
from dustrun.storage.db.tables import store_sources, table_cells, table_changes, table_rows, table_writes


@dataclass(frozen=True, slots=True)
class TableRow:
    """A managed table as stored; `definition` is JSON, times in milliseconds."""

    id: str
    org_id: str
    name: str
    description: str
    definition: str
    row_count: int
    byte_count: int
    created_by: str
    created_at: int
    updated_at: int


_COLUMNS = [t.c[field.name] for field in fields(TableRow)]
_NAMES = [field.name for field in fields(TableRow)]
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NAMES}))
_FIND = Statement(
    sa.select(*_COLUMNS).where(
        t.c.org_id == b("org_id"),
        sa.or_(t.c.id == b("wanted"), t.c.name == b("wanted")),
    )
)
_LIST = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == b("org_id"))
    .order_by(t.c.name)
    .limit(b("most", type_=sa.Integer))
    .offset(b("skipped", type_=sa.Integer))
)
_USAGE = Statement(
    sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(t.c.row_count), 0),
        sa.func.coalesce(sa.func.sum(t.c.byte_count), 0),
    ).where(t.c.org_id == b("org_id"))
)
_GROW = Statement(
    sa.update(t)
    .where(t.c.id == b("the_id"))
    .values(
        row_count=t.c.row_count + b("more_rows", type_=sa.BigInteger),
        byte_count=t.c.byte_count + b("more_bytes", type_=sa.BigInteger),
        updated_at=b("now", type_=sa.BigInteger),
    )
)
_FORGET = [
    Statement(sa.delete(table).where(table.c.table_id == b("the_id")))
    for table in (table_cells, table_changes, table_rows, table_writes)
]
_FORGET.append(Statement(sa.delete(store_sources).where(store_sources.c.object == b("the_id"))))
_DELETE = Statement(sa.delete(t).where(t.c.id == b("the_id")))
_ADD_WRITE = Statement(
    sa.insert(table_writes).values(
        write_key=b("write_key"),
        table_id=b("table_id"),
        run_pk=b("run_pk", type_=sa.BigInteger),
        result=b("result"),
        written_at=b("written_at", type_=sa.BigInteger),
    )
)
_FIND_WRITE = Statement(sa.select(table_writes.c.result).where(table_writes.c.write_key == b("the_key")))


def insert(tx: Tx, row: TableRow) -> None:
    """Inserts a table."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, org_id: str, wanted: str) -> TableRow | None:
    """Finds a table by id or name."""
    row = tx.one(_FIND, org_id=org_id, wanted=wanted)
    return TableRow(*row) if row else None


def list_of(tx: Tx, org_id: str, own: Collection[str], *, limit: int, offset: int) -> list[TableRow]:
    """Lists by name the organisation's tables that no other workflow than `own` uses."""
    query = sa.select(*_COLUMNS).where(t.c.org_id == org_id, ~_used_by_others(org_id, own))
    found = tx.all(Statement(query.order_by(t.c.name).limit(limit).offset(offset)))
    return [TableRow(*row) for row in found]


def is_used_by_others(tx: Tx, org_id: str, table_id: str, own: Collection[str]) -> bool:
    """Whether workflows other than `own` name a table."""
    return tx.one(Statement(sa.select(t.c.id).where(t.c.id == table_id, _used_by_others(org_id, own)))) is not None


def _used_by_others(org_id: str, own: Collection[str]) -> sa.ColumnElement[bool]:
    named = sa.literal('"table":"')
    return used_by_others(org_id, own, named + t.c.id + '"', named + t.c.name + '"')


def list_page(tx: Tx, org_id: str, *, limit: int, offset: int) -> list[TableRow]:
    """Lists the organisation's tables by name."""
    return [TableRow(*row) for row in tx.all(_LIST, org_id=org_id, most=limit, skipped=offset)]


def usage(tx: Tx, org_id: str) -> tuple[int, int, int]:
    """(tables, rows, bytes) of an organisation."""
    row = tx.one(_USAGE, org_id=org_id)
    assert row is not None
    return int(row[0]), int(row[1]), int(row[2])


def grow(tx: Tx, table_id: str, *, rows: int, size: int, now: int) -> None:
    """Adds to a table's row count and size in bytes; either may be negative."""
    tx.do(_GROW, the_id=table_id, more_rows=rows, more_bytes=size, now=now)


def delete(tx: Tx, table_id: str) -> None:
    """Deletes a table with all its rows."""
    for statement in (*_FORGET, _DELETE):
        tx.do(statement, the_id=table_id)


def find_write(tx: Tx, write_key: str) -> str | None:
    """The result of a node's write as JSON; None if it was not made yet."""
    row = tx.one(_FIND_WRITE, the_key=write_key)
    return str(row[0]) if row else None


def add_write(tx: Tx, write_key: str, *, table_id: str, run_pk: int, result: str, now: int) -> None:
    """Records a node's write and its result."""
    tx.do(_ADD_WRITE, write_key=write_key, table_id=table_id, run_pk=run_pk, result=result, written_at=now)
