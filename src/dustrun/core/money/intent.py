"""Intents and their results: actions return them, the policy judges them, the outbox stores them.

An intent leads to at most one included transaction. Its key is (first run of the retry chain, node path, item,
generation); `item` distinguishes the intents of one node and is stable across restarts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from dustrun.core.values.amounts import Asset
from dustrun.records import dataclass

MovementKind = Literal["send", "approve"]


@dataclass(frozen=True, slots=True)
class Movement:
    """Value that an intent moves out of the wallet, or approves others to move: what the policy counts.

    `counterparty` is the recipient of a send or the spender of an approval (checksummed); `of_swap` marks a swap's own
    approval, which is counted once, with the swap. `needed`: the base units of an approval that its node uses, where
    the node knows it.
    """

    kind: MovementKind
    asset: Asset
    amount_units: int
    counterparty: str
    of_swap: bool = False
    needed: int | None = None

    def public(self) -> dict[str, Any]:
        """JSON form; amounts are strings."""
        shown: dict[str, Any] = {
            "kind": self.kind,
            "asset": self.asset.key,
            "amount": str(self.amount_units),
            "counterparty": self.counterparty,
        }
        if self.of_swap:
            shown["ofSwap"] = True
        if self.needed is not None:
            shown["needed"] = str(self.needed)
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
            int(shown["needed"]) if shown.get("needed") is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """One transaction requested by a node.

    `to` None creates a contract. `after` names items of the same node that must be mined before this one is estimated
    and signed (an approval before its swap). `method` is the canonical signature of the called function, None for a
    plain transfer of native coin; `is_decoded`: the calldata decodes by an ABI that the action knows, so `movements` is
    complete. `errors` are ABI entries of type `error` that decode a revert, `returns` the function's output parameters.
    `about` is a one-line description. `gas_limit` None: estimated. `as_written`: a person wrote the calldata, so its
    effect may exceed `movements`, and a rehearsal covers only exactly these bytes.
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
        """JSON form, complete."""
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
    """A signature requested by a node: it can move money too, so the policy judges it like a transaction.

    `kind` is `message` (EIP-191; `message` holds the bytes as 0x-hex or text) or `typed-data` (EIP-712; the whole
    document). `is_decoded`: the action knows the document's type (permits, orders), so `movements` is all that the
    signature lets others move.
    """

    item: str
    kind: Literal["message", "typed-data"]
    chain_id: int | None
    payload: Any
    movements: tuple[Movement, ...]
    about: str
    is_decoded: bool = True

    def public(self) -> dict[str, Any]:
        """JSON form, complete."""
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
    """The result of a `spend` action's function: its intents in order. `notes` is JSON for `finish` (a quote, a
    permit's nonce); it is stored with the intents, so it must be deterministic.
    """

    intents: tuple[Intent, ...] = ()
    signatures: tuple[SignRequest, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Log:
    """A contract event log: address checksummed, topics and data as bytes."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a transaction, real or simulated. A simulated one has no `hash`; only simulated ones have
    `return_data`. `fee_units` is the whole fee in base units of the native coin, including an L2's data fee.
    """

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
        """Whether the transaction was only simulated."""
        return self.hash is None


@dataclass(frozen=True, slots=True)
class Spent:
    """The results of all intents of a node: receipts in the order of the intents, all successful, and signatures
    (0x-hex) by item.
    """

    receipts: tuple[Receipt, ...] = ()
    signatures: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class BalanceChange:
    """The change of an address's balance of an asset, measured before and after, gas fees excluded."""

    address: str
    asset: str
    delta_units: int


@dataclass(frozen=True, slots=True)
class FundsMovement:
    """Where a spend action's input holds an amount that moves; used by the policy, dust scaling and the funds analysis.

    Fields are paths in wire names, through arrays as `rows[].amount`. `token_field` None: the native coin.
    `min_out_field` and `max_in_field` are limits that scale with the amount; `approval_field` may say `unlimited`,
    which a dust test turns into `exact`. `scales` False: Dustrun cannot scale the value (an NFT). `needs_field`: while
    that field is null, an amount of zero says nothing about what moves (`write-contract` without `amounts`).
    `limit_fields`: other inputs that bound what the spend may cost or bring. `takes_max`: the amount may be `max`,
    which the action computes from the chain; `computed`: `amount` or `limits`, if it always computes them so.
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
    needs_field: str | None = None
    limit_fields: tuple[str, ...] = ()
    takes_max: bool = False
    computed: tuple[str, ...] = ()

    def public(self) -> dict[str, Any]:
        """The catalogue entry."""
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
