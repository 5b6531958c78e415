"""What a node asks of the outbox, and how far its intents are: the seam between the engine and the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from dustrun import clock
from dustrun.core.money.intent import Intent, Movement, Receipt, SignRequest, Spend, Spent
from dustrun.core.money.receipts import read_receipt
from dustrun.core.money.transaction_state import FOLLOWED, NOTHING_CAME, UNSETTLED, TxState
from dustrun.core.values.exact_json import loads_own
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
"""The code of a dust test's approval that another transaction made unneeded: wished anew it comes without one."""
WaitsFor = Literal["receipts", "approval", "release"]


@dataclass(frozen=True, slots=True)
class ItemRequest:
    """What the node says of one of its wishes alone."""

    confirmations: int | None = None
    max_price_units: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRequest:
    """Who spends: the node of a run. `key_id` is the API key that started the run, `confirmations` the node's own
    number, else the chain's counts; `max_price_units` is the most that it bids for one unit of gas."""

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
        """The node's own number of confirmations for one wish."""
        own = self.items.get(item)
        return own.confirmations if own is not None and own.confirmations is not None else self.confirmations

    def max_price_of(self, item: str) -> int | None:
        """The most that the node bids for one unit of gas of one wish."""
        own = self.items.get(item)
        return own.max_price_units if own is not None and own.max_price_units is not None else self.max_price_units


@dataclass(frozen=True, slots=True)
class Failure:
    """Why wishes came to nothing. `retryable`: another attempt of the node makes new ones and may fare better."""

    code: str
    message: str
    retryable: bool = False
    details: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class SpendStatus:
    """How the wishes of a node stand.

    `settled`: all are final and `spent` has what `finish` wants. `open`: something is under way; `waits_for` says
    what, a signal of kind `transaction` comes when it has moved, and `until` (milliseconds) is when to look again
    without one. `failed`: they came to nothing, and `failure` says why. `displaced`: a nonce was used by somebody
    else; a person decides, by a cancel of the transaction. `spend` is what is stored, which wins over a newer wish.
    `is_signed`: signed bytes exist whose end is not known, so the run must not end. `transactions` is for people.
    `receipts` are what the chain said of those that came to an end, by item. `signature_requests` are for people too,
    and hold no signature.
    `signatures` are the opened ones, by their marks.
    """

    status: Status
    spend: Spend
    generation: int
    spent: Spent | None = None
    failure: Failure | None = None
    waits_for: WaitsFor | None = None
    until: int | None = None
    is_signed: bool = False
    transactions: tuple[Mapping[str, Any], ...] = ()
    receipts: Mapping[str, Receipt] = field(default_factory=dict)
    signature_requests: tuple[Mapping[str, Any], ...] = ()
    signatures: Mapping[str, str] = field(default_factory=dict, repr=False)


class Outbox(Protocol):
    """What the engine calls."""

    async def plan(self, order: SpendRequest, spend: Spend) -> SpendStatus:
        """Stores the wishes of a node, nothing signed. When the node has some already that have not come to nothing,
        those win. Raises `Invalid` for wishes that cannot be, `Temporary` when nothing was stored."""
        ...

    async def find(self, order: SpendRequest) -> SpendStatus | None:
        """How the node's newest wishes stand; None when it has none."""
        ...

    async def advance(self, order: SpendRequest) -> SpendStatus:
        """Signs and sends what can be, and says how all stands. Safe to call at any time and after any crash.

        What may help later (no endpoint answers, the store is busy) is a `failed` that is `retryable`, with the code
        `TEMPORARY`: the same wishes go on at the next call."""
        ...

    async def abandon(self, order: SpendRequest) -> SpendStatus | None:
        """As `advance`, for a node that is being cancelled: signs nothing, and gives up what is not signed yet."""
        ...

    def end(self, tx: Any, org_id: str, run_pk: int) -> list[Any]:
        """In the unit that ends a run: gives up what it has not signed. What it answers is for `tell`."""
        ...

    def tell(self, committed: list[Any]) -> None:
        """To be called once that unit is on disk."""
        ...


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


def status_of(stored: Stored) -> SpendStatus:
    """How it stands."""
    status = SpendStatus(
        status="open",
        spend=spend_of(stored),
        generation=stored.spend.generation,
        is_signed=any(TxState(row.state) in UNSETTLED for row in stored.transactions),
        transactions=tuple(public(row) for row in stored.transactions),
        signature_requests=tuple(public_signature(row) for row in stored.signatures),
        signatures={row.mark: stored.plain[row.item] for row in stored.signatures if row.item in stored.plain},
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
