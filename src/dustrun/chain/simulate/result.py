"""Results of simulated transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from dustrun.chain.simulate.creation import Ask
from dustrun.core.money.intent import BalanceChange, Log, Receipt
from dustrun.core.money.policy.outflow import TakenAmounts
from dustrun.errors import Permanent
from dustrun.records import dataclass
from dustrun.sdk.chain import CallResult, ChainCall

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """The outcome of one call on the node: `data` is the return or revert data, `moved` are the addresses that sent or
    received native coin, `diff` is the state diff if the node reports it.
    """

    is_success: bool
    gas_used: int
    data: bytes
    logs: tuple[Log, ...] = ()
    moved: tuple[str, ...] = ()
    message: str | None = None
    diff: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DryRun:
    """The outcome without fees, and `units`, the sender's native balance before it."""

    outcome: CallOutcome
    units: int


class RejectedTransaction(Permanent):
    """The node would reject the transaction, for lack of funds (code `FUNDS_INSUFFICIENT`), of gas, or for its code."""


@dataclass(frozen=True, slots=True)
class SimResult:
    """A simulated transaction. `status`: `success`, `reverted`, or `rejected` (nodes would not accept it, so it has no
    receipt; `lacks_funds` if that is why). `changes`: balance differences without the fee; `approvals`: remaining
    amounts of touched approvals; `unread`: number of balances over the read limit; `unseen_units`: native coin that
    went to an unknown address, or came from one if negative; `returned`: decoded return values by name or position, if
    the intent declares types; `taken`: what left the sender."""

    sender: str
    status: str
    receipt: Receipt | None
    gas_limit: int
    changes: tuple[BalanceChange, ...] = ()
    events: tuple[Json, ...] = ()
    approvals: tuple[Json, ...] = ()
    rejected: str | None = None
    lacks_funds: bool = False
    unread: int = 0
    unseen_units: int = 0
    returned: Mapping[str, Any] | None = None
    max_fee_units: int = 0
    taken: TakenAmounts | None = None

    @property
    def is_success(self) -> bool:
        """Whether it was executed and did not revert."""
        return self.status == "success"

    @property
    def revert(self) -> Mapping[str, Any] | None:
        """The decoded revert reason; None if it did not revert."""
        return None if self.receipt is None else self.receipt.revert

    @property
    def reason(self) -> str | None:
        """Why it failed, as text for people; None on success."""
        return self.rejected if self.revert is None else str(self.revert["text"])

    def public(self) -> Json:
        """As JSON, in the form that `core/run/chain_effects.py` aggregates into the run's report."""
        shown: Json = {
            "status": "simulated" if self.is_success else self.status,
            "from": self.sender,
            "gasLimit": self.gas_limit,
            "balanceChanges": [
                {"address": change.address, "asset": change.asset, "delta": str(change.delta_units)}
                for change in self.changes
            ],
            "approvals": [dict(approval) for approval in self.approvals],
            "events": [dict(event) for event in self.events],
        }
        if self.receipt is not None:
            shown |= {
                "gasUsed": self.receipt.gas_used,
                "gasPrice": str(self.receipt.gas_price_units),
                "fee": str(self.receipt.fee_units),
                "blockNumber": self.receipt.block_number,
                "blockTime": self.receipt.block_time,
            }
            if self.receipt.contract_address is not None:
                shown["contractAddress"] = self.receipt.contract_address
            if self.receipt.return_data:
                shown["returnData"] = f"0x{self.receipt.return_data.hex()}"
            if self.returned is not None:
                shown["returned"] = dict(self.returned)
        if self.revert is not None:
            shown["revert"] = dict(self.revert)
        if self.rejected is not None:
            shown["rejected"] = self.rejected
        if self.unread:
            shown["unreadBalances"] = self.unread
        if self.unseen_units:
            units, where = abs(self.unseen_units), "went to" if self.unseen_units > 0 else "came from"
            message = (
                f"{units} base units of native coin {where} an unknown address: the node does not report all "
                "transfers, for example those of a self-destructing contract."
            )
            shown["warnings"] = [{"code": "BALANCES_UNREAD", "message": message}]
        return shown


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Reads for one request: calls, one-word reads (`asks`), and the code of `addresses`."""

    calls: Sequence[ChainCall] = ()
    asks: Sequence[Ask] = ()
    addresses: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.calls or self.asks or self.addresses)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Answers to a `ReadBatch` in its order; None for a read that has to be repeated alone."""

    results: Sequence[CallResult] = ()
    words: Sequence[int | None] = ()
    codes: Sequence[bytes | None] = ()


@dataclass(slots=True)
class MeasuredTransaction:
    """A transaction with its gas limit and fee: the outcome, the words read before and after it, and the answers to the
    extra reads at the state after it (None if the simulator did not read them)."""

    outcome: CallOutcome
    before: Sequence[int | None] = field(default_factory=list)
    after: Sequence[int | None] = field(default_factory=list)
    batch_result: BatchResult | None = None
