"""Passed runs of a closure and what they carried out: those that they called, and executions of single nodes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import executions, runs, workflows
from dustrun.storage.runs.large_values import StoredValues

_IS_PASSED = runs.c.passed == sa.literal_column("1")  # a literal, so that SQLite uses the partial index
_earlier = runs.alias("earlier")
# A retry keeps what earlier runs of its chain did: all of them must have begun with the same closure.
_KEEPS_OTHERS = sa.and_(
    runs.c.source_run_id.is_not(None),
    sa.exists().where(
        _earlier.c.org_id == runs.c.org_id,
        sa.or_(
            _earlier.c.id == runs.c.root_run_id,
            sa.and_(_earlier.c.root_run_id == runs.c.root_run_id, _earlier.c.source_run_id.is_not(None)),
        ),
        _earlier.c.closure.is_distinct_from(runs.c.closure),
    ),
)
_LIST_PASSED = Statement(
    sa.select(runs.c.pk)
    .where(
        runs.c.workflow_id == b("workflow_id"),
        runs.c.closure == b("digest"),
        runs.c.mode == b("mode"),
        _IS_PASSED,
        ~_KEEPS_OTHERS,
    )
    .order_by(runs.c.pk.desc())
)
_TREE = sa.select(runs.c.pk).where(runs.c.pk == b("the_pk")).cte("tree", recursive=True)
_TREE = _TREE.union_all(sa.select(runs.c.pk).where(runs.c.parent_pk == _TREE.c.pk, runs.c.passed == 1))
_LIST_CALLED = Statement(
    sa.select(runs.c.pk, runs.c.id, runs.c.workflow_id, runs.c.version)
    .where(runs.c.pk.in_(sa.select(_TREE.c.pk)))
    .order_by(runs.c.pk)
)
_LIST_DONE = Statement(
    sa.select(executions.c.path, executions.c.finished_at, executions.c.facts).where(
        executions.c.run_pk == b("the_pk"),
        executions.c.node_id == b("node_id"),
        executions.c.status == "success",
        executions.c.facts.is_not(None),
    )
)


_BINDING = Statement(
    sa.select(workflows.c.enforce_rehearsal, runs.c.rehearsal_run_id, runs.c.parent_pk, runs.c.source_run_id)
    .select_from(runs.outerjoin(workflows, workflows.c.id == runs.c.workflow_id))
    .where(runs.c.pk == b("the_pk"))
)


@dataclass(frozen=True, slots=True)
class PassedRun:
    """A passed run, or one that it called and that passed, too."""

    pk: int
    id: str
    workflow_id: str | None
    version: int | None


@dataclass(frozen=True, slots=True)
class SucceededNode:
    """A node that succeeded."""

    path: str
    at: int | None
    facts: dict[str, Any]


def may_be_bound(tx: Tx, run_pk: int) -> bool:
    """Whether a rehearsal may bind what a run spends: by a rule of its workflow, by its launch, or by the
    caller of it or of what it retries."""
    row = tx.one(_BINDING, the_pk=run_pk)
    return row is not None and any(one is not None for one in row)


def list_passed(tx: Tx, workflow_id: str, digest: str, mode: str) -> list[int]:
    """Row ids of the workflow's passed runs that began with this closure, newest first."""
    return [int(row[0]) for row in tx.all(_LIST_PASSED, workflow_id=workflow_id, digest=digest, mode=mode)]


def list_called(tx: Tx, run_pk: int) -> list[PassedRun]:
    """The run and, at any depth, the runs that it called and that passed."""
    return [PassedRun(*row) for row in tx.all(_LIST_CALLED, the_pk=run_pk)]


def list_done(tx: Tx, run_pk: int, node_id: str) -> list[SucceededNode]:
    """The successful executions of a node in a run."""
    values = StoredValues(tx, run_pk)
    return [
        SucceededNode(path, at, values.load(facts))
        for path, at, facts in tx.all(_LIST_DONE, the_pk=run_pk, node_id=node_id)
    ]
