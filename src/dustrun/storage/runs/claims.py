"""Which process of a shared store advances which run: a column of the run's row, changed by compare-and-set.

A run is free while nobody has claimed it, and when the process that had is no more. A run whose workflow limits its
unfinished runs is free once few enough older ones are left, whoever advances those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Final

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Returned, Row, Statement, Tx
from dustrun.storage.runs import journal
from dustrun.storage.runs.runs import OpenRun, RunRow
from dustrun.storage.sharing.leases import IS_DEAD

_IS_OPEN: Final = "r.status IN ('running', 'waiting')"
_IS_FREE: Final = f"(r.claimed_by IS NULL OR {IS_DEAD.format(holder='r.claimed_by')})"
_HAS_SIGNALS: Final = "EXISTS (SELECT 1 FROM run_signals s WHERE s.run_pk = r.pk)"
_FACTS: Final = (
    "r.pk, r.id, r.org_id, r.workflow_id, r.concurrency_key, r.status, r.wake_at, r.cancel_requested_at,"
    f" w.concurrency, {_HAS_SIGNALS}"
)
_FROM: Final = "FROM runs r LEFT JOIN workflows w ON w.id = r.workflow_id"
# how many older unfinished runs of the same workflow and key there are
_BEFORE: Final = (
    "SELECT pk, row_number() OVER (PARTITION BY workflow_id, concurrency_key ORDER BY pk) - 1 AS older"  # noqa: S608 - a constant of ours
    " FROM runs r WHERE r.concurrency_key IS NOT NULL AND " + _IS_OPEN
)
_BY_INDEX = Statement(
    sa.text("SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)")
)
_AS_PLANNED = Statement(
    sa.text("SELECT set_config('enable_bitmapscan', 'on', true), set_config('enable_seqscan', 'on', true)")
)
_FIND_FREE: Final = (
    f"SELECT {_FACTS} {_FROM} LEFT JOIN queued q ON q.pk = r.pk"
    f" WHERE {_IS_OPEN} AND {_IS_FREE} AND (q.older IS NULL OR w.concurrency IS NULL"
    " OR r.cancel_requested_at IS NOT NULL OR q.older < CAST(CAST(w.concurrency AS json)->>'max' AS integer))"
    " ORDER BY r.pk LIMIT :count"
)
_FREE = Statement(sa.text(f"WITH queued AS ({_BEFORE}) {_FIND_FREE}"))
_COUNT_FREE = Statement(
    sa.text(
        "SELECT count(*) FROM (SELECT 1 FROM runs WHERE status = 'running' AND claimed_by IS NULL LIMIT :most) AS free"
    )
)
_CLAIM = Statement(
    sa.text(
        f"WITH queued AS ({_BEFORE}), free AS ({_FIND_FREE})"  # noqa: S608 - the same
        " UPDATE runs c SET claimed_by = :holder, fence = c.fence + 1 FROM free WHERE c.pk = free.pk RETURNING free.*"
    )
)
_IS_NEW: Final = (
    "r.pk = ANY(CAST(:pks AS bigint[])) AND r.claimed_by = :holder AND r.nodes_executed = 0"
    " AND r.source_run_id IS NULL AND length(r.payload) + length(r.prop_values) <= :chars"
)
_NEW = Statement(
    sa.text(f"SELECT {', '.join(f'r.{field.name}' for field in fields(RunRow))} FROM runs r WHERE {_IS_NEW}")  # noqa: S608 - the same
)
_EXECUTIONS = Statement(
    sa.text(
        f"SELECT run_pk, {', '.join(journal.COLUMNS)} FROM executions"  # noqa: S608 - the same
        f" WHERE run_pk IN (SELECT r.pk FROM runs r WHERE {_IS_NEW}) ORDER BY run_pk, path, attempt"
    )
)
_OWN = Statement(sa.text(f"SELECT {_FACTS} {_FROM} WHERE {_IS_OPEN} AND r.claimed_by = :holder ORDER BY r.pk"))
_CALLED = Statement(
    sa.text(
        "SELECT r.pk, coalesce(max(s.id), 0), r.cancel_requested_at IS NOT NULL"  # noqa: S608 - the same
        f" FROM runs r LEFT JOIN run_signals s ON s.run_pk = r.pk WHERE {_IS_OPEN} AND r.claimed_by = :holder"
        " GROUP BY r.pk HAVING max(s.id) IS NOT NULL OR r.cancel_requested_at IS NOT NULL ORDER BY r.pk"
    )
)
_TAKE_UP = Statement(
    sa.text(
        f"UPDATE runs r SET fence = fence + 1 WHERE r.pk = :pk AND {_IS_OPEN} AND r.claimed_by = :holder"  # noqa: S608 - the same
        " RETURNING fence"
    )
)
_RELEASE = Statement(
    sa.text(f"UPDATE runs r SET claimed_by = NULL WHERE {_IS_OPEN} AND r.claimed_by = :holder")  # noqa: S608 - the same
)


@dataclass(frozen=True, slots=True)
class Called:
    """A run that has something to read; `newest` is its newest signal, 0 without any."""

    pk: int
    newest: int
    is_cancelled: bool


@contextmanager
def _by_index(tx: Tx) -> Iterator[None]:
    """Has what is asked meanwhile found by indexes, in their order.

    An index's entries of runs that have ended are marked then, and passed over the next time; as a bitmap, all that
    ended since the last VACUUM are looked up in the table each time. And a planner without statistics reads a whole
    table for the executions of fifty runs."""
    tx.do(_BY_INDEX)
    yield
    tx.do(_AS_PLANNED)


def list_free(tx: Tx, count: int) -> list[OpenRun]:
    """Lists runs that any process may claim, oldest first."""
    return [OpenRun(*row) for row in tx.all(_FREE, count=count)]


def count_free(tx: Tx, most: int) -> int:
    """Counts runs that wait for a process to advance them, up to `most`."""
    found = tx.one(_COUNT_FREE, most=most)
    return int(found[0]) if found is not None else 0


def claim(tx: Tx, holder: str, count: int) -> Returned:
    """Claims at most so many free runs for a process, the oldest ones, and takes their next fence. Nobody else can
    claim them, since writers take turns. The answer arrives with that of the commit; `claimed` reads it."""
    with _by_index(tx):
        return tx.soon_all(_CLAIM, holder=holder, count=count)


def claimed(answer: Returned) -> list[OpenRun]:
    """The runs that were claimed, oldest first."""
    return sorted((OpenRun(*row) for row in answer.value), key=lambda run: run.pk)


def list_new(tx: Tx, run_pks: Sequence[int], holder: str, most_chars: int) -> list[tuple[RunRow, list[Row]]]:
    """Lists those of some runs of a process that have only begun, with a small payload, and the rows of their
    executions. A retry has the results that it kept, so it is none of them."""
    which = {"pks": _array(run_pks), "holder": holder, "chars": most_chars}
    with _by_index(tx):
        found, begun = tx.soon_all(_NEW, **which), tx.soon_all(_EXECUTIONS, **which)
        tx.wait()
    new = [RunRow(*row) for row in found.value]
    stored: dict[int, list[Row]] = {run.pk: [] for run in new}
    for run_pk, *row in begun.value:
        stored[run_pk].append(tuple(row))
    return [(run, stored[run.pk]) for run in new]


def _array(run_pks: Iterable[int]) -> str:
    """PostgreSQL's text for an array: values of what is read have to be hashable."""
    return f"{{{','.join(map(str, run_pks))}}}"


def list_own(tx: Tx, holder: str) -> list[OpenRun]:
    """Lists a process's unfinished runs, oldest first."""
    return [OpenRun(*row) for row in tx.all(_OWN, holder=holder)]


def list_called(tx: Tx, holder: str) -> list[Called]:
    """Lists those of a process's unfinished runs that have signals to read, or are to be cancelled."""
    return [Called(*row) for row in tx.all(_CALLED, holder=holder)]


def take_up(tx: Tx, run_pk: int, holder: str) -> int | None:
    """Takes up a run that the process has claimed, and returns its new fence; None if it has ended or is another's."""
    row = tx.one(_TAKE_UP, pk=run_pk, holder=holder)
    return int(row[0]) if row is not None else None


def release(tx: Tx, holder: str) -> None:
    """Frees all runs of a process that stops."""
    tx.do(_RELEASE, holder=holder)
