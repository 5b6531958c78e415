"""Rows of service accounts: accounts of programs, whose keys are API keys like others."""

from __future__ import annotations

from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import service_accounts as t


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """One service account; times in milliseconds, `permissions`, `workflow_scope` and the `_ids` that limit it JSON
    lists. `owner_id`: the person who answers for it; `past_owners`: JSON list of those who did, and until when."""

    id: str
    org_id: str
    name: str
    description: str | None
    role: str | None
    permissions: str
    workflow_ids: str | None
    workflow_scope: str | None
    wallet_ids: str | None
    owner_id: str | None
    created_by: str
    created_at: int
    updated_at: int
    disabled_at: int | None = None
    deleted_at: int | None = None
    past_owners: str = "[]"
    connector_ids: str | None = None


_NAMES = tuple(field.name for field in fields(AccountRow))
_CHANGING = (
    *("name", "description", "role", "permissions", "owner_id", "past_owners"),
    *("updated_at", "disabled_at", "deleted_at"),
)
_COLUMNS = [t.c[name] for name in _NAMES]
_THERE = (t.c.org_id == b("org_id"), t.c.deleted_at.is_(None))
_INSERT = Statement(sa.insert(t))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.id == b("id")))
_FIND_TO_CHANGE = Statement(sa.select(*_COLUMNS).where(*_THERE, t.c.id == b("id")).with_for_update())
_FIND_BY_NAME = Statement(sa.select(*_COLUMNS).where(*_THERE, t.c.name == b("name")))
_PAGE = sa.select(*_COLUMNS).where(*_THERE).order_by(t.c.id.desc())
_PAGE = _PAGE.limit(b("limit", type_=sa.Integer)).offset(b("offset", type_=sa.Integer))
_PAGES = {
    None: Statement(_PAGE),
    True: Statement(_PAGE.where(t.c.disabled_at.is_not(None))),
    False: Statement(_PAGE.where(t.c.disabled_at.is_(None))),
}
_OF_OWNER = Statement(sa.select(t.c.id).where(*_THERE, t.c.owner_id == b("owner_id")).order_by(t.c.id))
_OF_ROLE = Statement(sa.select(t.c.name).where(*_THERE, t.c.role == b("role")).order_by(t.c.id))
_UPDATE = Statement(
    sa.update(t)
    .where(t.c.id == b("of_id"))
    .values({name: b(f"new_{name}", type_=t.c[name].type) for name in _CHANGING})
)


def insert(tx: Tx, row: AccountRow) -> None:
    """Inserts a service account."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, org_id: str, account_id: str) -> AccountRow | None:
    """Finds a service account of the organisation, also a deleted one."""
    found = tx.one(_FIND, org_id=org_id, id=account_id)
    return AccountRow(**dict(zip(_NAMES, found, strict=True))) if found else None


def find_to_change(tx: Tx, org_id: str, account_id: str) -> AccountRow | None:
    """Finds a service account that is not deleted and, on PostgreSQL, locks its row until the transaction ends: else it
    could get a key while another server disables it."""
    found = tx.one(_FIND_TO_CHANGE, org_id=org_id, id=account_id)
    return AccountRow(**dict(zip(_NAMES, found, strict=True))) if found else None


def find_by_name(tx: Tx, org_id: str, name: str) -> AccountRow | None:
    """Finds a service account that is not deleted."""
    found = tx.one(_FIND_BY_NAME, org_id=org_id, name=name)
    return AccountRow(**dict(zip(_NAMES, found, strict=True))) if found else None


def list_page(tx: Tx, org_id: str, *, disabled: bool | None = None, limit: int, offset: int) -> list[AccountRow]:
    """Lists one page of the organisation's service accounts, newest first; `disabled` None: of either state."""
    found = tx.all(_PAGES[disabled], org_id=org_id, limit=limit, offset=offset)
    return [AccountRow(**dict(zip(_NAMES, row, strict=True))) for row in found]


def list_of_owner(tx: Tx, org_id: str, person_id: str) -> list[str]:
    """Lists the ids of the service accounts that a person answers for."""
    return [row[0] for row in tx.all(_OF_OWNER, org_id=org_id, owner_id=person_id)]


def list_of_role(tx: Tx, org_id: str, role: str) -> list[str]:
    """Lists the names of the service accounts that have a role."""
    return [row[0] for row in tx.all(_OF_ROLE, org_id=org_id, role=role)]


def update(tx: Tx, row: AccountRow) -> None:
    """Stores what has changed of a service account."""
    tx.do(_UPDATE, of_id=row.id, **{f"new_{name}": getattr(row, name) for name in _CHANGING})
