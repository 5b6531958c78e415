"""The current price of Uniswap V3 pools against a token with a known price.

A pool's liquidity is the anchor's side of the liquidity in range at the current tick, at most the pool's balance of the
anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from dustrun.core.evm.abi import AbiFault, Function
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.values.addresses import ZERO_ADDRESS, address_of_word
from dustrun.prices.pools import Anchor, Anchors, Pool, best_price, token_of
from dustrun.prices.source import Question
from dustrun.sdk.chain import CallResult, ChainCall, Price

_GET_POOL: Final = parse_function("getPool(address, address, uint24) view returns (address)")
_SLOT0: Final = parse_function("slot0() view returns (uint160, int24, uint16, uint16, uint16, uint8, bool)")
_LIQUIDITY: Final = parse_function("liquidity() view returns (uint128)")
_BALANCE_OF: Final = parse_function("balanceOf(address) view returns (uint256)")
_FEES: Final = (100, 500, 3000, 10_000)
_Q96: Final = 1 << 96


class UniswapV3Prices:
    """Prices from the pools of each network's V3 factory."""

    name = "uniswap-v3"

    def __init__(self, anchors: Anchors, floor_usd: Decimal) -> None:
        self._anchors = anchors
        self._floor_usd = floor_usd

    async def price(self, question: Question) -> Price | None:
        """The price of the deepest pool; raises `PriceFault` if its liquidity is too low."""
        factory, token = question.network.dex.v3_factory, token_of(question)
        if factory is None or token is None:
            return None
        wanted = [(anchor, fee) for anchor in await self._anchors.of(question) for fee in _FEES]
        calls = [ChainCall(factory, _GET_POOL.encode(token, anchor.token, fee)) for anchor, fee in wanted]
        answers = await question.chain.call_many(calls) if calls else []
        found = [(address_of_word(answer.data), anchor) for answer, (anchor, _) in zip(answers, wanted, strict=True)
                 if answer.is_success and len(answer.data) == 32]  # fmt: skip
        found = [(pool, anchor) for pool, anchor in found if pool != ZERO_ADDRESS]
        if not found:
            return None
        facts = await question.chain.call_many([call for pool, anchor in found for call in _facts_of(pool, anchor)])
        pools = [
            _pool(pool, anchor, token, question.decimals, facts[3 * index : 3 * index + 3])
            for index, (pool, anchor) in enumerate(found)
        ]
        return best_price(question, self.name, [pool for pool in pools if pool is not None], self._floor_usd)


def _facts_of(pool: str, anchor: Anchor) -> list[ChainCall]:
    return [
        ChainCall(pool, _SLOT0.selector),
        ChainCall(pool, _LIQUIDITY.selector),
        ChainCall(anchor.token, _BALANCE_OF.encode(pool)),
    ]


def _first(function: Function, answer: CallResult) -> int:
    """The first number that a function returned; 0, as for an empty pool, if the call failed."""
    if not answer.is_success:
        return 0
    try:
        return int(function.decode_result(answer.data)[0])
    except AbiFault:
        return 0


def _pool(pool: str, anchor: Anchor, token: str, decimals: int, facts: Sequence[CallResult]) -> Pool | None:
    """The pool; with s = sqrt(token1 / token0), in range are liquidity / s of token0 and liquidity × s of token1."""
    root = _first(_SLOT0, facts[0])
    liquidity, held = _first(_LIQUIDITY, facts[1]), _first(_BALANCE_OF, facts[2])
    if root == 0 or liquidity == 0:
        return None
    ratio = Fraction(root * root, _Q96 * _Q96)  # base units of token1 per base unit of token0
    if int(token, 16) < int(anchor.token, 16):
        units, in_range = ratio, liquidity * root // _Q96
    else:
        units, in_range = 1 / ratio, liquidity * _Q96 // root
    rate = units * Fraction(10**decimals, 10**anchor.decimals)
    return Pool(pool, anchor, rate, min(held, in_range))
