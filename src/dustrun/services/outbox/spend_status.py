"""Requests of a node to the outbox and the status it gets back: the port between the engine and the outbox."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Literal, Protocol

from dustrun import clock
from dustrun.core.money.intent import Intent, Movement, Receipt, SignRequest, Spend, Spent
from dustrun.core.money.policy import Deny
from dustrun.core.money.receipts import read_receipt
from dustrun.core.money.transaction_state import AWAITS_APPROVAL, FOLLOWED, NOTHING_CAME, UNSETTLED, TxState
from dustrun.core.values.exact_json import loads_own
from dustrun.records import dataclass
from dustrun.services.outbox.events import public, public_signature
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as signature_rows
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import SpendRow, TransactionRow
from dustrun.storage.runs import approvals as approval_rows
from dustrun.storage.runs.approvals import PENDING, ApprovalRow

Status = Literal["settled", "open", "failed", "displaced"]
ALLOWANCE_MET = "ALLOWANCE_MET"
"""Code of a dust test's approval that another transaction made unnecessary: the next attempt plans without one."""
WaitsFor = Literal["receipts", "approval", "release"]


@dataclass(frozen=True, slots=True)
class ItemRequest:
    """The settings of a node for one of its intents."""

    confirmations: int | None = None
    max_price_units: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRequest:
    """The node of a run that spends. `key_id` is the API key that started the run, `confirmations` the node's own
    number instead of the chain's, `max_price_units` the most that it bids for a unit of gas."""

    org_id: str
    run_pk: int
    run_id: str
    root_run_id: str
    workflow_id: str | None
    workflow_name: str
    path: str
    mode: Literal["live", "dust"]
    wallet_id: str
    key_id: str
    confirmations: int | None = None
    max_price_units: int | None = None
    items: Mapping[str, ItemRequest] = field(default_factory=dict)

    def confirmations_of(self, item: str) -> int | None:
        """The node's own number of confirmations for one intent."""
        own = self.items.get(item)
        return own.confirmations if own is not None and own.confirmations is not None else self.confirmations

    def max_price_of(self, item: str) -> int | None:
        """The most that the node bids for a unit of gas of one intent."""
        own = self.items.get(item)
        return own.max_price_units if own is not None and own.max_price_units is not None else self.max_price_units


@dataclass(frozen=True, slots=True)
class IntentFailure:
    """Why intents failed. `retryable`: another attempt of the node plans new ones and may succeed."""

    code: str
    message: str
    retryable: bool = False
    details: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class SpendStatus:
    """The status of a node's intents; `stored` are the rows that say it.

    `settled`: all are final and `spent` has what `finish` needs. `open`: something is under way; `waits_for` says what,
    a signal of kind `transaction` comes when it has moved, and `until` (milliseconds) is when to look again without
    one. `failed`: `failure` says why. `displaced`: the nonce was used by another transaction; a person decides, by
    cancelling. `spend` is what is stored, which wins over newer intents. `is_signed`: signed bytes of unknown outcome
    exist, so the run must not end. `receipts` are those of finished intents, by item. `transactions` and
    `signature_requests` are for display; `signatures` are the opened ones, by their marks.
    """

    status: Status
    spend: Spend
    generation: int
    spent: Spent | None = None
    failure: IntentFailure | None = None
    waits_for: WaitsFor | None = None
    until: int | None = None
    is_signed: bool = False
    transactions: tuple[Mapping[str, Any], ...] = ()
    receipts: Mapping[str, Receipt] = field(default_factory=dict)
    signature_requests: tuple[Mapping[str, Any], ...] = ()
    signatures: Mapping[str, str] = field(default_factory=dict, repr=False)
    stored: StoredIntents | None = field(default=None, repr=False)


