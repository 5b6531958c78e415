"""The outbox as the engine calls it: plan, find, advance, abandon."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace

from dustrun import clock
from dustrun.core.money.intent import Spend
from dustrun.core.money.policy import Deny
from dustrun.core.money.transaction_state import TxState
from dustrun.errors import CommitUnknown, DustrunError, Refused, StoreUnavailable, Temporary, Uncertain
from dustrun.services.outbox import (
    concerns,
    events,
    fees,
    intents,
    message_signatures,
    outflow,
    policy_check,
    preflight,
    restore_hold,
    spend_status,
)
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import Committed
from dustrun.services.outbox.preflight import Ready
from dustrun.services.outbox.sender_queue import SenderQueue
from dustrun.services.outbox.spend_status import Failure, SpendRequest, SpendStatus, Stored
from dustrun.services.outbox.tracking import broadcast
from dustrun.services.outbox.tracking.tracker import Trackers
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as signature_rows
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.money.wallets import WalletRow

_AGAIN_MS = 2_000
_SHORT_BYTES = 65_536
"""Calldata that is encoded and stored within a few milliseconds."""
_OTHERS_FAILED = "Another spend of its node failed, so it was not signed."
_RUN_ENDED = "The run ended before it was signed."
_RUN_CANCELLED = "The run was cancelled before it was signed."


class Transactions:
    """The only writer of nonces for this server's wallets."""

    def __init__(self, deps: OutboxDeps) -> None:
        self.deps = deps
        self.trackers = Trackers(deps)
        self._queues: dict[tuple[int, str], SenderQueue] = {}

    async def start(self) -> None:
        """Takes up everything that an earlier process signed."""
        await self.trackers.start()

    async def stop(self) -> None:
        """Signs nothing new; the next start takes up what is signed."""
        for queue in self._queues.values():
            await queue.stop()
        await self.trackers.stop()

    # --- what the engine calls ---

    async def plan(self, request: SpendRequest, spend: Spend) -> SpendStatus:
        """Stores a node's intents, nothing signed. Stored intents that have not failed win."""
        intents.check(spend)
        is_short = sum(len(intent.data) for intent in spend.intents) <= _SHORT_BYTES and not spend.signatures
        needed = {intent.chain_id: self._confirmations(intent.chain_id) for intent in spend.intents}

        def unit(tx: Tx) -> tuple[Stored, list[Committed | None]]:
            return intents.plan(tx, request, spend, needed.__getitem__)

        stored, _ = await self.deps.writer.write(
            unit,
            lambda done: self.deps.publisher.tell(*done[1]),
            repeatable=is_short,
            is_separate=is_short,
            touches=self.touches(request.org_id, request.root_run_id),
        )
        self.deps.on_step("planned")
        return await self._status(stored)

    def _confirmations(self, chain_id: int) -> int:
        return self.deps.chains.get(chain_id).network.confirmations

    async def find(self, request: SpendRequest) -> SpendStatus | None:
        """The status of the node's newest intents; None without any, or if they failed in an earlier run of the retry
        chain."""
        return await self._found(request, await self._load(request))

    async def find_stored(self, request: SpendRequest) -> SpendStatus | None:
        """`find` as a unit of the writer: its transaction begins only when the one before is over."""
        stored = await self.deps.writer.write(lambda tx: spend_status.load_of(tx, request), repeatable=True)
        return await self._found(request, stored)

    async def _found(self, request: SpendRequest, stored: Stored | None) -> SpendStatus | None:
        if stored is None or (stored.came_to_nothing and stored.spend.run_pk != request.run_pk):
            return None
        return await self._status(stored)

    async def find_wallet(self, request: SpendRequest) -> str | None:
        """The wallet that the node must keep: something of it is planned, under way, or has happened."""
        return await self.deps.database.look_up(lambda tx: intents.find_wallet(tx, request))

    async def advance(self, request: SpendRequest, known: SpendStatus | None = None) -> SpendStatus:
        """Signs and sends what it can, and returns the status."""
        stored = known.stored if known is not None else await self._load(request)
        assert stored is not None, "a node's intents are planned before they are advanced"
        if any(row.run_pk != request.run_pk and row.state == TxState.PLANNED for row in stored.transactions):
            return await self._status(stored)  # another run of the retry chain has them now
        failure: Failure | None = None
        ready, unsigned = _next_of(stored)
        if ready or unsigned:
            failure = await self._push(request, ready, unsigned)
            stored = await self._load(request)
            assert stored is not None
        stored = await self._give_up_rest(request, stored)
        status = await self._status(stored)
        if failure is not None and status.status == "open" and not status.is_signed:
            return replace(status, status="failed", failure=failure)
        if failure is not None and status.status == "open" and _has_planned(stored):
            return replace(status, until=status.until or clock.now_ms() + _AGAIN_MS)
        return status

    async def abandon(self, request: SpendRequest) -> SpendStatus | None:
        """Signs nothing, and cancels what is unsigned; signed transactions are tracked to their end."""
        stored = await self._load(request)
        if stored is None:
            return None
        stored = await self._change(request, lambda row: row.state == TxState.PLANNED, _RUN_CANCELLED)
        return await self._status(stored)

    def touches(self, org_id: str, root_run_id: str) -> Collection[Hashable]:
        """What every unit touches that changes a run which may spend, or what it spends."""
        return (events.chain_of(org_id, root_run_id),)

    def end(self, tx: Tx, org_id: str, run_pk: int) -> list[Committed | None]:
        """In the unit that ends a run: cancels its unsigned intents and closes their approval questions."""
        transactions = rows.ask_of_run(tx, org_id, run_pk)
        signatures = signature_rows.ask_planned_of_run(tx, run_pk)
        tx.wait()
        planned = [row for row in transactions() if row.state == TxState.PLANNED]
        committed = [policy_check.give_up(tx, row, _RUN_ENDED) for row in planned]
        why = Failure(policy_check.NOT_SIGNED, _RUN_ENDED)
        return committed + [message_signatures.refuse(tx, row, why) for row in signatures()]

    def tell(self, committed: list[Committed | None]) -> None:
        """Publishes to the run's readers after the commit."""
        self.deps.publisher.tell(*committed)

    # --- inside ---

    async def _load(self, request: SpendRequest) -> Stored | None:
        return await self.deps.database.look_up(lambda tx: spend_status.load_of(tx, request))

    async def _status(self, stored: Stored) -> SpendStatus:
        if stored.signatures:
            plain = await self.deps.database.read(lambda tx: message_signatures.open_all(tx, self.deps.vault, stored))
            stored = replace(stored, plain=plain)
        return spend_status.status_of(stored)

    async def _push(
        self, request: SpendRequest, ready: Sequence[TransactionRow], unsigned: Sequence[SignatureRow]
    ) -> Failure | None:
        """Takes intents one step further; the failure if that cannot be done. Raises if the store could not be reached,
        since what is stored then is not known."""
        try:
            await self._push_all(request, ready, unsigned)
        except (StoreUnavailable, CommitUnknown):
            raise
        except (Temporary, Uncertain) as error:
            return Failure("TEMPORARY", error.message, retryable=True)
        except DustrunError as error:
            return await self._refuse_all(request, error)
        return None

    async def _push_all(
        self, request: SpendRequest, ready: Sequence[TransactionRow], unsigned: Sequence[SignatureRow]
    ) -> None:
        """Takes intents one step further. Raises the first error, a permanent one before a temporary one."""
        wallet_id = ready[0].wallet_id if ready else unsigned[0].wallet_id  # stored: the default may be another one now
        wallet = await self.deps.database.look_up(lambda tx: intents.get_wallet(tx, request.org_id, wallet_id))
        for row in unsigned:
            await restore_hold.check_signature(self.deps, row, wallet.address)
            if await self._is_free(row.org_id, row.id, row.approval_id, is_signature=True):
                await message_signatures.sign(self.deps, request, row, wallet)
        prepared = await asyncio.gather(*(self._prepare(request, row) for row in ready), return_exceptions=True)
        whole = itertools.takewhile(lambda one: not isinstance(one, Failure | BaseException), prepared)
        bounded = await self._bound(request, [one for one in whole if isinstance(one, Ready)])
        # Queued in the order of the intents: nonces are assigned in it, and a simulation carries them out in it too.
        queued = (self._sign(request, one, wallet) for one in bounded)
        done = [*prepared, *await asyncio.gather(*queued, return_exceptions=True)]
        errors = [error for error in done if isinstance(error, BaseException)]
        if errors:
            raise next((error for error in errors if not isinstance(error, Temporary | Uncertain)), errors[0])

    async def _bound(self, request: SpendRequest, ready: list[Ready]) -> list[Ready]:
        """Those whose outflow is within its ceiling and that policy allows; a refusal is committed."""
        if not ready:
            return []
        bounded, refusal = await outflow.check(self.deps, ready)
        if refusal is not None:
            row_id, failure, verdict = refusal.row.id, refusal.failure, refusal.verdict
            await self.deps.writer.write(
                lambda tx: _refuse(tx, request, row_id, failure, verdict), self.deps.publisher.tell
            )
        bounded = [await concerns.look(self.deps, one) for one in bounded]
        allowed = await asyncio.gather(*(policy_check.is_allowed(self.deps, request, one) for one in bounded))
        return [one for one, is_allowed in zip(bounded, allowed, strict=True) if is_allowed]

    async def _prepare(self, request: SpendRequest, row: TransactionRow) -> Ready | Failure | None:
        """Runs all checks of one intent; None if it must not be signed now, a failure if it was refused for good: those
        after it are then not signed either."""
        deps = self.deps
        if not await self._is_free(row.org_id, row.id, row.approval_id, is_signature=False):
            return None
        chain = deps.chains.get(row.chain_id)
        await chain.verify()
        if not await restore_hold.check(deps, row):
            self.trackers.poke(row.chain_id)
            return None
        looked = await preflight.check_allowance(deps, row, chain)
        if looked is None:
            self.trackers.poke(row.chain_id)
            return None
        ready = looked if isinstance(looked, Failure) else await preflight.prepare(deps, row, chain)
        if isinstance(ready, Failure) and ready.code == fees.INSUFFICIENT_FUNDS:
            await self.trackers.look_now(row.chain_id)  # what is mined meanwhile is promised no longer
            ready = await preflight.prepare(deps, row, chain)
        if isinstance(ready, Failure):
            failure = ready
            await deps.writer.write(lambda tx: _refuse(tx, request, row.id, failure), deps.publisher.tell)
            return failure
        assert not isinstance(looked, Failure)
        return replace(ready, approvals_up_to=looked)

    async def _sign(self, request: SpendRequest, ready: Ready, wallet: WalletRow) -> None:
        """Signs through the sender's queue, then broadcasts."""
        deps, row = self.deps, ready.row
        queue = self._queues.setdefault((row.chain_id, row.sender), SenderQueue(deps, row.chain_id, row.sender))
        written = await queue.push(request, ready, wallet)
        if written is not None:
            self.trackers.poke(row.chain_id)
            await broadcast.send(deps, *written)

    async def _is_free(self, org_id: str, subject_id: str, approval_id: str | None, *, is_signature: bool) -> bool:
        """Whether nobody has to approve it any more; refuses it if a person rejected it or the question expired."""
        if approval_id is None:
            return True
        question = await self.deps.database.look_up(lambda tx: policy_check.question_status(tx, org_id, approval_id))
        if isinstance(question, bool):
            return not question
        failure = question

        def unit(tx: Tx) -> Committed | None:
            if is_signature:
                return message_signatures.refuse(tx, signature_rows.get(tx, subject_id), failure)
            return policy_check.refuse(tx, rows.get(tx, subject_id), failure)

        await self.deps.writer.write(unit, self.deps.publisher.tell)
        return False

    async def _refuse_all(self, request: SpendRequest, error: DustrunError) -> Failure:
        """Refuses a node's intents for good (unknown wallet, refusing signer, wrong chain)."""
        code = "REFUSED" if isinstance(error, Refused) else error.code.name
        failure = Failure(code, error.message, details=tuple(error.public_details()))
        await self._change(request, lambda row: row.state == TxState.PLANNED, "", failure)
        return failure

    async def _give_up_rest(self, request: SpendRequest, stored: Stored) -> Stored:
        """Cancels the node's unsigned intents after one of them failed."""
        if not _has_failed(stored) or not _has_planned(stored):
            return stored
        return await self._change(request, lambda row: row.state == TxState.PLANNED, _OTHERS_FAILED)

    async def _change(
        self,
        request: SpendRequest,
        wanted: Callable[[TransactionRow], bool],
        message: str,
        failure: Failure | None = None,
    ) -> Stored:
        """Cancels or refuses a node's unsigned intents."""

        def unit(tx: Tx) -> tuple[Stored, list[Committed | None]]:
            stored = spend_status.load_of(tx, request)
            assert stored is not None
            committed: list[Committed | None] = []
            for row in stored.transactions:
                if wanted(row) and row.run_pk == request.run_pk:
                    committed.append(
                        policy_check.give_up(tx, row, message)
                        if failure is None
                        else policy_check.refuse(tx, row, failure)
                    )
            for signature in stored.signatures:
                if signature.state == "planned" and signature.run_pk == request.run_pk:
                    why = failure or Failure(policy_check.NOT_SIGNED, message)
                    committed.append(message_signatures.refuse(tx, signature, why))
            found = spend_status.load_of(tx, request)
            assert found is not None
            return found, committed

        stored, _ = await self.deps.writer.write(unit, lambda done: self.deps.publisher.tell(*done[1]))
        return stored


