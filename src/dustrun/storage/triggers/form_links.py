"""Rows of links to public forms: of each link only the SHA-256."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.trigger_tables import form_links as t


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLinkRow:
    """A link to a public form; times in milliseconds. `key_id`: in whose name its runs are; `runs`: how many it has
    started."""

    id: str
    org_id: str
    workflow_id: str
    key_id: str
    hash: str
    title: str
    description: str | None
    mode: str
    max_runs: int
    runs: int = 0
    last_run_at: int | None = None
    created_at: int
    expires_at: int
    revoked_at: int | None = None


_NAMES = tuple(field.name for field in fields(FormLinkRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NAMES}))
_BY_HASH = Statement(sa.select(*_COLUMNS).where(t.c.hash == b("the_hash")))
_BY_ID = Statement(sa.select(*_COLUMNS).where(t.c.workflow_id == b("of_workflow"), t.c.id == b("id_")))
_TO_CHANGE = Statement(sa.select(*_COLUMNS).where(t.c.id == b("id_")).with_for_update())
_LIST_OF = Statement(
    sa.select(*_COLUMNS).where(t.c.workflow_id == b("of_workflow")).order_by(t.c.created_at.desc(), t.c.id.desc())
)
_TAKE = Statement(
    sa.update(t)
    .where(t.c.id == b("id_"))
    .values(runs=b("count", type_=sa.Integer), last_run_at=b("now", type_=sa.BigInteger))
)
_REVOKE = Statement(sa.update(t).where(t.c.id == b("id_")).values(revoked_at=b("now", type_=sa.BigInteger)))
_PRUNE = Statement(
    sa.delete(t).where(
        t.c.workflow_id == b("of_workflow"),
        sa.or_(t.c.expires_at < b("before", type_=sa.BigInteger), t.c.revoked_at < b("before", type_=sa.BigInteger)),
    )
)


def _row(found: tuple[Any, ...]) -> FormLinkRow:
    return FormLinkRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: FormLinkRow) -> None:
    """Inserts a link."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find_by_hash(tx: Tx, link_hash: str) -> FormLinkRow | None:
    """Finds the link of a secret."""
    found = tx.one(_BY_HASH, the_hash=link_hash)
    return _row(found) if found else None


def find(tx: Tx, workflow_id: str, link_id: str) -> FormLinkRow | None:
    """Finds a link of a workflow by its id."""
    found = tx.one(_BY_ID, of_workflow=workflow_id, id_=link_id)
    return _row(found) if found else None


def find_to_change(tx: Tx, link_id: str) -> FormLinkRow | None:
    """Finds a link and, on PostgreSQL, locks its row; lock its workflow's row before."""
    found = tx.one(_TO_CHANGE, id_=link_id)
    return _row(found) if found else None


def list_of(tx: Tx, workflow_id: str) -> list[FormLinkRow]:
    """Lists a workflow's links, newest first."""
    return [_row(found) for found in tx.all(_LIST_OF, of_workflow=workflow_id)]


def has_spending(tx: Tx, workflow_id: str, now: int) -> bool:
    """Whether a workflow has an open link whose runs are no simulations."""
    return any(
        row.mode != "simulate" and row.revoked_at is None and row.expires_at > now for row in list_of(tx, workflow_id)
    )


def count_run(tx: Tx, row: FormLinkRow, now: int) -> None:
    """Counts one more run of a link that the transaction has locked."""
    tx.do(_TAKE, id_=row.id, count=row.runs + 1, now=now)


def revoke(tx: Tx, link_id: str, now: int) -> None:
    """Ends a link."""
    tx.do(_REVOKE, id_=link_id, now=now)


def prune(tx: Tx, workflow_id: str, before: int) -> None:
    """Deletes a workflow's links that ended before a time."""
    tx.do(_PRUNE, of_workflow=workflow_id, before=before)
