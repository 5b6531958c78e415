"""Which process advances a run where Temporal decides that, and which runs nobody advances. PostgreSQL only."""

from __future__ import annotations

from typing import Final, NamedTuple

import sqlalchemy as sa

from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.sharing.leases import IS_DEAD
from dustrun.storage.sharing.processes import NOW_MS

LATE_MS: Final = 3_000
"""How long a run may be due before somebody looks after it."""
_IS_OPEN: Final = "r.status IN ('running', 'waiting')"
_LATE: Final = f"{NOW_MS} - {LATE_MS}"
_HAS_SIGNALS: Final = "EXISTS (SELECT 1 FROM run_signals s WHERE s.run_pk = r.pk)"
_HAS_LATE_SIGNALS: Final = f"EXISTS (SELECT 1 FROM run_signals s WHERE s.run_pk = r.pk AND s.at < {_LATE})"  # noqa: S608 - constants of ours
_OLDER: Final = (
    "SELECT count(*) FROM runs o WHERE o.workflow_id = r.workflow_id AND o.concurrency_key = r.concurrency_key"
    " AND o.status IN ('running', 'waiting') AND o.pk < r.pk"
)
_TAKE_OVER = Statement(
    sa.text(
        f"UPDATE runs r SET fence = fence + 1, claimed_by = :holder WHERE r.pk = :pk AND {_IS_OPEN} RETURNING fence"  # noqa: S608 - the same
    )
)
_OWN = Statement(
    sa.text(
        f"SELECT r.pk, r.cancel_requested_at IS NOT NULL, {_HAS_SIGNALS} FROM runs r"  # noqa: S608 - the same
        " WHERE r.status = 'running' AND r.claimed_by = :holder ORDER BY r.pk"
    )
)
_FORSAKEN = Statement(
    sa.text(
        f"SELECT r.pk, r.status = 'waiting', r.claimed_by IS NOT NULL FROM runs r WHERE {_IS_OPEN} AND ("  # noqa: S608 - the same
        f" (r.status = 'running' AND r.started_at < {_LATE}"
        f" AND (r.claimed_by IS NULL OR {IS_DEAD.format(holder='r.claimed_by')}))"
        f" OR (r.status = 'waiting' AND (r.wake_at < {_LATE} OR r.cancel_requested_at < {_LATE}"
        f" OR {_HAS_LATE_SIGNALS}))) ORDER BY r.pk LIMIT 1000"
    )
)
_TURN = Statement(
    sa.text(
        "SELECT r.org_id, r.cancel_requested_at IS NOT NULL, EXISTS (SELECT 1 FROM workflows w"  # noqa: S608 - the same
        " WHERE w.id = r.workflow_id AND r.concurrency_key IS NOT NULL AND w.concurrency IS NOT NULL"
        f" AND ({_OLDER}) >= CAST(CAST(w.concurrency AS json)->>'max' AS integer)) FROM runs r WHERE r.pk = :pk"
    )
)
_NEXT_IN_LINE = Statement(
    sa.text(
        "SELECT r.pk FROM runs e JOIN runs r ON r.workflow_id = e.workflow_id"
        " AND r.concurrency_key = e.concurrency_key WHERE e.pk = :pk AND e.concurrency_key IS NOT NULL"
        " AND r.status = 'running' AND r.claimed_by IS NULL ORDER BY r.pk LIMIT 1"
    )
)


class OwnRun(NamedTuple):
    """A run that a process took up last and that neither waits nor has ended."""

    pk: int
    is_cancelled: bool
    has_signals: bool


class Turn(NamedTuple):
    """Whose run it is, and whether as many older runs of its workflow are unfinished as the workflow allows."""

    org_id: str
    is_cancelled: bool
    is_after_others: bool


class ForsakenRun(NamedTuple):
    """A run that is due, and that no living process advances."""

    pk: int
    is_waiting: bool
    was_taken: bool
    """Somebody has advanced it before."""


def take_over(tx: Tx, run_pk: int, holder: str) -> int | None:
    """Takes a run over for a process and returns its new fence; None if it has ended."""
    row = tx.one(_TAKE_OVER, pk=run_pk, holder=holder)
    return int(row[0]) if row is not None else None


def list_own(tx: Tx, holder: str) -> list[OwnRun]:
    """Lists the runs that a process should be advancing."""
    return [OwnRun(*row) for row in tx.all(_OWN, holder=holder)]


def list_forsaken(tx: Tx) -> list[ForsakenRun]:
    """Lists runs that are due and that no living process advances, oldest first."""
    return [ForsakenRun(*row) for row in tx.all(_FORSAKEN)]


def find_turn(tx: Tx, run_pk: int) -> Turn | None:
    """The state that decides whether a run may be taken up now; None if it was removed after its end."""
    row = tx.one(_TURN, pk=run_pk)
    return Turn(*row) if row is not None else None


def find_next_in_line(tx: Tx, ended_pk: int) -> int | None:
    """The oldest run that a limit of its workflow may have held back until this one ended."""
    row = tx.one(_NEXT_IN_LINE, pk=ended_pk)
    return int(row[0]) if row is not None else None
