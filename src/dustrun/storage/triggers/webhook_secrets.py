"""Rows of webhooks' secrets: of each address only the SHA-256, its signing secret sealed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.trigger_tables import webhook_secrets as t


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """One address of a webhook node; times in milliseconds. `expires_at`: another one has replaced it."""

    id: str
    org_id: str
    workflow_id: str
    node_id: str
    hash: str
    sealed: str
    created_at: int
    expires_at: int | None = None


_NAMES = tuple(field.name for field in fields(SecretRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NAMES}))
_BY_HASH = Statement(sa.select(*_COLUMNS).where(t.c.hash == b("the_hash")))
_OF_WORKFLOW = Statement(
    sa.select(*_COLUMNS).where(t.c.workflow_id == b("of_workflow")).order_by(t.c.created_at, t.c.id)
)
_OF_NODE = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.workflow_id == b("of_workflow"), t.c.node_id == b("of_node"))
    .order_by(t.c.created_at, t.c.id)
)
_END = Statement(
    sa.update(t)
    .where(
        t.c.workflow_id == b("of_workflow"),
        t.c.node_id == b("of_node"),
        sa.or_(t.c.expires_at.is_(None), t.c.expires_at > b("at", type_=sa.BigInteger)),
    )
    .values(expires_at=b("at", type_=sa.BigInteger))
)
_PRUNE = Statement(
    sa.delete(t).where(
        t.c.workflow_id == b("of_workflow"),
        t.c.expires_at.is_not(None),
        t.c.expires_at <= b("now", type_=sa.BigInteger),
    )
)


def _row(found: tuple[Any, ...]) -> SecretRow:
    return SecretRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: SecretRow) -> None:
    """Inserts a secret."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find_by_hash(tx: Tx, secret_hash: str) -> SecretRow | None:
    """Finds the secret of an address."""
    found = tx.one(_BY_HASH, the_hash=secret_hash)
    return _row(found) if found else None


def list_of(tx: Tx, workflow_id: str, node_id: str | None = None) -> list[SecretRow]:
    """Lists the secrets of a workflow, or of one of its nodes, oldest first."""
    if node_id is None:
        return [_row(found) for found in tx.all(_OF_WORKFLOW, of_workflow=workflow_id)]
    return [_row(found) for found in tx.all(_OF_NODE, of_workflow=workflow_id, of_node=node_id)]


def end_all(tx: Tx, workflow_id: str, node_id: str, at: int) -> None:
    """Lets every secret of a node expire at `at`, unless it does so earlier."""
    tx.do(_END, of_workflow=workflow_id, of_node=node_id, at=at)


def prune(tx: Tx, workflow_id: str, now: int) -> None:
    """Deletes a workflow's expired secrets."""
    tx.do(_PRUNE, of_workflow=workflow_id, now=now)
