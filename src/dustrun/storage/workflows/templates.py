"""Rows of an organisation's own templates, of their versions, and of the workflows that were made from them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import runs, template_uses, template_versions, workflow_templates, workflows

t, v, u = workflow_templates, template_versions, template_uses


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRow:
    """A template, with the content of one of its versions. `definition` is exact JSON text, empty in a list; `current`
    is the version that is used."""

    id: str
    org_id: str
    source_workflow_id: str
    current: int
    created_by: str
    created_at: int
    updated_at: int
    version: int
    name: str
    description: str
    tags: str
    definition: str
    trigger_type: str
    node_types: str
    node_count: int
    version_by: str
    version_at: int


_OWN: Final = ("id", "org_id", "source_workflow_id", "current", "created_by", "created_at", "updated_at")
_OF_VERSION: Final = tuple(field.name for field in fields(TemplateRow) if field.name not in _OWN)
_COLUMNS: Final = [*(t.c[name] for name in _OWN), *(v.c[name] for name in _OF_VERSION)]
_LISTED: Final = [sa.literal("") if column is v.c.definition else column for column in _COLUMNS]
_JOINED: Final = t.join(v, v.c.template_id == t.c.id)
_BY_ID: Final = (t.c.org_id == b("org_id"), t.c.id == b("id"))
_CURRENT: Final = v.c.version == t.c.current
_FIND: Final = Statement(sa.select(*_COLUMNS).select_from(_JOINED).where(*_BY_ID, _CURRENT))
_FIND_VERSION: Final = Statement(sa.select(*_COLUMNS).select_from(_JOINED).where(*_BY_ID, v.c.version == b("number")))
_LOCK: Final = Statement(sa.select(t.c.id).where(*_BY_ID).with_for_update())
_LIST: Final = Statement(
    sa.select(*_LISTED).select_from(_JOINED).where(t.c.org_id == b("org_id"), _CURRENT).order_by(t.c.id.desc())
)
_OF_SOURCE: Final = Statement(
    sa.select(t.c.id)
    .where(t.c.org_id == b("org_id"), t.c.source_workflow_id == b("source"))
    .order_by(t.c.id.desc())
    .limit(1)
)
_VERSIONS: Final = Statement(
    sa.select(*_LISTED)
    .select_from(_JOINED)
    .where(*_BY_ID)
    .order_by(v.c.version.desc())
    .limit(b("count", type_=sa.Integer))
    .offset(b("skip", type_=sa.Integer))
)
_COUNT: Final = Statement(sa.select(sa.func.count()).select_from(t).where(t.c.org_id == b("org_id")))
_NEWEST: Final = Statement(sa.select(sa.func.max(v.c.version)).where(v.c.template_id == b("id")))
_COUNT_VERSIONS: Final = Statement(sa.select(sa.func.count()).select_from(v).where(v.c.template_id == b("id")))
_INSERT: Final = Statement(sa.insert(t))
_INSERT_VERSION: Final = Statement(sa.insert(v))
_SET_CURRENT: Final = Statement(
    sa.update(t).where(t.c.id == b("of_id")).values(current=b("number"), updated_at=b("now_ms"))
)
_NOTE_USE: Final = Statement(  # of one that was deleted meanwhile there is nothing to note
    sa.insert(u).from_select(
        ["workflow_id", "template_id", "version", "used_at"],
        sa.select(
            sa.cast(b("of_workflow"), sa.Text),
            t.c.id,
            sa.cast(b("number"), sa.Integer),
            sa.cast(b("at"), sa.BigInteger),
        ).where(t.c.id == b("of_id")),
    )
)
_DELETE: Final = [
    Statement(sa.delete(table).where(column == b("of_id")))
    for table, column in ((u, u.c.template_id), (v, v.c.template_id), (t, t.c.id))
]
_USES: Final = Statement(
    sa.select(u.c.workflow_id, u.c.used_at, workflows.c.status)
    .select_from(u.join(workflows, workflows.c.id == u.c.workflow_id))
    .where(u.c.template_id == b("id"))
    .order_by(u.c.workflow_id.desc())
)
_ENDED: Final = Statement(
    sa.select(runs.c.status, runs.c.started_at, runs.c.finished_at)
    .where(runs.c.workflow_id == b("of_workflow"), runs.c.mode == "live", runs.c.finished_at.is_not(None))
    .order_by(runs.c.pk.desc())
    .limit(b("most", type_=sa.Integer))
)


def _row(found: tuple[Any, ...] | None) -> TemplateRow | None:
    return None if found is None else TemplateRow(**dict(zip((*_OWN, *_OF_VERSION), found, strict=True)))


def _rows(found: list[tuple[Any, ...]]) -> list[TemplateRow]:
    return [row for row in map(_row, found) if row is not None]


def insert(tx: Tx, row: TemplateRow) -> None:
    """Inserts a template and the version that it shows."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _OWN})
    insert_version(tx, row)


