"""Operations on transactions for people: list them, speed them up, cancel them, release what a restore holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dustrun import clock
from dustrun.core.money.transaction_state import TxState
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import Code, Conflict, NotFound
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.outbox import events, policy_check, restore_hold
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.services.outbox.outbox import Transactions
from dustrun.services.outbox.spend_status import IntentFailure, error_json
from dustrun.services.outbox.tracking import broadcast, replacement
from dustrun.services.outbox.tracking.receipts import CANCELLED
from dustrun.services.outbox.tracking.replacement import AtCeiling, Kind, NewAttempt, Replacement
from dustrun.services.wallets import budget as reservations
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as signature_rows
from dustrun.storage.money import transactions as rows
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import AttemptRow, TransactionFilters, TransactionRow
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.runs import RunRow

_BY_HAND = "A person cancelled it before it was signed."
_GIVEN_UP = "A person checked the chain and cancelled it: another transaction used its nonce."


@dataclass(frozen=True, slots=True)
class TransactionDetail:
    """A transaction with its attempts."""

    row: TransactionRow
    attempts: Sequence[AttemptRow]


@dataclass(frozen=True, slots=True)
class Attribution:
    """The run and node that sent a hash."""

    hash: str
    row: TransactionRow
    run: RunRow


@dataclass(frozen=True, slots=True)
class OpenedSignature:
    """A signature in the clear, for those who may spend."""

    row: SignatureRow
    signature: str | None


class Operations:
    """The use cases of transactions."""

    def __init__(self, outbox: Transactions) -> None:
        self.outbox = outbox
        self._deps = outbox.deps

    # --- looking ---

    async def list_page(
        self, principal: Principal, filters: TransactionFilters, paging: Paging
    ) -> Page[TransactionRow]:
        """The organisation's transactions that the key can reach, newest first."""
        reached = replace(filters, only_workflows=principal.workflow_ids, only_wallets=principal.wallet_ids)
        found = await self._deps.database.read(
            lambda tx: rows.list_page(tx, principal.org_id, reached, paging.peek, paging.offset)
        )
        return page_of(found, paging)

    async def get(self, principal: Principal, transaction_id: str) -> TransactionDetail:
        """One transaction with its attempts, by its id or the hash of an attempt."""

        def query(tx: Tx) -> TransactionDetail:
            row = _get(tx, principal, transaction_id)
            return TransactionDetail(row, rows.list_attempts(tx, row.id))

        return await self._deps.database.read(query)

    async def attribute(self, principal: Principal, hashes: Sequence[str]) -> list[Attribution]:
        """The run and node that sent each hash; unknown and unreachable ones are left out."""

        def query(tx: Tx) -> list[Attribution]:
            found = []
            for hash in dict.fromkeys(hashes):
                row = rows.find_by_hash(tx, principal.org_id, hash.lower())
                if row is not None and row.run_pk is not None and _reaches(principal, row):
                    found.append(Attribution(hash, row, run_rows.get(tx, row.run_pk)))
            return found

        return await self._deps.database.read(query)

    async def list_signatures(self, principal: Principal, run_id: str | None, paging: Paging) -> Page[SignatureRow]:
        """The organisation's signatures that the key can reach, newest first, without the signatures themselves."""
        found = await self._deps.database.read(
            lambda tx: signature_rows.list_page(
                tx,
                principal.org_id,
                run_id,
                paging.peek,
                paging.offset,
                only_workflows=principal.workflow_ids,
                only_wallets=principal.wallet_ids,
            )
        )
        return page_of(found, paging)

    async def open_signature(self, principal: Principal, signature_id: str) -> OpenedSignature:
        """A signature in the clear; the read is audited, since a signature can move money."""

        def unit(tx: Tx) -> OpenedSignature:
            row = signature_rows.find(tx, principal.org_id, signature_id)
            reached = row is not None and principal.may_use_workflow(row.workflow_id)
            if row is None or not reached or not principal.may_use_wallet(row.wallet_id):
                raise NotFound(f'There is no signature "{signature_id}".', code=Code.SIGNATURE_UNKNOWN)
            if row.sealed is None:
                return OpenedSignature(row, None)
            audit.record(tx, principal, "signature.read", row.id, walletId=row.wallet_id)
            return OpenedSignature(
                row, "0x" + self._deps.vault.open(tx, row.org_id, signature_rows.KIND, row.id, row.sealed).hex()
            )

        return await self._deps.writer.write(unit)

    # --- steering ---

    async def speed_up(
        self, principal: Principal, transaction_id: str, max_price_units: int | None
    ) -> TransactionDetail:
        """Raises the bid of a waiting transaction. `max_price_units` sets a new ceiling for a unit of gas."""
        detail = await self.get(principal, transaction_id)
        row = detail.row
        if row.state not in (TxState.SIGNED, TxState.SENT):
            raise _not_open(row, "only a signed transaction that is not mined yet can be sped up")
        if max_price_units is not None and row.approval_id is not None and max_price_units > int(row.max_price or 0):
            message = f"A person approved it with a gas price of at most {row.max_price} base units."
            raise Conflict(message, code=Code.TRANSACTION_AT_CEILING)
        return await self._replace(principal, detail, "replace", max_price_units)

    async def cancel(self, principal: Principal, transaction_id: str) -> TransactionDetail:
        """Gives up an unsigned transaction; replaces a signed one by a zero-value self-transfer. For a displaced one it
        is a person's word that it was not paid."""
        detail = await self.get(principal, transaction_id)
        state = detail.row.state
        if state in (TxState.SIGNED, TxState.SENT):
            return await self._replace(principal, detail, "cancel", None)
        if state == TxState.DISPLACED:
            await self._look(detail)
        if state not in (TxState.PLANNED, TxState.DISPLACED):
            raise _not_open(detail.row, "it cannot be cancelled any more")

        committed: list[CommittedSteps | None] = []

        def unit(tx: Tx) -> TransactionDetail:
            row = _get(tx, principal, transaction_id)
            if row.state == TxState.PLANNED:
                committed.append(policy_check.give_up(tx, row, _BY_HAND, wakes=True))
            elif row.state == TxState.DISPLACED:
                committed.append(_give_up_displaced(tx, row))
            else:
                raise _not_open(row, "its status has changed in the meantime")
            audit.record(tx, principal, "transaction.cancel", row.id, was=row.state)
            return TransactionDetail(rows.get(tx, row.id), detail.attempts)

        return await idempotency.write(self._deps.writer, unit, lambda _: self._deps.publisher.tell(*committed))

    async def _look(self, detail: TransactionDetail) -> None:
        """Raises `Conflict` if a displaced transaction was paid after all."""
        chain = self._deps.chains.get(detail.row.chain_id)
        receipts = await chain.receipts([attempt.hash for attempt in detail.attempts])
        if any(receipt is not None for receipt in receipts):
            raise _not_open(detail.row, "one of its attempts was mined after all, and Dustrun goes on with it")

    async def _replace(
        self, principal: Principal, detail: TransactionDetail, kind: Kind, ceiling: int | None
    ) -> TransactionDetail:
        signed = await replacement.sign_replacement(self._deps, detail.row, detail.attempts[-1], kind, ceiling)
        if isinstance(signed, AtCeiling):
            raise Conflict(signed.message, code=Code.TRANSACTION_AT_CEILING)
        new: Replacement = signed
        committed: list[CommittedSteps | None] = []

        def unit(tx: Tx) -> TransactionDetail:
            found, one = replacement.write_replacement(tx, self._deps, new)
            committed.append(one)
            if isinstance(found, AtCeiling):
                raise Conflict(found.message, code=Code.TRANSACTION_AT_CEILING)
            if not isinstance(found, NewAttempt):
                raise _not_open(rows.get(tx, detail.row.id), "its status has changed in the meantime")
            verb = "cancel" if kind == "cancel" else "speed-up"
            audit.record(tx, principal, f"transaction.{verb}", found.row.id, hash=found.attempt.hash)
            return TransactionDetail(found.row, rows.list_attempts(tx, found.row.id))

        done = await idempotency.write(self._deps.writer, unit, lambda _: self._deps.publisher.tell(*committed))
        self.outbox.trackers.poke(done.row.chain_id)
        await broadcast.send(self._deps, done.row, done.attempts[-1])
        return done

    async def release(self, principal: Principal, wallet_id: str, chain_id: int) -> dict[str, Any]:
        """Lets a wallet's spends on a chain go on after a restore."""

        committed: list[CommittedSteps | None] = []

        def unit(tx: Tx) -> dict[str, Any]:
            wallet = wallet_rows.find(tx, principal.org_id, wallet_id)
            if wallet is None or not principal.may_use_wallet(wallet_id):
                raise NotFound(f'There is no wallet "{wallet_id}".', code=Code.WALLET_UNKNOWN)
            principal.need_every_workflow("release a wallet, which other workflows use")
            committed.extend(restore_hold.release(tx, principal.org_id, chain_id, wallet.address))
            audit.record(tx, principal, "wallet.release", wallet_id, chainId=chain_id)
            return {"walletId": wallet_id, "chainId": chain_id, "released": len(committed)}

        return await idempotency.write(self._deps.writer, unit, lambda _: self._deps.publisher.tell(*committed))


