"""How the wishes of a node stand, by what is stored of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dustrun import clock
from dustrun.core.money.intent import Intent, Movement, Receipt, SignRequest, Spend, Spent
from dustrun.core.money.receipts import read_receipt
from dustrun.core.money.transaction_state import FOLLOWED, NOTHING_CAME, UNSETTLED, TxState
from dustrun.core.values.exact_json import loads_own
from dustrun.services.outbox.spend_request import Failure, SpendRequest, SpendStatus
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as signature_rows
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import SpendRow, TransactionRow
from dustrun.storage.runs import approvals as approval_rows
from dustrun.storage.runs.approvals import PENDING, ApprovalRow

Json = dict[str, Any]
AWAITS_APPROVAL = "Another approval of the same token for the same spender is under way; a dust test never lowers one."
_HELD_MS, _SOON_MS = 10_000, 1_000


@dataclass(frozen=True, slots=True)
class Stored:
    """The newest wishes of a node with all that became of them, in the order of the wishes. `plain` are the opened
    signatures by item, `approvals` the questions by their ids."""

    spend: SpendRow
    transactions: tuple[TransactionRow, ...]
    signatures: tuple[SignatureRow, ...]
    approvals: dict[str, ApprovalRow]
    plain: dict[str, str]

    @property
    def came_to_nothing(self) -> bool:
        """Whether something of it never will be, and nothing of it is under way: a new generation may be."""
        states = [TxState(row.state) for row in self.transactions]
        if any(state in UNSETTLED for state in states):
            return False
        return any(state in NOTHING_CAME for state in states) or any(row.state == "refused" for row in self.signatures)


def load(tx: Tx, org_id: str, root_run_id: str, path: str) -> Stored | None:
    """The newest wishes of a node, signatures sealed; None when it has none."""
    spend = rows.newest_spend(tx, org_id, root_run_id, path)
    if spend is None:
        return None
    transactions = {row.id: row for row in rows.list_of_node(tx, org_id, root_run_id, path)}
    signatures = {row.id: row for row in signature_rows.list_of_node(tx, org_id, root_run_id, path)}
    chosen = tuple(transactions[found] for found in loads_own(spend.transactions))
    signed = tuple(signatures[found] for found in loads_own(spend.signatures))
    asked = [name for name in (*(r.approval_id for r in chosen), *(r.approval_id for r in signed)) if name is not None]
    found = {name: approval_rows.find(tx, org_id, name) for name in asked}
    return Stored(spend, chosen, signed, {name: row for name, row in found.items() if row is not None}, {})


def load_of(tx: Tx, order: SpendRequest) -> Stored | None:
    """`load` for the node of an order."""
    return load(tx, order.org_id, order.root_run_id, order.path)


def intent_of(row: TransactionRow) -> Intent:
    """The unsigned wish."""
    return Intent.of(loads_own(row.intent))


def request_of(row: SignatureRow) -> SignRequest:
    """The wish for a signature."""
    shown = loads_own(row.request)
    return SignRequest(
        item=shown["item"],
        kind=shown["sign"],
        chain_id=shown["chainId"],
        payload=shown["payload"],
        movements=tuple(Movement.of(movement) for movement in shown["movements"]),
        about=shown["about"],
        is_decoded=shown["isDecoded"],
    )


def spend_of(stored: Stored) -> Spend:
    """The wishes as they are stored."""
    intents = tuple(intent_of(row) for row in stored.transactions)
    signatures = tuple(request_of(row) for row in stored.signatures)
    return Spend(intents, signatures, loads_own(stored.spend.notes))


def stand_of(stored: Stored) -> SpendStatus:
    """How it stands."""
    stand = SpendStatus(
        status="open",
        spend=spend_of(stored),
        generation=stored.spend.generation,
        is_signed=any(TxState(row.state) in UNSETTLED for row in stored.transactions),
        transactions=tuple(public(row) for row in stored.transactions),
        wished_signatures=tuple(public_signature(row) for row in stored.signatures),
        signatures={row.mark: stored.plain[row.item] for row in stored.signatures if row.item in stored.plain},
    )
    states = {TxState(row.state) for row in stored.transactions}
    signs = {row.state for row in stored.signatures}
    if TxState.DISPLACED in states:
        return replace(stand, status="displaced", waits_for="release", failure=_failure(stored.transactions))
    if states & FOLLOWED and (states & NOTHING_CAME or "refused" in signs):
        return replace(stand, waits_for="receipts")  # the rest must come to its end first
    if states & NOTHING_CAME or "refused" in signs:
        failure = _failure((*stored.transactions, *stored.signatures))
        return replace(stand, status="failed", failure=failure, receipts=_receipts(stored))
    if states <= {TxState.FINAL} and signs <= {"signed"}:
        return replace(stand, status="settled", spent=spent_of(stored), receipts=_receipts(stored))
    if states & FOLLOWED:
        return replace(stand, waits_for="receipts", until=_expiry(stored))
    until = _expiry(stored)
    if until is not None:
        return replace(stand, waits_for="approval", until=until)
    held = {row.refusal for row in stored.transactions if row.state == TxState.PLANNED and row.refusal is not None}
    if held == {AWAITS_APPROVAL}:
        return replace(stand, waits_for="receipts", until=clock.now_ms() + _SOON_MS)
    if held:
        return replace(stand, waits_for="release", until=clock.now_ms() + _HELD_MS)
    return stand


def _expiry(stored: Stored) -> int | None:
    """When the first open question of it runs out."""
    open_ones = [row.expires_at for row in stored.approvals.values() if row.status == PENDING]
    return min(open_ones, default=None)


def spent_of(stored: Stored) -> Spent:
    """Receipts and signatures of wishes that are all final."""
    receipts = tuple(read_receipt(row.item, loads_own(row.receipt or "null")) for row in stored.transactions)
    return Spent(receipts, dict(stored.plain))


def _receipts(stored: Stored) -> dict[str, Receipt]:
    rows_ = [(row.item, row.receipt) for row in stored.transactions if row.receipt is not None]
    return {item: read_receipt(item, loads_own(text)) for item, text in rows_}


def _failure(found: Iterable[TransactionRow | SignatureRow]) -> Failure:
    """The first failure in the order of the wishes; what was only given up with the others comes last."""
    failed = [failure_of(row.error) for row in found if row.error is not None]
    own = [failure for failure in failed if failure.code != "NOT_SIGNED"]
    return (own or failed)[0]


def failure_of(text: str) -> Failure:
    """A stored error."""
    shown = loads_own(text)
    return Failure(shown["code"], shown["message"], shown["retryable"], tuple(shown.get("details", ())))


def error_json(failure: Failure) -> Json:
    """A failure as it is stored and shown."""
    shown: Json = {"code": failure.code, "message": failure.message, "retryable": failure.retryable}
    if failure.details:
        shown["details"] = [dict(detail) for detail in failure.details]
    return shown


def public(row: TransactionRow) -> Json:
    """A transaction for people: the report of a run's effects is made of these."""
    intent = loads_own(row.intent)
    receipt = loads_own(row.receipt) if row.receipt is not None else None
    return {
        "id": row.id,
        "item": row.item,
        "generation": row.generation,
        "status": row.state,
        "chainId": row.chain_id,
        "from": row.sender,
        "to": intent["to"],
        "value": intent["value"],
        "about": intent["about"],
        "method": intent["method"],
        "movements": intent["movements"],
        "nonce": row.nonce,
        "hash": row.hash,
        "fee": receipt["fee"] if receipt is not None else None,
        "gasUsed": receipt["gasUsed"] if receipt is not None else None,
        "gasPrice": receipt["gasPrice"] if receipt is not None else None,
        "gasLimit": row.gas_limit,
        "blockNumber": row.block_number,
        "blockHash": row.block_hash,
        "blockTime": receipt["blockTime"] if receipt is not None else None,
        "walletId": row.wallet_id,
        "plannedAt": row.planned_at,
        "verdict": loads_own(row.verdict) if row.verdict is not None else None,
        "error": loads_own(row.error) if row.error is not None else None,
        **({"revert": receipt["revert"]} if receipt is not None and receipt["revert"] is not None else {}),
    }


def public_signature(row: SignatureRow) -> Json:
    """A wish for a signature for people, without what was signed and without the signature."""
    request = loads_own(row.request)
    shown = {name: request[name] for name in ("item", "sign", "chainId", "about", "movements")}
    verdict = loads_own(row.verdict) if row.verdict is not None else None
    return {**shown, "status": row.state, "walletId": row.wallet_id, "verdict": verdict}


def is_ready(row: TransactionRow, all_rows: Sequence[TransactionRow]) -> bool:
    """Whether what it comes after is mined and succeeded, so that it may be estimated and signed."""
    if row.state != TxState.PLANNED:
        return False
    by_item = {other.item: other for other in all_rows}
    return all(_is_done(by_item[item]) for item in intent_of(row).after if item in by_item)


def _is_done(row: TransactionRow) -> bool:
    if row.state == TxState.FINAL:
        return True
    return row.state == TxState.MINED and row.receipt is not None and bool(loads_own(row.receipt)["isSuccess"])
