"""Reads what happened in an organisation, for the triggers that watch it."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.stream_events import TRANSACTION
from dustrun.core.triggers.limits import OF_THE_SERVER
from dustrun.storage.db.facts import ENDED
from dustrun.storage.db.ledger_tables import transactions as tx_table
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import approvals, events, hook_notices
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events

MOST = 2000
"""How many facts of one kind one look reads."""
_SINCE = b("since", type_=sa.BigInteger)


class TransactionFact(NamedTuple):
    """A transaction as it is now, with the run that it is of."""

    id: str
    state: str
    at: int
    run_pk: int | None
    run_id: str | None
    workflow_id: str | None
    path: str | None
    mode: str
    wallet_id: str
    chain_id: int
    sender: str
    nonce: int | None
    hash: str | None
    block_number: int | None
    block_hash: str | None
    error: str | None
    signed_at: int | None


_t = tx_table.c
_TX = [
    *(_t.id, _t.state, _t.updated_at, _t.run_pk, _t.run_id, _t.workflow_id, _t.path, _t.mode, _t.wallet_id),
    *(_t.chain_id, _t.sender, _t.nonce, _t.hash, _t.block_number, _t.block_hash, _t.error, _t.signed_at),
]
_OF_ORG = (_t.org_id == b("org_id"), _t.purpose == "intent")
_ENDED = Statement(
    sa.select(*_TX)
    .where(*_OF_ORG, _t.updated_at >= _SINCE, sa.or_(*(_t.state == one for one in ENDED)))
    .order_by(_t.updated_at)
    .limit(MOST)
)
_STUCK = Statement(
    sa.select(*_TX)
    .where(
        *_OF_ORG,
        sa.or_(*(_t.state == one for one in ("signed", "sent", "mined"))),  # all three, for SQLite's partial index
        _t.state != "mined",
        _t.signed_at <= b("until"),
    )
    .order_by(_t.signed_at)
    .limit(MOST)
)
_BY_ID = Statement(sa.select(*_TX).where(_t.org_id == b("org_id"), _t.id == b("the_id")))
_REORGED = Statement(
    sa.select(events.c.data, events.c.at)
    .where(
        events.c.run_pk.in_(sa.select(_t.run_pk).where(*_OF_ORG, _t.updated_at >= _SINCE)),
        events.c.type == TRANSACTION,
        events.c.at >= _SINCE,
        events.c.data.like('%"status":"reorged"%'),
    )
    .order_by(events.c.at)
    .limit(MOST)
)
_REORGED_LATER = Statement(
    sa.select(hook_notices.c.data, hook_notices.c.at)
    .where(
        hook_notices.c.org_id == b("org_id"),
        hook_notices.c.type == "transaction.reorged",
        hook_notices.c.at >= _SINCE,
    )
    .order_by(hook_notices.c.id)
    .limit(MOST)
)


def list_ended(tx: Tx, org_id: str, since: int) -> list[TransactionFact]:
    """Transactions that came to an end, and were last changed at or after a time."""
    return [TransactionFact(*row) for row in tx.all(_ENDED, org_id=org_id, since=since)]


def list_stuck(tx: Tx, org_id: str, until: int) -> list[TransactionFact]:
    """Transactions that were signed until a time and are not mined."""
    return [TransactionFact(*row) for row in tx.all(_STUCK, org_id=org_id, until=until)]


def list_reorged(tx: Tx, org_id: str, since: int) -> list[tuple[str, int]]:
    """The transactions that a reorg removed, as JSON, and when they were reported: of open runs, and of ended ones."""
    found = [*tx.all(_REORGED, org_id=org_id, since=since), *tx.all(_REORGED_LATER, org_id=org_id, since=since)]
    return [(str(data), int(at)) for data, at in found]


def find_transaction(tx: Tx, org_id: str, transaction_id: str) -> TransactionFact | None:
    """A transaction of the organisation."""
    row = tx.one(_BY_ID, org_id=org_id, the_id=transaction_id)
    return TransactionFact(*row) if row else None


class ApprovalFact(NamedTuple):
    """An approval as it is now."""

    id: str
    run_pk: int
    run_id: str
    workflow_id: str | None
    workflow_name: str
    path: str
    message: str
    mode: str
    status: str
    created_at: int
    expires_at: int
    decided_at: int | None
    decided_by: str | None
    comment: str | None
    quorum: int | None
    votes: str | None


_APPROVALS = Statement(
    sa.select(*(approvals.c[name] for name in ApprovalFact._fields))
    .where(
        approvals.c.org_id == b("org_id"),
        sa.or_(approvals.c.created_at >= _SINCE, approvals.c.decided_at >= _SINCE),
    )
    .order_by(approvals.c.created_at)
    .limit(MOST)
)


_APPROVAL = Statement(
    sa.select(*(approvals.c[name] for name in ApprovalFact._fields)).where(
        approvals.c.org_id == b("org_id"), approvals.c.id == b("the_id")
    )
)


def find_approval(tx: Tx, org_id: str, approval_id: str) -> ApprovalFact | None:
    """An approval of the organisation."""
    row = tx.one(_APPROVAL, org_id=org_id, the_id=approval_id)
    return ApprovalFact(*row) if row else None


def list_approvals(tx: Tx, org_id: str, since: int) -> list[ApprovalFact]:
    """Approvals that were asked for or closed at or after a time."""
    return [ApprovalFact(*row) for row in tx.all(_APPROVALS, org_id=org_id, since=since)]


_FAILING = Statement(
    sa.select(
        *(subscriptions.c[name] for name in ("id", "workflow_id", "node_id", "type", "state", "failures", "last_error"))
    )
    .where(
        subscriptions.c.org_id == b("org_id"),
        sa.or_(
            sa.and_(subscriptions.c.state == "armed", subscriptions.c.failures > 0), subscriptions.c.state == "failed"
        ),
    )
    .order_by(subscriptions.c.pk)
    .limit(MOST)
)
_FAILED = Statement(
    sa.select(
        *(
            trigger_events.c[name]
            for name in ("pk", "id", "workflow_id", "node_id", "type", "reason", "message", "received_at")
        )
    )
    .where(
        trigger_events.c.org_id == b("org_id"),
        trigger_events.c.pk > b("after", type_=sa.BigInteger),
        trigger_events.c.outcome == "failed",
        *(trigger_events.c.type != one for one in sorted(OF_THE_SERVER)),
    )
    .order_by(trigger_events.c.pk)
    .limit(100)
)
_NEWEST = Statement(
    sa.select(sa.func.coalesce(sa.func.max(trigger_events.c.pk), 0)).where(trigger_events.c.org_id == b("org_id"))
)


def list_failing(tx: Tx, org_id: str) -> list[tuple[Any, ...]]:
    """(id, workflow, node, type, state, failures, last error) of triggers that cannot look."""
    return [tuple(row) for row in tx.all(_FAILING, org_id=org_id)]


def list_failed_events(tx: Tx, org_id: str, after: int) -> list[tuple[Any, ...]]:
    """(cursor, id, workflow, node, type, reason, message, time) of events after a cursor that could start no run.
    The server's own events are left out: they could go round in a circle."""
    return [tuple(row) for row in tx.all(_FAILED, org_id=org_id, after=after)]


def newest_event(tx: Tx, org_id: str) -> int:
    """The cursor of the newest event."""
    row = tx.one(_NEWEST, org_id=org_id)
    assert row is not None
    return int(row[0])