def _reaches(principal: Principal, row: TransactionRow) -> bool:
    return principal.may_use_workflow(row.workflow_id) and principal.may_use_wallet(row.wallet_id)


def _get(tx: Tx, principal: Principal, transaction_id: str) -> TransactionRow:
    """A transaction that the key can reach, by its id or the hash of an attempt; raises `NotFound`."""
    if transaction_id.startswith("0x"):
        row = rows.find_by_hash(tx, principal.org_id, transaction_id.lower())
    else:
        row = rows.find(tx, principal.org_id, transaction_id)
    if row is None or not _reaches(principal, row):
        raise NotFound(f'There is no transaction "{transaction_id}".', code=Code.TRANSACTION_UNKNOWN)
    return row


def _not_open(row: TransactionRow, why: str) -> Conflict:
    return Conflict(f'The transaction is "{row.state}": {why}.', code=Code.TRANSACTION_NOT_OPEN)


def _give_up_displaced(tx: Tx, row: TransactionRow) -> CommittedSteps | None:
    """Gives up a displaced transaction. Its reservation counts as spent: nobody knows what the other transaction
    did."""
    now = clock.now_ms()
    error = error_json(IntentFailure(CANCELLED, _GIVEN_UP, retryable=True))
    given_up = replace(row, state=TxState.CANCELLED, error=dumps_text(error), finished_at=now, updated_at=now)
    rows.save(tx, given_up)
    reservations.settle(tx, row.id, fee_units=0, at_ms=now)
    return events.note(tx, given_up, TransactionStep("cancelled", {"error": error}), wakes=True)
