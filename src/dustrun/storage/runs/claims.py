"""Which process of a shared store advances which run: a column of the run's row, changed by compare-and-set.

A run is free while nobody has claimed it; the claims of processes that are no more are released by those that live. A
run whose workflow limits its unfinished runs is free once few enough older ones are left, whoever advances those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from operator import itemgetter
from typing import Final, NamedTuple

import sqlalchemy as sa

from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass
from dustrun.storage.db.statement import PendingResult, Row, Statement, Tx
from dustrun.storage.runs import journal
from dustrun.storage.runs.large_values import MARK
from dustrun.storage.runs.runs import OpenRun, RunRow
from dustrun.storage.sharing.leases import IS_DEAD

_IS_OPEN: Final = "r.status IN ('running', 'waiting')"
_HAS_SIGNALS: Final = "EXISTS (SELECT 1 FROM run_signals s WHERE s.run_pk = r.pk)"
_OF_RUN: Final = "r.pk, r.id, r.org_id, r.workflow_id, r.concurrency_key, r.status, r.wake_at, r.cancel_requested_at"
_FACTS: Final = f"{_OF_RUN}, w.concurrency, {_HAS_SIGNALS}"
_FROM: Final = "FROM runs r LEFT JOIN workflows w ON w.id = r.workflow_id"
# runs that wait until fewer older ones of their workflow and key are unfinished
_HELD: Final = (
    "SELECT q.pk FROM (SELECT r.pk, r.workflow_id, r.cancel_requested_at,"  # noqa: S608 - a constant of ours
    " row_number() OVER (PARTITION BY r.workflow_id, r.concurrency_key ORDER BY r.pk) - 1 AS older"
    f" FROM runs r WHERE r.concurrency_key IS NOT NULL AND {_IS_OPEN}) q JOIN workflows w ON w.id = q.workflow_id"
    " WHERE q.cancel_requested_at IS NULL AND q.older >= CAST(CAST(w.concurrency AS json)->>'max' AS integer)"
)
_IS_FREE: Final = (
    f"{_IS_OPEN} AND r.claimed_by IS NULL AND (r.concurrency_key IS NULL OR r.pk NOT IN (SELECT pk FROM held))"  # noqa: S608 - the same
)
# The index's own order: without its first column, which is NULL in all of them, PostgreSQL would sort.
_IN_ORDER: Final = "ORDER BY r.claimed_by, r.org_id, r.pk"
_BY_INDEX = Statement(
    sa.text("SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)")
)
_AS_PLANNED = Statement(
    sa.text("SELECT set_config('enable_bitmapscan', 'on', true), set_config('enable_seqscan', 'on', true)")
)
# The organisations that have free runs, each found by the index alone: those behind `after`, then, behind a row without
# any, those from the first on.
_ORGS: Final = (
    "SELECT CAST(:after AS text), 0, 0 UNION ALL"  # noqa: S608 - the same
    f" SELECT (SELECT r.org_id FROM runs r WHERE {_IS_FREE} AND r.org_id > coalesce(o.org_id, '') {_IN_ORDER} LIMIT 1),"
    " CASE WHEN o.org_id IS NULL THEN 1 ELSE o.lap END, o.place + 1 FROM orgs o"
    " WHERE o.place < :orgs AND (o.lap = 0 OR o.org_id < CAST(:after AS text))"
)
_TURNS: Final = (
    "SELECT f.*, o.place FROM orgs o{sizes} CROSS JOIN LATERAL"  # noqa: S608 - the same
    f" (SELECT {_OF_RUN}, row_number() OVER (ORDER BY r.claimed_by, r.org_id, r.pk) AS turn FROM runs r"
    f" WHERE {_IS_FREE} AND r.org_id = o.org_id {_IN_ORDER} LIMIT :count) f"
    " WHERE o.place > 0 AND (o.lap = 0 OR o.org_id <= CAST(:after AS text)) AND f.turn <= {most}"
    " ORDER BY f.turn, o.place LIMIT :count"
)
_HAS_FREE = Statement(sa.text(f"WITH held AS ({_HELD}) SELECT 1 FROM runs r WHERE {_IS_FREE} LIMIT 1"))  # noqa: S608 - the same
_COUNT_FREE = Statement(
    sa.text(
        "SELECT count(*) FROM (SELECT 1 FROM runs WHERE status = 'running' AND claimed_by IS NULL LIMIT :most) AS free"
    )
)


def _claim(turns: str) -> Statement:
    return Statement(
        sa.text(
            f"WITH RECURSIVE held AS ({_HELD}), orgs (org_id, lap, place) AS ({_ORGS}), turns AS ({turns}),"  # noqa: S608 - the same
            f" free AS (SELECT {_FACTS}, r.turn, r.place FROM turns r LEFT JOIN workflows w ON w.id = r.workflow_id)"
            " UPDATE runs c SET claimed_by = :holder, fence = c.fence + 1 FROM free WHERE c.pk = free.pk"
            " RETURNING free.*"
        )
    )


_CLAIM = _claim(_TURNS.format(sizes="", most=":most_of_org"))
_CLAIM_BY_ROOMS = _claim(
    _TURNS.format(
        sizes=" LEFT JOIN json_each_text(CAST(:rooms AS json)) s ON s.key = o.org_id",
        most="coalesce(CAST(s.value AS integer), :most_of_org)",
    )
)
_IS_NEW: Final = (
    "r.pk = ANY(CAST(:pks AS bigint[])) AND r.claimed_by = :holder AND r.nodes_executed = 0"
    " AND r.source_run_id IS NULL AND length(r.payload) + length(r.prop_values) <= :chars"
    f" AND r.payload NOT LIKE '%{MARK}%'"
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
# who has claimed runs, each found by the index alone, and is no more
_DEAD = Statement(
    sa.text(
        "WITH RECURSIVE holders (id) AS ("  # noqa: S608 - the same
        f"(SELECT r.claimed_by FROM runs r WHERE {_IS_OPEN} AND r.claimed_by > '' ORDER BY r.claimed_by LIMIT 1)"
        f" UNION ALL SELECT (SELECT r.claimed_by FROM runs r WHERE {_IS_OPEN} AND r.claimed_by > h.id"
        " ORDER BY r.claimed_by LIMIT 1) FROM holders h WHERE h.id IS NOT NULL)"
        f" SELECT h.id FROM holders h WHERE h.id IS NOT NULL AND {IS_DEAD.format(holder='h.id')}"
    )
)
_RELEASE_DEAD = Statement(
    sa.text(
        "UPDATE runs c SET claimed_by = NULL FROM (SELECT r.pk FROM runs r"  # noqa: S608 - the same
        f" WHERE {_IS_OPEN} AND r.claimed_by = :holder AND {IS_DEAD.format(holder='r.claimed_by')} LIMIT :count) d"
        " WHERE c.pk = d.pk"
    )
)
_RELEASE = Statement(
    sa.text(f"UPDATE runs r SET claimed_by = NULL WHERE {_IS_OPEN} AND r.claimed_by = :holder")  # noqa: S608 - the same
)


@dataclass(frozen=True, slots=True)
class WokenRun:
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


def has_free(tx: Tx) -> bool:
    """Whether there is a run that any process may claim."""
    with _by_index(tx):
        return tx.one(_HAS_FREE) is not None


def count_free(tx: Tx, most: int) -> int:
    """Counts runs that wait for a process to advance them, up to `most`."""
    found = tx.one(_COUNT_FREE, most=most)
    return int(found[0]) if found is not None else 0


class Rooms(NamedTuple):
    """How many more runs of one organisation a process may begin: `others`, unless it is named in `named`."""

    others: int
    named: dict[str, int]


def claim(tx: Tx, holder: str, count: int, rooms: Rooms | None = None, after: str = "") -> PendingResult:
    """Claims at most so many free runs for a process, and takes their next fence. Organisations take turns, beginning
    with the one behind `after`; of each its oldest ones. Nobody else can claim them, since writers take turns. The
    answer arrives with that of the commit; `claimed` reads it."""
    others, named = rooms if rooms is not None else (count, {})
    full = sum(not room for room in named.values())
    which = {"holder": holder, "count": count, "after": after, "orgs": count + full + 1, "most_of_org": others}
    with _by_index(tx):
        if not named:
            return tx.soon_all(_CLAIM, **which)
        return tx.soon_all(_CLAIM_BY_ROOMS, **which, rooms=dumps_text(named))


class ClaimedRuns(NamedTuple):
    """The runs that were claimed, oldest first; `last_org`: whose turn was last."""

    runs: list[OpenRun]
    last_org: str | None


def claimed(answer: PendingResult) -> ClaimedRuns:
    """The runs that were claimed."""
    found = [(row[-2:], OpenRun(*row[:-2])) for row in answer.value]
    last = max(found, key=itemgetter(0), default=None)
    return ClaimedRuns(sorted((run for _, run in found), key=lambda run: run.pk), last[1].org_id if last else None)


def list_dead(tx: Tx) -> list[str]:
    """Lists the processes that have claimed runs and are no more."""
    with _by_index(tx):
        return [row[0] for row in tx.all(_DEAD)]


def release_dead(tx: Tx, holder: str, count: int) -> int:
    """Releases at most so many runs of a process, if it is no more; returns how many."""
    with _by_index(tx):
        return tx.run(_RELEASE_DEAD, holder=holder, count=count)


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


def list_called(tx: Tx, holder: str) -> list[WokenRun]:
    """Lists those of a process's unfinished runs that have signals to read, or are to be cancelled."""
    return [WokenRun(*row) for row in tx.all(_CALLED, holder=holder)]


def take_up(tx: Tx, run_pk: int, holder: str) -> int | None:
    """Takes up a run that the process has claimed, and returns its new fence; None if it has ended or is another's."""
    row = tx.one(_TAKE_UP, pk=run_pk, holder=holder)
    return int(row[0]) if row is not None else None


def release(tx: Tx, holder: str) -> None:
    """Frees all runs of a process that stops."""
    tx.do(_RELEASE, holder=holder)
