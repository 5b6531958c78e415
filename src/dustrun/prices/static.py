"""Prices set by the operator (setting `static_prices`), which take precedence over all other sources."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.prices.source import PriceQuestion, same_worth
from dustrun.sdk.chain import Price


class StaticPrices:
    """The operator's prices in US dollars, by asset key."""

    name = "static"

    def __init__(self, prices: Mapping[str, str]) -> None:
        self._prices = {_canonical(Asset.parse(key)): Decimal(usd) for key, usd in prices.items()}

    async def price(self, question: PriceQuestion) -> Price | None:
        """The price set for the asset or for its wrapped or native form."""
        for asset in same_worth(question.network, question.asset):
            usd = self._prices.get(_canonical(asset))
            if usd is not None:
                return Price(usd, self.name, question.now_ms, 0, asset.key)
        return None


class NominalPrices:
    """A nominal price for the native coin of test networks (setting `test_coin_usd`; 0 disables it), so that limits and
    dust work as on a main network. Tokens of test networks are priced by pools or not at all."""

    name = "nominal"

    def __init__(self, usd: str | None) -> None:
        self._usd = Decimal(usd) if usd is not None and Decimal(usd) else None

    async def price(self, question: PriceQuestion) -> Price | None:
        """The nominal price of the native coin or its wrapped form; None for anything else."""
        is_coin = any(asset.token is None for asset in same_worth(question.network, question.asset))
        if self._usd is None or not question.network.is_testnet or not is_coin:
            return None
        return Price(self._usd, self.name, question.now_ms, 0, "test_coin_usd")


def _canonical(asset: Asset) -> str:
    return asset.key if asset.token is None else Asset(asset.chain_id, checksum(asset.token)).key