def insert_version(tx: Tx, row: TemplateRow) -> None:
    """Inserts the version that the row shows."""
    tx.do(_INSERT_VERSION, template_id=row.id, **{name: getattr(row, name) for name in _OF_VERSION})


def find(tx: Tx, org_id: str, template_id: str, number: int | None = None) -> TemplateRow | None:
    """A template of the organisation with the version in use, or with another one."""
    if number is None:
        return _row(tx.one(_FIND, org_id=org_id, id=template_id))
    return _row(tx.one(_FIND_VERSION, org_id=org_id, id=template_id, number=number))


def lock(tx: Tx, org_id: str, template_id: str) -> None:
    """Locks the template's row, on PostgreSQL, until the transaction ends."""
    tx.one(_LOCK, org_id=org_id, id=template_id)


def list_all(tx: Tx, org_id: str) -> list[TemplateRow]:
    """The organisation's templates without their definitions, newest first."""
    return _rows(tx.all(_LIST, org_id=org_id))


def find_of_source(tx: Tx, org_id: str, workflow_id: str) -> str | None:
    """The newest template that was made from a workflow."""
    found = tx.one(_OF_SOURCE, org_id=org_id, source=workflow_id)
    return None if found is None else str(found[0])


def list_versions(tx: Tx, org_id: str, template_id: str, *, limit: int, offset: int) -> list[TemplateRow]:
    """A page of the template's versions without their definitions, newest first."""
    return _rows(tx.all(_VERSIONS, org_id=org_id, id=template_id, count=limit, skip=offset))


def count(tx: Tx, org_id: str) -> int:
    """The organisation's number of templates."""
    found = tx.one(_COUNT, org_id=org_id)
    return int(found[0]) if found else 0


def newest_version(tx: Tx, template_id: str) -> int:
    """The highest number of its versions."""
    found = tx.one(_NEWEST, id=template_id)
    return int(found[0]) if found else 0


def count_versions(tx: Tx, template_id: str) -> int:
    """The template's number of versions."""
    found = tx.one(_COUNT_VERSIONS, id=template_id)
    return int(found[0]) if found else 0


def set_current(tx: Tx, template_id: str, number: int, now_ms: int) -> None:
    """Makes a version the one that is used."""
    tx.do(_SET_CURRENT, of_id=template_id, number=number, now_ms=now_ms)


def delete(tx: Tx, template_id: str) -> None:
    """Deletes a template with its versions; workflows that were made from it stay."""
    for statement in _DELETE:
        tx.do(statement, of_id=template_id)


def note_use(tx: Tx, template_id: str, version: int, workflow_id: str, now_ms: int) -> None:
    """Notes that a workflow was made from a template."""
    tx.do(_NOTE_USE, of_workflow=workflow_id, of_id=template_id, number=version, at=now_ms)


def list_uses(tx: Tx, template_id: str) -> list[tuple[str, int, str]]:
    """The workflows that were made from it, newest first: id, when, and their status."""
    return [(str(row[0]), int(row[1]), str(row[2])) for row in tx.all(_USES, id=template_id)]


def list_ended(tx: Tx, workflow_id: str, most: int) -> list[tuple[str, int]]:
    """The newest live runs of a workflow that have ended: their status, and how long they took in milliseconds."""
    found = tx.all(_ENDED, of_workflow=workflow_id, most=most)
    return [(str(status), int(finished) - int(started)) for status, started, finished in found]
