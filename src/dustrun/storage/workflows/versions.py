"""Rows of workflow versions; immutable except for the record of their publication. A draft that an editor saved by
itself is deleted when its next one comes and nothing has used it; its number is not given again."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import runs
from dustrun.storage.db.tables import workflow_versions as t
from dustrun.storage.db.tables import workflows as w


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One version; `definition` is exact JSON text, the types are space-separated with a space at both ends.
    `author_wallets`: None when its author could spend from none, `*` from all, else a JSON list of wallets."""

    workflow_id: str
    version: int
    definition: str
    definition_hash: str
    trigger_type: str
    node_types: str
    connector_types: str
    node_count: int
    created_by: str
    created_at: int
    published_at: int | None = None
    published_by: str | None = None
    author_wallets: str | None = None


_NAMES = tuple(field.name for field in fields(VersionRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_OF = t.c.workflow_id == sa.bindparam("workflow_id")
_FIND = Statement(sa.select(*_COLUMNS).where(_OF, t.c.version == sa.bindparam("version")))
_INSERT = Statement(sa.insert(t))
_NEWEST_FIRST = (
    sa.select(*_COLUMNS)
    .where(_OF)
    .order_by(t.c.version.desc())
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .offset(sa.bindparam("offset", type_=sa.Integer))
)
_PAGE = Statement(_NEWEST_FIRST)
_PAGE_PUBLISHED = Statement(_NEWEST_FIRST.where(t.c.published_at.is_not(None)))
_BELOW = Statement(
    sa.select(t.c.version)
    .where(_OF, t.c.version < sa.bindparam("number"))
    .order_by(t.c.version.desc())
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_NEWEST_RUNS = (
    sa.select(runs.c.version)
    .where(runs.c.workflow_id == sa.bindparam("workflow_id"))
    .order_by(runs.c.pk.desc())
    .limit(1_000)
    .subquery()
)
_RAN = Statement(sa.select(sa.literal(1)).where(_NEWEST_RUNS.c.version == sa.bindparam("version")).limit(1))
_DELETE = Statement(sa.delete(t).where(_OF, t.c.version == sa.bindparam("version"), t.c.published_at.is_(None)))
_COUNT = Statement(sa.select(sa.func.count()).where(_OF))
_LIVE_WITH = Statement(
    sa.select(t.c.definition)
    .join(w, sa.and_(w.c.id == t.c.workflow_id, w.c.live_version == t.c.version))
    .where(w.c.org_id == sa.bindparam("org_id"), sa.func.lower(t.c.definition).like(sa.bindparam("pattern")))
    .limit(20)
)
_AUTHORED = (
    sa.select(t.c.created_by, t.c.author_wallets, sa.func.max(t.c.created_at))
    .join(w, w.c.id == t.c.workflow_id)
    .where(w.c.org_id == sa.bindparam("org_id"))
    .group_by(t.c.created_by, t.c.author_wallets)
)
_AUTHORS = Statement(_AUTHORED.where(t.c.version.in_([w.c.draft_version, w.c.live_version, w.c.latest_version])))
_AUTHORS_OF = Statement(_AUTHORED.where(t.c.workflow_id == sa.bindparam("workflow_id")))
_PUBLISHED = Statement(sa.select(sa.literal(1)).where(_OF, t.c.published_at.is_not(None)).limit(1))
_MARK = Statement(
    sa.update(t)
    .where(t.c.workflow_id == sa.bindparam("of_workflow"), t.c.version == sa.bindparam("of_version"))
    .values(published_at=sa.bindparam("published_at"), published_by=sa.bindparam("published_by"))
)


def _row(found: tuple[Any, ...]) -> VersionRow:
    return VersionRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: VersionRow) -> None:
    """Inserts a version."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, workflow_id: str, version: int) -> VersionRow | None:
    """Finds a version of the workflow."""
    found = tx.one(_FIND, workflow_id=workflow_id, version=version)
    return _row(found) if found else None


def list_authors(tx: Tx, org_id: str, workflow_id: str | None) -> list[tuple[str, str | None, int]]:
    """Who wrote every version of a workflow, or what calls of any workflow run now: key, what it could spend from, and
    when it last wrote one."""
    if workflow_id is not None:
        return [(row[0], row[1], row[2]) for row in tx.all(_AUTHORS_OF, org_id=org_id, workflow_id=workflow_id)]
    return [(row[0], row[1], row[2]) for row in tx.all(_AUTHORS, org_id=org_id)]


def list_page(tx: Tx, workflow_id: str, *, published: bool = False, limit: int, offset: int) -> list[VersionRow]:
    """Lists one page of versions, or of those that were published, newest first."""
    page = _PAGE_PUBLISHED if published else _PAGE
    return [_row(found) for found in tx.all(page, workflow_id=workflow_id, limit=limit, offset=offset)]


def list_numbers_below(tx: Tx, workflow_id: str, number: int, *, limit: int) -> list[int]:
    """The numbers of the versions before that one, newest first."""
    return [row[0] for row in tx.all(_BELOW, workflow_id=workflow_id, number=number, limit=limit)]


def delete_unused(tx: Tx, workflow_id: str, version: int) -> None:
    """Deletes a version that nothing refers to and that was never published. Looks at the newest runs once more: while
    servers of a shared store are updated one after the other, one that does not know the mark may have started one."""
    if tx.one(_RAN, workflow_id=workflow_id, version=version) is None:
        tx.do(_DELETE, workflow_id=workflow_id, version=version)


def count(tx: Tx, workflow_id: str) -> int:
    """Counts the workflow's versions."""
    found = tx.one(_COUNT, workflow_id=workflow_id)
    return int(found[0]) if found else 0


def mark_published(tx: Tx, workflow_id: str, version: int, *, at_ms: int, by: str) -> None:
    """Records when and by which key the version was last published."""
    tx.do(_MARK, of_workflow=workflow_id, of_version=version, published_at=at_ms, published_by=by)


def was_published(tx: Tx, workflow_id: str) -> bool:
    """Whether a version of the workflow was ever published."""
    return tx.one(_PUBLISHED, workflow_id=workflow_id) is not None


def list_live_with(tx: Tx, org_id: str, host: str) -> list[str]:
    """Definitions of live versions of the organisation that contain a host's name, at most 20."""
    return [row[0] for row in tx.all(_LIVE_WITH, org_id=org_id, pattern=f"%//{host}%")]
