"""Asset prices from all sources in order of precedence, cached for a few seconds, including "unknown".

Order: static, feed, Uniswap V2, Uniswap V3, HTTP, and a nominal price for testnet coins. Limits use the first source
that
has a price; dust uses the median of all, unless the operator set the price.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

from dustrun import clock
from dustrun.core.money.prices import disagreement, middle
from dustrun.core.money.tokens import find_known
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.errors import Code, DustrunError, Invalid, Problem, Temporary
from dustrun.prices.feed import FeedPrices
from dustrun.prices.pools import Anchors, UniswapV2Prices, UniswapV3Prices
from dustrun.prices.source import PriceFault, PriceQuestion, Source
from dustrun.prices.static import NominalPrices, StaticPrices
from dustrun.prices.web import WebPrices
from dustrun.records import dataclass
from dustrun.sdk.chain import Chain, ChainCall, Price, PriceSource
from dustrun.sdk.context import Http
from dustrun.services.wallets.budget import AssetValue
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.writer import Writer
from dustrun.storage.money import known_prices as rows

T = TypeVar("T")
ChainOf = Callable[[int], Chain]
_DECIMALS: Final = bytes.fromhex("313ce567")  # decimals()
_SOURCE_WITHIN_S: Final = 15.0
_MAX_KEPT: Final = 10_000
_KEPT_APART: Final = 10
"""A price is stored anew if it differs by more than this part of the stored one."""
_STEADY_S: Final = 12 * 3600.0
"""How long the price of one source alone waits until later ones are held against it."""
_NAMED: Final[Mapping[PriceSource, frozenset[str]]] = {
    "static": frozenset({"static", "nominal"}),
    "feed": frozenset({"feed"}),
    "dex": frozenset({"uniswap-v2", "uniswap-v3"}),
    "http": frozenset({"http"}),
}


@dataclass(frozen=True, slots=True)
class Survey:
    """All prices of one asset, in order of precedence; `faults` says which sources failed and why."""

    asset: Asset
    decimals: int
    prices: tuple[Price, ...]
    faults: tuple[str, ...]
    leap_from: Decimal | None = None  # the price kept, if one source alone differs from it too much
    is_first: bool = False  # one source alone has ever named it

    @property
    def warning(self) -> str | None:
        """A warning if the sources disagree."""
        return disagreement([(price.source, price.usd) for price in self.prices if price.source != "nominal"])

    @property
    def doubt(self) -> str | None:
        """Why a person must look at what depends on the price. What the operator sets is not in doubt."""
        if self.prices[0].source == "static":
            return None
        if self.leap_from is not None:
            return self.tell_leap(self.leap_from)
        return self._tell_first() if self.is_first else self.warning

    def _tell_first(self) -> str:
        price = self.for_dust
        return (
            f"Only the source {price.source} prices {self.asset.key}: {price.usd:f} USD, and neither another source "
            "nor static_prices confirms it"
        )

    def tell_leap(self, before: Decimal) -> str:
        """The leap in words."""
        price = self.for_dust
        return (
            f"Only the source {price.source} prices {self.asset.key}: {price.usd:f} USD, and the price before was "
            f"{before:f} USD. That differs too much (price_max_leap)"
        )

    @property
    def for_dust(self) -> Price:
        """The price for dust: the operator's, else the median; a nominal price only if there is no other."""
        usable = [price for price in self.prices if price.source != "nominal"] or list(self.prices)
        if usable[0].source == "static":
            return usable[0]
        return usable[middle([price.usd for price in usable])]


