"""Lists and counts of runs that stay fast with millions of rows.

A filter becomes one index range for each pair of status and mode, newest first; the ranges are merged here. Ended runs
are counted with counters. `since` becomes a row id, because ids follow the start times to within a minute.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.run.state import RUN_FINAL, RUN_OPEN, Mode
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import COUNTED_TOGETHER, run_counts, runs
from dustrun.storage.runs.runs import RunRow

_FINAL = frozenset(status.value for status in RUN_FINAL)
_OPEN = frozenset(status.value for status in RUN_OPEN)
_MODES = tuple(mode.value for mode in Mode)
_SKEW_MS = 60_000
"""How far row id order may deviate from start order: waiting for a commit, or a clock adjustment."""
_Big = sa.BigInteger

_SLIM = [
    runs.c[field.name]
    if field.name not in ("definition", "payload", "prop_values")
    else (sa.null() if field.name == "definition" else sa.literal_column("'{}'")).label(field.name)
    for field in fields(RunRow)
]
_STARTED = "(SELECT started_at FROM runs WHERE pk >= (low + high) / 2 ORDER BY pk LIMIT 1)"
_IS_LATER = f"coalesce({_STARTED}, :instant) >= :instant"
_BISECT = Statement(
    sa.text(
        "WITH RECURSIVE bisect(low, high) AS ("  # noqa: S608 - a text of ours
        " SELECT CAST(0 AS BIGINT), coalesce(max(pk), 0) + 1 FROM runs UNION ALL"
        f" SELECT CASE WHEN {_IS_LATER} THEN low"
        " ELSE (SELECT min(pk) FROM runs WHERE pk >= (low + high) / 2) + 1 END,"
        f" CASE WHEN {_IS_LATER} THEN (low + high) / 2 ELSE high END"
        " FROM bisect WHERE low < high) SELECT low FROM bisect WHERE low >= high"
    ).bindparams(b("instant", type_=_Big))
)


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters of a run list. `only`: the ids of the workflows that the caller can access."""

    statuses: Sequence[str] = ()
    workflow_id: str | None = None
    modes: Sequence[str] = ()
    since: int | None = None
    only: tuple[str, ...] | None = None

    @property
    def workflow_ids(self) -> tuple[str, ...] | None:
        """The workflows to list; None means all of the organisation."""
        if self.workflow_id is None:
            return self.only
        return (self.workflow_id,) if self.only is None or self.workflow_id in self.only else ()


@dataclass(frozen=True, slots=True)
class _Range:
    """An index range: runs of one owner in one status and mode; None means any."""

    owner: tuple[str, str]
    status: str | None = None
    mode: str | None = None

    @property
    def kind(self) -> _Kind:
        """The key of the range's compiled statements."""
        return _Kind(self.owner[0], self.status in _FINAL, self.status in _OPEN, self.mode is not None)

    @property
    def values(self) -> dict[str, Any]:
        """The values bound to the statements."""
        return {"owner": self.owner[1], "status_": self.status, "mode_": self.mode}


@dataclass(frozen=True, slots=True)
class _Kind:
    """The shape of a range; statements are compiled once per shape."""

    owner: str
    is_final: bool
    is_open: bool
    has_mode: bool

    def where(self) -> list[sa.ColumnElement[bool]]:
        """The range as conditions that match its index."""
        found = [runs.c[self.owner] == b("owner")]
        if self.has_mode:
            found.append(runs.c.mode == b("mode_"))
        if self.is_final:
            found += [runs.c.status == b("status_"), runs.c.finished_at.is_not(None)]
        if self.is_open:
            # use only their own small index, whatever the planner thinks of the others
            open_ones = runs.alias("open_ones")
            is_open = sa.text("open_ones.status IN ('running', 'waiting')")  # must match the condition of the index
            found.append(runs.c.pk.in_(sa.select(open_ones.c.pk).where(is_open, open_ones.c.status == b("status_"))))
        return found


def _ranges(org_id: str, filters: Filters) -> Iterator[_Range]:
    ids = filters.workflow_ids
    owners = [("org_id", org_id)] if ids is None else [("workflow_id", workflow_id) for workflow_id in ids]
    if not filters.statuses and not filters.modes:
        yield from (_Range(owner) for owner in owners)
        return
    statuses = sorted(set(filters.statuses) or _FINAL | _OPEN)
    modes = sorted(set(filters.modes)) or list(_MODES)
    for owner, status in itertools.product(owners, statuses):
        if status in _FINAL or filters.modes:
            yield from (_Range(owner, status, mode) for mode in modes)
        else:
            yield _Range(owner, status)


