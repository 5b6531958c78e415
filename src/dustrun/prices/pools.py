"""Shared by the Uniswap sources: tokens that are priced without pools, and the minimum liquidity."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from dustrun.core.evm.abi import AbiFault, Function
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.values.addresses import ZERO_ADDRESS, address_of_word
from dustrun.core.values.amounts import Asset
from dustrun.errors import Temporary
from dustrun.prices.source import PriceFault, PriceQuestion, Source, decimal_of
from dustrun.records import dataclass
from dustrun.sdk.chain import CallResult, ChainCall, Price

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

    async def of(self, question: PriceQuestion) -> list[Anchor]:
        """The anchors of the asset's chain, without the asset itself."""
        network, own = question.network, (token_of(question) or "").lower()
        known = [(network.wrapped_native, network.native.decimals)] if network.wrapped_native else []
        listed = [*known, *((token.address, token.decimals) for token in network.tokens)]
        decimals = {address: digits for address, digits in reversed(listed) if address and address.lower() != own}
        found = await asyncio.gather(*(self._find(question, one, digits) for one, digits in decimals.items()))
        return [anchor for anchor in reversed(found) if anchor is not None][:MAX_ANCHORS]

    async def _find(self, question: PriceQuestion, token: str, decimals: int) -> Anchor | None:
        about = PriceQuestion(Asset(question.asset.chain_id, token), question.chain, decimals, question.now_ms)
        for source in self._sources:
            try:
                price = await source.price(about)
            except (PriceFault, Temporary):
                continue  # skip an anchor without a price; others may have one
            if price is not None:
                return Anchor(token, decimals, price)
        return None


def token_of(question: PriceQuestion) -> str | None:
    """The token that pools contain: for native coin its wrapped form; None if the chain has none."""
    return question.asset.token or question.network.wrapped_native


def best_price(question: PriceQuestion, source: str, pools: Sequence[Pool], floor_usd: Decimal) -> Price | None:
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


# The mid price of Uniswap V2 pools against a token with a known price.
#
# It is computed from the reserves: a quote would include the pool's fee and depend on the amount. Since anybody can
# move a pool's price temporarily, pools need a minimum liquidity (setting `dex_min_liquidity_usd`).


_GET_PAIR: Final = parse_function("getPair(address, address) view returns (address)")
_RESERVES: Final = parse_function("getReserves() view returns (uint112, uint112, uint32)")


class UniswapV2Prices:
    """Prices from the pools of each network's V2 factory."""

    name = "uniswap-v2"

    def __init__(self, anchors: Anchors, floor_usd: Decimal) -> None:
        self._anchors = anchors
        self._floor_usd = floor_usd

    async def price(self, question: PriceQuestion) -> Price | None:
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
            _pool_v2(pair, anchor, token, question.decimals, answer)
            for (pair, anchor), answer in zip(found, reserves, strict=True)
        ]
        return best_price(question, self.name, [pool for pool in pools if pool is not None], self._floor_usd)


def _pair(answer: CallResult) -> str | None:
    if not answer.is_success or len(answer.data) != 32:
        return None
    address = address_of_word(answer.data)
    return None if address == ZERO_ADDRESS else address


def _pool_v2(pair: str, anchor: Anchor, token: str, decimals: int, answer: CallResult) -> Pool | None:
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


# The current price of Uniswap V3 pools against a token with a known price.
#
# A pool's liquidity is the anchor's side of the liquidity in range at the current tick, at most the pool's balance of
# the anchor.


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

    async def price(self, question: PriceQuestion) -> Price | None:
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
            _pool_v3(pool, anchor, token, question.decimals, facts[3 * index : 3 * index + 3])
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


def _pool_v3(pool: str, anchor: Anchor, token: str, decimals: int, facts: Sequence[CallResult]) -> Pool | None:
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
