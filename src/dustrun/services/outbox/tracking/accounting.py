"""Writes the ledger's entries of final transactions, after the fact: balances are measured around each block, so a
payment never waits for its accounting, and a restart goes on with what is due.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from dustrun import clock, log
from dustrun.chain import measure as measures
from dustrun.chain.evm import LiveChain
from dustrun.chain.measure import Measure, MinedIntent
from dustrun.core.money.accounting import IncludedTransaction, Line, Pair, lines_of
from dustrun.core.money.intent import Receipt
from dustrun.core.money.policy.counting import canonical
from dustrun.core.money.policy.scope import is_endless
from dustrun.core.money.policy.verdict import read_stored
from dustrun.core.money.receipts import read_receipt
from dustrun.core.money.transaction_state import SETTLED, TxState
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.errors import DustrunError
from dustrun.records import dataclass
from dustrun.services.outbox import events
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.services.outbox.spend_status import IntentFailure, error_json, intent_of
from dustrun.services.outbox.tracking.receipts import CANCELLED, REVERTED
from dustrun.services.runs.approvals import approvers_of
from dustrun.services.wallets.budget import Endings
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import ledger, reservations
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.ledger import Due, EntryRow
from dustrun.storage.money.transactions import AttemptRow, TransactionRow
from dustrun.storage.runs import approvals
from dustrun.storage.runs.journal import RunHeads

_logger = log.get(__name__)
_MOST, _AT_ONCE = 50, 20
_AGAIN_S, _LONGEST_S = 2.0, 60.0
_SHARED_S = 10.0
"""In a shared store: when to look for what a process has left due that died, or was cut off, before it wrote it."""
_PATIENCE_MS: Final = 600_000
"""How long it waits for an endpoint that can read the balances of a block; then it writes what the events say."""
_PRICED_WITHIN_MS: Final = 900_000
"""How late a price may be read; after that it would be another day's."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """A transaction in its block."""

    row: TransactionRow
    attempts: Sequence[AttemptRow]
    receipt: Receipt

    @property
    def kind(self) -> str:
        """Which attempt was mined: send, replace or cancel."""
        return next((one.kind for one in self.attempts if one.hash == self.row.hash), "send")

    @property
    def mined(self) -> MinedIntent:
        """The movements: nothing but a fee, if it failed or was cancelled."""
        intent = replace(intent_of(self.row), item=self.row.id)
        if self.kind == "cancel" or not self.receipt.is_success:
            intent = replace(intent, to=self.row.sender, value_units=0, data=b"", movements=())
        return MinedIntent(
            replace(intent, to=checksum(intent.to) if intent.to else None), self.receipt, self.row.sender
        )


