"""Shared by the Uniswap sources: tokens that are priced without pools, and the minimum liquidity."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from dustrun.core.values.amounts import Asset
from dustrun.errors import Temporary
from dustrun.prices.source import PriceFault, Question, Source, decimal_of
from dustrun.records import dataclass
from dustrun.sdk.chain import Price

MAX_ANCHORS = 8


@dataclass(frozen=True, slots=True)
class Anchor:
    """The token on the other side of a pool, with its price in US dollars."""

    token: str
    decimals: int
    price: Price


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool: its price, in whole anchor tokens per whole token, and its reserve of the anchor."""

    address: str
    anchor: Anchor
    rate: Fraction
    anchor_units: int

    @property
    def liquidity_usd(self) -> Fraction:
        """The value of the anchor's side of the pool in US dollars."""
        worth: Fraction = Fraction(self.anchor.price.usd) * self.anchor_units / 10**self.anchor.decimals
        return worth


class Anchors:
    """The wrapped native token and the known tokens that a source other than pools prices."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    async def of(self, question: Question) -> list[Anchor]:
        """The anchors of the asset's chain, without the asset itself."""
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
                continue  # skip an anchor without a price; others may have one
            if price is not None:
                return Anchor(token, decimals, price)
        return None


def token_of(question: Question) -> str | None:
    """The token that pools contain: for native coin its wrapped form; None if the chain has none."""
    return question.asset.token or question.network.wrapped_native


def best_price(question: Question, source: str, pools: Sequence[Pool], floor_usd: Decimal) -> Price | None:
    """The price of the deepest pool; None without a pool. Raises `PriceFault` if it is below `floor_usd`."""
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
        raise PriceFault(f"the pool {deepest.address} returns nothing for the asset")
    detail = {"pool": deepest.address, "against": deepest.anchor.token, "anchorSource": deepest.anchor.price.source}
    return Price(usd, source, question.now_ms, deepest.anchor.price.age_ms, detail)