class Outbox(Protocol):
    """The outbox as the engine calls it."""

    async def plan(self, request: SpendRequest, spend: Spend) -> SpendStatus:
        """Stores a node's intents, nothing signed. Stored intents that have not failed win. Raises `Invalid` for
        impossible intents, `Temporary` if nothing was stored."""
        ...

    async def find(self, request: SpendRequest) -> SpendStatus | None:
        """The status of the node's newest intents; None without any."""
        ...

    async def find_stored(self, request: SpendRequest) -> SpendStatus | None:
        """Like `find`, once each earlier commit of this process is over, even one of unknown outcome."""
        ...

    async def find_wallet(self, request: SpendRequest) -> str | None:
        """The wallet that the node must keep, whatever the request says: something of the node is planned, under way,
        or has happened."""
        ...

    async def advance(self, request: SpendRequest, known: SpendStatus | None = None) -> SpendStatus:
        """Signs and sends what it can, and returns the status. Safe to call at any time and after any crash. `known`:
        the status as it was a moment ago, which is then not read again.

        What may pass (no endpoint answers) is `failed` and `retryable` with the code `TEMPORARY`: the next call goes on
        with the same intents. Raises `Temporary` or `Uncertain` if the store could not be reached.
        """
        ...

    async def renew(self, request: SpendRequest, notes: Mapping[str, Any]) -> SpendStatus:
        """Replaces the notes of the node's newest intents, which stay as they are."""
        ...

    async def refuse(self, request: SpendRequest, item: str, verdict: Deny) -> SpendStatus:
        """Refuses one of the node's planned intents, and with it the others: its loop has been judged whole."""
        ...

    async def abandon(self, request: SpendRequest) -> SpendStatus | None:
        """Like `advance`, for a node that is being cancelled: signs nothing, and cancels what is unsigned."""
        ...

    def touches(self, org_id: str, root_run_id: str) -> Collection[Hashable]:
        """The rows that every unit touches which changes a run that may spend, or its spends (`Writer.write`)."""
        ...

    def end(self, tx: Any, org_id: str, run_pk: int) -> list[Any]:
        """In the unit that ends a run: cancels what it has not signed. Pass the result to `tell`."""
        ...

    def tell(self, committed: list[Any]) -> None:
        """Call this after that unit is committed."""
        ...


Json = dict[str, Any]
_HELD_MS, _SOON_MS = 10_000, 1_000


@dataclass(frozen=True, slots=True)
class StoredIntents:
    """A node's newest intents with their rows, in the order of the intents. `plain` are the opened signatures by item,
    `approvals` the questions by id."""

    spend: SpendRow
    transactions: tuple[TransactionRow, ...]
    signatures: tuple[SignatureRow, ...]
    approvals: dict[str, ApprovalRow]
    plain: dict[str, str]

    @property
    def came_to_nothing(self) -> bool:
        """Whether one of them failed and none is under way, so that a new generation may begin."""
        states = [TxState(row.state) for row in self.transactions]
        if any(state in UNSETTLED for state in states):
            return False
        return any(state in NOTHING_CAME for state in states) or any(row.state == "refused" for row in self.signatures)

    @property
    def has_begun(self) -> bool:
        """Whether one of them is more than planned."""
        states = (*(row.state for row in self.transactions), *(row.state for row in self.signatures))
        return any(state != TxState.PLANNED for state in states)


class NodeRows:
    """All rows of a node, across its retry chain, known after a wait."""

    def __init__(self, tx: Tx, request: SpendRequest) -> None:
        place = tx, request.org_id, request.root_run_id, request.path
        self._tx, self._org_id = tx, request.org_id
        self._spend = rows.ask_newest_spend(*place)
        self.transactions = rows.ask_of_node(*place)
        self.signatures = signature_rows.ask_of_node(*place)

    def stored(self) -> StoredIntents | None:
        """The node's newest intents, signatures sealed; None without any."""
        spend = self._spend()
        if spend is None:
            return None
        transactions = {row.id: row for row in self.transactions()}
        signatures = {row.id: row for row in self.signatures()}
        chosen = tuple(transactions[found] for found in loads_own(spend.transactions))
        signed = tuple(signatures[found] for found in loads_own(spend.signatures))
        asked = [name for name in (*(r.approval_id for r in chosen), *(r.approval_id for r in signed)) if name]
        found = {name: approval_rows.find(self._tx, self._org_id, name) for name in asked}
        return StoredIntents(spend, chosen, signed, {name: row for name, row in found.items() if row is not None}, {})


def load_of(tx: Tx, request: SpendRequest) -> StoredIntents | None:
    """The newest intents of the node of a request, signatures sealed; None without any."""
    found = NodeRows(tx, request)
    tx.wait()
    return found.stored()


def intent_of(row: TransactionRow) -> Intent:
    """The stored intent."""
    return Intent.of(loads_own(row.intent))


def request_of(row: SignatureRow) -> SignRequest:
    """The stored signature request."""
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


