"""What people are told of a node's transactions: each with what it moved, and the assets with symbol and worth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dustrun import log
from dustrun.core.amounts import Asset
from dustrun.core.token_text import read_text
from dustrun.errors import DustrunError
from dustrun.sdk.chain import Chain, ChainCall
from dustrun.services.prices import PriceBook

Json = dict[str, Any]
_SYMBOL: Final = bytes.fromhex("95d89b41")  # symbol()
_MAX_KEPT: Final = 10_000
_logger = log.get(__name__)


class SpendReports:
    """Facts for the report of effects, of transactions that were sent or simulated."""

    def __init__(self, chain_of: Callable[[int], Chain], prices: PriceBook) -> None:
        self._chain_of = chain_of
        self._prices = prices
        self._symbols: dict[str, str | None] = {}

    async def assets(self, transactions: Iterable[Mapping[str, Any]]) -> dict[str, Json]:
        """`{key: {symbol, decimals, usd, source}}` of every asset that the transactions name; what is not known is
        null, because a report must not fail."""
        assets = [Asset.parse(key) for key in sorted(_keys_of(transactions)) if Asset.is_key(key)]
        found = await asyncio.gather(*(self._asset(asset) for asset in assets))
        return {asset.key: shown for asset, shown in zip(assets, found, strict=True)}

    async def _asset(self, asset: Asset) -> Json:
        shown: Json = {"symbol": None, "decimals": None, "usd": None, "source": None}
        try:
            shown["symbol"] = await self._symbol(asset)
            shown["decimals"] = await self._prices.decimals(asset)
            price = await self._prices.price(asset)
            shown["usd"], shown["source"] = f"{price.usd:f}", price.source
        except DustrunError as error:
            _logger.debug("an asset is not described", asset=asset.key, why=error.message)
        return shown

    async def _symbol(self, asset: Asset) -> str | None:
        chain = self._chain_of(asset.chain_id)
        if asset.token is None:
            return chain.network.native.symbol
        if asset.key not in self._symbols:
            (result,) = await chain.call_many([ChainCall(asset.token, _SYMBOL)])
            if len(self._symbols) >= _MAX_KEPT:
                self._symbols.clear()
            self._symbols[asset.key] = read_text(result.data) if result.is_success else None
        return self._symbols[asset.key]


def _keys_of(transactions: Iterable[Mapping[str, Any]]) -> set[str]:
    """The assets that transactions move, change or approve, and the coins that their gas is paid in."""
    keys: set[str] = set()
    for transaction in transactions:
        keys.add(f"eip155:{transaction['chainId']}/native")
        for part in ("movements", "balanceChanges", "approvals"):
            keys.update(entry["asset"] for entry in transaction.get(part, ()))
    return keys