def list_runs(tx: Tx, org_id: str, filters: Filters, limit: int, offset: int) -> list[RunRow]:
    """Lists runs, newest first, one more than `limit` if there are more; without payloads."""
    lowest = 0 if filters.since is None else _first_pk(tx, filters.since - _SKEW_MS)
    wanted = offset + limit + 1
    ranges = list(_ranges(org_id, filters))
    if len(ranges) == 1:
        page = _newest(tx, org_id, ranges[0], filters.since, lowest, limit + 1, offset)
    else:
        found = [_newest(tx, org_id, one, filters.since, lowest, wanted) for one in ranges]
        page = list(itertools.islice(heapq.merge(*found, reverse=True), offset, wanted))
    if not page:
        return []
    query = sa.select(*_SLIM).where(runs.c.org_id == org_id, runs.c.pk.in_(page)).order_by(runs.c.pk.desc())
    return [RunRow(*row) for row in tx.all(Statement(query))]


def _newest(
    tx: Tx, org_id: str, one: _Range, since: int | None, lowest: int, wanted: int, skipped: int = 0
) -> list[int]:
    statement = _newest_of(one.kind, since is not None)
    rows = tx.all(statement, **one.values, org=org_id, most=wanted, skipped=skipped, since_=since, lowest=lowest)
    return [row[0] for row in rows]


@functools.cache
def _newest_of(kind: _Kind, has_since: bool) -> Statement:
    query = sa.select(runs.c.pk).where(*kind.where())
    if kind.owner != "org_id":
        query = query.where(runs.c.org_id == b("org"))  # runs about to be deleted belong to no organisation
    if has_since:
        query = query.where(runs.c.pk >= b("lowest", type_=_Big), runs.c.started_at >= b("since_", type_=_Big))
    query = query.order_by(runs.c.pk.desc()).limit(b("most", type_=sa.Integer))
    return Statement(query.offset(b("skipped", type_=sa.Integer)))


def _first_pk(tx: Tx, instant: int) -> int:
    """Approximately the first row id of runs that started at or after a time; above all ids if there are none.

    A binary search in one statement: twenty index look-ups are cheap, twenty round trips to PostgreSQL are not."""
    row = tx.one(_BISECT, instant=instant)
    assert row is not None
    return int(row[0])


def count_by_status(tx: Tx, org_id: str, filters: Filters) -> dict[str, int]:
    """Counts runs by status: open ones from their index, ended ones from counters."""
    since = filters.since
    counts = _ended(tx, org_id, filters) if since is None else _ended_since(tx, org_id, filters, since)
    for one in _ranges(org_id, replace(filters, statuses=sorted(_OPEN))):
        assert one.status is not None
        if found := _count(tx, one, since=filters.since):
            counts[one.status] = counts.get(one.status, 0) + found
    return counts


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
    first, last = _first_pk(tx, since - _SKEW_MS), _first_pk(tx, since + _SKEW_MS)
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
        query = query.where(runs.c.status.in_(sorted(_FINAL)))
    if tx.is_sqlite or filters.modes:
        query = query.where(runs.c.mode.in_(sorted(set(filters.modes)) or _MODES))
    if filters.workflow_ids is not None:
        query = query.where(runs.c.workflow_id.in_(filters.workflow_ids))
    if since is not None:
        query = query.where(runs.c.started_at >= since)
    return {status: int(total) for status, total in tx.all(Statement(query.group_by(runs.c.status)))}


def _count(tx: Tx, one: _Range, *, since: int | None = None) -> int:
    """Counts the runs of a range that started at or after `since`."""
    row = tx.one(_count_of(one.kind, since is not None), **one.values, since_=since)
    return int(row[0]) if row else 0


@functools.cache
def _count_of(kind: _Kind, has_since: bool) -> Statement:
    query = sa.select(sa.func.count()).where(*kind.where())
    if has_since:
        query = query.where(runs.c.started_at >= b("since_", type_=_Big))
    return Statement(query)
