"""What every price source is: asked about one asset of one chain, it knows its price, does not, or says why not."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Protocol

from dustrun.core.evm.network import Network
from dustrun.core.values.amounts import Asset
from dustrun.sdk.chain import Chain, Price

_ROUNDED = Context(prec=40)


class PriceFault(Exception):
    """The source knows the asset, but what it says cannot be used; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Question:
    """One asset, the chain that it is on, and the time there: the later of the head's and ours, the head's alone on a
    development chain, which may live in another time."""

    asset: Asset
    chain: Chain
    decimals: int
    now_ms: int

    @property
    def network(self) -> Network:
        """The chain's description."""
        return self.chain.network


class Source(Protocol):
    """One place that prices come from."""

    @property
    def name(self) -> str:
        """As `Price.source` has it."""
        ...

    async def price(self, question: Question) -> Price | None:
        """None when it knows nothing of the asset; raises `PriceFault`, or `Temporary` when it cannot be reached."""
        ...


def decimal_of(exact: Fraction) -> Decimal:
    """A price as a decimal of 40 digits, rounded where the fraction has more."""
    return _ROUNDED.divide(Decimal(exact.numerator), Decimal(exact.denominator))


def same_worth(network: Network, asset: Asset) -> tuple[Asset, ...]:
    """The asset, and the one that stands for it one to one: the coin and its wrapped form."""
    wrapped = network.wrapped_native
    if wrapped is None:
        return (asset,)
    if asset.token is None:
        return (asset, Asset(asset.chain_id, wrapped))
    return (asset, Asset(asset.chain_id)) if asset.token.lower() == wrapped.lower() else (asset,)
