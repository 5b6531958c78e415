"""The interface of price sources: a source returns an asset's price, nothing, or the reason why it has none."""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction
from typing import Protocol

from dustrun.core.evm.network import Network
from dustrun.core.values.amounts import Asset
from dustrun.records import dataclass
from dustrun.sdk.chain import Chain, Price

_ROUNDED = Context(prec=40)


class PriceFault(Exception):
    """The source has the asset but its answer cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class PriceQuestion:
    """An asset, its chain, and the current time in milliseconds: the later of the newest block's and ours; on a
    development chain, whose clock may be shifted, the block's."""

    asset: Asset
    chain: Chain
    decimals: int
    now_ms: int

    @property
    def network(self) -> Network:
        """The definition of the network."""
        return self.chain.network


class Source(Protocol):
    """A price source."""

    @property
    def name(self) -> str:
        """The value of `Price.source`."""
        ...

    async def price(self, question: PriceQuestion) -> Price | None:
        """The price; None if it does not cover the asset. Raises `PriceFault`, or `Temporary` if it is unreachable."""
        ...


def decimal_of(exact: Fraction) -> Decimal:
    """The fraction rounded to 40 significant digits."""
    return _ROUNDED.divide(Decimal(exact.numerator), Decimal(exact.denominator))


def same_worth(network: Network, asset: Asset) -> tuple[Asset, ...]:
    """The asset, and its wrapped or native form, which has the same value."""
    wrapped = network.wrapped_native
    if wrapped is None:
        return (asset,)
    if asset.token is None:
        return (asset, Asset(asset.chain_id, wrapped))
    return (asset, Asset(asset.chain_id)) if asset.token.lower() == wrapped.lower() else (asset,)
