"""Unsigned wishes and what came of them: what actions return, policy judges, the ledger keeps.

An intent becomes at most one transaction that counts. Its key is (first run of the retry chain, node path, item,
generation); `item` tells the intents of one node apart and is stable over restarts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dustrun.core.values.amounts import Asset

MovementKind = Literal["send", "approve"]


@dataclass(frozen=True, slots=True)
class Movement:
    """Value that an intent moves out of the wallet, or lets somebody move: what policy counts.

    `counterparty` is the recipient of a send, the spender of an approval (checksummed); `of_swap`: the approval that
    a swap makes for itself, which counts once, with the swap.
    """

    kind: MovementKind
    asset: Asset
    amount_units: int
    counterparty: str
    of_swap: bool = False

    def public(self) -> dict[str, Any]:
        """As JSON; amounts are texts."""
        shown: dict[str, Any] = {
            "kind": self.kind,
            "asset": self.asset.key,
            "amount": str(self.amount_units),
            "counterparty": self.counterparty,
        }
        if self.of_swap:
            shown["ofSwap"] = True
        return shown

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> Movement:
        """From `public()`."""
        return cls(
            shown["kind"],
            Asset.parse(shown["asset"]),
            int(shown["amount"]),
            shown["counterparty"],
            bool(shown.get("ofSwap", False)),
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """One transaction that a node wishes for.

    `to` None creates a contract. `after` names items of the same node that must be mined before this one is estimated
    and signed (an approval before its swap). `method` is the called function's canonical signature, None for a plain
    transfer of native coin; `is_decoded`: the calldata decodes by an ABI that the action knows, so that `movements`
    is all it moves. `errors` are ABI entries of type `error` that name a revert's reason, `returns` the parameters of
    what the function returns. `about` is one line for people. `gas_limit` None: estimated. `as_written`: a person wrote
    the calldata, and more than what `movements` says may depend on it, so a rehearsal holds for just these bytes.
    """

    item: str
    chain_id: int
    to: str | None
    value_units: int
    data: bytes
    movements: tuple[Movement, ...]
    about: str
    method: str | None = None
    is_decoded: bool = True
    after: tuple[str, ...] = ()
    gas_limit: int | None = None
    errors: tuple[Mapping[str, Any], ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    as_written: bool = False
    returns: tuple[Mapping[str, Any], ...] = ()

    def public(self) -> dict[str, Any]:
        """As JSON, whole."""
        return {
            "item": self.item,
            "chainId": self.chain_id,
            "to": self.to,
            "value": str(self.value_units),
            "data": f"0x{self.data.hex()}",
            "movements": [movement.public() for movement in self.movements],
            "about": self.about,
            "method": self.method,
            "isDecoded": self.is_decoded,
            "after": list(self.after),
            "gasLimit": self.gas_limit,
            "errors": [dict(error) for error in self.errors],
            "events": [dict(event) for event in self.events],
            **({"asWritten": True} if self.as_written else {}),
            "returns": [dict(param) for param in self.returns],
        }

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> Intent:
        """From `public()`."""
        return cls(
            item=shown["item"],
            chain_id=int(shown["chainId"]),
            to=shown["to"],
            value_units=int(shown["value"]),
            data=bytes.fromhex(shown["data"][2:]),
            movements=tuple(Movement.of(movement) for movement in shown["movements"]),
            about=shown["about"],
            method=shown["method"],
            is_decoded=shown["isDecoded"],
            after=tuple(shown["after"]),
            gas_limit=None if shown["gasLimit"] is None else int(shown["gasLimit"]),
            errors=tuple(shown["errors"]),
            events=tuple(shown.get("events", ())),
            as_written=bool(shown.get("asWritten", False)),
            returns=tuple(shown.get("returns", ())),
        )


@dataclass(frozen=True, slots=True)
class SignRequest:
    """A signature that a node wishes for: it can move money too, so policy judges it like a transaction.

    `kind` is `message` (EIP-191, `message` holds the bytes as 0x-hex or text) or `typed-data` (EIP-712, the whole
    document). `is_decoded`: the document is of a type that the action knows (permits, orders), so that `movements` is
    all that the signature lets others move.
    """

    item: str
    kind: Literal["message", "typed-data"]
    chain_id: int | None
    payload: Any
    movements: tuple[Movement, ...]
    about: str
    is_decoded: bool = True

    def public(self) -> dict[str, Any]:
        """As JSON, whole."""
        return {
            "item": self.item,
            "sign": self.kind,
            "chainId": self.chain_id,
            "payload": self.payload,
            "movements": [movement.public() for movement in self.movements],
            "about": self.about,
            "isDecoded": self.is_decoded,
        }


@dataclass(frozen=True, slots=True)
class Spend:
    """What the function of a `spend` action returns: its wishes in order. `notes` is JSON that `finish` may want
    again (a quote, a nonce of a permit); it is stored with the wishes, so it must be the same for all that follows."""

    intents: tuple[Intent, ...] = ()
    signatures: tuple[SignRequest, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Log:
    """An event of a contract as the chain gives it: address checksummed, topics and data as bytes."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction, real or simulated. `hash` is None for a simulated one, `return_data` known only
    for those. `fee_units` is the whole fee in base units of the native coin, an L2's data fee included."""

    item: str
    is_success: bool
    block_number: int
    block_hash: str | None
    block_time: int
    gas_used: int
    gas_price_units: int
    fee_units: int
    logs: tuple[Log, ...]
    hash: str | None = None
    contract_address: str | None = None
    return_data: bytes | None = None
    revert: Mapping[str, Any] | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether it happened on a simulated chain only."""
        return self.hash is None


@dataclass(frozen=True, slots=True)
class Spent:
    """What became of all wishes of a node: receipts in the order of the intents, each a success, and signatures
    (0x-hex) by item."""

    receipts: tuple[Receipt, ...] = ()
    signatures: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class BalanceChange:
    """How an address's balance of an asset changed, fees of gas left out, by reading it before and after."""

    address: str
    asset: str
    delta_units: int


@dataclass(frozen=True, slots=True)
class FundsMovement:
    """Where a spend action's input says what it moves; feeds policy, dust amounts and the analysis of funds.

    Fields are paths in the input's wire names, through arrays as `rows[].amount`. `token_field` None: the native coin.
    `min_out_field` and `max_in_field` are the limits that scale with the amount; `approval_field` says `unlimited` when
    more than the amount is to be approved, which a dust test makes `exact`. `scales` False: moves value that the
    platform cannot scale (`write-contract`, an NFT).
    """

    direction: MovementKind
    amount_field: str | None
    chain_field: str = "chainId"
    token_field: str | None = None
    recipient_field: str | None = None
    min_out_field: str | None = None
    max_in_field: str | None = None
    approval_field: str | None = None
    scales: bool = True

    def public(self) -> dict[str, Any]:
        """As the catalogue shows it."""
        named = {
            "direction": self.direction,
            "amountField": self.amount_field,
            "tokenField": self.token_field,
            "chainField": self.chain_field,
            "recipientField": self.recipient_field,
            "minOutField": self.min_out_field,
            "maxInField": self.max_in_field,
            "approvalField": self.approval_field,
        }
        return {name: value for name, value in named.items() if value is not None} | {"scales": self.scales}
