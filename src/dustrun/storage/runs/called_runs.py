"""Reads the runs that a run called, at any depth, with the executions that a report of them needs; and which run was
called, if one of its chain was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.run.journal import Execution
from dustrun.core.run.state import NodeStatus
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import executions, runs
from dustrun.storage.runs import journal
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.large_values import StoredValues
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
_MOST_RUNS = 3_000
"""Called runs in which inputs are looked for: a few milliseconds."""
_SOME = (
    "WITH RECURSIVE called(pk) AS ("
    " SELECT pk FROM runs WHERE pk = :top AND org_id || '' = :org UNION ALL"
    " SELECT runs.pk FROM runs JOIN called ON runs.parent_pk = called.pk WHERE runs.org_id || '' = :org),"
    " found AS (SELECT pk FROM called LIMIT :runs)"
)
_OF_SOME = (b("top", type_=sa.BigInteger), b("org", type_=sa.Text), b("runs", type_=sa.Integer))
_COUNT = Statement(sa.text(f"{_SOME} SELECT count(*) FROM found").bindparams(*_OF_SOME))  # noqa: S608
_OF_NODE = {
    column: Statement(
        sa.text(
            f"{_SOME} SELECT executions.{column}, min(executions.run_pk) FROM found JOIN runs ON runs.pk = found.pk"  # noqa: S608
            " JOIN executions ON executions.run_pk = runs.pk"
            " WHERE coalesce(runs.workflow_id, '') = :workflow AND coalesce(runs.version, 0) = :version"
            " AND (executions.path = :node OR (:in_loop = 1 AND executions.node_id = :node))"
            f" AND executions.status <> 'skipped' GROUP BY executions.{column} LIMIT :most"
        ).bindparams(
            *_OF_SOME,
            *(b(name, type_=sa.Text) for name in ("workflow", "node")),
            *(b(name, type_=sa.Integer) for name in ("version", "in_loop", "most")),
        )
    )
    for column in ("input", "facts")
}

_VERSIONS = Statement(
    sa.text(
        f"{_TREE} SELECT DISTINCT coalesce(caller.workflow_id, ''), coalesce(caller.version, 0),"  # noqa: S608
        " executions.node_id, runs.workflow_id, runs.version"
        " FROM called JOIN runs ON runs.pk = called.pk JOIN runs caller ON caller.pk = runs.parent_pk"
        " JOIN executions ON executions.run_pk = caller.pk AND executions.path = runs.parent_path"
        " WHERE runs.workflow_id IS NOT NULL AND runs.version IS NOT NULL"
    ).bindparams(b("top", type_=sa.BigInteger), b("org", type_=sa.Text))
)

_EMPTY: sa.ColumnElement[str] = sa.literal_column("'{}'")
_LEFT_OUT: dict[str, sa.ColumnElement[Any]] = {"definition": sa.null(), "payload": _EMPTY, "prop_values": _EMPTY}


@dataclass(frozen=True, slots=True)
class VersionCalled:
    """A version that a node of another has called; the caller's id is empty if its definition is of a run alone."""

    caller_id: str
    caller_version: int
    node_id: str
    workflow_id: str
    version: int


def list_retried(tx: Tx, run: RunRow) -> list[RunRow]:
    """A run, the one that it retries, and so on."""
    found = [run]
    while found[-1].source_run_id is not None:
        earlier = run_rows.find(tx, run.org_id, found[-1].source_run_id)
        if earlier is None:
            break
        found.append(earlier)
    return found


def list_versions(tx: Tx, run: RunRow) -> list[VersionCalled]:
    """The versions that were called in a run and those that it retries, at any depth, each place once."""
    found = (row for one in list_retried(tx, run) for row in tx.all(_VERSIONS, top=one.pk, org=run.org_id))
    return [VersionCalled(*row) for row in dict.fromkeys(map(tuple, found))]


def find_call(tx: Tx, run: RunRow) -> RunRow | None:
    """The run as another one called it: itself, or the run that it retries, since what bound that one binds its
    retries. None if nothing called it."""
    while run.parent_pk is None:
        earlier = run_rows.find(tx, run.org_id, run.source_run_id) if run.source_run_id is not None else None
        if earlier is None:
            return None
        run = earlier
    return run


def list_callers(tx: Tx, run: RunRow) -> Iterator[RunRow]:
    """A run, what called it, and so on up to the first; a retry stands for the run that was called."""
    yield run
    while (call := find_call(tx, run)) is not None and call.parent_pk is not None:
        run = run_rows.get(tx, call.parent_pk)
        yield run


def list_called(tx: Tx, org_id: str, run_pk: int, most: int) -> tuple[list[RunRow], int]:
    """The runs that a run called, at any depth, the oldest first and so each caller before what it called; at most
    `most`, and how many there are in all. Definitions and payloads are left out."""
    found = tx.all(_LIST, top=run_pk, org=org_id, most=most)
    pks = [int(row[0]) for row in found]
    rows = [row for some in _chunks(pks) for row in _rows(tx, some)]
    return rows, int(found[0][1]) if found else 0


@dataclass(frozen=True, slots=True)
class CalledNode:
    """A node of a version, in a run and all that it called. `workflow_id` None: a definition that is of a run alone."""

    workflow_id: str | None
    version: int
    node_id: str
    in_loop: bool


def list_inputs(tx: Tx, top: RunRow, node: CalledNode, most: int) -> set[str | None] | None:
    """The inputs, as JSON, that a node was given; None if there are more than `most`, or more than 3,000 runs."""
    return _list_of_node(tx, top, node, "input", most)


def list_facts(tx: Tx, top: RunRow, node: CalledNode, most: int) -> set[str | None] | None:
    """The facts, as JSON, that were recorded when a node ran; None if there are too many, as of inputs."""
    return _list_of_node(tx, top, node, "facts", most)


def _list_of_node(tx: Tx, top: RunRow, node: CalledNode, column: str, most: int) -> set[str | None] | None:
    some = {"top": top.pk, "org": top.org_id, "runs": _MOST_RUNS + 1}
    counted = tx.one(_COUNT, **some)
    if counted is None or counted[0] > _MOST_RUNS:
        return None
    place = {
        "workflow": node.workflow_id or "",
        "version": node.version,
        "node": node.node_id,
        "in_loop": int(node.in_loop),
    }
    found = tx.all(_OF_NODE[column], most=most + 1, **some, **place)
    if len(found) > most:
        return None
    return {text if text is None else StoredValues(tx, run_pk).whole(text) for text, run_pk in found}


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
        for pk, of_run in itertools.groupby(rows, key=itemgetter(0)):
            found[pk] = journal.executions_of([row[1:] for row in of_run], journal.reading_of(tx, pk))
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