def spend_of(stored: StoredIntents) -> Spend:
    """The intents and signature requests as stored."""
    intents = tuple(intent_of(row) for row in stored.transactions)
    signatures = tuple(request_of(row) for row in stored.signatures)
    return Spend(intents, signatures, loads_own(stored.spend.notes))


def status_of(stored: StoredIntents) -> SpendStatus:
    """Builds the node's `SpendStatus` from its stored intents and receipts."""
    status = SpendStatus(
        status="open",
        spend=spend_of(stored),
        generation=stored.spend.generation,
        is_signed=any(TxState(row.state) in UNSETTLED for row in stored.transactions),
        transactions=tuple(public(row) for row in stored.transactions),
        signature_requests=tuple(public_signature(row) for row in stored.signatures),
        signatures={row.mark: stored.plain[row.item] for row in stored.signatures if row.item in stored.plain},
        stored=stored,
    )
    states = {TxState(row.state) for row in stored.transactions}
    signs = {row.state for row in stored.signatures}
    if TxState.DISPLACED in states:
        return replace(status, status="displaced", waits_for="release", failure=_failure(stored.transactions))
    if states & FOLLOWED and (states & NOTHING_CAME or "refused" in signs):
        return replace(status, waits_for="receipts")  # the rest must come to its end first
    if states & NOTHING_CAME or "refused" in signs:
        failure = _failure((*stored.transactions, *stored.signatures))
        return replace(status, status="failed", failure=failure, receipts=_receipts(stored))
    if states <= {TxState.FINAL} and signs <= {"signed"}:
        return replace(status, status="settled", spent=spent_of(stored), receipts=_receipts(stored))
    if states & FOLLOWED:
        return replace(status, waits_for="receipts", until=_expiry(stored))
    until = _expiry(stored)
    if until is not None:
        return replace(status, waits_for="approval", until=until)
    held = {row.refusal for row in stored.transactions if row.state == TxState.PLANNED and row.refusal is not None}
    if held == {AWAITS_APPROVAL}:
        return replace(status, waits_for="receipts", until=clock.now_ms() + _SOON_MS)
    if held:
        return replace(status, waits_for="release", until=clock.now_ms() + _HELD_MS)
    return status


def _expiry(stored: StoredIntents) -> int | None:
    """When the first open question expires."""
    open_ones = [row.expires_at for row in stored.approvals.values() if row.status == PENDING]
    return min(open_ones, default=None)


def spent_of(stored: StoredIntents) -> Spent:
    """Receipts and signatures of intents that are all final."""
    receipts = tuple(read_receipt(row.item, loads_own(row.receipt or "null")) for row in stored.transactions)
    return Spent(receipts, dict(stored.plain))


def _receipts(stored: StoredIntents) -> dict[str, Receipt]:
    rows_ = [(row.item, row.receipt) for row in stored.transactions if row.receipt is not None]
    return {item: read_receipt(item, loads_own(text)) for item, text in rows_}


def _failure(found: Iterable[TransactionRow | SignatureRow]) -> IntentFailure:
    """The first failure in the order of the intents; those cancelled only because of others come last."""
    failed = [failure_of(row.error) for row in found if row.error is not None]
    own = [failure for failure in failed if failure.code != "NOT_SIGNED"]
    return (own or failed)[0]


def failure_of(text: str) -> IntentFailure:
    """A stored failure."""
    shown = loads_own(text)
    return IntentFailure(shown["code"], shown["message"], shown["retryable"], tuple(shown.get("details", ())))


def error_json(failure: IntentFailure) -> Json:
    """A failure as it is stored and shown."""
    shown: Json = {"code": failure.code, "message": failure.message, "retryable": failure.retryable}
    if failure.details:
        shown["details"] = [dict(detail) for detail in failure.details]
    return shown


def is_ready(row: TransactionRow, all_rows: Sequence[TransactionRow]) -> bool:
    """Whether all that it comes after is mined and succeeded, so that it can be estimated and signed."""
    if row.state != TxState.PLANNED:
        return False
    by_item = {other.item: other for other in all_rows}
    return all(_is_done(by_item[item]) for item in intent_of(row).after if item in by_item)


def _is_done(row: TransactionRow) -> bool:
    if row.state == TxState.FINAL:
        return True
    return row.state == TxState.MINED and row.receipt is not None and bool(loads_own(row.receipt)["isSuccess"])
