"""Rows of data keys: each organisation's secrets are encrypted with its own, which the master key wraps."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import data_keys as t

_COLUMNS = (t.c.id, t.c.org_id, t.c.master_id, t.c.wrapped, t.c.created_at, t.c.retired_at)
_INSERT = Statement(sa.insert(t))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.id == sa.bindparam("id"), t.c.org_id == sa.bindparam("org_id")))
_CURRENT = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == sa.bindparam("org_id"), t.c.retired_at.is_(None))
    .order_by(t.c.id.desc())
    .limit(1)
)
_ALL = Statement(sa.select(*_COLUMNS).order_by(t.c.id))
_RETIRE = Statement(
    sa.update(t)
    .where(t.c.org_id == sa.bindparam("of_org"), t.c.retired_at.is_(None))
    .values(retired_at=sa.bindparam("retired_at", type_=sa.BigInteger))
)
_REWRAP = Statement(
    sa.update(t)
    .where(t.c.id == sa.bindparam("of_id"))
    .values(master_id=sa.bindparam("master_id"), wrapped=sa.bindparam("wrapped"))
)
_DELETE = Statement(sa.delete(t).where(t.c.id == sa.bindparam("id")))


@dataclass(frozen=True, slots=True)
class DataKeyRow:
    """One wrapped data key; times in milliseconds."""

    id: str
    org_id: str
    master_id: str
    wrapped: str
    created_at: int
    retired_at: int | None = None


def insert(tx: Tx, row: DataKeyRow) -> None:
    """Inserts a data key."""
    tx.do(
        _INSERT,
        id=row.id,
        org_id=row.org_id,
        master_id=row.master_id,
        wrapped=row.wrapped,
        created_at=row.created_at,
        retired_at=row.retired_at,
    )


def find(tx: Tx, org_id: str, key_id: str) -> DataKeyRow | None:
    """Finds a data key of the organisation."""
    found = tx.one(_FIND, id=key_id, org_id=org_id)
    return DataKeyRow(*found) if found else None


def find_current(tx: Tx, org_id: str) -> DataKeyRow | None:
    """Finds the data key that encrypts new secrets."""
    found = tx.one(_CURRENT, org_id=org_id)
    return DataKeyRow(*found) if found else None


def list_all(tx: Tx) -> list[DataKeyRow]:
    """Lists all data keys of all organisations, oldest first."""
    return [DataKeyRow(*found) for found in tx.all(_ALL)]


def retire(tx: Tx, org_id: str, *, at_ms: int) -> None:
    """Retires an organisation's current key: from now on it only decrypts."""
    tx.do(_RETIRE, of_org=org_id, retired_at=at_ms)


def rewrap(tx: Tx, key_id: str, *, master_id: str, wrapped: str) -> None:
    """Re-wraps a data key with another master key."""
    tx.do(_REWRAP, of_id=key_id, master_id=master_id, wrapped=wrapped)


def delete(tx: Tx, key_id: str) -> None:
    """Deletes a data key; what it encrypted can no longer be read."""
    tx.do(_DELETE, id=key_id)
