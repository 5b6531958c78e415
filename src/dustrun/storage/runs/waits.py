"""Rows that a batch writes besides its own run's: approvals, calls of other runs, and consumed answers."""

from __future__ import annotations

from dataclasses import field

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import run_signals, runs
from dustrun.storage.runs import approvals as approval_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.approvals import ApprovalRow


@dataclass(frozen=True, slots=True)
class ClosedApproval:
    """The outcome of an approval."""

    approval_id: str
    status: str
    at: int


@dataclass(frozen=True, slots=True)
class ChildResult:
    """The result that a called run reports to its caller."""

    caller_pk: int
    path: str
    data: str


@dataclass(slots=True)
class Waits:
    """`expired`: paths that timed out; an answer that arrived before this is written wins. `cancelled`: called runs
    that nothing waits for any more."""

    expired: list[str] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    asked: list[ApprovalRow] = field(default_factory=list)
    closed: list[ClosedApproval] = field(default_factory=list)


_ANSWERED = Statement(
    sa.select(run_signals.c.id).where(run_signals.c.run_pk == b("the_pk"), run_signals.c.path == b("the_path")).limit(1)
)
_IS_OPEN = Statement(
    sa.select(runs.c.pk).where(runs.c.pk == b("the_pk"), sa.or_(runs.c.status == "running", runs.c.status == "waiting"))
)

_CANCEL_CALLED = Statement(
    sa.update(runs)
    .where(
        runs.c.parent_pk == b("the_pk"),
        runs.c.cancel_requested_at.is_(None),
        runs.c.callers.like('%"waits":true%'),
        sa.or_(runs.c.status == "running", runs.c.status == "waiting"),
    )
    .values(cancel_requested_at=b("now", type_=sa.BigInteger))
    .returning(runs.c.pk)
)


def is_answered(tx: Tx, run_pk: int, path: str) -> bool:
    """Whether there is an answer that the node has not consumed yet."""
    return tx.one(_ANSWERED, the_pk=run_pk, the_path=path) is not None


def write(tx: Tx, run_pk: int, waits: Waits, now: int) -> bool:
    """Writes everything; False if an answer arrived before the timeout, and then the batch must be rolled back."""
    if any(is_answered(tx, run_pk, path) for path in waits.expired):
        return False
    for pk in waits.cancelled:
        run_rows.request_cancel(tx, pk, now)
    for row in waits.asked:
        approval_rows.add(tx, row)
    for closed in waits.closed:
        approval_rows.close(tx, closed.approval_id, closed.status, closed.at)
    return True


def report_to_caller(tx: Tx, result: ChildResult, now: int) -> None:
    """Inserts a called run's result as an answer for its caller, if the caller is still open."""
    if tx.one(_IS_OPEN, the_pk=result.caller_pk) is not None:
        run_rows.add_signal(tx, result.caller_pk, "child", result.path, result.data, now)


def cancel_called(tx: Tx, run_pk: int, now: int) -> list[int]:
    """Requests cancellation of the runs that a run called and waited for, whatever its journal says."""
    return [int(row[0]) for row in tx.all(_CANCEL_CALLED, the_pk=run_pk, now=now)]
