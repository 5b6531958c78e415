"""Rows of the events that triggers saw."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.triggers.event import REFUSED
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import runs
from dustrun.storage.db.trigger_tables import trigger_events as t

NO_CONTENT = "null"
"""The payload of an event whose content was deleted."""
STARTED, SKIPPED, FAILED, ORPHANED = "started", "skipped", "failed", "orphaned"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event as stored; JSON as text, times in milliseconds."""

    pk: int = 0
    id: str
    org_id: str
    workflow_id: str
    subscription_pk: int
    node_id: str
    type: str
    key: str
    mode: str
    outcome: str
    reason: str | None = None
    message: str | None = None
    run_id: str | None = None
    payload: str
    request: str | None = None
    replay_of: str | None = None
    occurred_at: int
    received_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerEventFilters:
    """Which events a list shows; `only`: the workflows that the caller may see."""

    org_id: str
    workflow_id: str | None = None
    node_id: str | None = None
    type: str | None = None
    outcome: str | None = None
    reason: str | None = None
    since: int | None = None
    until: int | None = None
    only: tuple[str, ...] | None = None


_NAMES = tuple(field.name for field in fields(EventRow))
_NEW = tuple(name for name in _NAMES if name != "pk")
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NEW}))
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.id == b("id_")))
_FIND_BY_KEY = Statement(
    sa.select(*_COLUMNS).where(t.c.subscription_pk == b("subscription_pk"), t.c.key == b("the_key"))
)
_LIST_REPLAYED_MODES = Statement(
    sa.select(t.c.mode).where(
        t.c.workflow_id == b("workflow_id"),
        t.c.pk > b("after", type_=sa.BigInteger),  # replays come later: few rows, if the event is a recent one
        t.c.replay_of == b("the_id"),
        t.c.run_id.is_not(None),
    )
)
_LIST_REPLAYS = Statement(
    sa.select(t.c.mode, t.c.run_id).where(
        t.c.workflow_id == b("workflow_id"), t.c.pk > b("after", type_=sa.BigInteger), t.c.replay_of == b("the_id")
    )
)
_LIST_BETWEEN = Statement(
    sa.select(*_COLUMNS)
    .where(
        t.c.workflow_id == b("workflow_id"),
        t.c.node_id == b("node_id"),
        t.c.replay_of.is_(None),
        t.c.payload != NO_CONTENT,
        t.c.key.not_like(f"{REFUSED}%"),
        t.c.occurred_at >= b("from_ms", type_=sa.BigInteger),
        t.c.occurred_at <= b("to_ms", type_=sa.BigInteger),
    )
    .order_by(t.c.pk)
    .limit(b("count", type_=sa.Integer))
)
_ORPHAN = Statement(
    sa.update(t).where(t.c.pk == b("the_pk")).values(outcome="orphaned", reason=b("why"), message=b("sentence"))
)

_RESTORE = Statement(
    sa.update(t).where(t.c.pk == b("the_pk")).values(outcome=b("becomes"), reason=b("why"), message=b("sentence"))
)
_OLD = (
    sa.select(t.c.pk)
    .where(t.c.org_id == b("org_id"), t.c.received_at < b("before", type_=sa.BigInteger), t.c.payload != NO_CONTENT)
    .order_by(t.c.pk)
    .limit(b("count", type_=sa.Integer))
)
_FORGET = Statement(
    sa.update(t).where(t.c.pk.in_(_OLD.scalar_subquery())).values(payload=NO_CONTENT, request=sa.null())
)
_COUNT_OUTCOMES = Statement(
    sa.select(t.c.subscription_pk, t.c.outcome, sa.func.count())
    .where(t.c.workflow_id == b("workflow_id"))
    .group_by(t.c.subscription_pk, t.c.outcome)
)
_COUNT_RUNS = Statement(
    sa.select(t.c.subscription_pk, runs.c.status, sa.func.count())
    .join(runs, sa.and_(runs.c.org_id == b("org_id"), runs.c.id == t.c.run_id))
    .where(t.c.workflow_id == b("workflow_id"))
    .group_by(t.c.subscription_pk, runs.c.status)
)
_IS_REHEARSED = (
    t.c.workflow_id == b("workflow_id"),
    t.c.mode != "live",
    t.c.received_at >= b("since", type_=sa.BigInteger),
)
_COUNT_REHEARSED = Statement(
    sa.select(t.c.outcome, t.c.reason, sa.func.count()).where(*_IS_REHEARSED).group_by(t.c.outcome, t.c.reason)
)
_REHEARSED = Statement(
    sa.select(*_COLUMNS)
    .where(*_IS_REHEARSED, t.c.run_id.is_not(None))
    .order_by(t.c.pk.desc())
    .limit(b("count", type_=sa.Integer))
)


def _row(found: tuple[Any, ...]) -> EventRow:
    return EventRow(**dict(zip(_NAMES, found, strict=True)))


def list_between(tx: Tx, workflow_id: str, node_id: str, from_ms: int, to_ms: int, count: int) -> list[EventRow]:
    """Lists the events that a trigger node received in a period, oldest first, without replays, without requests that
    were refused before they were read, and without those whose content was deleted."""
    found = tx.all(_LIST_BETWEEN, workflow_id=workflow_id, node_id=node_id, from_ms=from_ms, to_ms=to_ms, count=count)
    return [_row(one) for one in found]


