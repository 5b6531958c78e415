"""Rows of hooks."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import activity, hook_notices, hook_runs, workflows
from dustrun.storage.db.tables import hooks as t

ACTIVE, DISABLED = "active", "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRow:
    """One hook; times in milliseconds, lists as JSON."""

    id: str
    org_id: str
    name: str
    description: str | None
    url: str
    event_types: str
    workflow_ids: str | None
    modes: str
    max_retries: int
    sealed: str
    status: str = ACTIVE
    disabled_at: int | None = None
    disabled_reason: str | None = None
    failures: int = 0
    failing_since: int | None = None
    resume_at: int | None = None
    activity_id: int = 0
    notice_id: int = 0
    moves: int = 0
    created_by: str
    created_at: int
    updated_at: int


_NAMES = tuple(field.name for field in fields(HookRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.id == b("id")))
_GET = Statement(sa.select(*_COLUMNS).where(t.c.id == b("id")))
_LIST = Statement(
    sa.select(*_COLUMNS).where(t.c.org_id == b("org_id")).order_by(t.c.id.desc()).limit(b("count")).offset(b("skip"))
)
_LIST_ACTIVE = Statement(sa.select(t.c.id, t.c.org_id).where(t.c.status == ACTIVE).order_by(t.c.id))
_COUNT = Statement(sa.select(sa.func.count()).select_from(t).where(t.c.org_id == b("org_id")))
_CONTENT = ("name", "description", "url", "event_types", "workflow_ids", "modes", "max_retries", "sealed", "updated_at")
_UPDATE = Statement(sa.update(t).where(t.c.id == b("of_id")).values(**{name: b(name) for name in _CONTENT}))
_STATE = ("status", "disabled_at", "disabled_reason", "failures", "failing_since", "resume_at", "updated_at")
_SET_STATE = Statement(
    sa.update(t).where(t.c.id == b("of_id")).values(**{name: b(name, type_=t.c[name].type) for name in _STATE})
)
_FAILING = ("failures", "failing_since", "resume_at")
_SET_FAILING = Statement(
    sa.update(t).where(t.c.id == b("of_id")).values(**{name: b(name, type_=t.c[name].type) for name in _FAILING})
)
_END_PAUSE = Statement(sa.update(t).where(t.c.id == b("of_id")).values(resume_at=sa.null()))
_NEWEST = (
    sa.select(sa.func.coalesce(sa.func.max(activity.c.id), 0))
    .where(activity.c.org_id == b("org_id"))
    .scalar_subquery(),
    sa.select(sa.func.coalesce(sa.func.max(hook_notices.c.id), 0))
    .where(hook_notices.c.org_id == b("org_id"))
    .scalar_subquery(),
)
_NEWEST_OF = Statement(sa.select(*_NEWEST))
_MOVE = Statement(
    sa.update(t)
    .where(t.c.id == b("of_id"), t.c.moves == b("expected"), t.c.status == ACTIVE)
    .values(activity_id=b("to_activity"), notice_id=b("to_notice"), moves=t.c.moves + 1)
)
_FORGET_RUNS = Statement(sa.delete(hook_runs).where(hook_runs.c.hook_id == b("of_id")))
_DELETE = Statement(sa.delete(t).where(t.c.id == b("of_id")))


def _row(found: tuple[Any, ...]) -> HookRow:
    return HookRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: HookRow) -> None:
    """Inserts a hook."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def find(tx: Tx, org_id: str, hook_id: str) -> HookRow | None:
    """Finds a hook of the organisation."""
    found = tx.one(_FIND, org_id=org_id, id=hook_id)
    return _row(found) if found else None


def find_any(tx: Tx, hook_id: str) -> HookRow | None:
    """Finds a hook of any organisation, for the host that sends."""
    found = tx.one(_GET, id=hook_id)
    return _row(found) if found else None


def list_page(tx: Tx, org_id: str, *, limit: int, offset: int) -> list[HookRow]:
    """Lists the organisation's hooks, newest first."""
    return [_row(found) for found in tx.all(_LIST, org_id=org_id, count=limit, skip=offset)]


def list_active(tx: Tx) -> list[tuple[str, str]]:
    """Ids of all active hooks, each with its organisation."""
    return [(str(found[0]), str(found[1])) for found in tx.all(_LIST_ACTIVE)]


def count(tx: Tx, org_id: str) -> int:
    """The organisation's number of hooks."""
    row = tx.one(_COUNT, org_id=org_id)
    return int(row[0]) if row else 0


def update(tx: Tx, row: HookRow) -> None:
    """Updates what a person can change of a hook."""
    tx.do(_UPDATE, of_id=row.id, **{name: getattr(row, name) for name in _CONTENT})


def set_state(tx: Tx, row: HookRow) -> None:
    """Updates whether a hook is active, and why not."""
    tx.do(_SET_STATE, of_id=row.id, **{name: getattr(row, name) for name in _STATE})


def set_failing(tx: Tx, hook_id: str, *, failures: int, since: int | None, resume_at: int | None) -> None:
    """Counts failures in a row; 0 after an attempt that arrived."""
    tx.do(_SET_FAILING, of_id=hook_id, failures=failures, failing_since=since, resume_at=resume_at)


def end_pause(tx: Tx, hook_id: str) -> None:
    """Lets a hook whose receiver fails send at once."""
    tx.do(_END_PAUSE, of_id=hook_id)


def newest(tx: Tx, org_id: str) -> tuple[int, int]:
    """The organisation's newest activity and notice: where a hook begins."""
    row = tx.one(_NEWEST_OF, org_id=org_id)
    return (int(row[0]), int(row[1])) if row else (0, 0)


def move(tx: Tx, hook_id: str, expected: int, activity_id: int, notice_id: int) -> bool:
    """Moves an active hook's cursors; False if they were moved since `expected` was read."""
    moved = tx.run(_MOVE, of_id=hook_id, expected=expected, to_activity=activity_id, to_notice=notice_id)
    return moved == 1


def forget_runs(tx: Tx, hook_id: str) -> None:
    """Follows no run any more."""
    tx.do(_FORGET_RUNS, of_id=hook_id)


def delete(tx: Tx, hook_id: str) -> None:
    """Deletes a hook; its deliveries stay in the log."""
    forget_runs(tx, hook_id)
    tx.do(_DELETE, of_id=hook_id)


def unknown_workflows(tx: Tx, org_id: str, ids: list[str]) -> list[str]:
    """Which of the ids are no workflows of the organisation."""
    wanted = sa.or_(*(workflows.c.id == one for one in ids))
    query = sa.select(workflows.c.id).where(workflows.c.org_id == org_id, wanted)
    known = {row[0] for row in tx.all(Statement(query))}
    return [one for one in ids if one not in known]
