"""Rows of managed tables, in layers: live rows (layer 0), and on top the rows that one simulation has written.

Everything that comes from a user is a bound parameter; column names never become part of a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from dustrun.core.data.table import Test
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import table_cells, table_rows

LIVE = 0


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as stored; `data` is JSON, and so are the `sources` of what runs wrote in it."""

    layer: int
    key: bytes
    data: str
    assumed: bool
    created_at: int
    updated_at: int
    sources: str | None = None


@dataclass(frozen=True, slots=True)
class RowOrder:
    """The column and direction to sort by."""

    column: str
    is_descending: bool = False


_Big = sa.BigInteger
_Bytes = sa.LargeBinary
_r = table_rows.alias("r")
_above = table_rows.alias("above")


def _visible(row: Any, is_layered: bool) -> sa.ColumnElement[bool]:
    """The rows visible in a layer: its own, and the live ones that it neither changed nor deleted."""
    own = bindparam("layer", type_=_Big)
    if not is_layered:
        return sa.and_(row.c.layer == own, row.c.data.is_not(None))
    hidden = sa.exists().where(_above.c.table_id == row.c.table_id, _above.c.layer == own, _above.c.key == row.c.key)
    is_live = sa.and_(row.c.layer == LIVE, sa.not_(hidden))
    return sa.and_(sa.or_(row.c.layer == own, is_live), row.c.data.is_not(None))


_SHOWN = (_r.c.layer, _r.c.key, _r.c.data, _r.c.assumed, _r.c.created_at, _r.c.updated_at, _r.c.sources)
_GET = {
    is_layered: Statement(
        sa.select(*_SHOWN).where(
            _r.c.table_id == bindparam("table_id"), _r.c.key == bindparam("key", type_=_Bytes), _visible(_r, is_layered)
        )
    )
    for is_layered in (False, True)
}
_c = table_cells.alias("c")
_HOLDER = {
    is_layered: Statement(
        sa.select(_r.c.key)
        .select_from(
            _c.join(_r, sa.and_(_r.c.table_id == _c.c.table_id, _r.c.layer == _c.c.layer, _r.c.key == _c.c.key))
        )
        .where(
            _c.c.table_id == bindparam("table_id"),
            sa.or_(_c.c.layer == bindparam("layer", type_=_Big), _c.c.layer == LIVE),
            _c.c.name == bindparam("name"),
            _c.c.value == bindparam("value", type_=_Bytes),
            _visible(_r, is_layered),
        )
    )
    for is_layered in (False, True)
}
_PUT = Statement(
    sa.text(
        "INSERT INTO table_rows (table_id, layer, key, data, assumed, created_at, updated_at, sources)"
        " VALUES (:table_id, :layer, :key, :data, :assumed, :created_at, :updated_at, :sources)"
        " ON CONFLICT (table_id, layer, key) DO UPDATE"
        " SET data = excluded.data, assumed = excluded.assumed, updated_at = excluded.updated_at,"
        " sources = excluded.sources"
    )
)
_REMOVE = Statement(
    sa.delete(table_rows).where(
        table_rows.c.table_id == bindparam("table_id_"),
        table_rows.c.layer == bindparam("layer_", type_=_Big),
        table_rows.c.key == bindparam("key_", type_=_Bytes),
    )
)
_ADD_CELL = Statement(
    sa.insert(table_cells).values(
        table_id=bindparam("table_id"),
        layer=bindparam("layer", type_=_Big),
        name=bindparam("name"),
        value=bindparam("value", type_=_Bytes),
        key=bindparam("key", type_=_Bytes),
    )
)
_REMOVE_CELL = Statement(
    sa.delete(table_cells).where(
        table_cells.c.table_id == bindparam("table_id"),
        table_cells.c.layer == bindparam("layer", type_=_Big),
        table_cells.c.name == bindparam("name"),
        table_cells.c.value == bindparam("value", type_=_Bytes),
        table_cells.c.key == bindparam("key", type_=_Bytes),
    )
)
_COUNT_LAYER = Statement(
    sa.select(sa.func.count()).where(table_rows.c.layer == bindparam("layer", type_=_Big), table_rows.c.layer > 0)
)


def _kept(row: Sequence[Any]) -> StoredRow:
    layer, key, data, assumed, created_at, updated_at, sources = row
    return StoredRow(layer, bytes(key), data, bool(assumed), created_at, updated_at, sources)


def find(tx: Tx, table_id: str, layer: int, key: bytes) -> StoredRow | None:
    """Finds a row as seen in a layer."""
    row = tx.one(_GET[layer != LIVE], table_id=table_id, layer=layer, key=key)
    return _kept(row) if row else None


def find_holder(tx: Tx, table_id: str, layer: int, column: str, value: bytes) -> bytes | None:
    """The key of a row with this value in a column, as seen in a layer."""
    row = tx.one(_HOLDER[layer != LIVE], table_id=table_id, layer=layer, name=column, value=value)
    return bytes(row[0]) if row else None


