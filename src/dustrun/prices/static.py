"""Prices that the operator set (setting `static_prices`), which win over every other source."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.prices.source import Question, same_worth
from dustrun.sdk.chain import Price


class StaticPrices:
    """US dollars by asset key."""

    name = "static"

    def __init__(self, prices: Mapping[str, str]) -> None:
        self._prices = {_canonical(Asset.parse(key)): Decimal(usd) for key, usd in prices.items()}

    async def price(self, question: Question) -> Price | None:
        """What was set for the asset or for what stands for it."""
        for asset in same_worth(question.network, question.asset):
            usd = self._prices.get(_canonical(asset))
            if usd is not None:
                return Price(usd, self.name, question.now_ms, 0, asset.key)
        return None


class NominalPrices:
    """What the coin of a test network counts as when nobody prices it (setting `test_coin_usd`, 0: nothing is known),
    so that limits and dust work there as on the real one. Tokens of test networks have their pools, or no price."""

    name = "nominal"

    def __init__(self, usd: str | None) -> None:
        self._usd = Decimal(usd) if usd is not None and Decimal(usd) else None

    async def price(self, question: Question) -> Price | None:
        """Only for the coin, bare or wrapped."""
        is_coin = any(asset.token is None for asset in same_worth(question.network, question.asset))
        if self._usd is None or not question.network.is_testnet or not is_coin:
            return None
        return Price(self._usd, self.name, question.now_ms, 0, "test_coin_usd")


def _canonical(asset: Asset) -> str:
    return asset.key if asset.token is None else Asset(asset.chain_id, checksum(asset.token)).key
