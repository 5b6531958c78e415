"""What the two sources of exchange pools share: tokens that are priced without pools, and the floor of liquidity."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from dustrun.core.values.amounts import Asset
from dustrun.errors import Temporary
from dustrun.prices.source import PriceFault, Question, Source, decimal_of
from dustrun.sdk.chain import Price

MAX_ANCHORS = 8


@dataclass(frozen=True, slots=True)
class Anchor:
    """A token on the other side of a pool, with its own price."""

    token: str
    decimals: int
    price: Price


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool's price: whole anchor tokens for one whole token, and how much of the anchor stands behind it."""

    address: str
    anchor: Anchor
    rate: Fraction
    anchor_units: int

    @property
    def liquidity_usd(self) -> Fraction:
        """What the anchor's side of the pool is worth."""
        worth: Fraction = Fraction(self.anchor.price.usd) * self.anchor_units / 10**self.anchor.decimals
        return worth


class Anchors:
    """The wrapped coin and the known tokens, as far as a source that needs no pool prices them."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    async def of(self, question: Question) -> list[Anchor]:
        """Those of the asset's chain, the asset itself left out."""
        network, own = question.network, (token_of(question) or "").lower()
        known = [(network.wrapped_native, network.native.decimals)] if network.wrapped_native else []
        listed = [*known, *((token.address, token.decimals) for token in network.tokens)]
        decimals = {address: digits for address, digits in reversed(listed) if address and address.lower() != own}
        found = await asyncio.gather(*(self._find(question, one, digits) for one, digits in decimals.items()))
        return [anchor for anchor in reversed(found) if anchor is not None][:MAX_ANCHORS]

    async def _find(self, question: Question, token: str, decimals: int) -> Anchor | None:
        about = Question(Asset(question.asset.chain_id, token), question.chain, decimals, question.now_ms)
        for source in self._sources:
            try:
                price = await source.price(about)
            except (PriceFault, Temporary):
                continue  # an anchor without a price is none; the asset itself may have another
            if price is not None:
                return Anchor(token, decimals, price)
        return None


def token_of(question: Question) -> str | None:
    """The token that pools hold: the wrapped form of the coin."""
    return question.asset.token or question.network.wrapped_native


def best_price(question: Question, source: str, pools: Sequence[Pool], floor_usd: Decimal) -> Price | None:
    """The price of the deepest pool; None without a pool. Raises `PriceFault` when the deepest is below the floor."""
    if not pools:
        return None
    deepest = max(pools, key=lambda pool: (pool.liquidity_usd, pool.address))
    if deepest.liquidity_usd < floor_usd:
        shown = f"{decimal_of(deepest.liquidity_usd):.2f}"
        raise PriceFault(
            f"the deepest pool, {deepest.address}, holds {shown} USD, below dex_min_liquidity_usd ({floor_usd})"
        )
    usd = decimal_of(deepest.rate * Fraction(deepest.anchor.price.usd))
    if usd <= 0:
        raise PriceFault(f"the pool {deepest.address} gives nothing for the asset")
    detail = {"pool": deepest.address, "against": deepest.anchor.token, "anchorSource": deepest.anchor.price.source}
    return Price(usd, source, question.now_ms, deepest.anchor.price.age_ms, detail)
