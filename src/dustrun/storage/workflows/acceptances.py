"""Rows of acceptances: who accepted which version, and what it could reach then."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import version_acceptances as t


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceRow:
    """One acceptance. `members` is JSON: the workflow and version of everything in the accepted closure; so is `seen`:
    by source, and by key, the number of writes of what is no definition. None: it was given before these were kept."""

    workflow_id: str
    version: int
    digest: str
    key_id: str
    members: str
    accepted_at: int
    seen: str | None = None


_NAMES = tuple(field.name for field in fields(AcceptanceRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t))
_DELETE = Statement(
    sa.delete(t).where(
        t.c.workflow_id == sa.bindparam("workflow_id"),
        t.c.version == sa.bindparam("version"),
        t.c.key_id == sa.bindparam("key_id"),
    )
)
_SEE = Statement(
    sa.text(
        "UPDATE version_acceptances SET seen = :seen, members = :members, accepted_at = :accepted_at WHERE"
        " workflow_id = :workflow_id AND version = :version AND digest = :digest AND key_id = :key_id"
    )
)
_LIST = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.workflow_id == sa.bindparam("workflow_id"))
    .order_by(t.c.version.desc(), t.c.accepted_at.desc(), t.c.key_id)
)
_LIST_OF = Statement(
    sa.select(*_COLUMNS)
    .where(
        t.c.workflow_id == sa.bindparam("workflow_id"),
        t.c.version == sa.bindparam("version"),
        t.c.digest == sa.bindparam("digest"),
    )
    .order_by(t.c.accepted_at, t.c.key_id)
)


def _row(found: tuple[Any, ...]) -> AcceptanceRow:
    return AcceptanceRow(**dict(zip(_NAMES, found, strict=True)))


def put(tx: Tx, row: AcceptanceRow) -> bool:
    """Adds an acceptance, or what it has seen by now; False if the key has accepted exactly that before."""
    known = next((o for o in list_of(tx, row.workflow_id, row.version, row.digest) if o.key_id == row.key_id), None)
    if known is not None and known.seen == row.seen:
        return False
    tx.do(_SEE if known is not None else _INSERT, **{name: getattr(row, name) for name in _NAMES})
    return True


def delete(tx: Tx, workflow_id: str, version: int, key_id: str) -> None:
    """Deletes what a key has accepted of a version."""
    tx.do(_DELETE, workflow_id=workflow_id, version=version, key_id=key_id)


def list_of(tx: Tx, workflow_id: str, version: int, digest: str) -> list[AcceptanceRow]:
    """The acceptances of a version with exactly that closure, oldest first."""
    return [_row(found) for found in tx.all(_LIST_OF, workflow_id=workflow_id, version=version, digest=digest)]


def list_all(tx: Tx, workflow_id: str) -> list[AcceptanceRow]:
    """Every acceptance of the workflow, newest version first."""
    return [_row(found) for found in tx.all(_LIST, workflow_id=workflow_id)]