class PriceMemory:
    """The price of each asset against which a leap is seen, steady for hours: if each price that leaps too little were
    the next one's measure, a source could walk to any price in a few steps. Stored where there is a store, so that a
    restart forgets none; a price that differs little from the stored one is not written."""

    def __init__(
        self, database: Database | None = None, writer: Writer | None = None, steady_s: float = _STEADY_S
    ) -> None:
        self._database = database
        self._writer = writer
        self._steady_s = steady_s
        self._steady: dict[str, Decimal] = {}
        self._next: dict[str, tuple[Decimal, float]] = {}  # what follows, and since when it waits
        self._stored: dict[str, Decimal] = {}
        self._lone: set[str] = set()  # what no second source has confirmed

    async def find(self, asset: str) -> Decimal | None:
        """The price that later ones are held against; None before the first."""
        if (asset not in self._steady or asset in self._lone) and self._database is not None:
            found = await self._database.look_up(lambda tx: rows.find(tx, asset))
            if found is not None:
                self._stored[asset], is_lone = found
                self._steady.setdefault(asset, found[0])
                (self._lone.add if is_lone else self._lone.discard)(asset)  # another server may have confirmed it
        return self._steady.get(asset)

    def is_lone(self, asset: str) -> bool:
        """Whether one source alone has named the price that is kept, and nothing has confirmed it since."""
        return asset in self._lone

    async def keep(self, asset: str, usd: Decimal, *, is_sure: bool) -> None:
        """Keeps a credible price: at once if it `is_sure`, or the first. Else it waits, and the one that has waited
        long enough follows: never the newest one, which may have leapt a moment ago."""
        now = clock.monotonic_s()
        waiting = self._next.get(asset)
        before = await self.find(asset)
        if is_sure or before is None:
            follower: Decimal | None = usd
        elif waiting is None:
            follower = None
        elif now - waiting[1] < self._steady_s:
            return
        else:
            follower = waiting[0]
        self._next[asset] = (usd, now)
        if follower is not None:
            await self._hold(asset, follower, is_lone=not is_sure and (before is None or asset in self._lone))

    async def _hold(self, asset: str, usd: Decimal, *, is_lone: bool) -> None:
        if len(self._steady) >= _MAX_KEPT:
            for kept in (self._steady, self._next, self._stored):
                kept.clear()
            self._lone.clear()
        self._steady[asset] = usd
        is_confirmed = asset in self._lone and not is_lone
        (self._lone.add if is_lone else self._lone.discard)(asset)
        stored = self._stored.get(asset)
        is_near = stored is not None and abs(usd - stored) * _KEPT_APART <= stored
        if self._writer is not None and (is_confirmed or not is_near):
            self._stored[asset] = usd
            at = clock.now_ms()
            await self._writer.write(lambda tx: rows.save(tx, asset, usd, at, is_lone=is_lone), repeatable=True)

    def copy(self) -> PriceMemory:
        """Prices that a simulation keeps for itself: those that its own spends made are nobody else's."""
        return _Copied(self)


class _Copied(PriceMemory):
    def __init__(self, real: PriceMemory) -> None:
        super().__init__()
        self._real = real

    async def find(self, asset: str) -> Decimal | None:
        own = self._steady.get(asset)
        return await self._real.find(asset) if own is None else own

    def is_lone(self, asset: str) -> bool:
        return super().is_lone(asset) if asset in self._steady else self._real.is_lone(asset)