def put(tx: Tx, table_id: str, row: StoredRow, fresh: Mapping[str, bytes], old: Mapping[str, bytes]) -> None:
    """Writes a row to its layer; `fresh` are its new cells, `old` those that the layer had before."""
    values = {"key": row.key, "data": row.data, "assumed": int(row.assumed), "sources": row.sources}
    times = {"created_at": row.created_at, "updated_at": row.updated_at}
    tx.do(_PUT, table_id=table_id, layer=row.layer, **values, **times)
    changed = {name: value for name, value in old.items() if fresh.get(name) != value}
    tx.many(_REMOVE_CELL, list(_cells(table_id, row.layer, row.key, changed)))
    added = {name: value for name, value in fresh.items() if old.get(name) != value}
    tx.many(_ADD_CELL, list(_cells(table_id, row.layer, row.key, added)))


def remove(tx: Tx, table_id: str, layer: int, key: bytes, old: Mapping[str, bytes], now: int) -> None:
    """Deletes a row; a simulation's layer only marks it as deleted, because the live row stays."""
    tx.many(_REMOVE_CELL, list(_cells(table_id, layer, key, old)))
    if layer == LIVE:
        tx.do(_REMOVE, table_id_=table_id, layer_=layer, key_=key)
    else:
        times = {"created_at": now, "updated_at": now}
        tx.do(_PUT, table_id=table_id, layer=layer, key=key, data=None, assumed=0, sources=None, **times)


def _cells(table_id: str, layer: int, key: bytes, values: Mapping[str, bytes]) -> Iterable[dict[str, Any]]:
    for name, value in values.items():
        yield {"table_id": table_id, "layer": layer, "name": name, "value": value, "key": key}


def count_layer(tx: Tx, layer: int) -> int:
    """Counts the rows that a simulation has written."""
    row = tx.one(_COUNT_LAYER, layer=layer)
    return int(row[0]) if row else 0


def list_rows(
    tx: Tx, table_id: str, layer: int, tests: Sequence[Test], order: RowOrder | None, *, limit: int, offset: int
) -> list[StoredRow]:
    """Lists the rows that pass every test, as seen in a layer; in key order unless `order` is given."""
    tests = sorted(tests, key=lambda test: _SELECTIVE.index(test.operator))
    source: Any = _r
    wheres: list[sa.ColumnElement[bool]] = [_r.c.table_id == table_id, _visible_now(layer)]
    key: Any = _r.c.key
    for number, test in enumerate(tests):
        cell = table_cells.alias(f"c{number}")
        source = _joined(source, cell) if number else cell.join(_r, _same(cell))
        wheres += [*_place(cell, table_id, layer, test.column), _holds(cell, test)]
        key = cell.c.key if number == 0 else key
    ordering: list[Any] = [key]
    if order is not None:
        cell = table_cells.alias("o")
        source = _joined(source, cell)
        wheres += _place(cell, table_id, layer, order.column)
        ordering = [cell.c.value.desc(), key.desc()] if order.is_descending else [cell.c.value, key]
    query = sa.select(*_SHOWN).select_from(source).where(*wheres).order_by(*ordering).limit(limit).offset(offset)
    return [_kept(row) for row in tx.all(Statement(query), layer=layer)]


# the first test drives the query
_SELECTIVE = ("$eq", "$in", "$gt", "$gte", "$lt", "$lte", "$ne")


def _visible_now(layer: int) -> sa.ColumnElement[bool]:
    return _visible(_r, layer != LIVE)


def _same(cell: Any) -> sa.ColumnElement[bool]:
    return sa.and_(cell.c.table_id == _r.c.table_id, cell.c.layer == _r.c.layer, cell.c.key == _r.c.key)


def _joined(source: Any, cell: Any) -> Any:
    return source.join(cell, _same(cell))


def _place(cell: Any, table_id: str, layer: int, column: str) -> list[sa.ColumnElement[bool]]:
    layers = [cell.c.layer == LIVE] if layer == LIVE else [cell.c.layer == LIVE, cell.c.layer == layer]
    return [cell.c.table_id == table_id, sa.or_(*layers), cell.c.name == column]


def _holds(cell: Any, test: Test) -> sa.ColumnElement[bool]:
    value, wanted = cell.c.value, test.values[0]
    if test.operator == "$in":
        found: sa.ColumnElement[bool] = sa.or_(*(value == item for item in test.values))
        return found
    comparisons: dict[str, Any] = {
        "$eq": lambda: value == wanted,
        "$ne": lambda: value != wanted,
        "$gt": lambda: value > wanted,
        "$gte": lambda: value >= wanted,
        "$lt": lambda: sa.and_(value < wanted, value > b""),
        "$lte": lambda: sa.and_(value <= wanted, value > b""),
    }
    compared: sa.ColumnElement[bool] = comparisons[test.operator]()
    return compared
