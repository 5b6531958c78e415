"""Counts of runs that stay fast with millions of rows: of ended runs with counters, of open ones by their index."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import COUNTED_TOGETHER, run_counts, runs
from dustrun.storage.runs.run_lists import FINAL, MODES, OPEN, SKEW_MS, Filters, Kind, Range, first_pk, ranges_of

_NEVER = 2**62


def count_by_status(tx: Tx, org_id: str, filters: Filters) -> dict[str, int]:
    """Counts runs by status: those of a version by its index, else open ones by theirs and ended ones with counters."""
    if filters.version is not None:
        return _of_version(tx, org_id, filters)
    counts = _started(tx, org_id, filters, filters.since)
    if filters.until is not None:
        counts.subtract(_started(tx, org_id, filters, max(filters.until, filters.since or 0)))
    return {status: total for status, total in counts.items() if total}


def _started(tx: Tx, org_id: str, filters: Filters, since: int | None) -> Counter[str]:
    """Counts the runs that started at or after a time."""
    counts = Counter(_ended(tx, org_id, filters) if since is None else _ended_since(tx, org_id, filters, since))
    for one in ranges_of(org_id, replace(filters, statuses=sorted(OPEN))):
        assert one.status is not None
        counts[one.status] += _count(tx, one, since=since)
    return counts


def _of_version(tx: Tx, org_id: str, filters: Filters) -> dict[str, int]:
    pieces = list(_pieces(tx, filters.since, filters.until))
    counts: Counter[str] = Counter()
    for one, (low, high, is_edge) in itertools.product(ranges_of(org_id, replace(filters, statuses=())), pieces):
        assert one.status is not None
        times = {"since_": filters.since or 0, "until_": filters.until or _NEVER} if is_edge else {}
        row = tx.one(_count_between(one.kind, is_edge), **one.values, low=low, high=high, **times)
        counts[one.status] += int(row[0]) if row else 0
    return {status: total for status, total in counts.items() if total}


def _pieces(tx: Tx, since: int | None, until: int | None) -> Iterator[tuple[int, int, bool]]:
    """Row ids from and to, and whether the start times of these runs must be compared: only near the ends, so that
    the index alone answers for the rest."""
    lowest, low = (0, 0) if since is None else (first_pk(tx, since - SKEW_MS), first_pk(tx, since + SKEW_MS))
    ends = (_NEVER, _NEVER) if until is None else (first_pk(tx, until - SKEW_MS), first_pk(tx, until + SKEW_MS))
    if low >= ends[0]:
        yield lowest, ends[1], True
        return
    pieces = ((lowest, low, True), (low, ends[0], False), (ends[0], ends[1], True))
    yield from (piece for piece in pieces if piece[0] < piece[1])


@functools.cache
def _count_between(kind: Kind, has_times: bool) -> Statement:
    big = sa.BigInteger
    query = sa.select(sa.func.count()).where(*kind.where())
    query = query.where(runs.c.pk >= b("low", type_=big), runs.c.pk < b("high", type_=big))
    if has_times:
        started = runs.c.started_at
        query = query.where(started >= b("since_", type_=big), started < b("until_", type_=big))
    return Statement(query)


def _ended(tx: Tx, org_id: str, filters: Filters, from_bucket: int = 0) -> dict[str, int]:
    query = sa.select(run_counts.c.status, sa.func.sum(run_counts.c.total)).where(run_counts.c.org_id == org_id)
    if filters.workflow_ids is not None:
        query = query.where(run_counts.c.workflow_id.in_(filters.workflow_ids))
    if filters.modes:
        query = query.where(run_counts.c.mode.in_(filters.modes))
    if from_bucket:
        query = query.where(run_counts.c.bucket >= from_bucket)
    rows = tx.all(Statement(query.group_by(run_counts.c.status)))
    return {status: int(total) for status, total in rows if total}


def _ended_since(tx: Tx, org_id: str, filters: Filters, since: int) -> dict[str, int]:
    """Counts ended runs since a time: full buckets from counters, the rest of a bucket by index.

    Start times are compared only where row ids and starts may be in a different order."""
    first, last = first_pk(tx, since - SKEW_MS), first_pk(tx, since + SKEW_MS)
    bucket = (last + COUNTED_TOGETHER // 2) // COUNTED_TOGETHER
    bound = bucket * COUNTED_TOGETHER
    counts = Counter(_ended(tx, org_id, filters, bucket))
    counts.update(_ended_between(tx, org_id, filters, first, last, since))
    if last <= bound:
        counts.update(_ended_between(tx, org_id, filters, last, bound))
    else:
        counts.subtract(_ended_between(tx, org_id, filters, bound, last))
    return {status: total for status, total in counts.items() if total}


def _ended_between(
    tx: Tx, org_id: str, filters: Filters, low: int, high: int, since: int | None = None
) -> dict[str, int]:
    """Ended runs by status with row ids from `low` to below `high`, in one statement: SQLite passes over so many
    pieces of the index of ended runs as there are pairs of a status and a mode. PostgreSQL passes over the rows once,
    and to ask of each whether it is in any status and any mode would double the time."""
    query = sa.select(runs.c.status, sa.func.count()).where(
        runs.c.org_id == org_id, runs.c.finished_at.is_not(None), runs.c.pk >= low, runs.c.pk < high
    )
    if tx.is_sqlite:
        query = query.where(runs.c.status.in_(sorted(FINAL)))
    if tx.is_sqlite or filters.modes:
        query = query.where(runs.c.mode.in_(sorted(set(filters.modes)) or MODES))
    if filters.workflow_ids is not None:
        query = query.where(runs.c.workflow_id.in_(filters.workflow_ids))
    if since is not None:
        query = query.where(runs.c.started_at >= since)
    return {status: int(total) for status, total in tx.all(Statement(query.group_by(runs.c.status)))}


def _count(tx: Tx, one: Range, *, since: int | None = None) -> int:
    """Counts the runs of a range that started at or after `since`."""
    row = tx.one(_count_of(one.kind, since is not None), **one.values, since_=since)
    return int(row[0]) if row else 0


@functools.cache
def _count_of(kind: Kind, has_since: bool) -> Statement:
    query = sa.select(sa.func.count()).where(*kind.where())
    if has_since:
        query = query.where(runs.c.started_at >= b("since_", type_=sa.BigInteger))
    return Statement(query)
