"""One queue per chain and sender: assigns nonces, signs, and commits intent, nonce, bytes and reservation together.

Signing happens outside of any transaction, in nonce order; then one unit judges the policy for each transaction of a
batch, checks its nonce, and writes. If an earlier one was denied and the nonce has moved, the bytes, which nobody has
seen, are discarded and signed again.

In a shared store only one process at a time signs for a sender on a chain. What it signed is committed only while it
still has its turn, which the unit that commits checks. So a process that was frozen between signing and committing
throws its bytes away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from itertools import groupby

from dustrun import clock
from dustrun.core.money.transaction_state import TxState
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.services.outbox import events, preflight
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.services.outbox.policy_check import IntentJudge, NotWhole
from dustrun.services.outbox.preflight import Ready
from dustrun.services.outbox.spend_status import SpendRequest
from dustrun.services.sharing.election import Leases, alone
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import AttemptRow, TransactionRow
from dustrun.storage.money.wallets import WalletRow
from dustrun.storage.runs.journal import RunHeads
from dustrun.storage.sharing import leases as lease_rows
from dustrun.storage.sharing.leases import LeaseLost
from dustrun.wallets.signer import SignedTransaction, UnsignedTransaction

_BATCH = 100
_SHORT = 50
"""So many transactions are judged and written within a few milliseconds."""


@dataclass(frozen=True, slots=True)
class SigningTurn:
    """The right to sign for one sender, under a fence; without leases everybody has it."""

    name: str
    holder: str | None = None
    fence: int = 0

    def check(self, tx: Tx) -> None:
        """Raises `LeaseLost` in the unit that would commit what was signed, if another process signs now."""
        if self.holder is not None:
            lease_rows.check(tx, self.name, self.holder, self.fence)


@contextlib.asynccontextmanager
async def signing_turn(leases: Leases | None, chain_id: int, sender: str) -> AsyncIterator[SigningTurn]:
    """Waits for the turn, and gives it back. Raises `Temporary` if another process keeps it for long."""
    name = f"signing:{chain_id}:{sender}"
    async with alone(leases, name) as fence:
        yield SigningTurn(name, None if leases is None else leases.holder, fence)


@dataclass(slots=True)
class QueuedTransaction:
    """A queued intent; the future yields its row and attempt, or None if nothing was signed. `later`: those of its node
    that wait for it, whose limits are reserved with it."""

    request: SpendRequest
    ready: Ready
    wallet: WalletRow
    future: asyncio.Future[tuple[TransactionRow, AttemptRow] | None]
    later: Sequence[Ready] = ()


@dataclass(frozen=True, slots=True)
class SignedIntent:
    """An intent with its nonce and bytes, not yet committed."""

    queued: QueuedTransaction
    unsigned: UnsignedTransaction
    signed: SignedTransaction


@dataclass(frozen=True, slots=True)
class SigningOutcome:
    """The outcome of a signed intent: its row and attempt if it was written, and what is told. `has_moved`: its nonce
    was not the next one any more."""

    written: tuple[TransactionRow, AttemptRow] | None = None
    committed: CommittedSteps | None = None
    has_moved: bool = False


class SenderQueue:
    """Signs for one sender on one chain, batch by batch."""

    def __init__(self, deps: OutboxDeps, chain_id: int, sender: str) -> None:
        self._deps = deps
        self._chain_id = chain_id
        self._sender = sender
        self._queue: deque[QueuedTransaction] = deque()
        self._task: asyncio.Task[None] | None = None

    async def push(
        self, request: SpendRequest, ready: Ready, wallet: WalletRow, later: Sequence[Ready] = ()
    ) -> tuple[TransactionRow, AttemptRow] | None:
        """Signs and commits. None if policy denied it or asks a person, which is committed, or if it is not planned any
        more. Raises `Temporary` if nothing was signed."""
        future = asyncio.get_running_loop().create_future()
        self._queue.append(QueuedTransaction(request, ready, wallet, future, later))
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
            while self._queue and self._queue[0].request is batch[-1].request:
                batch.append(self._queue.popleft())  # a node's transactions are written together
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
        highest = await self._deps.database.look_up(lambda tx: rows.highest_nonce(tx, self._chain_id, self._sender))
        nonce = max(floor, 0 if highest is None else highest + 1)
        signed: list[SignedIntent] = []
        for _, part in groupby(batch, key=lambda queued: id(queued.request)):
            signed += await self._sign_node(list(part), nonce + len(signed))
        self._deps.on_step("signed")
        outcomes = await self._write_all(signed, floor, turn)
        self._deps.on_step("committed")
        for one, outcome in zip(signed, outcomes, strict=True):
            await self._answer(one, outcome)

    async def _write_all(
        self, signed: Sequence[SignedIntent], floor: int, turn: SigningTurn
    ) -> Sequence[SigningOutcome | BaseException]:
        """Writes what was signed in one unit. Each in its own if that fails, so that one fails alone; and those of dust
        tests, which look at what is signed before them."""
        if signed and not any(one.queued.ready.row.mode == "dust" for one in signed):
            try:
                return await self._write(signed, floor, turn)
            except (Temporary, Uncertain) as error:
                return [error] * len(signed)
            except Exception as error:
                if len({id(one.queued.request) for one in signed}) == 1:
                    return [error] * len(signed)
        parts = [list(part) for _, part in groupby(signed, key=lambda one: id(one.queued.request))]
        found = await asyncio.gather(*(self._write(part, floor, turn) for part in parts), return_exceptions=True)
        outcomes = list[SigningOutcome | BaseException]()
        for part, one in zip(parts, found, strict=True):
            outcomes += [one] * len(part) if isinstance(one, BaseException) else one
        return outcomes

    def _write(self, batch: Sequence[SignedIntent], floor: int, turn: SigningTurn) -> Awaitable[list[SigningOutcome]]:
        rows_of = [one.queued.ready.row for one in batch]
        is_live = all(row.mode != "dust" for row in rows_of)  # a dust test reserves for itself too
        is_short = len(batch) <= _SHORT and events.is_light(rows_of)
        touched = {*(key for row in rows_of for key in events.touches(row))}
        touched |= {events.wallet_of(row.wallet_id) for row in rows_of}
        return self._deps.writer.write(
            lambda tx: self._commit(tx, batch, floor, turn),
            self._tell,
            repeatable=is_short,
            is_separate=is_short and is_live,
            touches=touched,
        )

    async def _sign_node(self, part: Sequence[QueuedTransaction], nonce: int) -> list[SignedIntent]:
        """Signs a node's transactions; none of them if the signer fails at one."""
        signed: list[SignedIntent] = []
        for queued in part:
            one = await self._sign_one(queued, nonce + len(signed))
            if isinstance(one, Exception):
                for each in part:
                    _fail(each, one)
                return []
            signed.append(one)
        return signed

    async def _sign_one(self, queued: QueuedTransaction, nonce: int) -> SignedIntent | Exception:
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
            return SignedIntent(queued, unsigned, await signer.sign_transaction(unsigned))
        except Exception as error:
            return error

    def _tell(self, outcomes: Sequence[SigningOutcome]) -> None:
        self._deps.publisher.tell(*(outcome.committed for outcome in outcomes))

    def _commit(self, tx: Tx, batch: Sequence[SignedIntent], floor: int, turn: SigningTurn) -> list[SigningOutcome]:
        """Writes intents, attempts, nonces and reservations together. What they depend on is asked at once."""
        with RunHeads(tx, [one.queued.request.run_pk for one in batch]) as heads:
            judging = IntentJudge(tx, self._deps.budget, [one.queued.ready.row for one in batch])
            asked = [rows.ask_for(tx, one.queued.ready.row.id) for one in batch]
            next_nonce = rows.ask_next_nonce(tx, self._chain_id, self._sender)
            turn.check(tx)
            tx.wait()
            fresh = [replace(one.queued.ready, row=found()) for one, found in zip(batch, asked, strict=True)]
            judging.ask(fresh)
            tx.wait()
            nonce, outcomes, decided = next_nonce(floor), list[SigningOutcome](), set[str]()
            for one, ready in zip(batch, fresh, strict=True):
                is_known = ready.row.id in decided  # queued twice, and not as it was read any more
                outcomes.append(
                    SigningOutcome() if is_known else self._commit_one(tx, one, ready, nonce, judging, heads)
                )
                nonce += outcomes[-1].written is not None
                if not outcomes[-1].has_moved:
                    decided.add(ready.row.id)
            _check_whole(batch, outcomes)
            for one, outcome in zip(batch, outcomes, strict=True):
                for later in one.queued.later if outcome.written is not None else ():
                    judging.hold(one.queued.request, later)
            judging.write()
        return outcomes

    def _commit_one(
        self, tx: Tx, one: SignedIntent, ready: Ready, nonce: int, judging: IntentJudge, heads: RunHeads
    ) -> SigningOutcome:
        request = one.queued.request
        if ready.row.state != TxState.PLANNED or ready.row.run_pk != request.run_pk:
            return SigningOutcome()
        if not heads.goes_on(request.run_pk):
            return SigningOutcome()
        waits, committed = preflight.hold_if_moved(tx, ready, heads)
        if waits:
            return SigningOutcome(committed=committed)
        has_moved = one.unsigned.nonce != nonce
        verdict, committed = judging.decide(request, ready, heads, reserves=not has_moved)
        if verdict is None:
            return SigningOutcome(committed=committed)
        if has_moved:
            return SigningOutcome(has_moved=True)
        return _write(tx, one, ready, dumps_text(verdict.stored()), heads)

    async def _answer(self, one: SignedIntent, outcome: SigningOutcome | BaseException) -> None:
        queued = one.queued
        if isinstance(outcome, LeaseLost) or (isinstance(outcome, SigningOutcome) and outcome.has_moved):
            self._queue.append(queued)
        elif isinstance(outcome, Uncertain):
            await self._look(one)
        elif isinstance(outcome, BaseException):
            _fail(queued, outcome)
        elif not queued.future.done():
            queued.future.set_result(outcome.written)

    async def _look(self, one: SignedIntent) -> None:
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
            _fail(queued, error)
            return
        if found is None:
            self._queue.append(queued)
        elif not queued.future.done():
            queued.future.set_result(found)


def _check_whole(batch: Sequence[SignedIntent], outcomes: Sequence[SigningOutcome]) -> None:
    """Raises `NotWhole` if a node has several transactions in a unit, and only some of them would be written."""
    asked = Counter(id(one.queued.request) for one in batch)
    for one, outcome in zip(batch, outcomes, strict=True):
        is_refused = outcome.written is None and not outcome.has_moved and outcome.committed is not None
        if is_refused and asked[id(one.queued.request)] > 1:
            raise NotWhole(one.queued.request)


def _write(tx: Tx, one: SignedIntent, ready: Ready, verdict: str, heads: RunHeads) -> SigningOutcome:
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
    estimated = TransactionStep("simulated", {"gasLimit": ready.gas_limit})
    committed = events.note(tx, row, estimated, TransactionStep("signed", bid_of(attempt)), heads=heads)
    return SigningOutcome((row, attempt), committed)


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
