"""Reads the runs that have ended, in the order in which their ends were committed."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.stream_events import RUN_FINISHED
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import activity, events, runs, workflows

_ENDS = (
    sa.select(
        activity.c.id,
        runs.c.pk,
        runs.c.id,
        runs.c.org_id,
        runs.c.workflow_id,
        runs.c.workflow_name,
        runs.c.version,
        runs.c.status,
        runs.c.mode,
        runs.c.trigger_source,
        runs.c.payload,
        runs.c.callers,
        runs.c.started_at,
        runs.c.finished_at,
        events.c.data,
    )
    .select_from(
        activity.join(runs, runs.c.pk == activity.c.run_pk).join(
            events, sa.and_(events.c.run_pk == activity.c.run_pk, events.c.seq == activity.c.seq)
        )
    )
    .where(
        activity.c.id > b("after", type_=sa.BigInteger),
        activity.c.id <= b("until", type_=sa.BigInteger),
        events.c.type == RUN_FINISHED,
        runs.c.mode != "simulate",
    )
    .order_by(activity.c.id)
    .limit(b("count", type_=sa.Integer))
)
_PAGE = Statement(_ENDS)
_NEWEST = Statement(sa.select(sa.func.coalesce(sa.func.max(activity.c.id), 0)))
_FAILURES = Statement(sa.select(workflows.c.failures_in_row).where(workflows.c.id == b("workflow_id")))
_FAILURES_TO_CHANGE = Statement(
    sa.select(workflows.c.failures_in_row, workflows.c.status)
    .where(workflows.c.id == b("workflow_id"))
    .with_for_update()
)
_SET_FAILURES = Statement(
    sa.update(workflows).where(workflows.c.id == b("workflow_id")).values(failures_in_row=b("failures"))
)


@dataclass(frozen=True, slots=True)
class EndRow:
    """A run that has ended, and where its end is among all that runs did."""

    cursor: int
    run_pk: int
    run_id: str
    org_id: str
    workflow_id: str | None
    workflow_name: str
    version: int | None
    status: str
    mode: str
    trigger_source: str
    payload: str
    """As it is stored: see `StoredValues`."""
    callers: str | None
    started_at: int
    finished_at: int | None
    told: str
    """The payload of the event of its end, JSON."""


def list_all(tx: Tx, after: int, until: int, count: int) -> list[EndRow]:
    """Lists the ends of runs that were no simulations, between two cursors, in commit order."""
    return [EndRow(*row) for row in tx.all(_PAGE, after=after, until=until, count=count)]


@functools.cache
def _page_of(sources: tuple[str, ...]) -> Statement:
    return Statement(_ENDS.where(sa.or_(*(runs.c.trigger_source == source for source in sources))))


class EndsOf:
    """Ends of runs that certain triggers started. Those of others never leave the database, which is much faster."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._page = _page_of(tuple(sources))

    def list(self, tx: Tx, after: int, until: int, count: int) -> list[EndRow]:
        """Like `list_all`."""
        return [EndRow(*row) for row in tx.all(self._page, after=after, until=until, count=count)]


def newest(tx: Tx) -> int:
    """The cursor of the newest activity; 0 if there is none."""
    row = tx.one(_NEWEST)
    assert row is not None
    return int(row[0])


def failures(tx: Tx, workflow_id: str) -> int:
    """How many triggered runs of a workflow have failed in a row."""
    row = tx.one(_FAILURES, workflow_id=workflow_id)
    return int(row[0]) if row is not None else 0


def failures_to_change(tx: Tx, workflow_id: str) -> tuple[int, str] | None:
    """(failures in a row, status) of a workflow, whose row is locked on PostgreSQL."""
    row = tx.one(_FAILURES_TO_CHANGE, workflow_id=workflow_id)
    return (int(row[0]), str(row[1])) if row is not None else None


def set_failures(tx: Tx, workflow_id: str, failures: int) -> None:
    """Sets how many triggered runs of a workflow have failed in a row."""
    tx.do(_SET_FAILURES, workflow_id=workflow_id, failures=failures)
