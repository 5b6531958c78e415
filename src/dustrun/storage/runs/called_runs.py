"""Reads the runs that a run called, at any depth, with the executions that a report of them needs; and which run was
called, if one of its chain was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.run.journal import Execution
from dustrun.core.run.state import NodeStatus
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import executions, runs
from dustrun.storage.runs import journal
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.runs import RunRow

_IN_ONE = 200
_FAILED = [s.value for s in (NodeStatus.FAILURE, NodeStatus.PARTIAL, NodeStatus.UNCERTAIN, NodeStatus.CANCELLED)]
# `|| ''` keeps SQLite from reading all runs of the organisation for each called run, by the index of `org_id`.
_TREE = (
    "WITH RECURSIVE called(pk) AS ("
    " SELECT pk FROM runs WHERE parent_pk = :top AND org_id = :org UNION ALL"
    " SELECT runs.pk FROM runs JOIN called ON runs.parent_pk = called.pk WHERE runs.org_id || '' = :org)"
)
_LIST = Statement(
    sa.text(f"{_TREE} SELECT pk, count(*) OVER () FROM called ORDER BY pk LIMIT :most").bindparams(  # noqa: S608
        b("top", type_=sa.BigInteger), b("org", type_=sa.Text), b("most", type_=sa.Integer)
    )
)

_EMPTY: sa.ColumnElement[str] = sa.literal_column("'{}'")
_LEFT_OUT: dict[str, sa.ColumnElement[Any]] = {"definition": sa.null(), "payload": _EMPTY, "prop_values": _EMPTY}


def find_call(tx: Tx, run: RunRow) -> RunRow | None:
    """The run as another one called it: itself, or the run that it retries, since what bound that one binds its
    retries. None if nothing called it."""
    while run.parent_pk is None:
        earlier = run_rows.find(tx, run.org_id, run.source_run_id) if run.source_run_id is not None else None
        if earlier is None:
            return None
        run = earlier
    return run


def list_called(tx: Tx, org_id: str, run_pk: int, most: int) -> tuple[list[RunRow], int]:
    """The runs that a run called, at any depth, the oldest first and so each caller before what it called; at most
    `most`, and how many there are in all. Definitions and payloads are left out."""
    found = tx.all(_LIST, top=run_pk, org=org_id, most=most)
    pks = [int(row[0]) for row in found]
    rows = [row for some in _chunks(pks) for row in _rows(tx, some)]
    return rows, int(found[0][1]) if found else 0


def _rows(tx: Tx, pks: Sequence[int]) -> list[RunRow]:
    columns = [_LEFT_OUT.get(field.name, runs.c[field.name]) for field in fields(RunRow)]
    query = sa.select(*columns).where(runs.c.pk.in_(pks)).order_by(runs.c.pk)
    return [RunRow(*row) for row in tx.all(Statement(query))]


def _chunks(pks: Sequence[int]) -> list[Sequence[int]]:
    return [pks[start : start + _IN_ONE] for start in range(0, len(pks), _IN_ONE)]


def list_reported(tx: Tx, pks: Sequence[int], most: int, *, with_results: bool) -> dict[int, list[Execution]]:
    """The executions of runs, by the run's key. Without results they are only those that a report shows something of.
    It stops before the run that would make them more than `most`."""
    found: dict[int, list[Execution]] = {}
    left = most
    for some in _chunks(pks):
        rows = tx.all(Statement(_reported(some, left + 1, with_results=with_results)))
        if len(rows) > left:
            last = rows[-1][0]
            whole = some[: some.index(last)]
            rows = [row for row in rows if row[0] != last]
        else:
            whole = some
        found |= {pk: [] for pk in whole}
        for row in rows:
            found[row[0]].append(journal.execution_of(row[1:]))
        left -= len(rows)
        if len(whole) < len(some):
            break
    return found


def _reported(pks: Sequence[int], most: int, *, with_results: bool) -> sa.Select[Any]:
    c = executions.c
    columns = [c[name] if with_results or name not in ("input", "result") else sa.null() for name in journal.COLUMNS]
    query = sa.select(c.run_pk, *columns).where(c.run_pk.in_(pks))
    if not with_results:
        query = query.where(sa.or_(c.facts.is_not(None), c.assumed == 1, c.status.in_(_FAILED)))
    return query.order_by(c.run_pk, c.path, c.attempt).limit(most)
