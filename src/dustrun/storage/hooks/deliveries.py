"""Rows of deliveries. Of each queue only the first open delivery has `next_at`, so order is kept by the rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import hook_deliveries as t

PENDING, RETRYING, SUCCESS, FAILURE = "pending", "retrying", "success", "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One delivery; times in milliseconds, `body`, `attempt_log` and `response` JSON."""

    id: str
    org_id: str
    hook_id: str
    queue: str
    event_id: str
    event_type: str
    run_id: str | None
    workflow_id: str | None
    body: str
    status: str = PENDING
    attempts: int = 0
    next_at: int | None = None
    attempt_log: str = "[]"
    response: str | None = None
    replay_of: str | None = None
    created_at: int
    updated_at: int
    finished_at: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFilters:
    """Which deliveries a list shows; None: all."""

    hook_id: str | None = None
    status: str | None = None
    run_id: str | None = None


_NAMES = tuple(field.name for field in fields(DeliveryRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NAMES}))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.id == b("id")))
_DUE = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.hook_id == b("hook_id"), t.c.next_at.is_not(None), t.c.next_at <= b("now"))
    .order_by(t.c.next_at, t.c.pk)
    .limit(b("count"))
)
_NEXT_AT = Statement(
    sa.select(sa.func.min(t.c.next_at)).where(
        t.c.hook_id == b("hook_id"), t.c.next_at.is_not(None), t.c.next_at > b("now")
    )
)
_IS_BUSY = Statement(
    sa.select(t.c.pk).where(t.c.hook_id == b("hook_id"), t.c.queue == b("queue"), t.c.finished_at.is_(None)).limit(1)
)
_first = (
    sa.select(sa.func.min(t.c.pk))
    .where(t.c.hook_id == b("of_hook"), t.c.queue == b("of_queue"), t.c.finished_at.is_(None))
    .scalar_subquery()
)
_PROMOTE = Statement(sa.update(t).where(t.c.pk == _first, t.c.next_at.is_(None)).values(next_at=b("now")))
_CHANGED = ("status", "attempts", "next_at", "attempt_log", "response", "updated_at", "finished_at")
_RECORD = Statement(
    sa.update(t)
    .where(t.c.id == b("of_id"), t.c.attempts == b("expected"))
    .values(**{name: b(name, type_=t.c[name].type) for name in _CHANGED})
)
_open = sa.select(t.c.pk).where(t.c.hook_id == b("hook_id"), t.c.finished_at.is_(None)).limit(b("most")).subquery()
_COUNT_OPEN = Statement(sa.select(sa.func.count()).select_from(_open))
_END_ALL = Statement(
    sa.update(t)
    .where(t.c.hook_id == b("of_hook"), t.c.finished_at.is_(None))
    .values(status=FAILURE, next_at=sa.null(), finished_at=b("now"), updated_at=b("now"))
)
_OLD = sa.select(t.c.pk).where(t.c.created_at < b("before")).order_by(t.c.created_at).limit(b("count"))
_PRUNE = Statement(sa.delete(t).where(t.c.pk.in_(_OLD)))


def _row(found: tuple[Any, ...]) -> DeliveryRow:
    return DeliveryRow(**dict(zip(_NAMES, found, strict=True)))


def insert(tx: Tx, row: DeliveryRow) -> None:
    """Inserts one delivery as it is."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def insert_in_order(tx: Tx, rows: Sequence[DeliveryRow]) -> None:
    """Inserts deliveries of one hook; those that are first in their queue are due when they are created."""
    busy: set[str] = set()
    values = []
    for row in rows:
        is_first = row.queue not in busy and tx.one(_IS_BUSY, hook_id=row.hook_id, queue=row.queue) is None
        busy.add(row.queue)
        values.append({name: getattr(row, name) for name in _NAMES} | {"next_at": row.created_at if is_first else None})
    tx.many(_INSERT, values)


def find(tx: Tx, org_id: str, delivery_id: str) -> DeliveryRow | None:
    """Finds a delivery of the organisation."""
    found = tx.one(_FIND, org_id=org_id, id=delivery_id)
    return _row(found) if found else None


def list_page(tx: Tx, org_id: str, filters: DeliveryFilters, *, limit: int, offset: int) -> list[DeliveryRow]:
    """Lists the organisation's deliveries, newest first."""
    query = sa.select(*_COLUMNS).where(t.c.org_id == org_id)
    for name in ("hook_id", "status", "run_id"):
        if (wanted := getattr(filters, name)) is not None:
            query = query.where(t.c[name] == wanted)
    return [_row(found) for found in tx.all(Statement(query.order_by(t.c.pk.desc()).limit(limit).offset(offset)))]


def list_due(tx: Tx, hook_id: str, now: int, count: int) -> list[DeliveryRow]:
    """Lists deliveries of a hook that are due, the longest first."""
    return [_row(found) for found in tx.all(_DUE, hook_id=hook_id, now=now, count=count)]


def next_at(tx: Tx, hook_id: str, now: int) -> int | None:
    """When the next delivery is due after `now`."""
    row = tx.one(_NEXT_AT, hook_id=hook_id, now=now)
    return None if row is None else row[0]


def count_open(tx: Tx, hook_id: str, most: int) -> int:
    """The number of open deliveries of a hook, counted up to `most`."""
    row = tx.one(_COUNT_OPEN, hook_id=hook_id, most=most)
    return int(row[0]) if row else 0


def record(tx: Tx, row: DeliveryRow, expected: int, now: int) -> bool:
    """Records an attempt, and makes the queue's next delivery due if this one has ended; False if another attempt than
    number `expected` was recorded meanwhile."""
    values = {name: getattr(row, name) for name in _CHANGED}
    if tx.run(_RECORD, of_id=row.id, expected=expected, **values) != 1:
        return False
    if row.finished_at is not None:
        tx.do(_PROMOTE, of_hook=row.hook_id, of_queue=row.queue, now=now)
    return True


def end_all(tx: Tx, hook_id: str, now: int) -> None:
    """Gives up everything open of a hook that is deleted."""
    tx.do(_END_ALL, of_hook=hook_id, now=now)


def prune(tx: Tx, before: int, count: int) -> int:
    """Deletes up to `count` deliveries made before a time; returns how many."""
    return tx.run(_PRUNE, before=before, count=count)
