"""Records the final outcomes of transactions: those of many in one unit, since all settle what the same wallet has
reserved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dustrun import clock
from dustrun.core.money.transaction_state import TxState
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.records import dataclass
from dustrun.services.outbox import events
from dustrun.services.outbox.events import Committed, Step
from dustrun.services.outbox.spend_status import Failure, error_json
from dustrun.services.outbox.tracking.receipts import CANCELLED, REVERTED
from dustrun.services.wallets.budget import Endings
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import ledger
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import AttemptRow, TransactionRow
from dustrun.storage.runs.journal import RunHeads

_CANCELLED = "It was cancelled: its nonce went to a transfer of nothing to the wallet itself."


@dataclass(frozen=True, slots=True)
class Deep:
    """A mined transaction with enough confirmations; `revert`: why it failed, if it did."""

    row: TransactionRow
    revert: object | None = None


def note_final(tx: Tx, deep: Sequence[Deep]) -> list[Committed | None]:
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

    def note(self, deep: Deep, row: TransactionRow, attempts: Sequence[AttemptRow]) -> Committed | None:
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
            return self._fail(row, TxState.CANCELLED, Failure(CANCELLED, _CANCELLED, retryable=True), receipt, shown)
        if not receipt["isSuccess"]:
            return self._revert(row, receipt, deep.revert, shown)
        self._settle(row, receipt)
        return self._tell(row, Step("confirmed", {**shown, "confirmations": row.confirmations}))

    def _settle(self, row: TransactionRow, receipt: Mapping[str, Any]) -> None:
        assert row.finished_at is not None
        rows.save(self._tx, replace(row, state=TxState.FINAL))
        self._endings.settle(row.id, fee_units=int(receipt["fee"]), at_ms=row.finished_at)

    def _revert(
        self, row: TransactionRow, receipt: dict[str, Any], revert: object | None, shown: Mapping[str, object]
    ) -> Committed | None:
        receipt["revert"] = revert
        reason = revert.get("text") if isinstance(revert, dict) else None
        about = loads_own(row.intent)["about"]
        message = f"{about}: the transaction was mined and reverted{f': {reason}' if reason else ''}."
        details = ({"field": "", "message": reason or "no reason", "revert": revert},) if revert is not None else ()
        failure = Failure(REVERTED, message, True, details)
        return self._fail(replace(row, receipt=dumps_text(receipt)), TxState.REVERTED, failure, receipt, shown)

    def _fail(
        self,
        row: TransactionRow,
        state: TxState,
        failure: Failure,
        receipt: Mapping[str, Any],
        shown: Mapping[str, object],
    ) -> Committed | None:
        assert row.finished_at is not None
        error = error_json(failure)
        rows.save(self._tx, replace(row, state=state, error=dumps_text(error)))
        self._endings.release(row.id, fee_units=int(receipt["fee"]), at_ms=row.finished_at)
        return self._tell(row, Step(state, {**shown, "error": error}))

    def _tell(self, row: TransactionRow, step: Step) -> Committed | None:
        return events.note(self._tx, row, step, wakes=True, heads=self._heads)
