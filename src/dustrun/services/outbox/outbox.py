"""The outbox as the engine calls it: plan, find, advance, abandon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dustrun import clock
from dustrun.core.money.intent import Spend
from dustrun.core.money.policy import Deny
from dustrun.core.money.transaction_state import TxState
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import CommitUnknown, DustrunError, Refused, StoreUnavailable, Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.services.outbox import (
    events,
    fees,
    intents,
    judgement,
    message_signatures,
    policy_check,
    preflight,
    restore_hold,
    spend_status,
)
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps
from dustrun.services.outbox.judgement import Judgement, SpendRefusal, unpriced_request
from dustrun.services.outbox.policy_check import NotWhole
from dustrun.services.outbox.preflight import Ready
from dustrun.services.outbox.sender_queue import SenderQueue
from dustrun.services.outbox.spend_status import IntentFailure, SpendRequest, SpendStatus, StoredIntents
from dustrun.services.outbox.tracking import broadcast
from dustrun.services.outbox.tracking.tracker import Trackers
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as signature_rows
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.money.wallets import WalletRow

_AGAIN_MS = 2_000
_JUDGED_AGAIN = 5
_SHORT_BYTES = 65_536
"""Calldata that is encoded and stored within a few milliseconds."""
_RUN_ENDED = "The run ended before it was signed."
_RUN_CANCELLED = "The run was cancelled before it was signed."


@dataclass(frozen=True, slots=True)
class PlannedTransaction:
    """A planned transaction of a node. `is_next`: all that it comes after is mined, so it can be signed."""

    row: TransactionRow
    is_next: bool


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

        def unit(tx: Tx) -> tuple[StoredIntents, list[CommittedSteps | None]]:
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

    async def _found(self, request: SpendRequest, stored: StoredIntents | None) -> SpendStatus | None:
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
        failure: IntentFailure | None = None
        planned, unsigned = _next_of(stored)
        if planned or unsigned:
            failure = await self._push(request, planned, unsigned)
            stored = await self._load(request)
            assert stored is not None
        stored = await self._give_up_rest(request, stored)
        status = await self._status(stored)
        if failure is not None and status.status == "open" and not status.is_signed:
            return replace(status, status="failed", failure=failure)
        if failure is not None and status.status == "open" and _has_planned(stored):
            return replace(status, until=status.until or clock.now_ms() + _AGAIN_MS)
        return status

    async def renew(self, request: SpendRequest, notes: Mapping[str, Any]) -> SpendStatus:
        """Replaces the notes of the node's newest intents, which stay as they are."""

        def unit(tx: Tx) -> StoredIntents:
            stored = spend_status.load_of(tx, request)
            assert stored is not None, "a node's intents are planned before their notes are renewed"
            spend = replace(stored.spend, notes=dumps_text(dict(notes)))
            rows.save_notes(tx, spend)
            return replace(stored, spend=spend)

        return await self._status(await self.deps.writer.write(unit, repeatable=True))

    async def refuse(self, request: SpendRequest, item: str, verdict: Deny) -> SpendStatus:
        """Refuses one of the node's planned intents, and with it the others: its loop has been judged whole."""
        stored = await self._load(request)
        assert stored is not None, "a node's intents are planned before one is refused"
        row = next((row for row in stored.transactions if row.item == item), stored.transactions[0])
        requests = tuple(unpriced_request(row) for row in stored.transactions)
        judged = Judgement(refusal=SpendRefusal(row, policy_check.denial(verdict), verdict), requests=requests)
        await self.deps.writer.write(
            lambda tx: _conclude(tx, request, judged), lambda done: self.deps.publisher.tell(*done)
        )
        found = await self._load(request)
        assert found is not None
        return await self._status(await self._give_up_rest(request, found))

    async def abandon(self, request: SpendRequest) -> SpendStatus | None:
        """Signs nothing, and cancels what is unsigned; signed transactions are tracked to their end."""
        stored = await self._load(request)
        if stored is None:
            return None
        stored = await self._change(request, lambda row: row.state == TxState.PLANNED, _RUN_CANCELLED)
        return await self._status(stored)

    def touches(self, org_id: str, root_run_id: str) -> Collection[Hashable]:
        """The rows that every unit touches which changes a run that may spend, or its spends."""
        return (events.chain_of(org_id, root_run_id),)

    def end(self, tx: Tx, org_id: str, run_pk: int) -> list[CommittedSteps | None]:
        """In the unit that ends a run: cancels its unsigned intents and closes their approval questions."""
        transactions = rows.ask_of_run(tx, org_id, run_pk)
        signatures = signature_rows.ask_planned_of_run(tx, run_pk)
        tx.wait()
        planned = [row for row in transactions() if row.state == TxState.PLANNED]
        committed = [policy_check.give_up(tx, row, _RUN_ENDED) for row in planned]
        why = IntentFailure(policy_check.NOT_SIGNED, _RUN_ENDED)
        return committed + [message_signatures.refuse(tx, row, why) for row in signatures()]

    def tell(self, committed: list[CommittedSteps | None]) -> None:
        """Publishes to the run's readers after the commit."""
        self.deps.publisher.tell(*committed)

    # --- inside ---

    async def _load(self, request: SpendRequest) -> StoredIntents | None:
        return await self.deps.database.look_up(lambda tx: spend_status.load_of(tx, request))

    async def _status(self, stored: StoredIntents) -> SpendStatus:
        if stored.signatures:
            plain = await self.deps.database.read(lambda tx: message_signatures.open_all(tx, self.deps.vault, stored))
            stored = replace(stored, plain=plain)
        return spend_status.status_of(stored)

    async def _push(
        self, request: SpendRequest, planned: Sequence[PlannedTransaction], unsigned: Sequence[SignatureRow]
    ) -> IntentFailure | None:
        """Takes intents one step further; the failure if that cannot be done. Raises if the store could not be reached,
        since what is stored then is not known."""
        try:
            await self._push_all(request, planned, unsigned)
        except (StoreUnavailable, CommitUnknown):
            raise
        except (Temporary, Uncertain) as error:
            return IntentFailure("TEMPORARY", error.message, retryable=True)
        except DustrunError as error:
            return await self._refuse_all(request, error)
        return None

    async def _push_all(
        self, request: SpendRequest, planned: Sequence[PlannedTransaction], unsigned: Sequence[SignatureRow]
    ) -> None:
        """Takes intents one step further. Raises the first error, a permanent one before a temporary one."""
        # stored: the default may be another one now
        wallet_id = planned[0].row.wallet_id if planned else unsigned[0].wallet_id
        wallet = await self.deps.database.look_up(lambda tx: intents.get_wallet(tx, request.org_id, wallet_id))
        for row in unsigned:
            await restore_hold.check_signature(self.deps, row, wallet.address)
            if await self._is_free(row.org_id, row.id, row.approval_id, is_signature=True):
                await message_signatures.sign(self.deps, request, row, wallet)
        if not planned:
            return
        for _ in range(_JUDGED_AGAIN):
            ready, later = await self._judge(request, planned)
            # In the order of the intents: nonces are assigned in it, and a simulation carries them out in it too.
            queued = (self._sign(request, one, wallet, later if one is ready[-1] else ()) for one in ready)
            done = await asyncio.gather(*queued, return_exceptions=True)
            errors = [error for error in done if isinstance(error, BaseException)]
            if not any(isinstance(error, NotWhole) for error in errors):
                break
        if any(isinstance(error, NotWhole) for error in errors):
            raise Temporary("What its wallet may spend changed again and again while it was signed.", retry_after_s=1)
        if errors:
            raise next((error for error in errors if not isinstance(error, Temporary | Uncertain)), errors[0])

    async def _judge(
        self, request: SpendRequest, planned: Sequence[PlannedTransaction]
    ) -> tuple[list[Ready], Sequence[Ready]]:
        """Those that may be signed now, once all of the node's have been judged, and those that wait for them. A
        refusal or a question is committed."""
        approvals_up_to = await self._check_holds(request, planned)
        if approvals_up_to is None:
            return [], ()
        rows_of = [one.row for one in planned]
        next_ids = frozenset(one.row.id for one in planned if one.is_next)
        judged = await judgement.judge(self.deps, rows_of, next_ids)
        if judged.refusal is not None and judged.refusal.failure.code == fees.INSUFFICIENT_FUNDS:
            await self.trackers.look_now(judged.refusal.row.chain_id)  # what is mined meanwhile is promised no longer
            judged = await judgement.judge(self.deps, rows_of, next_ids)
        if judged.refusal is None and not judged.asks:
            ready = [replace(one, approvals_up_to=approvals_up_to[one.row.id]) for one in judged.ready]
            return ready, judged.later
        await self.deps.writer.write(
            lambda tx: _conclude(tx, request, judged), lambda done: self.deps.publisher.tell(*done)
        )
        return [], ()

    async def _check_holds(self, request: SpendRequest, planned: Sequence[PlannedTransaction]) -> dict[str, int] | None:
        """What each approval's allowance includes (`preflight.check_allowance`), by id; None if one of them must not be
        signed now, or was refused for good: then none is."""
        deps, up_to = self.deps, dict[str, int]()
        for asked in dict.fromkeys(one.row.approval_id for one in planned):
            row = next(one.row for one in planned if one.row.approval_id == asked)
            if not await self._is_free(row.org_id, row.id, asked, is_signature=False):
                return None
        for row in (one.row for one in planned if one.is_next):
            chain = deps.chains.get(row.chain_id)
            await chain.verify()
            looked = await preflight.check_allowance(deps, row, chain) if await restore_hold.check(deps, row) else None
            if looked is None:
                self.trackers.poke(row.chain_id)
                return None
            if isinstance(looked, IntentFailure):
                refusal = Judgement(refusal=SpendRefusal(row, looked))
                await deps.writer.write(
                    lambda tx: _conclude(tx, request, refusal),  # noqa: B023 - the loop ends with it
                    lambda done: deps.publisher.tell(*done),
                )
                return None
            up_to[row.id] = looked
        return up_to

    async def _sign(self, request: SpendRequest, ready: Ready, wallet: WalletRow, later: Sequence[Ready]) -> None:
        """Signs through the sender's queue, then broadcasts."""
        deps, row = self.deps, ready.row
        queue = self._queues.setdefault((row.chain_id, row.sender), SenderQueue(deps, row.chain_id, row.sender))
        written = await queue.push(request, ready, wallet, later)
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

        def unit(tx: Tx) -> CommittedSteps | None:
            if is_signature:
                return message_signatures.refuse(tx, signature_rows.get(tx, subject_id), failure)
            return policy_check.refuse(tx, rows.get(tx, subject_id), failure)

        await self.deps.writer.write(unit, self.deps.publisher.tell)
        return False

    async def _refuse_all(self, request: SpendRequest, error: DustrunError) -> IntentFailure:
        """Refuses a node's intents for good (unknown wallet, refusing signer, wrong chain)."""
        code = "REFUSED" if isinstance(error, Refused) else error.code.name
        failure = IntentFailure(code, error.message, details=tuple(error.public_details()))
        await self._change(request, lambda row: row.state == TxState.PLANNED, "", failure)
        return failure

    async def _give_up_rest(self, request: SpendRequest, stored: StoredIntents) -> StoredIntents:
        """Cancels the node's unsigned intents after one of them failed."""
        if not _has_failed(stored) or not _has_planned(stored):
            return stored
        return await self._change(request, lambda row: row.state == TxState.PLANNED, policy_check.OTHERS_FAILED)

    async def _change(
        self,
        request: SpendRequest,
        wanted: Callable[[TransactionRow], bool],
        message: str,
        failure: IntentFailure | None = None,
    ) -> StoredIntents:
        """Cancels or refuses a node's unsigned intents."""

        def unit(tx: Tx) -> tuple[StoredIntents, list[CommittedSteps | None]]:
            stored = spend_status.load_of(tx, request)
            assert stored is not None
            committed: list[CommittedSteps | None] = []
            for row in stored.transactions:
                if wanted(row) and row.run_pk == request.run_pk:
                    committed.append(
                        policy_check.give_up(tx, row, message)
                        if failure is None
                        else policy_check.refuse(tx, row, failure)
                    )
            for signature in stored.signatures:
                if signature.state == "planned" and signature.run_pk == request.run_pk:
                    why = failure or IntentFailure(policy_check.NOT_SIGNED, message)
                    committed.append(message_signatures.refuse(tx, signature, why))
            found = spend_status.load_of(tx, request)
            assert found is not None
            return found, committed

        stored, _ = await self.deps.writer.write(unit, lambda done: self.deps.publisher.tell(*done[1]))
        return stored


