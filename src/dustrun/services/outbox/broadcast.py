"""Broadcasting what is on disk. No reply decides what becomes of a transaction: it is noted, and people see it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from dustrun import clock
from dustrun.chain.evm import Broadcast
from dustrun.core.money.transaction_state import TxState
from dustrun.errors import Temporary, Uncertain
from dustrun.services.outbox import events
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import Committed, Step
from dustrun.services.outbox.sender_queue import bid_of
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import AttemptRow, TransactionRow

_TAKEN = ("accepted", "known")
_REFUSED = ("funds", "underpriced", "refused")
_SILENT = ("nonce-too-low", "not-sent", "unknown")  # the receipts, or the next try, will tell


async def send(parts: OutboxDeps, row: TransactionRow, attempt: AttemptRow) -> Broadcast:
    """Sends one attempt's bytes, as often as one likes, and notes the answer."""
    parts.on_step("sending")
    reply = await parts.chains.get(row.chain_id).broadcast(bytes.fromhex(attempt.raw[2:]))
    parts.on_step("sent")
    with contextlib.suppress(Temporary, Uncertain):  # it is sent, and sent again until that is known
        await parts.writer.write(lambda tx: _note(tx, row.id, attempt, reply), parts.publisher.tell)
    parts.on_step("noted")
    return reply


def _note(tx: Tx, transaction_id: str, attempt: AttemptRow, reply: Broadcast) -> Committed | None:
    now = clock.now_ms()
    is_taken = reply.outcome in _TAKEN
    shown = reply.outcome if reply.message is None else f"{reply.outcome}: {reply.message}"
    rows.note_reply(tx, attempt.hash, sent_at=now if is_taken else None, tried_at=now, reply=shown)
    row = rows.get(tx, transaction_id)
    if row.state not in (TxState.SIGNED, TxState.SENT) or row.hash != attempt.hash:
        return None
    if is_taken:
        is_new = row.state == TxState.SIGNED
        by_node = row.refusal is not None and row.refusal.startswith(_REFUSED)
        if not is_new and not by_node:
            return None
        row = replace(row, state=TxState.SENT, refusal=None if by_node else row.refusal, updated_at=now)
        rows.save(tx, row)
        return events.note(tx, row, Step("sent", bid_of(attempt))) if is_new else None
    if reply.outcome in _SILENT or row.refusal == shown:
        return None
    row = replace(row, refusal=shown, updated_at=now)
    rows.save(tx, row)
    return events.note(tx, row, Step("delayed", {"reason": shown}))
