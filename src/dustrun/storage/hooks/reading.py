"""Reads what a hook has not been told of yet: activity, events of the runs that it follows, notices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.stream_events import OF_ACTIVITY
from dustrun.core.values.exact_json import dumps_text
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import activity, events, hook_notices, hook_runs, hooks, runs
from dustrun.storage.db.tables import hook_notices as t


class FollowedRun(NamedTuple):
    """A run, and how far the hook has read it; `seq` is None if it does not follow it yet."""

    pk: int
    id: str
    workflow_id: str | None
    workflow_name: str
    version: int | None
    mode: str
    last_seq: int
    seq: int | None


class Active(NamedTuple):
    """One row of the activity: the event `seq` of a run."""

    id: int
    seq: int
    type: str
    run: FollowedRun


class RunEvent(NamedTuple):
    """One event of a run."""

    seq: int
    type: str
    at: int
    data: str


class HookNotice(NamedTuple):
    """One event that is in no run's stream."""

    id: int
    type: str
    workflow_id: str | None
    run_id: str | None
    mode: str | None
    at: int
    data: str


_RUN = (runs.c.pk, runs.c.id, runs.c.workflow_id, runs.c.workflow_name, runs.c.version, runs.c.mode, runs.c.last_seq)
_ACTIVITY = Statement(
    sa.select(activity.c.id, activity.c.seq, events.c.type, *_RUN, hook_runs.c.seq)
    .join(runs, runs.c.pk == activity.c.run_pk)
    .join(events, sa.and_(events.c.run_pk == activity.c.run_pk, events.c.seq == activity.c.seq))
    .outerjoin(hook_runs, sa.and_(hook_runs.c.hook_id == b("hook_id"), hook_runs.c.run_pk == activity.c.run_pk))
    .where(activity.c.org_id == b("org_id"), activity.c.id > b("after"))
    .order_by(activity.c.id)
    .limit(b("count"))
)
_behind = (
    sa.select(*_RUN, hook_runs.c.seq)
    .join(runs, runs.c.pk == hook_runs.c.run_pk)
    .where(hook_runs.c.hook_id == b("hook_id"), runs.c.last_seq > hook_runs.c.seq)
)
_BEHIND = Statement(_behind.order_by(hook_runs.c.run_pk).limit(b("count")))
_BEHIND_ONE = Statement(_behind.where(hook_runs.c.run_pk == b("run_pk")))
_events = (
    sa.select(events.c.seq, events.c.type, events.c.at, events.c.data)
    .where(events.c.run_pk == b("run_pk"), events.c.seq > b("after"))
    .order_by(events.c.seq)
    .limit(b("count"))
)
_EVENTS = Statement(_events)
_EVENTSOF_ACTIVITY = Statement(_events.where(sa.or_(*(events.c.type == kind for kind in OF_ACTIVITY))))
_NOTICES = Statement(
    sa.select(*(hook_notices.c[name] for name in HookNotice._fields))
    .where(hook_notices.c.org_id == b("org_id"), hook_notices.c.id > b("after"))
    .order_by(hook_notices.c.id)
    .limit(b("count"))
)
_FOLLOW = Statement(
    sa.text(
        "INSERT INTO hook_runs (hook_id, run_pk, seq) VALUES (:hook_id, :run_pk, :seq)"
        " ON CONFLICT (hook_id, run_pk) DO UPDATE SET seq = excluded.seq"
    )
)
_LEAVE = Statement(sa.delete(hook_runs).where(hook_runs.c.hook_id == b("of_hook"), hook_runs.c.run_pk == b("of_run")))


def list_activity(tx: Tx, org_id: str, hook_id: str, after: int, count: int) -> list[Active]:
    """Lists starts, waits and ends after a cursor, in commit order."""
    found = tx.all(_ACTIVITY, org_id=org_id, hook_id=hook_id, after=after, count=count)
    return [Active(row[0], row[1], row[2], FollowedRun(*row[3:])) for row in found]


def list_behind(tx: Tx, hook_id: str, run_pks: Sequence[int] | None, count: int) -> list[FollowedRun]:
    """Lists followed runs with events that the hook has not read: of all, or of some."""
    if run_pks is None:
        return [FollowedRun(*row) for row in tx.all(_BEHIND, hook_id=hook_id, count=count)]
    found = (tx.one(_BEHIND_ONE, hook_id=hook_id, run_pk=pk) for pk in run_pks)
    return [FollowedRun(*row) for row in found if row is not None]


def list_events(tx: Tx, run_pk: int, after: int, count: int, *, steps: bool) -> list[RunEvent]:
    """Lists events of a run after number `after`; without `steps` only its starts, waits and ends."""
    found = tx.all(_EVENTS if steps else _EVENTSOF_ACTIVITY, run_pk=run_pk, after=after, count=count)
    return [RunEvent(*row) for row in found]


def list_notices(tx: Tx, org_id: str, after: int, count: int) -> list[HookNotice]:
    """Lists notices after a cursor."""
    return [HookNotice(*row) for row in tx.all(_NOTICES, org_id=org_id, after=after, count=count)]


def follow(tx: Tx, hook_id: str, positions: Sequence[tuple[int, int]]) -> None:
    """Keeps how far the hook has read runs: row id and number of the newest event."""
    tx.many(_FOLLOW, [{"hook_id": hook_id, "run_pk": pk, "seq": seq} for pk, seq in positions])


def leave(tx: Tx, hook_id: str, run_pks: Sequence[int]) -> None:
    """Stops following ended runs."""
    tx.many(_LEAVE, [{"of_hook": hook_id, "of_run": pk} for pk in run_pks])


# Events for hooks that are not in a run's stream: a paused workflow, a reorganised transaction of an ended run.


_COLUMNS = ("org_id", "type", "workflow_id", "run_id", "mode", "at", "data")
# an organisation without hooks writes nothing
_ADD = Statement(
    sa.insert(t).from_select(
        list(_COLUMNS),
        sa.select(*(sa.cast(b(name), t.c[name].type).label(name) for name in _COLUMNS)).where(
            sa.exists().where(hooks.c.org_id == b("of_org"))
        ),
    )
)
_newest = sa.select(sa.func.max(t.c.id)).scalar_subquery()
# ids must never be used again: they are cursors
_PRUNE = Statement(
    sa.delete(t).where(
        t.c.id.in_(sa.select(t.c.id).where(t.c.at < b("before"), t.c.id < _newest).order_by(t.c.id).limit(b("count")))
    )
)


def add(
    tx: Tx,
    *,
    org_id: str,
    type_: str,
    at: int,
    data: dict[str, Any],
    workflow_id: str | None = None,
    run_id: str | None = None,
    mode: str | None = None,
) -> None:
    """Writes an event, in the transaction of what it tells; nothing if the organisation has no hooks."""
    values = {"org_id": org_id, "type": type_, "workflow_id": workflow_id, "run_id": run_id, "mode": mode, "at": at}
    tx.do(_ADD, **values, data=dumps_text(data), of_org=org_id)


def prune(tx: Tx, before: int, count: int) -> int:
    """Deletes up to `count` events from before a time; returns how many."""
    return tx.run(_PRUNE, before=before, count=count)
