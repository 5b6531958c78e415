"""Broadcasts signed transactions from the store, rebroadcasts those not mined, and raises bids that are stuck.

No reply of a node decides what becomes of a transaction: it is recorded and shown to people.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dustrun import clock, ids, log
from dustrun.chain.evm import Broadcast, LiveChain
from dustrun.core.money.intent import Intent
from dustrun.core.money.policy import Deny, PolicyRequest
from dustrun.core.money.transaction_state import PLAIN_GAS, TxState
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import DustrunError, Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.services.outbox import events, policy_check, restore_hold
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.services.outbox.sender_queue import bid_of, new_attempt
from dustrun.services.outbox.spend_status import intent_of
from dustrun.services.outbox.tracking import receipts, replacement
from dustrun.services.outbox.tracking.replacement import AtCeiling, NewAttempt, sign
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as rows
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.transactions import AttemptRow, TransactionRow
from dustrun.storage.runs.journal import RunHeads
from dustrun.wallets.signer import UnsignedTransaction

# Fills a nonce gap with a zero-value self-transfer so that later transactions can be mined. Its fee counts against the
# wallet's policy like any other.


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

    request = PolicyRequest.of_intent(
        intent_of(row),
        row.sender,
        gas_limit=gas_limit,
        max_fee_units=bid.max_fee_units,
        usual_fee_units=chain.network.usual_fee_units,
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


_SENDS_AT_ONCE = 20
_AGAIN_AFTER_BLOCKS = 3
_MOMENT_MS = 500
_UNHEARD = ("not-sent", "unknown")
_TAKEN = ("accepted", "known")
_REFUSED = ("funds", "underpriced", "refused")
_SILENT = ("nonce-too-low", "not-sent", "unknown")  # the receipts, or the next try, will tell


async def send(deps: OutboxDeps, row: TransactionRow, attempt: AttemptRow) -> Broadcast:
    """Broadcasts one attempt's bytes and records the reply. Safe to repeat."""
    deps.on_step("sending")
    reply = await deps.chains.get(row.chain_id).broadcast(bytes.fromhex(attempt.raw[2:]))
    deps.on_step("sent")
    with contextlib.suppress(Temporary, Uncertain):  # it is sent, and sent again until that is known
        is_light = events.is_light([row])
        await deps.writer.write(
            lambda tx: _note(tx, row, attempt, reply),
            deps.publisher.tell,
            repeatable=is_light,
            is_separate=is_light,
            touches=events.touches(row),
        )
    deps.on_step("noted")
    return reply


def _note(tx: Tx, known: TransactionRow, attempt: AttemptRow, reply: Broadcast) -> CommittedSteps | None:
    with RunHeads(tx, [known.run_pk]) as heads:
        found = rows.ask_for(tx, known.id)
        tx.wait()
        return _note_reply(tx, found(), attempt, reply, heads)


def _note_reply(
    tx: Tx, row: TransactionRow, attempt: AttemptRow, reply: Broadcast, heads: RunHeads
) -> CommittedSteps | None:
    now = clock.now_ms()
    is_taken = reply.outcome in _TAKEN
    shown = reply.outcome if reply.message is None else f"{reply.outcome}: {reply.message}"
    rows.note_reply(tx, attempt.hash, sent_at=now if is_taken else None, tried_at=now, reply=shown)
    if row.state not in (TxState.SIGNED, TxState.SENT) or row.hash != attempt.hash:
        return None
    if is_taken:
        is_new = row.state == TxState.SIGNED
        by_node = row.refusal is not None and row.refusal.startswith(_REFUSED)
        if not is_new and not by_node:
            return None
        row = replace(row, state=TxState.SENT, refusal=None if by_node else row.refusal, updated_at=now)
        rows.save(tx, row)
        return events.note(tx, row, TransactionStep("sent", bid_of(attempt)), heads=heads) if is_new else None
    if reply.outcome in _SILENT or row.refusal == shown:
        return None
    row = replace(row, refusal=shown, updated_at=now)
    rows.save(tx, row)
    return events.note(tx, row, TransactionStep("delayed", {"reason": shown}), heads=heads)


@dataclass(frozen=True, slots=True)
class TrackedTransaction:
    """One transaction with its attempts, oldest first."""

    row: TransactionRow
    attempts: Sequence[AttemptRow]

    @property
    def nonce(self) -> int:
        """Its nonce; set once it is signed."""
        assert self.row.nonce is not None
        return self.row.nonce

    @property
    def newest(self) -> AttemptRow:
        """The attempt that is broadcast."""
        return self.attempts[-1]


