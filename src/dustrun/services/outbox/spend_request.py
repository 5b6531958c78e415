"""What a spend node asks of the ledger, and how its wishes stand: the seam between the engine and the outbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from dustrun.core.money.intent import Receipt, Spend, Spent

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
    `receipts` are what the chain said of those that came to an end, by item. `wished_signatures` are for people too,
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
    wished_signatures: tuple[Mapping[str, Any], ...] = ()
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

    def tell(self, told: list[Any]) -> None:
        """To be called once that unit is on disk."""
        ...
