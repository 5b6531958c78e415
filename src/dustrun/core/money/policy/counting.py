"""The amounts that one request counts: base units by asset, US dollars, network fees, and one request.

US dollars are integers in units of 1e-18, rounded up per movement, so that spending is never understated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from dustrun.core.money.intent import Intent, Movement, SignRequest
from dustrun.core.money.token_calls import Unread, implied_movements
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.records import dataclass

USD, COUNT, GAS_USD = "usd", "count", "gasUsd"
USD_UNIT = 10**18


@dataclass(frozen=True, slots=True)
class Worth:
    """An asset's price: exact US dollars per whole token, and the token's decimals."""

    usd: Decimal
    decimals: int

    def of(self, units: int) -> int:
        """The worth of base units in 1e-18 US dollars, rounded up."""
        exact: Fraction = Fraction(self.usd) * units * USD_UNIT / 10**self.decimals
        return -(-exact.numerator // exact.denominator)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a spend comes from: the workflow and the first run of its retry chain, and the key that it acts for. None:
    an action outside a workflow, or nobody's."""

    workflow_id: str | None = None
    run_id: str | None = None
    key_id: str | None = None
    place: tuple[str, int, str] | None = None
    """Organisation, run and path of the node that spends."""


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """The request to judge: a transaction with the maximum fee it may pay, or a signature.

    `gas_limit`, `max_fee_units` (per unit of gas) and `data_fee_units` are the ceiling that may later be signed without
    another verdict; all are 0 for a signature. `usual_fee_units`: the chain's usual fee, 0 if it is unknown. `sender`
    is the wallet's address; None is no wallet's.
    """

    kind: Literal["transaction", "message", "typed-data"]
    chain_id: int | None
    to: str | None
    value_units: int
    data: bytes
    movements: tuple[Movement, ...]
    method: str | None = None
    is_decoded: bool = True
    gas_limit: int = 0
    max_fee_units: int = 0
    data_fee_units: int = 0
    sender: str | None = None
    usual_fee_units: int = 0
    origin: Origin = Origin()
    shaped: Mapping[str, frozenset[str]] | None = None
    """The sources of each money field; None if no policy asks for them, or only the caller shapes it."""
    listed: frozenset[str] = frozenset()
    """The contracts among them that the networks' files name."""

    @classmethod
    def of_intent(
        cls,
        intent: Intent,
        sender: str,
        *,
        gas_limit: int,
        max_fee_units: int,
        data_fee_units: int = 0,
        usual_fee_units: int = 0,
    ) -> PolicyRequest:
        """The request of an intent."""
        return cls(
            "transaction",
            intent.chain_id,
            intent.to,
            intent.value_units,
            intent.data,
            intent.movements,
            intent.method,
            intent.is_decoded,
            gas_limit,
            max_fee_units,
            data_fee_units,
            sender,
            usual_fee_units,
        )

    @classmethod
    def of_signature(cls, request: SignRequest, sender: str) -> PolicyRequest:
        """The request of a signature."""
        return cls(
            request.kind,
            request.chain_id,
            None,
            0,
            b"",
            request.movements,
            is_decoded=request.is_decoded,
            sender=sender,
        )

    @property
    def gas_units(self) -> int:
        """The maximum network fee, in base units of the native coin."""
        return self.gas_limit * self.max_fee_units + self.data_fee_units

    @property
    def native(self) -> Asset | None:
        """The coin that pays the fee; None for a signature."""
        return Asset(self.chain_id) if self.kind == "transaction" and self.chain_id is not None else None

    @property
    def assets(self) -> frozenset[Asset]:
        """Every asset whose price the verdict may depend on."""
        moved = {movement.asset for movement in self.movements}
        return frozenset(moved | ({self.native} if self.native is not None else set()))


