"""Records what a receipt, or its absence, means for a transaction: each change in one unit with its event and
signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dustrun import clock
from dustrun.core.money.intent import Receipt
from dustrun.core.money.receipts import show_receipt
from dustrun.core.money.transaction_state import SETTLED, TxState
from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass
from dustrun.services.outbox import events
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.services.outbox.spend_status import IntentFailure, error_json
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import ledger
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.runs.journal import RunHeads

REVERTED, CANCELLED, DISPLACED, REORGED = "REVERTED", "CANCELLED", "NONCE_DISPLACED", "REORGED"
_REVERT_IS_GONE = (
    "A reorg deeper than its confirmations removed the block in which it had reverted. It is not sent again: the spend "
    "may have been made otherwise since. If it is mined all the same, this is noticed. Cancel it once you are sure."
)
_SENT_AGAIN = "A reorg deeper than its confirmations removed its block. The same bytes are sent again."
_BEFORE_MINED = (TxState.SIGNED, TxState.SENT, TxState.MINED, TxState.DISPLACED)


@dataclass(frozen=True, slots=True)
class MinedTransaction:
    """A transaction and the receipt of one of its attempts."""

    row: TransactionRow
    receipt: Receipt


def note_mined(tx: Tx, mined: Sequence[MinedTransaction]) -> list[CommittedSteps | None]:
    """Records that attempts were mined, or are now in another block."""
    with RunHeads(tx, [one.row.run_pk for one in mined]) as heads:
        asked = [rows.ask_for(tx, one.row.id) for one in mined]
        tx.wait()
        return [_note_mined(tx, found(), one.receipt, heads) for one, found in zip(mined, asked, strict=True)]


def _note_mined(tx: Tx, row: TransactionRow, receipt: Receipt, heads: RunHeads) -> CommittedSteps | None:
    if row.state not in _BEFORE_MINED or (row.state == TxState.MINED and row.block_hash == receipt.block_hash):
        return None
    changed = _in_block(row, receipt)
    rows.save(tx, changed)
    return events.note(tx, changed, TransactionStep("mined", _included(changed, receipt)), wakes=True, heads=heads)


def _in_block(row: TransactionRow, receipt: Receipt) -> TransactionRow:
    now = clock.now_ms()
    return replace(
        row,
        state=TxState.MINED,
        hash=receipt.hash,
        block_number=receipt.block_number,
        block_hash=receipt.block_hash,
        receipt=dumps_text(show_receipt(receipt)),
        refusal=None,
        error=None,
        mined_at=now,
        updated_at=now,
    )


def _included(row: TransactionRow, receipt: Receipt) -> dict[str, object]:
    return {
        "blockNumber": receipt.block_number,
        "blockHash": receipt.block_hash,
        "gasUsed": receipt.gas_used,
        "fee": str(receipt.fee_units),
        "isSuccess": receipt.is_success,
        "confirmationsNeeded": row.confirmations,
    }


def note_reorged(tx: Tx, transaction_id: str, block_hash: str) -> CommittedSteps | None:
    """Records that a reorg removed the receipt and no attempt has another one: it is broadcast again, and stays
    reserved."""
    row = rows.get(tx, transaction_id)
    if row.state != TxState.MINED or row.block_hash != block_hash:
        return None
    newest = rows.list_attempts(tx, row.id)[-1]
    changed = replace(
        row,
        state=TxState.SIGNED,
        hash=newest.hash,
        block_number=None,
        block_hash=None,
        receipt=None,
        mined_at=None,
        updated_at=clock.now_ms(),
    )
    rows.save(tx, changed)
    return events.note(tx, changed, TransactionStep("reorged", {"blockHash": block_hash}), wakes=True)


def note_taken_back(tx: Tx, transaction_id: str, block_hash: str, receipt: Receipt | None) -> CommittedSteps | None:
    """Records that a reorg removed the block of a final transaction. It is followed again: in the block of `receipt`,
    else by its old bytes, which are sent again. One that had reverted is not: the spend may have been made otherwise
    since, so a person decides, unless it is mined again by itself. Limits go on counting what they counted."""
    row = rows.get(tx, transaction_id)
    if row.state not in SETTLED or row.block_hash != block_hash:
        return None
    ledger.remove(tx, row.id)
    gone = TransactionStep("reorged", {"blockNumber": row.block_number, "blockHash": block_hash, "wasFinal": True})
    now = clock.now_ms()
    if receipt is not None:
        changed = _in_block(row, receipt)
        rows.save(tx, changed)
        return events.note(tx, changed, gone, TransactionStep("mined", _included(changed, receipt)), wakes=True)
    changed = replace(row, block_number=None, block_hash=None, receipt=None, mined_at=None, updated_at=now)
    if row.state == TxState.REVERTED:
        error = error_json(IntentFailure(REORGED, _REVERT_IS_GONE))
        changed = replace(changed, state=TxState.DISPLACED, error=dumps_text(error))
    else:
        newest = rows.list_attempts(tx, row.id)[-1]
        changed = replace(changed, state=TxState.SIGNED, hash=newest.hash, error=None, refusal=_SENT_AGAIN)
    rows.save(tx, changed)
    return events.note(tx, changed, gone, wakes=True)


def note_displaced(tx: Tx, transaction_id: str) -> CommittedSteps | None:
    """Records that the nonce is used for good by none of its attempts: somebody else has the key, or the endpoint is
    incomplete. Signing anew could pay twice, so a person decides."""
    row = rows.get(tx, transaction_id)
    if row.state not in (TxState.SIGNED, TxState.SENT):
        return None
    message = (
        f"The nonce {row.nonce} of {row.sender} on chain {row.chain_id} was used by a transaction that is not ours: "
        "someone else signs with this key, or the endpoint's data is incomplete. Check the chain; cancel this "
        "transaction once you are sure that it was not paid."
    )
    now = clock.now_ms()
    error = error_json(IntentFailure(DISPLACED, message))
    changed = replace(row, state=TxState.DISPLACED, error=dumps_text(error), updated_at=now)
    rows.save(tx, changed)
    return events.note(tx, changed, TransactionStep("displaced", {"error": error}), wakes=True)


def note_corrected(tx: Tx, transaction_id: str, receipt: Receipt) -> CommittedSteps | None:
    """Records the receipt that both endpoints give now, in place of one that only the first had given."""
    row = rows.get(tx, transaction_id)
    if row.state != TxState.MINED or row.block_hash != receipt.block_hash:
        return None
    changed = _in_block(row, receipt)
    rows.save(tx, changed)
    return events.note(tx, changed, TransactionStep("mined", _included(changed, receipt)), wakes=True)


def note_held(tx: Tx, transaction_id: str, reason: str) -> CommittedSteps | None:
    """Records why a mined transaction is not taken for final yet; hooks are told."""
    row = rows.get(tx, transaction_id)
    if row.state != TxState.MINED or row.refusal == reason:
        return None
    changed = replace(row, refusal=reason, updated_at=clock.now_ms())
    rows.save(tx, changed)
    noted = events.note(tx, changed, TransactionStep("delayed", {"reason": reason}))
    return events.raise_alert(tx, row, events.SECOND_OPINION, reason, noted)


def note_withheld(tx: Tx, transaction_id: str, reason: str) -> CommittedSteps | None:
    """Records that only the second endpoint has a receipt; hooks are told."""
    row = rows.get(tx, transaction_id)
    noted = note_delay(tx, transaction_id, reason)
    if row.state not in (TxState.SIGNED, TxState.SENT) or row.refusal == reason:
        return noted
    return events.raise_alert(tx, row, events.SECOND_OPINION, reason, noted)


def note_delay(tx: Tx, transaction_id: str, reason: str) -> CommittedSteps | None:
    """Records why it does not go on, for people."""
    row = rows.get(tx, transaction_id)
    if row.state not in (TxState.SIGNED, TxState.SENT) or row.refusal == reason:
        return None
    changed = replace(row, refusal=reason, updated_at=clock.now_ms())
    rows.save(tx, changed)
    return events.note(tx, changed, TransactionStep("delayed", {"reason": reason}))
