"""Deletes old runs with all their rows, in steps that keep the writer responsive.

A run is first hidden (`hide`): its row moves to no organisation. Then its rows are deleted in batches (`purge`). A
crash
in between leaves hidden rows, which the next sweep deletes.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import (
    COUNTED_TOGETHER,
    activity,
    approvals,
    events,
    executions,
    hook_runs,
    message_runs,
    metadata,
    run_signals,
    run_sizes,
    run_values,
    run_variables,
    run_words,
    runs,
    simulation_forks,
    store_sources,
    stored_bytes,
    table_cells,
    table_rows,
    table_writes,
    variable_writes,
)

_BigInt = sa.BigInteger
HIDDEN = ""
"""The organisation id of hidden runs that are about to be deleted."""
KEEPING = tuple(metadata.tables[name] for name in ("spends", "transactions", "signatures"))
"""Money tables: a run that they reference is kept complete, as proof of what was spent."""
_PIECE = 500
_PIECE_OF_VALUES = 50
"""Large values, of which one may have a megabyte."""

_LIST = Statement(
    sa.select(
        runs.c.pk,
        runs.c.id,
        runs.c.root_run_id,
        runs.c.parent_pk,
        runs.c.started_at,
        runs.c.finished_at,
        runs.c.status,
        runs.c.workflow_id,
    )
    .where(runs.c.org_id == b("org_id"), runs.c.pk > b("after", type_=_BigInt))
    .order_by(runs.c.pk)
    .limit(b("count", type_=sa.Integer))
)
_IS_YOUNG = sa.or_(runs.c.finished_at.is_(None), runs.c.finished_at >= b("before", type_=_BigInt))
_YOUNG_IN_CHAIN = Statement(
    sa.select(runs.c.pk)
    .where(
        runs.c.org_id == b("org_id"),
        runs.c.root_run_id == b("root"),
        runs.c.source_run_id.is_not(None),
        _IS_YOUNG,
    )
    .limit(1)
)
_called = sa.select(b("the_pk", type_=_BigInt).label("pk")).cte("called", recursive=True)
_called = _called.union_all(sa.select(runs.c.pk).where(runs.c.parent_pk == _called.c.pk, runs.c.parent_pk.is_not(None)))
_YOUNG_BELOW = Statement(
    sa.select(runs.c.pk).select_from(_called.join(runs, runs.c.pk == _called.c.pk)).where(_IS_YOUNG).limit(1)
)
_IS_THERE = Statement(sa.select(runs.c.pk).where(runs.c.pk == b("the_pk"), runs.c.org_id == b("org_id")))
# Row ids of runs and activity must never be reused: stream readers use them as cursors.
_NEWEST = [
    Statement(sa.select(runs.c.pk).order_by(runs.c.pk.desc()).limit(1)),
    Statement(sa.select(activity.c.run_pk).order_by(activity.c.id.desc()).limit(1)),
]
_HAS_SPENT = [Statement(sa.select(table.c.run_pk).where(table.c.run_pk == b("the_pk")).limit(1)) for table in KEEPING]
_HIDE = Statement(
    sa.update(runs)
    .where(runs.c.pk == b("the_pk"))
    .values(org_id=HIDDEN, id=b("as_id"), root_run_id=b("as_id"), source_run_id=sa.null(), passed=sa.null())
)
_UNCOUNT = Statement(
    sa.text(
        "UPDATE run_counts SET total = total - 1"
        " WHERE org_id = :org_id AND workflow_id = :workflow_id AND status = :status AND total > 0"
        " AND mode = (SELECT mode FROM runs WHERE pk = :the_pk) AND bucket = :bucket"
    )
)
_SIZE = sa.select(run_sizes.c.bytes).where(run_sizes.c.run_pk == b("the_pk")).scalar_subquery()
_FREE = [
    Statement(
        sa.update(stored_bytes)
        .where(stored_bytes.c.org_id == b("of_org"))
        .values(bytes=stored_bytes.c.bytes - sa.func.coalesce(_SIZE, 0))
    ),
    Statement(sa.delete(run_sizes).where(run_sizes.c.run_pk == b("the_pk"))),
]
_FIRST_HIDDEN = Statement(
    sa.select(runs.c.pk).where(runs.c.org_id == HIDDEN).order_by(runs.c.pk.desc()).limit(b("count", type_=sa.Integer))
)
_first_events = (
    sa.select(events.c.seq).where(events.c.run_pk == b("the_pk")).order_by(events.c.seq).limit(_PIECE).subquery()
)
_DELETE_EVENTS = Statement(
    sa.delete(events).where(events.c.run_pk == b("the_pk"), events.c.seq.in_(sa.select(_first_events.c.seq)))
)
_first_paths = (
    sa.select(executions.c.path)
    .where(executions.c.run_pk == b("the_pk"))
    .order_by(executions.c.path)
    .limit(_PIECE)
    .subquery()
)
_DELETE_EXECUTIONS = Statement(
    sa.delete(executions).where(
        executions.c.run_pk == b("the_pk"), executions.c.path.in_(sa.select(_first_paths.c.path))
    )
)
_first_values = (
    sa.select(run_values.c.digest)
    .where(run_values.c.run_pk == b("the_pk"))
    .order_by(run_values.c.digest)
    .limit(_PIECE_OF_VALUES)
    .subquery()
)
_DELETE_VALUES = Statement(
    sa.delete(run_values).where(
        run_values.c.run_pk == b("the_pk"), run_values.c.digest.in_(sa.select(_first_values.c.digest))
    )
)
_DELETE_REST = [
    Statement(sa.delete(table).where(table.c[column] == b("the_pk")))
    for table, column in (
        (activity, "run_pk"),
        (approvals, "run_pk"),
        (hook_runs, "run_pk"),
        (message_runs, "run_pk"),
        (run_signals, "run_pk"),
        (run_sizes, "run_pk"),
        (run_variables, "owner_pk"),
        (run_words, "run_pk"),
        (simulation_forks, "top_pk"),
        (table_writes, "run_pk"),
    )
]
# A simulation's rows in managed tables; the partial index contains only such rows.
_DELETE_REST += [
    Statement(sa.delete(table).where(table.c.layer == b("the_pk"), table.c.layer > 0))
    for table in (store_sources, table_cells, table_rows)
]
# The history of workflow variables is kept with the workflow; the run's own is deleted.
_DELETE_WRITES = Statement(
    sa.delete(variable_writes).where(
        variable_writes.c.run_pk == b("the_pk"),
        sa.or_(
            variable_writes.c.scope != "workflow", variable_writes.c.simulated == 1, variable_writes.c.workflow_id == ""
        ),
    )
)
_UNLINK_WRITES = Statement(
    sa.update(variable_writes).where(variable_writes.c.run_pk == b("the_pk")).values(run_pk=sa.null())
)
_DELETE_RUN = Statement(sa.delete(runs).where(runs.c.pk == b("the_pk")))
HANDLED = frozenset(
    {
        "events",
        "executions",
        "facts",  # which go by their own age, and whose readers ask whether the run is still there
        "activity",
        "approvals",
        "hook_runs",
        "message_runs",
        "run_signals",
        "run_sizes",
        "run_values",
        "run_variables",
        "run_words",
        "simulation_forks",
        "table_writes",
        "variable_writes",
    }
)
"""The tables with rows of a run, except the money tables."""


@dataclass(frozen=True, slots=True)
class RetentionStep:
    """A step's result: where the next step starts (None: the organisation is done), and how many runs it hid."""

    after: int | None
    hidden: int