class PriceBook:
    """Prices on the chains from `chain_of`: live chains, or those of one simulation (see `on`)."""

    def __init__(
        self,
        chain_of: ChainOf,
        sources: Sequence[Source],
        keep_ms: int,
        max_leap: int = 20,
        memory: PriceMemory | None = None,
    ) -> None:
        self._chain_of = chain_of
        self._sources = sources
        self._keep_s = keep_ms / 1000
        self._kept: dict[tuple[str, str], tuple[float, asyncio.Future[object]]] = {}
        self._max_leap = max_leap
        self._is_past = False
        self._now: PriceBook | None = None  # of a simulation: the live prices
        self._memory = PriceMemory() if memory is None else memory

    @classmethod
    def of(cls, settings: Settings, chain_of: ChainOf, http: Http, memory: PriceMemory | None = None) -> PriceBook:
        """Creates the price book with the sources from the settings."""
        static, feed = StaticPrices(settings.static_prices), FeedPrices()
        web, nominal = WebPrices(http, settings.price_url, settings.price_path), NominalPrices(settings.test_coin_usd)
        anchors, floor = Anchors([static, feed, nominal]), Decimal(settings.dex_min_liquidity_usd)
        v2, v3 = UniswapV2Prices(anchors, floor), UniswapV3Prices(anchors, floor)
        sources: list[Source] = [static, feed, v2, v3, web, nominal]
        return cls(chain_of, sources, settings.price_keep_ms, settings.price_max_leap, memory)

    def on(self, chain_of: ChainOf, *, is_past: bool = False) -> PriceBook:
        """The same sources on other chains, with a separate cache. `is_past`: the time of the chain's block alone
        decides what is stale."""
        memory = None if is_past else self._memory.copy()
        book = PriceBook(chain_of, self._sources, int(self._keep_s * 1000), self._max_leap, memory)
        book._is_past = is_past
        if not is_past:
            book._now = self
        return book

    async def price(self, asset: Asset, source: PriceSource | None = None) -> Price:
        """The price from the first source that has one, or from `source` alone; raises `Invalid` (`UNPRICED`) if none
        has, and `Temporary` if a source that might have one is unreachable."""
        if source is None:
            return await self._once("price", asset, self._first_price)
        named = [one for one in self._sources if one.name in _NAMED[source]]
        return await self._once(f"price {source}", asset, partial(self._first_price, sources=named))

    async def value(self, asset: Asset, *, surveys: bool = True) -> AssetValue:
        """The asset's price and decimals, and if it `surveys` all sources, which takes many requests, why the price may
        be wrong: sources that disagree, or a leap. What has none but a nominal price in a simulation, for instance
        because its clock is ahead of a feed, has the live one."""
        try:
            found = AssetValue(await self.price(asset), await self.decimals(asset))
            if surveys and found.price.source not in ("static", "nominal"):
                survey = await self.survey(asset)
                found = replace(found, price=survey.prices[0], doubt=survey.doubt, is_first=survey.is_first)
            if self._now is None or found.price.source != "nominal":
                return found
        except DustrunError:
            if self._now is None:
                raise
        return await self._now.value(asset, surveys=surveys)

    async def survey(self, asset: Asset) -> Survey:
        """The prices of all sources; raises like `price`."""
        return await self._once("survey", asset, self._ask_all)

    async def decimals(self, asset: Asset) -> int:
        """The asset's decimals, cached as long as its price, because a token can change them.

        Raises `Invalid` if it is not a token or the network file has different decimals."""
        if asset.token is None:
            return self._chain_of(asset.chain_id).network.native.decimals
        return await self._once("decimals", asset, self._read_decimals)

    async def _once(self, kind: str, asset: Asset, ask: Callable[[Asset], Awaitable[T]]) -> T:
        """Asks once per asset at a time and caches the answer, and that there is no price; other errors are not cached,
        because a token may be created at any time."""
        if asset.token is not None:
            asset = Asset(asset.chain_id, checksum(asset.token))
        key, now = (kind, asset.key), clock.monotonic_s()
        kept = self._kept.get(key)
        if kept is None or now >= kept[0] + self._keep_s or _is_spoilt(kept[1]):
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            future: asyncio.Future[object] = asyncio.ensure_future(_awaited(ask(asset)))
            self._kept[key] = kept = (now, future)
        answer = await asyncio.shield(kept[1])
        return answer  # type: ignore[return-value]  # what `ask` gave under this kind

    async def _read_decimals(self, asset: Asset) -> int:
        assert asset.token is not None
        return await _read_decimals(self._chain_of(asset.chain_id), asset.token)

    async def _first_price(self, asset: Asset, sources: Sequence[Source] | None = None) -> Price:
        question = await self._question(asset)
        found, faults, broken = [], [], None
        for source in self._sources if sources is None else sources:
            answer = await _ask(source, question)
            if isinstance(answer, Price):
                found.append(answer)
                break
            if answer is not None:
                faults.append(f"{source.name}: {answer}")
                broken = answer if isinstance(answer, Temporary) else broken
        if found:
            return found[0]
        raise _unpriced(asset, faults, broken)

    async def _ask_all(self, asset: Asset) -> Survey:
        question = await self._question(asset)
        answers = await asyncio.gather(*(_ask(source, question) for source in self._sources))
        prices = tuple(answer for answer in answers if isinstance(answer, Price))
        said = zip(self._sources, answers, strict=True)
        faults = tuple(f"{source.name}: {one}" for source, one in said if isinstance(one, Exception))
        if not prices:
            raise _unpriced(asset, faults, next((one for one in answers if isinstance(one, Temporary)), None))
        found = Survey(asset, question.decimals, prices, faults)
        leap_from, chain = await self._leap(found), self._chain_of(asset.chain_id)
        is_judged = leap_from is None and found.warning is None and not self._is_past and not chain.network.is_testnet
        return replace(found, leap_from=leap_from, is_first=is_judged and self._memory.is_lone(asset.key))

    async def _leap(self, survey: Survey) -> Decimal | None:
        """The credible price kept if one source alone says another one that differs too much; else that one is kept.
        Sources that agree are believed, and so is what the operator sets."""
        key, price = survey.asset.key, survey.for_dust
        before = await self._memory.find(key)
        real = [one.source for one in survey.prices if one.source != "nominal"]
        alone = real != [] and price.source != "static" and (len(real) == 1 or survey.warning is not None)
        if alone and before is not None and not before <= price.usd * self._max_leap <= before * self._max_leap**2:
            return before
        if real:
            await self._memory.keep(key, price.usd, is_sure=not alone)
        return None

    async def _question(self, asset: Asset) -> PriceQuestion:
        chain = self._chain_of(asset.chain_id)
        decimals, block = await asyncio.gather(self.decimals(asset), chain.block())
        there = block.time * 1000
        has_own_clock = self._is_past or chain.network.is_local
        return PriceQuestion(asset, chain, decimals, there if has_own_clock else max(there, clock.now_ms()))


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer


