"""Counts of runs by workflow and by time, and the errors of the newest failed ones; fast with millions of rows.

Like `run_lists`: counters and index ranges answer, and no row is read to be counted, but for those of a counter's part.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.run.state import RunStatus
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx, numbered
from dustrun.storage.db.tables import COUNTED_TOGETHER, run_counts, runs
from dustrun.storage.runs.run_lists import FINAL, IS_LATER, MODES, SKEW_MS, RunFilters, first_pk, list_pks

Counts = Counter[tuple[str, str]]
"""Runs by workflow (empty: of none) and status."""
_OPEN = runs.alias("open_ones")  # read by their own small index, as in `run_lists`


def count_by_workflow(tx: Tx, org_id: str, filters: RunFilters) -> Counts:
    """Counts runs that started since a time, in some modes, by workflow and status."""
    counts, since = Counts(), filters.since
    if since is None:
        return _counted(tx, org_id, filters, 0) + _open(tx, org_id, filters)
    first, last = first_pk(tx, since - SKEW_MS), first_pk(tx, since + SKEW_MS)
    bucket = (last + COUNTED_TOGETHER // 2) // COUNTED_TOGETHER
    bound = bucket * COUNTED_TOGETHER
    counts.update(_counted(tx, org_id, filters, bucket))
    counts.update(_between(tx, org_id, filters, first, last, since))
    if last <= bound:
        counts.update(_between(tx, org_id, filters, last, bound, 0))
    else:
        counts.subtract(_between(tx, org_id, filters, bound, last, 0))
    return +counts + _open(tx, org_id, filters)


def _counted(tx: Tx, org_id: str, filters: RunFilters, bucket: int) -> Counts:
    c = run_counts.c
    query = sa.select(c.workflow_id, c.status, sa.func.sum(c.total)).where(c.org_id == org_id, c.bucket >= bucket)
    query = _chosen(query, c, filters).group_by(c.workflow_id, c.status)
    return Counts({(workflow_id, status): int(total) for workflow_id, status, total in tx.all(Statement(query))})


def _between(tx: Tx, org_id: str, filters: RunFilters, low: int, high: int, since: int) -> Counts:
    """Ended runs with row ids from `low` to below `high`: less than a counter's, and read one by one."""
    c = runs.c
    wanted = (c.org_id == org_id, c.pk >= low, c.pk < high, c.finished_at.is_not(None), c.started_at >= since)
    return _grouped(tx, sa.select(c.workflow_id, c.status, sa.func.count()).where(*wanted), filters)


def _open(tx: Tx, org_id: str, filters: RunFilters) -> Counts:
    c = runs.c
    query = sa.select(c.workflow_id, c.status, sa.func.count()).where(
        c.pk.in_(sa.select(_OPEN.c.pk).where(sa.text("open_ones.status IN ('running', 'waiting')"))),
        c.org_id == org_id,
        c.started_at >= (filters.since or 0),
    )
    return _grouped(tx, query, filters)


def _grouped(tx: Tx, query: sa.Select[Any], filters: RunFilters) -> Counts:
    query = _chosen(query, runs.c, filters).group_by(runs.c.workflow_id, runs.c.status)
    return Counts({(workflow_id or "", status): total for workflow_id, status, total in tx.all(Statement(query))})


def _chosen(query: sa.Select[Any], c: Any, filters: RunFilters) -> sa.Select[Any]:
    if filters.modes:
        query = query.where(c.mode.in_(filters.modes))
    return query if filters.workflow_ids is None else query.where(c.workflow_id.in_(filters.workflow_ids))


# --- by time ---


@dataclass(frozen=True, slots=True)
class Slots:
    """So many spans of time of the same length, one after the other."""

    begin: int
    width: int
    count: int


def count_by_slot(tx: Tx, org_id: str, filters: RunFilters, slots: Slots) -> Counter[tuple[int, str]]:
    """Counts ended runs by the slot in which they started, from 0, and their status. Row ids tell the slots: a run that
    started within a minute of the end of one may be counted in the next, or the other way round."""
    owners = (org_id,) if filters.workflow_ids is None else tuple(filters.workflow_ids)
    column = "org_id" if filters.workflow_ids is None else "workflow_id"
    if not owners:
        return Counter()
    statement = _in_slots(column, len(owners), tuple(sorted(set(filters.modes))) or MODES)
    values = {"begin": slots.begin, "width": slots.width, "count": slots.count, **numbered("owner", owners)}
    return Counter({(slot, status): int(total) for slot, status, total in tx.all(statement, **values) if total})


@functools.lru_cache(maxsize=64)
def _in_slots(column: str, owners: int, modes: Sequence[str]) -> Statement:
    """Finds the first row of each slot by binary search, then counts between them in the index of ended runs, all in
    one statement. All names and words in it are ours."""
    listed = {
        "owner": " UNION ALL ".join(f"SELECT CAST(:owner_{at} AS TEXT) AS owner" for at in range(owners)),
        "status": " UNION ALL ".join(f"SELECT '{status}' AS status" for status in sorted(FINAL)),
        "mode": " UNION ALL ".join(f"SELECT '{mode}' AS mode" for mode in modes),
    }
    is_later = IS_LATER.replace(":instant", "(:begin + n * :width)")
    text = (
        "WITH RECURSIVE slots(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM slots WHERE n < :count),"  # noqa: S608
        " bisect(n, low, high) AS ("
        " SELECT n, CAST(0 AS BIGINT), (SELECT coalesce(max(pk), 0) + 1 FROM runs) FROM slots UNION ALL"
        f" SELECT n, CASE WHEN {is_later} THEN low"
        " ELSE (SELECT min(pk) FROM runs WHERE pk >= (low + high) / 2) + 1 END,"
        f" CASE WHEN {is_later} THEN (low + high) / 2 ELSE high END FROM bisect WHERE low < high),"
        " bounds(n, pk) AS (SELECT n, low FROM bisect WHERE low >= high),"
        " counted(n, status, total) AS (SELECT a.n, statuses.status, (SELECT count(*) FROM runs"
        f" WHERE runs.{column} = owners.owner AND runs.status = statuses.status AND runs.mode = modes.mode"
        " AND runs.finished_at IS NOT NULL AND runs.pk >= a.pk AND runs.pk < z.pk)"
        f" FROM bounds AS a JOIN bounds AS z ON z.n = a.n + 1, ({listed['owner']}) AS owners,"
        f" ({listed['status']}) AS statuses, ({listed['mode']}) AS modes)"
        " SELECT n, status, sum(total) FROM counted GROUP BY n, status"
    )
    whole = [b(name, type_=sa.BigInteger) for name in ("begin", "width", "count")]
    return Statement(sa.text(text).bindparams(*whole))


# --- errors ---


@dataclass(frozen=True, slots=True)
class FailedRun:
    """What a failed run says of its end."""

    id: str
    workflow_id: str | None
    finished_at: int
    error: str | None


_ERRORS = (runs.c.id, runs.c.workflow_id, runs.c.finished_at, runs.c.error)


def list_failed(tx: Tx, org_id: str, filters: RunFilters, most: int) -> list[FailedRun]:
    """The newest failed runs of the filters."""
    pks = list_pks(tx, org_id, replace(filters, statuses=(RunStatus.FAILURE.value,)), most)
    query = sa.select(*_ERRORS).where(runs.c.org_id == org_id, runs.c.pk.in_(pks)).order_by(runs.c.pk.desc())
    return [FailedRun(*row) for row in tx.all(Statement(query))] if pks else []