def hide(tx: Tx, org_id: str, *, before: int, after: int, count: int) -> RetentionStep:
    """Hides those of the organisation's next runs that ended before a time and that nothing needs.

    A run is needed while a run of its retry chain or one that it called is open or newer; while its caller exists,
    because a repeated node looks up the run that it called; and forever if a money table references it. The newest run
    of the store is kept too.
    """
    rows = tx.all(_LIST, org_id=org_id, after=after, count=count)
    newest = {row[0] for statement in _NEWEST if (row := tx.one(statement)) is not None}
    hidden = 0
    for pk, run_id, root, parent_pk, started_at, finished_at, status, workflow_id in rows:
        after = pk
        if started_at >= before:
            return RetentionStep(None, hidden)
        if (
            pk in newest
            or finished_at is None
            or finished_at >= before
            or _is_needed(tx, org_id, pk, root or run_id, parent_pk, before)
        ):
            continue
        tx.do(_HIDE, the_pk=pk, as_id=f"run_{pk}")
        tx.do(
            _UNCOUNT,
            org_id=org_id,
            workflow_id=workflow_id or "",
            status=status,
            the_pk=pk,
            bucket=pk // COUNTED_TOGETHER,
        )
        for statement in _FREE:
            tx.do(statement, the_pk=pk, of_org=org_id)
        hidden += 1
    return RetentionStep(after if len(rows) == count else None, hidden)


def _is_needed(tx: Tx, org_id: str, pk: int, root: str, parent_pk: int | None, before: int) -> bool:
    if parent_pk is not None and tx.one(_IS_THERE, the_pk=parent_pk, org_id=org_id) is not None:
        return True
    if tx.one(_YOUNG_IN_CHAIN, org_id=org_id, root=root, before=before) is not None:
        return True
    if tx.one(_YOUNG_BELOW, the_pk=pk, before=before) is not None:
        return True
    return any(tx.one(statement, the_pk=pk) is not None for statement in _HAS_SPENT)


def purge(tx: Tx, budget: int) -> bool:
    """Deletes about `budget` rows of hidden runs; False if nothing is left to delete."""
    found = tx.all(_FIRST_HIDDEN, count=budget // 10 + 1)
    for (pk,) in found:
        for statement in (_DELETE_EVENTS, _DELETE_EXECUTIONS, _DELETE_VALUES):
            while budget > 0 and (gone := tx.run(statement, the_pk=pk)):
                budget -= gone
        if budget <= 0:
            return True
        for statement in (*_DELETE_REST, _DELETE_WRITES, _UNLINK_WRITES, _DELETE_RUN):
            budget -= tx.run(statement, the_pk=pk)
    return len(found) > 0