class Books:
    """The entries of one chain's transactions."""

    def __init__(self, deps: OutboxDeps, chain_id: int) -> None:
        self._deps = deps
        self._chain_id = chain_id
        self._wake = asyncio.Event()

    @property
    def _idle_s(self) -> float | None:
        """When to look again while nothing is due; None: once something has become final here."""
        return None if self._deps.leases is None else _SHARED_S

    def poke(self) -> None:
        """Something has become final."""
        self._wake.set()

    async def work(self) -> None:
        """Writes what is due whenever it is poked; never returns. What fails is tried again later."""
        failures = 0
        while True:
            self._wake.clear()
            left = True
            try:
                while left := await self.write_some():
                    failures = 0
            except Exception as error:
                failures += 1
                if not isinstance(error, DustrunError):
                    _logger.error("the ledger could not be written", chain_id=self._chain_id, exc_info=error)
            again_s = min(_AGAIN_S * 2**failures, _LONGEST_S) if left else self._idle_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    await self._wake.wait()

    async def write_some(self) -> bool:
        """Writes the entries of some transactions; False if none is due. Raises `Temporary` if all that is due must
        wait for an endpoint."""
        due = await self._deps.database.read(lambda tx: ledger.list_due(tx, self._chain_id, _MOST))
        if not due or self._chain_id not in self._deps.chains.networks:
            return False
        chain = self._deps.chains.get(self._chain_id)
        since = {one.transaction_id: one.since for one in due}
        faults = []
        for block in await self._deps.database.read(lambda tx: self._blocks(tx, due)):
            try:
                await self._write_block(chain, block, since)
            except DustrunError as error:
                faults.append(error)
        if faults:
            raise faults[0]
        return True

    def _blocks(self, tx: Tx, due: Iterable[Due]) -> list[list[_Placed]]:
        """The due transactions by block, each with all others of ours that are in it."""
        found: dict[str, list[_Placed]] = {}
        for one in due:
            row = rows.get(tx, one.transaction_id)
            if row.block_hash is None or row.block_number is None or row.block_hash in found:
                continue
            ids = ledger.list_of_block(tx, self._chain_id, row.block_number)
            placed = (_placed(tx, rows.get(tx, id)) for id in ids)
            found[row.block_hash] = [other for other in placed if other and other.row.block_hash == row.block_hash]
        return list(found.values())

    async def _write_block(self, chain: LiveChain, block: list[_Placed], since: Mapping[str, int]) -> None:
        mined, ours = [one.mined for one in block], {str(one.row.hash) for one in block}
        measured: list[Measure] = []
        for start in range(0, len(mined), _AT_ONCE):
            part = mined[start : start + _AT_ONCE]
            measured += await measures.measure(chain, block[0].row.sender, part, ours)
        late = clock.now_ms() - max((since.get(one.row.id, 0) for one in block), default=0) > _PATIENCE_MS
        failed = next((one.failed for one in measured if one.failed is not None), None)
        if failed is not None and not late:
            await chain.block()  # raises if no endpoint answers
            raise DustrunError(f"Block {block[0].row.block_number} cannot be measured: {failed}.")
        included = [_included(one, what, found) for one, what, found in zip(block, mined, measured, strict=True)]
        changes = {(who, asset): units for one in measured for who, asset, units in one.changes}
        doubtful = {(who, asset) for one in measured for who, asset, _ in one.others}
        if failed is not None:
            doubtful = {pair for one in included for pair in one.touched}
        addresses = {one.row.sender for one in block} | {pair[0] for one in included for pair in one.touched}
        for org_id in sorted({one.row.org_id for one in block if one.row.id in since}):
            wallets = await self._deps.database.read(partial(ledger.find_wallets, org_id=org_id, addresses=addresses))
            lines = lines_of(included, changes, doubtful, wallets)
            for one in block:
                if one.row.org_id == org_id and one.row.id in since:
                    await self._write(one, lines[one.row.id], wallets, since[one.row.id])

    async def _write(self, one: _Placed, lines: Sequence[Line], wallets: Mapping[str, str], since: int) -> None:
        row = one.row
        known = await self._deps.database.read(lambda tx: _prices_of(tx, row.id))
        values = {asset: await self._value(asset, known, since) for asset in sorted({line.asset for line in lines})}

        def unit(tx: Tx) -> list[CommittedSteps]:
            now, alerts = rows.get(tx, row.id), list[CommittedSteps]()
            if now.state in SETTLED and now.block_hash == row.block_hash:
                approved = _approvers(tx, now)
                entries = [
                    _entry(one, now, number, line, wallets, values[line.asset], approved)
                    for number, line in enumerate(lines, 1)
                ]
                ledger.write(tx, row.id, entries)
                for line in lines:
                    if line.kind == "allowance" and line.address == row.sender and is_endless(line.units):
                        message = f"{line.counterparty} may take {line.asset} without a bound."
                        alerts.append(events.raise_alert(tx, now, events.ALLOWANCE, message))
            elif now.state not in SETTLED:
                ledger.remove(tx, row.id)
            return alerts

        await self._deps.writer.write(unit, lambda alerts: self._deps.publisher.tell(*alerts), repeatable=True)

    async def _value(self, asset: str, known: Mapping[str, Any], since: int) -> Mapping[str, Any]:
        """Price and decimals: those by which the policy judged the spend, else those of now, unless that is too late;
        then decimals alone."""
        if not Asset.is_key(asset):
            return {"decimals": 0}
        parsed = Asset.parse(asset)
        judged = known.get(canonical(parsed))
        if judged is not None:
            return dict(judged)
        if clock.now_ms() - since > _PRICED_WITHIN_MS:
            return {"decimals": await self._deps.budget.find_decimals(parsed)}
        value = await self._deps.budget.find_value(parsed)
        if value is None:
            return {"decimals": await self._deps.budget.find_decimals(parsed)}
        return value.public()