@dataclass(frozen=True, slots=True)
class CountedUnits:
    """Units by measure: an asset's key, `usd`, `count`, `gas:eip155:1`, `gasUsd`. `unpriced` lists the assets without a
    price; `fee_unpriced`: the network's coin has none.
    """

    units: Mapping[str, int] = field(default_factory=dict)
    unpriced: tuple[str, ...] = ()
    fee_unpriced: bool = False

    def __add__(self, other: CountedUnits) -> CountedUnits:
        """The sum of both."""
        names = self.units.keys() | other.units.keys()
        units = {name: self.units.get(name, 0) + other.units.get(name, 0) for name in sorted(names)}
        unpriced = tuple(sorted({*self.unpriced, *other.unpriced}))
        return CountedUnits(units, unpriced, self.fee_unpriced or other.fee_unpriced)


def canonical(asset: Asset) -> str:
    """The asset's key with an EIP-55 checksummed address: limits and totals are kept by it."""
    return asset.key if asset.token is None else Asset(asset.chain_id, checksum(asset.token)).key


def implied_of(request: PolicyRequest) -> list[Movement]:
    """Movements in the calldata itself by well-known token methods, including nested calls; empty when those cannot be
    decoded, which is denied elsewhere.
    """
    if request.kind != "transaction" or request.to is None or request.chain_id is None:
        return []
    try:
        return implied_movements(request.chain_id, request.to, request.data)
    except Unread:
        return []


def is_same(declared: Movement, implied: Movement) -> bool:
    """Whether kind, asset and counterparty are equal, whatever the amounts. An ERC-721 `transferFrom` declares one
    token where an ERC-20 has the amount: then the calldata's number counts.
    """
    return (
        declared.kind == implied.kind
        and canonical(declared.asset) == canonical(implied.asset)
        and declared.counterparty.lower() == implied.counterparty.lower()
    )


def gas_measure(chain_id: int) -> str:
    """The measure of a chain's network fees, in base units of its coin."""
    return f"gas:eip155:{chain_id}"


def is_gas(measure: str) -> bool:
    """Whether a measure counts network fees, which are paid even by a transaction that moves nothing."""
    return measure.startswith("gas")


def asked(request: PolicyRequest, worths: Mapping[str, Worth]) -> CountedUnits:
    """The amounts that a request is checked against the limits with: everything it moves."""
    return _count(request, request.movements, 1, worths)


def count(request: PolicyRequest, worths: Mapping[str, Worth]) -> CountedUnits:
    """The amounts that a request adds to those spent: a swap's own approvals are counted once, with the swap."""
    own = own_movements(request)
    return _count(request, own, int(bool(own) or not request.movements), worths)


def own_movements(request: PolicyRequest) -> tuple[Movement, ...]:
    """The amounts that a request's movements count."""
    return tuple(movement for movement in request.movements if not movement.of_swap)


def units_of(movement: Movement, implied: Iterable[Movement]) -> int:
    """The amount that a movement counts: what it declares, or more if the calldata says so."""
    return max([movement.amount_units, *(one.amount_units for one in implied if is_same(movement, one))])


def _count(
    request: PolicyRequest, movements: Iterable[Movement], number: int, worths: Mapping[str, Worth]
) -> CountedUnits:
    units: dict[str, int] = {COUNT: number, USD: 0}
    unpriced: set[str] = set()
    implied = implied_of(request)
    for movement in movements:
        key, amount = canonical(movement.asset), units_of(movement, implied)
        units[key] = units.get(key, 0) + amount
        worth = worths.get(key)
        if worth is None:
            unpriced.add(key)
        else:
            units[USD] += worth.of(amount)
    fee_unpriced = False
    if request.native is not None:
        units[gas_measure(request.native.chain_id)] = request.gas_units
        worth = worths.get(canonical(request.native))
        fee_unpriced = worth is None
        units[GAS_USD] = 0 if worth is None else worth.of(request.gas_units)
    return CountedUnits(units, tuple(sorted(unpriced)), fee_unpriced)
