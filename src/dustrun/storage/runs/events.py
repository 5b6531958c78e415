"""Reads events: of one run after a sequence number, or of many runs after a cursor."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import activity, events, runs
from dustrun.storage.runs.journal import Event

_AFTER = Statement(
    sa.select(events.c.seq, events.c.type, events.c.at, events.c.data)
    .where(events.c.run_pk == b("run_pk"), events.c.seq > b("after"))
    .order_by(events.c.seq)
    .limit(b("count"))
)
_OF_TYPE = Statement(
    sa.select(events.c.seq, events.c.type, events.c.at, events.c.data)
    .where(events.c.run_pk == b("run_pk"), events.c.type == b("type_"))
    .order_by(events.c.seq)
    .limit(1)
)
_NEWEST = Statement(sa.select(sa.func.max(activity.c.id)).where(activity.c.org_id == b("org_id")))


def list_after(tx: Tx, run_pk: int, after: int, count: int) -> list[Event]:
    """Lists up to `count` events of a run with sequence numbers above `after`, in order."""
    return [Event(*row) for row in tx.all(_AFTER, run_pk=run_pk, after=after, count=count)]


def find_of_type(tx: Tx, run_pk: int, kind: str) -> Event | None:
    """Finds a run's first event of one type."""
    row = tx.one(_OF_TYPE, run_pk=run_pk, type_=kind)
    return Event(*row) if row is not None else None


def newest_activity(tx: Tx, org_id: str) -> int:
    """The cursor of the organisation's newest start, wait or end."""
    row = tx.one(_NEWEST, org_id=org_id)
    return int(row[0] or 0) if row else 0


@functools.lru_cache(maxsize=32)
def _activity(workflows: int | None) -> Statement:
    """Builds the statement for a number of workflows, or for the whole organisation."""
    query = (
        sa.select(
            activity.c.id,
            runs.c.id,
            activity.c.workflow_id,
            events.c.seq,
            events.c.type,
            events.c.at,
            events.c.data,
        )
        .join(runs, runs.c.pk == activity.c.run_pk)
        .join(events, sa.and_(events.c.run_pk == activity.c.run_pk, events.c.seq == activity.c.seq))
        .where(activity.c.org_id == b("org_id"), activity.c.id > b("after"))
        .order_by(activity.c.id)
        .limit(b("count"))
    )
    if workflows is not None:
        query = query.where(sa.or_(*(activity.c.workflow_id == b(f"wf{index}") for index in range(workflows))))
    return Statement(query)


def list_activity(
    tx: Tx, org_id: str, after: int, count: int, workflow_ids: Sequence[str] | None
) -> list[tuple[int, str, str | None, Event]]:
    """Lists (cursor, run id, workflow id, event) of starts, waits and ends after a cursor, in commit order."""
    statement = _activity(None if workflow_ids is None else len(workflow_ids))
    wanted = {f"wf{index}": workflow_id for index, workflow_id in enumerate(workflow_ids or ())}
    found = tx.all(statement, org_id=org_id, after=after, count=count, **wanted)
    return [(row[0], row[1], row[2], Event(*row[3:])) for row in found]
