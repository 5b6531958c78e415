"""Lists and counts of runs that stay fast with millions of rows.

A filter becomes one index range for each pair of status and mode, newest first; the ranges are merged here. `since` and
`until` become row ids, because ids follow the start times to within a minute. No index finds a text inside of others:
`find_text` looks through runs that the filters have found.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.run.state import RUN_FINAL, RUN_OPEN, Mode
from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx, count_of, is_one_of, numbered
from dustrun.storage.db.tables import COUNTED_TOGETHER, RUN_WORDS, STARTED_BY_HAND, org_of_found, run_counts, runs
from dustrun.storage.runs.runs import RunRow

FINAL = frozenset(status.value for status in RUN_FINAL)
"""The statuses of runs that have ended."""
OPEN = frozenset(status.value for status in RUN_OPEN)
"""Those of runs that have not."""
MODES = tuple(mode.value for mode in Mode)
"""All of them."""
SKEW_MS = 60_000
"""How far row id order may deviate from start order: waiting for a commit, or a clock adjustment."""
_Big = sa.BigInteger

_SLIM = [
    runs.c[field.name]
    if field.name not in ("definition", "payload", "prop_values")
    else (sa.null() if field.name == "definition" else sa.literal_column("'{}'")).label(field.name)
    for field in fields(RunRow)
]
_STARTED = "(SELECT started_at FROM runs WHERE pk >= (low + high) / 2 ORDER BY pk LIMIT 1)"
IS_LATER = f"coalesce({_STARTED}, :instant) >= :instant"
"""Whether the run in the middle of `low` and `high` started at or after an instant."""
_BISECT = Statement(
    sa.text(
        "WITH RECURSIVE bisect(low, high) AS ("  # noqa: S608 - a text of ours
        " SELECT CAST(0 AS BIGINT), coalesce(max(pk), 0) + 1 FROM runs UNION ALL"
        f" SELECT CASE WHEN {IS_LATER} THEN low"
        " ELSE (SELECT min(pk) FROM runs WHERE pk >= (low + high) / 2) + 1 END,"
        f" CASE WHEN {IS_LATER} THEN (low + high) / 2 ELSE high END"
        " FROM bisect WHERE low < high) SELECT low FROM bisect WHERE low >= high"
    ).bindparams(b("instant", type_=_Big))
)


SEARCHED_RUNS = 1_000
_FIND_WORDS_SQLITE = Statement(
    sa.text(f"SELECT rowid FROM run_search WHERE run_search MATCH :query ORDER BY rowid DESC LIMIT {SEARCHED_RUNS}")  # noqa: S608 - a number
)
_FIND_WORDS_POSTGRESQL = Statement(
    sa.text(
        # apart, so that the index is asked, whatever the planner thinks of going through the newest ones
        f"WITH found AS MATERIALIZED (SELECT run_pk FROM run_words WHERE {RUN_WORDS} @@ to_tsquery('simple', :query))"  # noqa: S608 - texts of ours
        f" SELECT run_pk FROM found ORDER BY run_pk DESC LIMIT {SEARCHED_RUNS}"
    )
)


@dataclass(frozen=True, slots=True)
class RunFilters:
    """Filters of a run list. `version`: of the workflow, which must be given; `before`: only runs with smaller row ids;
    `only`: the ids of the workflows that the caller can access; `without_source`: not what that started. Counts ignore
    `statuses`, `before`, `without_source` and `keys`: only runs that one of these keys started, not its triggers."""

    statuses: Sequence[str] = ()
    workflow_id: str | None = None
    modes: Sequence[str] = ()
    since: int | None = None
    only: tuple[str, ...] | None = None
    version: int | None = None
    until: int | None = None
    before: int | None = None
    without_source: str | None = None
    keys: tuple[str, ...] | None = None

    @property
    def workflow_ids(self) -> tuple[str, ...] | None:
        """The workflows to list; None means all of the organisation."""
        if self.workflow_id is None:
            return self.only
        return (self.workflow_id,) if self.only is None or self.workflow_id in self.only else ()


@dataclass(frozen=True, slots=True)
class Range:
    """An index range: runs of one owner in one status, mode and version; None means any."""

    owner: tuple[str, str]
    status: str | None = None
    mode: str | None = None
    version: int | None = None
    workflow_ids: tuple[str, ...] | None = None
    """Of these workflows, if the owner is a key."""

    @property
    def kind(self) -> RangeKind:
        """The key of the range's compiled statements."""
        is_final, is_open = self.status in FINAL, self.status in OPEN
        has = self.mode is not None, self.version is not None
        return RangeKind(self.owner[0], is_final, is_open, *has, count_of(self.workflow_ids))

    @property
    def values(self) -> dict[str, Any]:
        """The values bound to the statements."""
        given = {"owner": self.owner[1], "status_": self.status, "mode_": self.mode, "version_": self.version}
        return given | numbered("workflow", self.workflow_ids)


