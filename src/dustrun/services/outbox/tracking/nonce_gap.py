"""Fills a nonce gap with a zero-value self-transfer so that later transactions can be mined. Its fee counts against the
wallet's policy like any other."""

from __future__ import annotations

from dustrun import clock, ids, log
from dustrun.chain.evm import LiveChain
from dustrun.core.money.intent import Intent
from dustrun.core.money.policy import Deny, Request
from dustrun.core.money.transaction_state import PLAIN_GAS, TxState
from dustrun.core.values.exact_json import dumps_text
from dustrun.services.outbox import policy_check
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.sender_queue import new_attempt
from dustrun.services.outbox.spend_status import intent_of
from dustrun.services.outbox.tracking import receipts
from dustrun.services.outbox.tracking.replacement import sign
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as rows
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.transactions import AttemptRow, TransactionRow
from dustrun.wallets.signer import UnsignedTransaction

_logger = log.get(__name__)


async def fill(
    deps: OutboxDeps, chain: LiveChain, behind: TransactionRow, nonce: int
) -> tuple[TransactionRow, AttemptRow] | None:
    """Signs the transaction that fills the gap before `behind`; None if the gap is gone or policy denies the fee."""
    if await chain.nonce(behind.sender, "pending") > nonce:
        return None  # it waits in somebody's pool after all
    await chain.verify(afresh=True)
    bid = await chain.fees()
    gas_limit = max(PLAIN_GAS, await chain.estimate_gas(behind.sender, behind.sender, 0, b""))
    unsigned = UnsignedTransaction(
        chain_id=behind.chain_id,
        nonce=nonce,
        to=behind.sender,
        value_units=0,
        data=b"",
        gas_limit=gas_limit,
        max_fee_units=bid.max_fee_units,
        tip_units=bid.tip_units,
        is_legacy=bid.is_legacy,
    )
    wallet = await deps.database.read(lambda tx: wallet_rows.find(tx, behind.org_id, behind.wallet_id))
    assert wallet is not None
    signed = await sign(deps, wallet, unsigned)
    row = _row(behind, unsigned, signed.hash, deps.settings.transaction_max_fee_rise)
    attempt = new_attempt(row, 1, "send", unsigned, signed)

    request = Request.of_intent(
        intent_of(row),
        row.sender,
        gas_limit=gas_limit,
        max_fee_units=bid.max_fee_units,
        usual_fee_units=chain.network.usual_fee_units(bid.expected_units),
    )
    values = await deps.budget.values_of([request])
    denied: list[str] = []

    def unit(tx: Tx) -> AttemptRow | None:
        if rows.find_of_nonce(tx, row.chain_id, row.sender, nonce) is not None:
            return None
        verdict = deps.budget.judge_fill(tx, policy_check.case_of(tx, row, request, values), row.id)
        if isinstance(verdict, Deny):
            denied.append(policy_check.denial(verdict).message)
            return None
        rows.insert(tx, row)
        rows.insert_attempt(tx, attempt)
        return attempt

    written = await deps.writer.write(unit)
    if denied:
        reason = f"The nonce {nonce} before it is unused and was not filled. {denied[0]}"
        await deps.writer.write(lambda tx: receipts.note_delay(tx, behind.id, reason), deps.publisher.tell)
    if written is None:
        return None
    _logger.warning("filled a nonce gap", sender=row.sender, chain_id=row.chain_id, nonce=nonce)
    return row, attempt


def _row(behind: TransactionRow, unsigned: UnsignedTransaction, hash: str, rise: int) -> TransactionRow:
    now = clock.now_ms()
    intent = Intent(
        item="fill",
        chain_id=behind.chain_id,
        to=behind.sender,
        value_units=0,
        data=b"",
        movements=(),
        about=f"Fill the unused nonce {unsigned.nonce}",
    )
    return TransactionRow(
        id=ids.new_id("tx"),
        org_id=behind.org_id,
        key=f"fill/{behind.chain_id}/{behind.sender}/{unsigned.nonce}",
        purpose="fill",
        run_pk=None,
        run_id=None,
        root_run_id=None,
        workflow_id=None,
        path=None,
        item="fill",
        generation=1,
        mode="live",
        wallet_id=behind.wallet_id,
        key_id=None,
        chain_id=behind.chain_id,
        sender=behind.sender,
        intent=dumps_text(intent.public()),
        state=TxState.SIGNED,
        confirmations=behind.confirmations,
        planned_at=now,
        updated_at=now,
        nonce=unsigned.nonce,
        gas_limit=unsigned.gas_limit,
        max_price=str(unsigned.max_fee_units * rise),
        outlay=str(unsigned.gas_limit * unsigned.max_fee_units),
        hash=hash,
        signed_at=now,
    )
