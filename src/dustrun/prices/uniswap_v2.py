"""The mid price of Uniswap V2 pools against a token with a known price.

It is computed from the reserves: a quote would include the pool's fee and depend on the amount. Since anybody can move
a pool's price temporarily, pools need a minimum liquidity (setting `dex_min_liquidity_usd`).
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Final

from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.values.addresses import ZERO_ADDRESS, address_of_word
from dustrun.prices.pools import Anchor, Anchors, Pool, best_price, token_of
from dustrun.prices.source import Question
from dustrun.sdk.chain import CallResult, ChainCall, Price

_GET_PAIR: Final = parse_function("getPair(address, address) view returns (address)")
_RESERVES: Final = parse_function("getReserves() view returns (uint112, uint112, uint32)")


class UniswapV2Prices:
    """Prices from the pools of each network's V2 factory."""

    name = "uniswap-v2"

    def __init__(self, anchors: Anchors, floor_usd: Decimal) -> None:
        self._anchors = anchors
        self._floor_usd = floor_usd

    async def price(self, question: Question) -> Price | None:
        """The price of the deepest pool; raises `PriceFault` if its liquidity is too low."""
        factory, token = question.network.dex.v2_factory, token_of(question)
        if factory is None or token is None:
            return None
        anchors = await self._anchors.of(question)
        calls = [ChainCall(factory, _GET_PAIR.encode(token, anchor.token)) for anchor in anchors]
        pairs = [_pair(answer) for answer in await question.chain.call_many(calls)] if calls else []
        found = [(pair, anchor) for pair, anchor in zip(pairs, anchors, strict=True) if pair is not None]
        if not found:
            return None
        reserves = await question.chain.call_many([ChainCall(pair, _RESERVES.selector) for pair, _ in found])
        pools = [
            _pool(pair, anchor, token, question.decimals, answer)
            for (pair, anchor), answer in zip(found, reserves, strict=True)
        ]
        return best_price(question, self.name, [pool for pool in pools if pool is not None], self._floor_usd)


def _pair(answer: CallResult) -> str | None:
    if not answer.is_success or len(answer.data) != 32:
        return None
    address = address_of_word(answer.data)
    return None if address == ZERO_ADDRESS else address


def _pool(pair: str, anchor: Anchor, token: str, decimals: int, answer: CallResult) -> Pool | None:
    """The pool at `pair`; None if it is empty or not a pair."""
    if not answer.is_success:
        return None
    try:
        reserve0, reserve1, _ = (int(value) for value in _RESERVES.decode_result(answer.data))
    except AbiFault:
        return None
    is_first = int(token, 16) < int(anchor.token, 16)
    own, other = (reserve0, reserve1) if is_first else (reserve1, reserve0)
    if own == 0 or other == 0:
        return None
    rate = Fraction(other, 10**anchor.decimals) / Fraction(own, 10**decimals)
    return Pool(pair, anchor, rate, other)
