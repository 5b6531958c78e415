"""Lists and counts of runs that stay fast with millions of rows.

A filter becomes one index range for each pair of status and mode, newest first; the ranges are merged here. `since` and
`until` become row ids, because ids follow the start times to within a minute. No index finds a text inside of others:
`find_text` looks through runs that the filters have found.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.run.state import RUN_FINAL, RUN_OPEN, Mode
from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import org_of_found, runs
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
    """Filters of a run list. `version`: of the workflow, which must be given; `before`: only runs with smaller row ids;
    `only`: the ids of the workflows that the caller can access. Counts ignore
    `statuses` and `before`."""

    statuses: Sequence[str] = ()
    workflow_id: str | None = None
    modes: Sequence[str] = ()
    since: int | None = None
    only: tuple[str, ...] | None = None
    version: int | None = None
    until: int | None = None
    before: int | None = None

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

    @property
    def kind(self) -> Kind:
        """The key of the range's compiled statements."""
        is_final, is_open = self.status in FINAL, self.status in OPEN
        return Kind(self.owner[0], is_final, is_open, self.mode is not None, self.version is not None)

    @property
    def values(self) -> dict[str, Any]:
        """The values bound to the statements."""
        return {"owner": self.owner[1], "status_": self.status, "mode_": self.mode, "version_": self.version}


@dataclass(frozen=True, slots=True)
class Kind:
    """The shape of a range; statements are compiled once per shape."""

    owner: str
    is_final: bool
    is_open: bool
    has_mode: bool
    has_version: bool

    def where(self) -> list[sa.ColumnElement[bool]]:
        """The range as conditions that match its index."""
        found = [runs.c[self.owner] == b("owner")]
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


def ranges_of(org_id: str, filters: Filters) -> Iterator[Range]:
    """The index ranges that have the runs of the filters."""
    ids = filters.workflow_ids
    owners = [("org_id", org_id)] if ids is None else [("workflow_id", workflow_id) for workflow_id in ids]
    version = filters.version
    if not filters.statuses and not filters.modes and version is None:
        yield from (Range(owner) for owner in owners)
        return
    statuses = sorted(set(filters.statuses) or FINAL | OPEN)
    modes = sorted(set(filters.modes)) or list(MODES)
    for owner, status in itertools.product(owners, statuses):
        if status in FINAL or filters.modes:
            yield from (Range(owner, status, mode, version) for mode in modes)
        else:
            yield Range(owner, status, None, version)


def list_runs(tx: Tx, org_id: str, filters: Filters, limit: int, offset: int) -> list[RunRow]:
    """Lists runs, newest first, one more than `limit` if there are more; without payloads."""
    return read_rows(tx, org_id, list_pks(tx, org_id, filters, limit + 1, offset))


def list_pks(tx: Tx, org_id: str, filters: Filters, most: int, offset: int = 0) -> list[int]:
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


def find_text(tx: Tx, org_id: str, pks: Sequence[int], text: str) -> list[RunRow]:
    """Those of these runs that show the text in their id, workflow's name, starter, error or last message."""
    shown = (runs.c.id, runs.c.workflow_name, runs.c.trigger_source, runs.c.summary)
    wanted = [column.icontains(text, autoescape=True) for column in shown]
    in_json = dumps_text(text)[1:-1]
    wanted.append(runs.c.error.icontains(in_json, autoescape=True))
    return read_rows(tx, org_id, pks, sa.or_(*wanted))


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The row ids and start times of a list: from the lower ones to below the upper ones; None means any."""

    lowest: int | None
    highest: int | None
    since: int | None
    until: int | None


def _bounds_of(tx: Tx, filters: Filters) -> _Bounds:
    since, until = filters.since, filters.until
    lowest = None if since is None else first_pk(tx, since - SKEW_MS)
    ends = [filters.before, None if until is None else first_pk(tx, until + SKEW_MS)]
    return _Bounds(lowest, min((end for end in ends if end is not None), default=None), since, until)


def _newest(tx: Tx, org_id: str, one: Range, bounds: _Bounds, wanted: int, skipped: int = 0) -> list[int]:
    times = (bounds.since is not None, bounds.until is not None, bounds.highest is not None)
    limits = {"lowest": bounds.lowest, "highest": bounds.highest, "since_": bounds.since, "until_": bounds.until}
    statement = _newest_of(one.kind, *times)
    rows = tx.all(statement, **one.values, **limits, org=org_id, most=wanted, skipped=skipped)
    return [row[0] for row in rows]


@functools.cache
def _newest_of(kind: Kind, has_since: bool, has_until: bool, has_highest: bool) -> Statement:
    query = sa.select(runs.c.pk).where(*kind.where())
    if kind.owner != "org_id":
        query = query.where(org_of_found == b("org"))  # runs about to be deleted belong to no organisation
    if has_since:
        query = query.where(runs.c.pk >= b("lowest", type_=_Big), runs.c.started_at >= b("since_", type_=_Big))
    if has_until:
        query = query.where(runs.c.started_at < b("until_", type_=_Big))
    if has_highest:
        query = query.where(runs.c.pk < b("highest", type_=_Big))
    query = query.order_by(runs.c.pk.desc()).limit(b("most", type_=sa.Integer))
    return Statement(query.offset(b("skipped", type_=sa.Integer)))


def first_pk(tx: Tx, instant: int) -> int:
    """Approximately the first row id of runs that started at or after a time; above all ids if there are none.

    A binary search in one statement: twenty index look-ups are cheap, twenty round trips to PostgreSQL are not."""
    row = tx.one(_BISECT, instant=instant)
    assert row is not None
    return int(row[0])