@dataclass(frozen=True, slots=True)
class RangeKind:
    """The shape of a range; statements are compiled once per shape."""

    owner: str
    is_final: bool
    is_open: bool
    has_mode: bool
    has_version: bool
    workflows: int | None = None

    def where(self) -> list[sa.ColumnElement[bool] | sa.TextClause]:
        """The range as conditions that match its index."""
        found: list[sa.ColumnElement[bool] | sa.TextClause]
        found = [runs.c[self.owner] == b("owner"), *is_one_of(runs.c.workflow_id, "workflow", self.workflows)]
        if self.owner == "triggered_by":
            found += [
                runs.c.org_id == b("org"),
                sa.text(STARTED_BY_HAND),
            ]  # must match the condition of the index
        if self.has_mode:
            found.append(runs.c.mode == b("mode_"))
        if self.has_version:
            found.append(runs.c.version == b("version_"))
        if self.is_final:
            found += [runs.c.status == b("status_"), runs.c.finished_at.is_not(None)]
        if self.is_open:
            # use only their own small index, whatever the planner thinks of the others
            open_ones = runs.alias("open_ones")
            is_open = sa.text("open_ones.status IN ('running', 'waiting')")  # must match the condition of the index
            found.append(runs.c.pk.in_(sa.select(open_ones.c.pk).where(is_open, open_ones.c.status == b("status_"))))
        return found


def ranges_of(org_id: str, filters: RunFilters) -> Iterator[Range]:
    """The index ranges that have the runs of the filters."""
    ids, version = filters.workflow_ids, filters.version
    owners, within = [("org_id", org_id)], None
    if filters.keys is not None:
        owners, within = [("triggered_by", key_id) for key_id in filters.keys], ids
    elif ids is not None:
        owners = [("workflow_id", workflow_id) for workflow_id in ids]
    if not filters.statuses and not filters.modes and version is None:
        yield from (Range(owner, workflow_ids=within) for owner in owners)
        return
    statuses = sorted(set(filters.statuses) or FINAL | OPEN)
    modes = sorted(set(filters.modes)) or list(MODES)
    for owner, status in itertools.product(owners, statuses):
        if status in FINAL or filters.modes:
            yield from (Range(owner, status, mode, version, within) for mode in modes)
        else:
            yield Range(owner, status, None, version, within)


def list_runs(tx: Tx, org_id: str, filters: RunFilters, limit: int, offset: int) -> list[RunRow]:
    """Lists runs, newest first, one more than `limit` if there are more; without payloads."""
    return read_rows(tx, org_id, list_pks(tx, org_id, filters, limit + 1, offset))


def list_pks(tx: Tx, org_id: str, filters: RunFilters, most: int, offset: int = 0) -> list[int]:
    """The row ids of at most so many runs, newest first."""
    bounds = _bounds_of(tx, filters)
    ranges = list(ranges_of(org_id, filters))
    if len(ranges) == 1:
        return _newest(tx, org_id, ranges[0], bounds, most, offset)
    found = [_newest(tx, org_id, one, bounds, offset + most) for one in ranges]
    return list(itertools.islice(heapq.merge(*found, reverse=True), offset, offset + most))


def read_rows(tx: Tx, org_id: str, pks: Sequence[int], *where: sa.ColumnElement[bool]) -> list[RunRow]:
    """The runs with these row ids that satisfy the conditions, newest first; without payloads."""
    if not pks:
        return []
    query = sa.select(*_SLIM).where(runs.c.org_id == org_id, runs.c.pk.in_(pks), *where).order_by(runs.c.pk.desc())
    return [RunRow(*row) for row in tx.all(Statement(query))]


def find_words(tx: Tx, org_id: str, words: Sequence[str], only: Sequence[str] | None, most: int) -> list[RunRow]:
    """At most so many of the organisation's runs that ended with an error or a message, newest first, all whose words
    begin with these; of more than `SEARCHED_RUNS`, the newest are looked at. `only`: of these workflows."""
    own = org_id.replace("_", "").lower()
    if tx.is_sqlite:
        query = " AND ".join([f'"{own}"', *(f'"{word}"*' for word in words)])
        found = tx.all(_FIND_WORDS_SQLITE, query=query)
    else:
        found = tx.all(_FIND_WORDS_POSTGRESQL, query=" & ".join([own, *(f"{word}:*" for word in words)]))
    pks = [row[0] for row in found]
    if only is None:
        return read_rows(tx, org_id, pks[:most])
    return read_rows(tx, org_id, pks, runs.c.workflow_id.in_(only))[:most]


