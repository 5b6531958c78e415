"""Rows of the roles that organisations have made."""

from __future__ import annotations

from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import roles as t


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRow:
    """One role; `permissions` a JSON list, `created_at` in milliseconds."""

    org_id: str
    name: str
    description: str | None
    permissions: str
    created_at: int


_NAMES = tuple(field.name for field in fields(RoleRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t))
_ALL = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id")).order_by(t.c.name))
_DELETE = Statement(sa.delete(t).where(t.c.org_id == b("of_org"), t.c.name == b("of_name")))


def insert(tx: Tx, row: RoleRow) -> None:
    """Inserts a role."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def list_all(tx: Tx, org_id: str) -> list[RoleRow]:
    """Lists the organisation's roles by name."""
    return [RoleRow(**dict(zip(_NAMES, row, strict=True))) for row in tx.all(_ALL, org_id=org_id)]


def find(tx: Tx, org_id: str, name: str) -> RoleRow | None:
    """Finds a role of the organisation."""
    return next((row for row in list_all(tx, org_id) if row.name == name), None)


def delete(tx: Tx, org_id: str, name: str) -> None:
    """Deletes a role."""
    tx.do(_DELETE, of_org=org_id, of_name=name)