def _is_spoilt(future: asyncio.Future[object]) -> bool:
    if not future.done():
        return False
    error = None if future.cancelled() else future.exception()
    is_unpriced = isinstance(error, Invalid) and error.code is Code.UNPRICED
    return future.cancelled() or (error is not None and not is_unpriced)


async def _ask(source: Source, question: PriceQuestion) -> Price | PriceFault | Temporary | None:
    """A source's price, or the reason why it cannot be used, or None if it does not cover the asset."""
    try:
        async with asyncio.timeout(_SOURCE_WITHIN_S):
            return await source.price(question)
    except (PriceFault, Temporary) as fault:
        return fault
    except TimeoutError:
        return Temporary(f"The price source {source.name} did not answer within {_SOURCE_WITHIN_S:.0f} s.")
    except DustrunError as error:
        return PriceFault(error.message)


async def _read_decimals(chain: Chain, token: str) -> int:
    answer = (await chain.call_many([ChainCall(token, _DECIMALS)]))[0]
    found = int.from_bytes(answer.data[:32]) if answer.is_success and len(answer.data) >= 32 else 256
    if found > 77:
        raise Invalid(f"{token} on {chain.network.name} is not an ERC-20 token: it does not answer decimals().")
    known = find_known(chain.network, token)
    if known is not None and known.decimals != found:
        raise Invalid(
            f"{token} has {found} decimals, but the file of {chain.network.name} says {known.decimals}: fix the file."
        )
    return found


def _unpriced(asset: Asset, faults: Sequence[str], broken: Temporary | None) -> DustrunError:
    if broken is not None:
        return Temporary(f"No source could price {asset.key} now: {'; '.join(faults)}")
    why = f" ({'; '.join(faults)})" if faults else ""
    hint = f'set static_prices, like DUSTRUN_STATIC_PRICES=\'{{"{asset.key}": "1.00"}}\', or price_url'
    details = [Problem("asset", fault, "UNPRICED") for fault in faults]
    return Invalid(f"UNPRICED: no source prices {asset.key}{why}; {hint}.", code=Code.UNPRICED, details=details)