def _placed(tx: Tx, row: TransactionRow) -> _Placed | None:
    if row.receipt is None or row.state not in (*SETTLED, TxState.MINED):
        return None
    return _Placed(row, rows.list_attempts(tx, row.id), read_receipt("", loads_own(row.receipt)))


def _included(one: _Placed, mined: MinedIntent, measured: Measure) -> IncludedTransaction:
    touched: set[Pair] = {(who, asset) for who, asset, _ in measured.changes} | set(measured.unchanged)
    to = mined.intent.to or one.receipt.contract_address or one.row.sender
    return IncludedTransaction(
        id=one.row.id,
        chain_id=one.row.chain_id,
        sender=one.row.sender,
        to=to,
        value_units=mined.intent.value_units,
        fee_units=one.receipt.fee_units,
        is_call=bool(mined.intent.data),
        logs=one.receipt.logs,
        touched=frozenset(touched),
    )


def _prices_of(tx: Tx, transaction_id: str) -> dict[str, Any]:
    """The prices by which the policy judged a transaction, by asset."""
    found = reservations.list_of_subject(tx, transaction_id)
    return {row.measure: loads_own(row.price) for row in found if row.price is not None}


def _approvers(tx: Tx, row: TransactionRow) -> list[str]:
    found = approvals.find(tx, row.org_id, row.approval_id) if row.approval_id is not None else None
    return approvers_of(found) if found is not None else []


def _entry(
    one: _Placed,
    row: TransactionRow,
    number: int,
    line: Line,
    wallets: Mapping[str, str],
    value: Mapping[str, Any],
    approvers: Sequence[str],
) -> EntryRow:
    sources = read_stored(row.verdict)[1]
    assert row.block_number is not None
    assert row.hash is not None
    return EntryRow(
        transaction_id=row.id,
        number=number,
        org_id=row.org_id,
        at=one.receipt.block_time * 1000,
        wallet_id=row.wallet_id if line.address == row.sender else wallets[line.address],
        address=line.address,
        chain_id=row.chain_id,
        block_number=row.block_number,
        hash=row.hash,
        kind=line.kind,
        asset=line.asset,
        units=str(line.units),
        counterparty=line.counterparty,
        contract=line.contract or (one.mined.intent.to if one.mined.intent.data else None),
        basis=line.basis,
        outcome=row.state,
        attempt=one.kind,
        attempts=len(one.attempts),
        decimals=value.get("decimals"),
        price=value.get("usd"),
        price_source=value.get("source"),
        price_at=value.get("atMs"),
        run_id=row.run_id,
        workflow_id=row.workflow_id,
        path=row.path,
        mode=row.mode,
        key_id=row.key_id,
        approved_by=approvers[-1] if approvers else None,
        approvers=dumps_text(approvers) if approvers else None,
        sources=None if sources is None else dumps_text(sources),
        created_at=clock.now_ms(),
    )


# Records the final outcomes of transactions: those of many in one unit, since all settle what the same wallet has
# reserved.


_CANCELLED = "It was cancelled: its nonce went to a transfer of nothing to the wallet itself."


@dataclass(frozen=True, slots=True)
class Deep:
    """A mined transaction with enough confirmations; `revert`: why it failed, if it did."""

    row: TransactionRow
    revert: object | None = None