class Rebroadcaster:
    """What the tracker of one chain broadcasts again. `block_ms`: the usual time between two blocks; `every_ms`: how
    often the tracker looks."""

    def __init__(self, deps: OutboxDeps, block_ms: int, every_ms: int) -> None:
        self._deps = deps
        self._block_ms = block_ms
        self._every_ms = every_ms
        self._gaps: dict[tuple[str, int], float] = {}

    async def push(
        self, chain: LiveChain, left: Sequence[TrackedTransaction], used: Mapping[str, int], *, all_at_once: bool
    ) -> None:
        """Broadcasts what was not sent lately, and raises the bid of what is stuck. Only a sender's lowest open nonce
        can be stuck; the ones behind it wait for it. `all_at_once` also sends what was sent lately."""
        by_sender: dict[str, list[TrackedTransaction]] = defaultdict(list)
        for one in left:
            by_sender[one.row.sender].append(one)
        for sender, waiting in by_sender.items():
            lowest = min(waiting, key=lambda one: one.nonce)
            if lowest.nonce == used[sender]:
                self._gaps.pop((sender, used[sender]), None)
                lowest = await self._mend_patiently(lowest)
            else:
                await self._mend_gap(chain, lowest, used[sender])
            again = [lowest if one.row.id == lowest.row.id else one for one in waiting]
            await self._send([one for one in again if all_at_once or self._is_due(one)])

    def _is_due(self, one: TrackedTransaction) -> bool:
        """Whoever commits an attempt also sends it. If it was not tried a moment later, a crash left it."""
        tried, reply = one.newest.tried_at, one.newest.reply or ""
        since_ms = clock.now_ms() - (tried or one.newest.created_at)
        if tried is None or reply.startswith(_UNHEARD):
            return since_ms >= _MOMENT_MS
        return since_ms >= self._again_ms

    @property
    def _again_ms(self) -> int:
        return max(1_000, _AGAIN_AFTER_BLOCKS * self._block_ms)

    async def _send(self, due: Iterable[TrackedTransaction]) -> None:
        """Broadcasts in the order of nonces, a limited number at once."""
        turns = asyncio.Semaphore(_SENDS_AT_ONCE)

        async def one_of(one: TrackedTransaction) -> None:
            async with turns:
                await send(self._deps, one.row, one.newest)

        await asyncio.gather(*(one_of(one) for one in sorted(due, key=lambda one: one.nonce)))

    async def _mend_patiently(self, one: TrackedTransaction) -> TrackedTransaction:
        """Like `_mend`, but a failure of one sender's signer does not hold up the others."""
        try:
            return await self._mend(one)
        except DustrunError as error:
            await self._note_delay(one, f"Its bid could not be raised: {error.message}")
            return one

    async def _note_delay(self, one: TrackedTransaction, reason: str) -> None:
        await self._deps.writer.write(lambda tx: receipts.note_delay(tx, one.row.id, reason), self._deps.publisher.tell)

    async def _mend(self, one: TrackedTransaction) -> TrackedTransaction:
        """Raises the bid of a sender's next transaction if it is stuck or a node found it underpriced."""
        last = one.newest
        reply = last.reply or ""
        if reply.startswith("funds"):
            return one  # a higher bid would need more of what is missing
        if one.row.finished_at is not None:
            return one  # a reorg took it back after it was final: nothing new is signed for it, unless a person asks
        is_low = reply.startswith("underpriced")
        waits_s = (clock.now_ms() - max(last.created_at, one.row.signed_at or 0)) / 1000
        if waits_s < self._deps.settings.transaction_stuck_s and not (is_low and waits_s * 1000 > self._every_ms):
            return one
        held = await restore_hold.why_not_raised(self._deps, one.row)
        if held is not None:
            await self._note_delay(one, held)
            return one
        found = await replacement.replace_attempt(self._deps, one.row, last, "replace")
        if isinstance(found, NewAttempt):
            return TrackedTransaction(found.row, [*one.attempts, found.attempt])
        if isinstance(found, AtCeiling):
            await self._note_delay(one, found.message)
        return one

    async def _mend_gap(self, chain: LiveChain, lowest: TrackedTransaction, used: int) -> None:
        """Fills a nonce that none of our transactions has, after a while: all transactions behind it would wait for
        ever. It arises when somebody else's pending transaction was counted and never mined."""
        place = (lowest.row.sender, used)
        since = self._gaps.setdefault(place, clock.monotonic_s())
        if clock.monotonic_s() - since < self._deps.settings.transaction_stuck_s:
            return
        self._gaps[place] = clock.monotonic_s()
        filled = await fill(self._deps, chain, lowest.row, used)
        if filled is not None:
            await send(self._deps, *filled)
            del self._gaps[place]