def insert(tx: Tx, row: EventRow) -> None:
    """Inserts an event."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NEW})


def find(tx: Tx, org_id: str, event_id: str) -> EventRow | None:
    """Finds an event by its public id."""
    found = tx.one(_FIND, org_id=org_id, id_=event_id)
    return _row(found) if found else None


def find_by_key(tx: Tx, subscription_pk: int, key: str) -> EventRow | None:
    """Finds the event of a subscription with a key."""
    found = tx.one(_FIND_BY_KEY, subscription_pk=subscription_pk, the_key=key)
    return _row(found) if found else None


def list_run_modes(tx: Tx, row: EventRow) -> list[str]:
    """The modes of the runs that an event and its replays have started."""
    own = [row.mode] if row.run_id is not None else []
    found = tx.all(_LIST_REPLAYED_MODES, workflow_id=row.workflow_id, after=row.pk, the_id=row.id)
    return own + [str(mode) for (mode,) in found]


def orphan(tx: Tx, pk: int, reason: str, message: str) -> None:
    """Marks an event as orphaned: what it told of is not so any more."""
    tx.do(_ORPHAN, the_pk=pk, why=reason, sentence=message)


def restore(tx: Tx, pk: int, outcome: str, reason: str | None, message: str) -> None:
    """Makes an orphaned event what it was: what it tells of is so again."""
    tx.do(_RESTORE, the_pk=pk, becomes=outcome, why=reason, sentence=message)


def forget_content(tx: Tx, org_id: str, before: int, count: int) -> int:
    """Deletes the content of events that came in before a time, at most `count`; their keys stay, so that what was
    taken is never taken again. Returns how many."""
    return tx.run(_FORGET, org_id=org_id, before=before, count=count)


def _conditions(filters: TriggerEventFilters) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [t.c.org_id == filters.org_id]
    for name in ("workflow_id", "node_id", "type", "outcome", "reason"):
        value = getattr(filters, name)
        if value is not None:
            found.append(t.c[name] == value)
    if filters.since is not None:
        found.append(t.c.received_at >= filters.since)
    if filters.until is not None:
        found.append(t.c.received_at < filters.until)
    if filters.only is not None:
        found.append(t.c.workflow_id.in_(filters.only))
    return found


def list_page(tx: Tx, filters: TriggerEventFilters, *, limit: int, offset: int) -> list[EventRow]:
    """Lists events, newest first."""
    query = sa.select(*_COLUMNS).where(*_conditions(filters)).order_by(t.c.pk.desc()).limit(limit).offset(offset)
    return [_row(found) for found in tx.all(Statement(query))]


def list_to_replay(tx: Tx, filters: TriggerEventFilters, after: int, count: int) -> list[EventRow]:
    """Lists events that can be taken once more, oldest first and behind a row: no replays, no requests that were
    refused before they were read, and none without content. Without an outcome: those that started no run."""
    own = [t.c.replay_of.is_(None), t.c.payload != NO_CONTENT, t.c.key.not_like(f"{REFUSED}%"), t.c.pk > after]
    if filters.outcome is None:
        own.append(t.c.outcome.in_((SKIPPED, FAILED)))
    query = sa.select(*_COLUMNS).where(*_conditions(filters), *own).order_by(t.c.pk).limit(count)
    return [_row(found) for found in tx.all(Statement(query))]


def list_replays(tx: Tx, row: EventRow) -> list[tuple[str, str | None]]:
    """The mode and the run, if any, of each replay of an event."""
    return [
        (mode, run_id)
        for mode, run_id in tx.all(_LIST_REPLAYS, workflow_id=row.workflow_id, after=row.pk, the_id=row.id)
    ]


def count_outcomes(tx: Tx, workflow_id: str) -> dict[tuple[int, str], int]:
    """Counts a workflow's events by subscription and outcome."""
    found = tx.all(_COUNT_OUTCOMES, workflow_id=workflow_id)
    return {(row[0], row[1]): int(row[2]) for row in found}


def count_run_statuses(tx: Tx, org_id: str, workflow_id: str) -> dict[tuple[int, str], int]:
    """Counts the runs that a workflow's events started, by subscription and status."""
    found = tx.all(_COUNT_RUNS, org_id=org_id, workflow_id=workflow_id)
    return {(row[0], row[1]): int(row[2]) for row in found}


def count_rehearsed(tx: Tx, workflow_id: str, since: int) -> dict[tuple[str, str | None], int]:
    """Counts a workflow's events that were only rehearsed, by outcome and reason."""
    found = tx.all(_COUNT_REHEARSED, workflow_id=workflow_id, since=since)
    return {(row[0], row[1]): int(row[2]) for row in found}


def list_rehearsed(tx: Tx, workflow_id: str, since: int, *, limit: int) -> list[EventRow]:
    """Lists the newest events that started a rehearsal."""
    return [_row(found) for found in tx.all(_REHEARSED, workflow_id=workflow_id, since=since, count=limit)]