def note_final(tx: Tx, deep: Sequence[Deep]) -> list[CommittedSteps | None]:
    """Records how they ended, of those that are still mined in the same block."""
    with RunHeads(tx, [one.row.run_pk for one in deep]) as heads:
        asked = [(rows.ask_for(tx, one.row.id), rows.ask_attempts(tx, one.row.id)) for one in deep]
        endings = Endings(tx, [one.row.id for one in deep])
        endings.read()
        finals = _Finals(tx, endings, heads)
        found = [(one, row(), attempts()) for one, (row, attempts) in zip(deep, asked, strict=True)]
        committed = [finals.note(*one) for one in found]
        endings.write()
        finals.write_due()
    return committed


class _Finals:
    """Ends transactions in one unit."""

    def __init__(self, tx: Tx, endings: Endings, heads: RunHeads) -> None:
        self._tx = tx
        self._endings = endings
        self._heads = heads
        self._due: list[TransactionRow] = []

    def write_due(self) -> None:
        """Notes that the ledger needs entries of what has ended."""
        for chain_id in {row.chain_id for row in self._due}:
            ids = [row.id for row in self._due if row.chain_id == chain_id]
            ledger.add_due(self._tx, ids, chain_id, clock.now_ms())

    def note(self, deep: Deep, row: TransactionRow, attempts: Sequence[AttemptRow]) -> CommittedSteps | None:
        if row.state != TxState.MINED or row.block_hash != deep.row.block_hash or row.receipt is None:
            return None
        now = clock.now_ms()
        receipt = loads_own(row.receipt)
        row = replace(row, finished_at=now, updated_at=now)
        self._due.append(row)
        if row.purpose == "fill":
            self._settle(row, receipt)
            return None
        shown = {"blockNumber": row.block_number, "blockHash": row.block_hash}
        shown |= {"fee": receipt["fee"], "gasUsed": receipt["gasUsed"]}
        kinds = {attempt.hash: attempt.kind for attempt in attempts}
        if kinds[row.hash or ""] == "cancel":
            return self._fail(
                row, TxState.CANCELLED, IntentFailure(CANCELLED, _CANCELLED, retryable=True), receipt, shown
            )
        if not receipt["isSuccess"]:
            return self._revert(row, receipt, deep.revert, shown)
        self._settle(row, receipt)
        return self._tell(row, TransactionStep("confirmed", {**shown, "confirmations": row.confirmations}))

    def _settle(self, row: TransactionRow, receipt: Mapping[str, Any]) -> None:
        assert row.finished_at is not None
        rows.save(self._tx, replace(row, state=TxState.FINAL))
        self._endings.settle(row.id, fee_units=int(receipt["fee"]), at_ms=row.finished_at)

    def _revert(
        self, row: TransactionRow, receipt: dict[str, Any], revert: object | None, shown: Mapping[str, object]
    ) -> CommittedSteps | None:
        receipt["revert"] = revert
        reason = revert.get("text") if isinstance(revert, dict) else None
        about = loads_own(row.intent)["about"]
        message = f"{about}: the transaction was mined and reverted{f': {reason}' if reason else ''}."
        details = ({"field": "", "message": reason or "no reason", "revert": revert},) if revert is not None else ()
        failure = IntentFailure(REVERTED, message, True, details)
        return self._fail(replace(row, receipt=dumps_text(receipt)), TxState.REVERTED, failure, receipt, shown)

    def _fail(
        self,
        row: TransactionRow,
        state: TxState,
        failure: IntentFailure,
        receipt: Mapping[str, Any],
        shown: Mapping[str, object],
    ) -> CommittedSteps | None:
        assert row.finished_at is not None
        error = error_json(failure)
        rows.save(self._tx, replace(row, state=state, error=dumps_text(error)))
        self._endings.release(row.id, fee_units=int(receipt["fee"]), at_ms=row.finished_at)
        return self._tell(row, TransactionStep(state, {**shown, "error": error}))

    def _tell(self, row: TransactionRow, step: TransactionStep) -> CommittedSteps | None:
        return events.note(self._tx, row, step, wakes=True, heads=self._heads)