def _refuse(
    tx: Tx, request: SpendRequest, transaction_id: str, failure: Failure, verdict: Deny | None = None
) -> Committed | None:
    row = rows.get(tx, transaction_id)
    if row.state != TxState.PLANNED or row.run_pk != request.run_pk:
        return None
    return policy_check.refuse(tx, row, failure, verdict)


def _next_of(stored: Stored) -> tuple[list[TransactionRow], list[SignatureRow]]:
    """The intents and signature requests that can be taken a step further now."""
    if stored.came_to_nothing or _has_failed(stored):
        return [], []
    of_node = stored.transactions
    ready = [row for row in of_node if spend_status.is_ready(row, of_node)]
    ready = [row for row in ready if not outflow.waits_for_earlier(row, of_node)]
    return ready, [row for row in stored.signatures if row.state == "planned"]


def _has_planned(stored: Stored) -> bool:
    planned = any(row.state == TxState.PLANNED for row in stored.transactions)
    return planned or any(row.state == "planned" for row in stored.signatures)


def _has_failed(stored: Stored) -> bool:
    failed = (TxState.REVERTED, TxState.CANCELLED, TxState.REFUSED)
    return any(row.state in failed for row in stored.transactions) or any(
        row.state == "refused" for row in stored.signatures
    )