def find_text(tx: Tx, org_id: str, pks: Sequence[int], text: str) -> list[RunRow]:
    """Those of these runs that show the text in their id, workflow's name, starter, error or last message."""
    shown = (runs.c.id, runs.c.workflow_name, runs.c.trigger_source, runs.c.summary)
    wanted = [column.icontains(text, autoescape=True) for column in shown]
    in_json = dumps_text(text)[1:-1]
    wanted.append(runs.c.error.icontains(in_json, autoescape=True))
    return read_rows(tx, org_id, pks, sa.or_(*wanted))


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The row ids and start times of a list: from the lower ones to below the upper ones, and a source that it leaves
    out; None means any."""

    lowest: int | None
    highest: int | None
    since: int | None
    until: int | None
    without_source: str | None


def _bounds_of(tx: Tx, filters: RunFilters) -> _Bounds:
    since, until = filters.since, filters.until
    lowest = None if since is None else first_pk(tx, since - SKEW_MS)
    ends = [filters.before, None if until is None else first_pk(tx, until + SKEW_MS)]
    highest = min((end for end in ends if end is not None), default=None)
    return _Bounds(lowest, highest, since, until, filters.without_source)


def _newest(tx: Tx, org_id: str, one: Range, bounds: _Bounds, wanted: int, skipped: int = 0) -> list[int]:
    kinds = (bounds.since, bounds.until, bounds.highest, bounds.without_source)
    limits = {"lowest": bounds.lowest, "highest": bounds.highest, "since_": bounds.since, "until_": bounds.until}
    statement = _newest_of(one.kind, *(kind is not None for kind in kinds))
    rows = tx.all(
        statement, **one.values, **limits, source_=bounds.without_source, org=org_id, most=wanted, skipped=skipped
    )
    return [row[0] for row in rows]


@functools.cache
def _newest_of(
    kind: RangeKind, has_since: bool, has_until: bool, has_highest: bool, lacks_source: bool = False
) -> Statement:
    query = sa.select(runs.c.pk).where(*kind.where())
    if kind.owner == "workflow_id":
        query = query.where(org_of_found == b("org"))  # runs about to be deleted belong to no organisation
    if has_since:
        query = query.where(runs.c.pk >= b("lowest", type_=_Big), runs.c.started_at >= b("since_", type_=_Big))
    if has_until:
        query = query.where(runs.c.started_at < b("until_", type_=_Big))
    if has_highest:
        query = query.where(runs.c.pk < b("highest", type_=_Big))
    if lacks_source:
        query = query.where(runs.c.trigger_source != b("source_"))
    query = query.order_by(runs.c.pk.desc()).limit(b("most", type_=sa.Integer))
    return Statement(query.offset(b("skipped", type_=sa.Integer)))


def first_pk(tx: Tx, instant: int) -> int:
    """Approximately the first row id of runs that started at or after a time; above all ids if there are none.

    A binary search in one statement: twenty index look-ups are cheap, twenty round trips to PostgreSQL are not."""
    row = tx.one(_BISECT, instant=instant)
    assert row is not None
    return int(row[0])


# Counts of runs that stay fast with millions of rows: of ended runs with counters, of open ones by their index.


_NEVER = 2**62


def count_by_status(tx: Tx, org_id: str, filters: RunFilters) -> dict[str, int]:
    """Counts runs by status: those of a version by its index, else open ones by theirs and ended ones with counters."""
    if filters.version is not None:
        return _of_version(tx, org_id, filters)
    counts = _started(tx, org_id, filters, filters.since)
    if filters.until is not None:
        counts.subtract(_started(tx, org_id, filters, max(filters.until, filters.since or 0)))
    return {status: total for status, total in counts.items() if total}


def _started(tx: Tx, org_id: str, filters: RunFilters, since: int | None) -> Counter[str]:
    """Counts the runs that started at or after a time."""
    counts = Counter(_ended(tx, org_id, filters) if since is None else _ended_since(tx, org_id, filters, since))
    for one in ranges_of(org_id, replace(filters, statuses=sorted(OPEN))):
        assert one.status is not None
        counts[one.status] += _count(tx, one, since=since)
    return counts


def _of_version(tx: Tx, org_id: str, filters: RunFilters) -> dict[str, int]:
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
def _count_between(kind: RangeKind, has_times: bool) -> Statement:
    big = sa.BigInteger
    query = sa.select(sa.func.count()).where(*kind.where())
    query = query.where(runs.c.pk >= b("low", type_=big), runs.c.pk < b("high", type_=big))
    if has_times:
        started = runs.c.started_at
        query = query.where(started >= b("since_", type_=big), started < b("until_", type_=big))
    return Statement(query)


def _ended(tx: Tx, org_id: str, filters: RunFilters, from_bucket: int = 0) -> dict[str, int]:
    query = sa.select(run_counts.c.status, sa.func.sum(run_counts.c.total)).where(run_counts.c.org_id == org_id)
    if filters.workflow_ids is not None:
        query = query.where(run_counts.c.workflow_id.in_(filters.workflow_ids))
    if filters.modes:
        query = query.where(run_counts.c.mode.in_(filters.modes))
    if from_bucket:
        query = query.where(run_counts.c.bucket >= from_bucket)
    rows = tx.all(Statement(query.group_by(run_counts.c.status)))
    return {status: int(total) for status, total in rows if total}


def _ended_since(tx: Tx, org_id: str, filters: RunFilters, since: int) -> dict[str, int]:
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
    tx: Tx, org_id: str, filters: RunFilters, low: int, high: int, since: int | None = None
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
def _count_of(kind: RangeKind, has_since: bool) -> Statement:
    query = sa.select(sa.func.count()).where(*kind.where())
    if has_since:
        query = query.where(runs.c.started_at >= b("since_", type_=sa.BigInteger))
    return Statement(query)
