"""Rows of the audit log: who changed what and when."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.access import audit_chain
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import audit as t

_INSERT = Statement(
    sa.insert(t).values(
        org_id=sa.bindparam("org_id"),
        key_id=sa.bindparam("key_id"),
        at=sa.bindparam("at"),
        action=sa.bindparam("action"),
        subject=sa.bindparam("subject"),
        detail=sa.bindparam("detail"),
        hash=sa.bindparam("hash"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One audited change; `at` in milliseconds, `detail` JSON text."""

    id: int
    org_id: str
    key_id: str
    at: int
    action: str
    subject: str
    detail: str


def insert(tx: Tx, *, org_id: str, key_id: str, at_ms: int, action: str, subject: str, detail: str) -> None:
    """Inserts an audit row at the end of the chain."""
    linked = audit_chain.link(tx, (org_id, key_id, at_ms, action, subject, detail))
    tx.do(_INSERT, org_id=org_id, key_id=key_id, at=at_ms, action=action, subject=subject, detail=detail, hash=linked)


def list_page(tx: Tx, org_id: str, *, key_id: str | None, limit: int, offset: int) -> list[AuditRow]:
    """Lists one page of the organisation's changes, newest first, optionally of one key."""
    query = sa.select(t.c.id, t.c.org_id, t.c.key_id, t.c.at, t.c.action, t.c.subject, t.c.detail)
    query = query.where(t.c.org_id == org_id)
    if key_id is not None:
        query = query.where(t.c.key_id == key_id)
    names = ("id", "org_id", "key_id", "at", "action", "subject", "detail")
    found = tx.all(Statement(query.order_by(t.c.id.desc()).limit(limit).offset(offset)))
    return [AuditRow(**dict(zip(names, row, strict=True))) for row in found]
