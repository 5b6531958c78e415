"""One queue per chain and sender: assigns nonces, signs, and commits intent, nonce, bytes and reservation together.

Signing happens outside of any transaction, in nonce order; then each transaction's unit judges policy, checks its
nonce, and writes. If an earlier one was denied and the nonce has moved, the unit discards its bytes, which nobody has
seen, and signs again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dustrun import clock
from dustrun.core.money.transaction_state import TxState
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import Temporary, Uncertain
from dustrun.services.outbox import events, policy_check, preflight
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import Committed, Step
from dustrun.services.outbox.preflight import Ready
from dustrun.services.outbox.signing_turn import SigningTurn, signing_turn
from dustrun.services.outbox.spend_status import SpendRequest
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import AttemptRow, TransactionRow
from dustrun.storage.money.wallets import WalletRow
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.sharing.leases import LeaseLost
from dustrun.wallets.signer import SignedTransaction, UnsignedTransaction

_BATCH = 100


class NonceMoved(Exception):
    """The signed nonce is not the next one any more."""


@dataclass(slots=True)
class QueuedTransaction:
    """A queued intent; the future yields its row and attempt, or None if nothing was signed."""

    request: SpendRequest
    ready: Ready
    wallet: WalletRow
    future: asyncio.Future[tuple[TransactionRow, AttemptRow] | None]


@dataclass(frozen=True, slots=True)
class Signed:
    """An intent with its nonce and bytes, not yet committed."""

    queued: QueuedTransaction
    unsigned: UnsignedTransaction
    signed: SignedTransaction


Outcome = tuple[tuple[TransactionRow, AttemptRow] | None, Committed | None]


class SenderQueue:
    """Signs for one sender on one chain, batch by batch."""

    def __init__(self, deps: OutboxDeps, chain_id: int, sender: str) -> None:
        self._deps = deps
        self._chain_id = chain_id
        self._sender = sender
        self._queue: deque[QueuedTransaction] = deque()
        self._task: asyncio.Task[None] | None = None

    async def push(
        self, request: SpendRequest, ready: Ready, wallet: WalletRow
    ) -> tuple[TransactionRow, AttemptRow] | None:
        """Signs and commits. None if policy denied it or asks a person, which is committed, or if it is not planned any
        more. Raises `Temporary` if nothing was signed."""
        future = asyncio.get_running_loop().create_future()
        self._queue.append(QueuedTransaction(request, ready, wallet, future))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        return await asyncio.shield(future)

    async def stop(self) -> None:
        """Commits the current batch; what waits is not signed."""
        for queued in self._queue:
            _fail(queued, Temporary("The server is stopping; nothing was signed.", retry_after_s=2))
        self._queue.clear()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]
            try:
                async with signing_turn(self._deps.leases, self._chain_id, self._sender) as turn:
                    await self._sign(batch, turn)
            except Exception as error:
                for queued in batch:
                    _fail(queued, error)

    async def _sign(self, batch: Sequence[QueuedTransaction], turn: SigningTurn) -> None:
        chain = self._deps.chains.get(self._chain_id)
        floor = await chain.nonce(self._sender, "pending")
        await chain.verify(afresh=True)  # the floor may be the word of a node that was swapped a moment ago
        highest = await self._deps.database.read(lambda tx: rows.highest_nonce(tx, self._chain_id, self._sender))
        nonce = max(floor, 0 if highest is None else highest + 1)
        signed: list[Signed] = []
        for queued in batch:
            one = await self._sign_one(queued, nonce + len(signed))
            if one is not None:
                signed.append(one)
        self._deps.on_step("signed")
        writes = [self._deps.writer.write(self._unit(one, floor, turn), self._tell) for one in signed]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        self._deps.on_step("committed")
        for one, outcome in zip(signed, outcomes, strict=True):
            await self._answer(one, outcome)

    async def _sign_one(self, queued: QueuedTransaction, nonce: int) -> Signed | None:
        ready = queued.ready
        unsigned = UnsignedTransaction(
            chain_id=self._chain_id,
            nonce=nonce,
            to=ready.intent.to,
            value_units=ready.intent.value_units,
            data=ready.intent.data,
            gas_limit=ready.gas_limit,
            max_fee_units=ready.bid.max_fee_units,
            tip_units=ready.bid.tip_units,
            is_legacy=ready.bid.is_legacy,
        )
        try:
            signer = self._deps.signers.signer_of(queued.wallet)
            return Signed(queued, unsigned, await signer.sign_transaction(unsigned))
        except Exception as error:
            _fail(queued, error)
            return None

    def _tell(self, outcome: Outcome) -> None:
        self._deps.publisher.tell(outcome[1])

    def _unit(self, one: Signed, floor: int, turn: SigningTurn) -> Callable[[Tx], Outcome]:
        def unit(tx: Tx) -> Outcome:
            turn.check(tx)
            return self._commit(tx, one, floor)

        return unit

    def _commit(self, tx: Tx, one: Signed, floor: int) -> Outcome:
        """Writes intent, attempt, nonce and reservation together; raises `NonceMoved`, which rolls all of it back."""
        queued, ready = one.queued, one.queued.ready
        row = rows.get(tx, ready.row.id)
        if row.state != TxState.PLANNED or row.run_pk != queued.request.run_pk:
            return None, None
        if not run_rows.goes_on(tx, queued.request.run_pk):
            return None, None
        ready = replace(ready, row=row)
        waits, committed = preflight.hold_if_moved(tx, ready)
        if waits:
            return None, committed
        verdict, committed = policy_check.decide(tx, self._deps.budget, queued.request, ready)
        if verdict is None:
            return None, committed
        highest = rows.highest_nonce(tx, self._chain_id, self._sender)
        if one.unsigned.nonce != max(floor, 0 if highest is None else highest + 1):
            raise NonceMoved
        return _write(tx, one, ready, dumps_text(verdict.public()))

    async def _answer(self, one: Signed, outcome: Outcome | BaseException) -> None:
        queued = one.queued
        if isinstance(outcome, NonceMoved | LeaseLost):
            self._queue.append(queued)
        elif isinstance(outcome, Uncertain):
            await self._look(one)
        elif isinstance(outcome, BaseException):
            _fail(queued, outcome)
        elif not queued.future.done():
            queued.future.set_result(outcome[0])

    async def _look(self, one: Signed) -> None:
        """After a commit of unknown outcome: checks whether these bytes are in the store. The writer's next transaction
        begins only when that one is over, so it sees how it ended."""
        queued = one.queued

        def unit(tx: Tx) -> tuple[TransactionRow, AttemptRow] | None:
            row = rows.get(tx, queued.ready.row.id)
            found = [attempt for attempt in rows.list_attempts(tx, row.id) if attempt.hash == one.signed.hash]
            return (row, found[0]) if found else None

        try:
            found = await self._deps.writer.write(unit)
        except (Temporary, Uncertain) as error:
            _fail(queued, Temporary(error.message))
            return
        if found is None:
            self._queue.append(queued)
        elif not queued.future.done():
            queued.future.set_result(found)


def _write(tx: Tx, one: Signed, ready: Ready, verdict: str) -> Outcome:
    now = clock.now_ms()
    row = replace(
        ready.row,
        state=TxState.SIGNED,
        nonce=one.unsigned.nonce,
        hash=one.signed.hash,
        gas_limit=ready.gas_limit,
        max_price=str(ready.max_price_units),
        outlay=str(ready.most_units),
        refusal=None,
        verdict=verdict,
        signed_at=now,
        updated_at=now,
    )
    attempt = new_attempt(row, 1, "send", one.unsigned, one.signed)
    rows.save(tx, row)
    rows.insert_attempt(tx, attempt)
    estimated = Step("simulated", {"gasLimit": ready.gas_limit})
    committed = events.note(tx, row, estimated, Step("signed", bid_of(attempt)))
    return (row, attempt), committed


def new_attempt(
    row: TransactionRow, number: int, kind: str, unsigned: UnsignedTransaction, signed: SignedTransaction
) -> AttemptRow:
    """Signed bytes as a row."""
    return AttemptRow(
        hash=signed.hash,
        transaction_id=row.id,
        number=number,
        kind=kind,
        raw=f"0x{signed.raw.hex()}",
        gas_limit=unsigned.gas_limit,
        max_fee=str(unsigned.max_fee_units),
        tip=str(unsigned.tip_units),
        is_legacy=int(unsigned.is_legacy),
        created_at=clock.now_ms(),
    )


def bid_of(attempt: AttemptRow) -> dict[str, str]:
    """An attempt's bid for gas, for an event."""
    if attempt.is_legacy:
        return {"gasPrice": attempt.max_fee}
    return {"maxFeePerGas": attempt.max_fee, "maxPriorityFeePerGas": attempt.tip}


def _fail(queued: QueuedTransaction, error: BaseException) -> None:
    if not queued.future.done():
        queued.future.set_exception(error)
        queued.future.exception()  # whoever waited may be gone
