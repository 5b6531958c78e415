"""Rows of organisations."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import organizations as t

_INSERT = Statement(sa.insert(t))
_COLUMNS = [t.c.id, t.c.name, t.c.created_at, t.c.retention_days, sa.func.coalesce(t.c.single_person, 0)]
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.id == sa.bindparam("id")))
_LOCK = Statement(sa.select(t.c.id).where(t.c.id == sa.bindparam("id")).with_for_update())
_LIST = Statement(sa.select(*_COLUMNS).order_by(t.c.id))
_SET_SINGLE = Statement(
    sa.update(t).where(t.c.id == sa.bindparam("of_id")).values(single_person=sa.bindparam("on", type_=sa.Integer))
)
_SET_RETENTION = Statement(
    sa.update(t).where(t.c.id == sa.bindparam("of_id")).values(retention_days=sa.bindparam("days", type_=sa.Integer))
)
_ANY = Statement(sa.select(t.c.id).limit(1))


@dataclass(frozen=True, slots=True)
class OrganizationRow:
    """One organisation; `created_at` in milliseconds. `single_person`: whoever administers it may approve what their
    own runs ask."""

    id: str
    name: str
    created_at: int
    retention_days: int | None = None
    single_person: int = 0


def insert(tx: Tx, row: OrganizationRow) -> None:
    """Inserts an organisation."""
    fields = {name: getattr(row, name) for name in ("id", "name", "created_at", "retention_days", "single_person")}
    tx.do(_INSERT, **fields)


def find(tx: Tx, organization_id: str) -> OrganizationRow | None:
    """Finds an organisation by id."""
    found = tx.one(_FIND, id=organization_id)
    return OrganizationRow(*found) if found else None


def lock(tx: Tx, organization_id: str) -> None:
    """Keeps others who lock it out until the transaction ends."""
    tx.one(_LOCK, id=organization_id)


def list_all(tx: Tx) -> list[OrganizationRow]:
    """Lists every organisation."""
    return [OrganizationRow(*found) for found in tx.all(_LIST)]


def set_retention(tx: Tx, organization_id: str, days: int | None) -> None:
    """Sets how many days the organisation's ended runs are kept."""
    tx.do(_SET_RETENTION, of_id=organization_id, days=days)


def set_single_person(tx: Tx, organization_id: str, is_on: bool) -> None:
    """Sets whether whoever administers the organisation may approve what their own runs ask."""
    tx.do(_SET_SINGLE, of_id=organization_id, on=int(is_on))


def exist(tx: Tx) -> bool:
    """Whether any organisation exists."""
    return tx.one(_ANY) is not None