def _conclude(tx: Tx, request: SpendRequest, judged: Judgement) -> list[CommittedSteps | None]:
    """Writes why a node's transactions are not signed, or asks a person about all of them; nothing if they changed
    meanwhile."""
    refusal = judged.refusal
    if refusal is not None:
        row = rows.get(tx, refusal.row.id)
        if row.state != TxState.PLANNED or row.run_pk != request.run_pk:
            return []
        policy_check.note_recipients(tx, row, judged.requests)
        return [policy_check.refuse(tx, row, refusal.failure, refusal.verdict)]
    fresh = [replace(one, row=rows.get(tx, one.row.id)) for one in judged.ready]
    if any(one.row.state != TxState.PLANNED or one.row.run_pk != request.run_pk for one in fresh):
        return []
    policy_check.note_recipients(tx, fresh[0].row, judged.requests)
    return policy_check.ask_all(tx, request, fresh, judged.asks)


def _next_of(stored: StoredIntents) -> tuple[list[PlannedTransaction], list[SignatureRow]]:
    """The intents and signature requests that can be taken a step further now: every planned intent if one of them can
    be, since they are judged together. Those after one whose fate is open wait with it."""
    if stored.came_to_nothing or _has_failed(stored):
        return [], []
    of_node, found = stored.transactions, list[PlannedTransaction]()
    for row in of_node:
        if row.state == TxState.PLANNED and not judgement.waits_for_earlier(row, of_node):
            found.append(PlannedTransaction(row, spend_status.is_ready(row, of_node)))
    unsigned = [row for row in stored.signatures if row.state == "planned"]
    return (found if any(one.is_next for one in found) else []), unsigned


def _has_planned(stored: StoredIntents) -> bool:
    planned = any(row.state == TxState.PLANNED for row in stored.transactions)
    return planned or any(row.state == "planned" for row in stored.signatures)


def _has_failed(stored: StoredIntents) -> bool:
    failed = (TxState.REVERTED, TxState.CANCELLED, TxState.REFUSED)
    return any(row.state in failed for row in stored.transactions) or any(
        row.state == "refused" for row in stored.signatures
    )
