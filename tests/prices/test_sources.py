"""Every price source against a real node with real pools and feeds, and what makes each of them refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dustrun.chain.chains import Chains
from dustrun.core.evm.network import Network
from dustrun.core.money.prices import disagreement, middle
from dustrun.core.values.amounts import Asset
from dustrun.errors import Code, DustrunError, Invalid, Temporary
from dustrun.outbound.client import OutboundClient
from dustrun.sdk.chain import Price
from dustrun.services.prices import PriceBook, PriceMemory
from dustrun.settings import Settings
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.writer import Writer
from dustrun.storage.money import known_prices
from outbound.loopback import Seen, serving
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.contracts import ETHER, RICH, TOKENS, Witness, World

COIN = Asset(CHAIN_ID)
BARE: dict[str, Any] = {"test_coin_usd": None, "price_keep_ms": 0}


@pytest.fixture(scope="module")
def node(world: World) -> Iterator[Anvil]:
    with world.node() as found:
        yield found


@dataclass
class Market:
    """A node whose state is put back after the test, and price books on it."""

    node: Anvil
    witness: Witness
    network: Network
    http: OutboundClient
    opened: list[Chains]

    def book(
        self, settings: dict[str, Any] | None = None, memory: PriceMemory | None = None, **changes: Any
    ) -> PriceBook:
        """Prices on the network with some of its description changed."""
        chains = Chains({CHAIN_ID: self.network.model_copy(update=changes)}, Settings())
        self.opened.append(chains)
        return PriceBook.of(Settings(**{**BARE, **(settings or {})}), chains.get, self.http, memory)

    def only_pools(self, settings: dict[str, Any] | None = None, **changes: Any) -> PriceBook:
        """No feed but the coin's."""
        return self.book(settings, feeds=self.network.feeds[:1], **changes)

    def asset(self, name: str) -> Asset:
        return Asset(CHAIN_ID, self.witness.addresses[name])


@pytest.fixture
async def market(world: World, node: Anvil) -> AsyncIterator[Market]:
    before = node.snapshot()
    async with _client() as http:
        found = Market(node, world.witness(node), world.network(node.url), http, [])
        yield found
        for chains in found.opened:
            await chains.close()
    node.revert(before)


class _client:
    def __init__(self) -> None:
        self._http = OutboundClient(("127.0.0.1/32",), 2_000_000, 10)

    async def __aenter__(self) -> OutboundClient:
        await self._http.start()
        return self._http

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()


async def refusal(book: PriceBook, asset: Asset) -> str:
    """Why an asset is unpriced."""
    with pytest.raises(Invalid) as caught:
        await book.price(asset)
    assert caught.value.code is Code.UNPRICED
    assert "DUSTRUN_STATIC_PRICES" in caught.value.message
    assert asset.key in caught.value.message
    return caught.value.message


# --- feeds ---


async def test_a_feed_prices_the_coin_its_wrapped_form_and_tokens(market: Market) -> None:
    book = market.book()
    price = await book.price(COIN)
    assert (price.usd, price.source) == (Decimal(2500), "feed")
    assert price.detail == {"feed": market.witness.addresses["eth_usd"]}
    assert (await book.price(market.asset("weth"))).usd == 2500
    assert (await book.price(market.asset("wbtc"))).usd == 60_000
    assert (await book.value(market.asset("wbtc"))).decimals == 8


async def test_the_age_of_a_feed_is_counted_to_the_heartbeat(market: Market) -> None:
    now = market.witness.web3.eth.get_block("latest")["timestamp"]
    market.witness.send("eth_usd", "setAt", 2600 * 10**8, now + 10)
    market.node.rpc("evm_setNextBlockTimestamp", now + 10 + 86_400)
    market.node.mine()
    book = market.book(dex=market.network.dex.model_copy(update={"v2_factory": None, "v3_factory": None}))
    price = await book.price(COIN)
    assert (price.usd, price.age_ms, price.at_ms) == (Decimal(2600), 86_400_000, (now + 10) * 1000)
    market.node.rpc("evm_setNextBlockTimestamp", now + 11 + 86_400)
    market.node.mine()
    assert "86401 s old" in await refusal(book, COIN)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (("set", 0), "answers 0"),
        (("set", -5), "answers -5"),
        (("setAt", 2500 * 10**8, 0), "has not answered"),
        (("setStale", 1), "has not answered"),
        (("setDecimals", 18), "has 18 decimals, the network file says 8"),
    ],
)
async def test_a_feed_that_answers_nonsense_is_not_used(market: Market, call: tuple[Any, ...], why: str) -> None:
    market.witness.send("eth_usd", *call)
    book = market.book(dex=market.network.dex.model_copy(update={"v2_factory": None, "v3_factory": None}))
    assert why in await refusal(book, COIN)


async def test_what_is_no_feed_is_named(market: Market) -> None:
    feed = market.network.feeds[0].model_copy(update={"address": market.witness.addresses["multicall"]})
    nobody = feed.model_copy(update={"address": RICH})
    dex = market.network.dex.model_copy(update={"v2_factory": None, "v3_factory": None})
    assert "does not report its decimals" in (await refusal(market.book(feeds=(feed,), dex=dex), COIN))
    assert "does not report its decimals" in (await refusal(market.book(feeds=(nobody,), dex=dex), COIN))


async def test_feeds_of_an_l2_wait_for_the_sequencer(market: Market) -> None:
    dex = market.network.dex.model_copy(update={"v2_factory": None, "v3_factory": None})
    book = market.book(sequencer_feed=market.witness.addresses["sequencer"], dex=dex)
    now = market.witness.web3.eth.get_block("latest")["timestamp"]
    market.witness.send("sequencer", "setAt", 1, now - 10_000)
    assert "is down" in await refusal(book, COIN)
    market.witness.send("sequencer", "setAt", 0, now)
    assert "its feeds are used after an hour" in await refusal(book, COIN)
    market.node.mine(1, 3700)
    assert (await book.price(COIN)).usd == 2500


# --- pools ---


def near(price: Price, usd: float) -> bool:
    return abs(price.usd - Decimal(usd)) < Decimal(usd) / 1000


async def test_pools_price_what_has_no_feed(market: Market) -> None:
    book = market.only_pools()
    for name, usd in {"usdc": 1, "wbtc": 60_000, "fee": 250 / 99}.items():  # 1 % went when the pool was filled
        price = await book.price(market.asset(name))
        assert near(price, usd), (name, price)
        assert price.source == "uniswap-v2"
        assert price.detail["anchorSource"] == "feed"
    no_v2 = market.network.dex.model_copy(update={"v2_factory": None})
    price = await market.only_pools(dex=no_v2).price(market.asset("usdc"))
    assert near(price, 1)
    assert price.source == "uniswap-v3"


async def test_the_coin_is_priced_by_the_pools_of_its_wrapped_form(market: Market) -> None:
    feeds = tuple(feed for feed in market.network.feeds if feed.token == market.witness.addresses["usdc"])
    for dex, source in (({"v3_factory": None}, "uniswap-v2"), ({"v2_factory": None}, "uniswap-v3")):
        book = market.book(feeds=feeds, dex=market.network.dex.model_copy(update=dex))
        price = await book.price(COIN)
        assert near(price, 2500)
        assert price.source == source


async def test_a_thin_pool_is_not_used(market: Market) -> None:
    deep = {"dex_min_liquidity_usd": "25001"}  # the pool of FEE holds 10 WETH
    assert "holds 25000.00 USD" in await refusal(market.only_pools(deep), market.asset("fee"))
    assert near(await market.only_pools({"dex_min_liquidity_usd": "25000"}).price(market.asset("fee")), 250 / 99)
    dex = market.network.dex.model_copy(update={"v2_factory": None})
    assert "below dex_min_liquidity_usd" in await refusal(
        market.only_pools({"dex_min_liquidity_usd": "10000000"}, dex=dex), market.asset("usdc")
    )


async def test_a_pool_that_was_moved_disagrees_and_the_median_stands(market: Market) -> None:
    before = await market.book().survey(market.asset("usdc"))
    assert [price.source for price in before.prices] == ["feed", "uniswap-v2", "uniswap-v3"]
    assert before.warning is None
    path, late = [market.witness.addresses["weth"], market.witness.addresses["usdc"]], 2**40
    market.witness.send("v2_router", "swapExactETHForTokens", 0, path, RICH, late, value=20 * ETHER)
    survey = await market.book().survey(market.asset("usdc"))
    v2 = next(price for price in survey.prices if price.source == "uniswap-v2")
    assert v2.usd > Decimal("1.3")
    assert survey.warning is not None
    assert "disagree by 43 %" in survey.warning
    assert near(survey.for_dust, 1)
    assert survey.for_dust.source != "uniswap-v2"


async def test_what_a_policy_counts_is_in_doubt_if_sources_disagree(market: Market) -> None:
    usdc, fixed = market.asset("usdc"), {"static_prices": {market.asset("usdc").key: "1"}}
    assert (await market.book().value(usdc)).doubt is None
    path, late = [market.witness.addresses["weth"], market.witness.addresses["usdc"]], 2**40
    market.witness.send("v2_router", "swapExactETHForTokens", 0, path, RICH, late, value=20 * ETHER)
    found = await market.book().value(usdc)
    assert found.price.source == "feed"
    assert "disagree by 43 %" in (found.doubt or "")
    assert (await market.book(fixed).value(usdc)).doubt is None, "the operator's price is not in doubt"


async def test_a_lone_price_that_leaps_is_in_doubt_and_not_kept(market: Market) -> None:
    told = ["1", "0.000000001", "19"]
    async with serving(lambda _: web.json_response({"usd": told[0]})) as server:
        settings = {"price_url": server.url, "price_keep_ms": 0}
        book = market.book(settings, feeds=(), dex=type(market.network.dex)())
        assert (await book.value(COIN)).doubt is None
        told.pop(0)
        for _ in range(2):
            found = await book.value(COIN)
            assert "0.000000001 USD, and the price before was 1 USD" in (found.doubt or "")
        simulated = await book.on(market.opened[-1].get).value(COIN)
        assert simulated.doubt == found.doubt, "the same in a simulation"
        told.pop(0)
        assert (await book.value(COIN)).doubt is None


async def test_a_lone_price_cannot_walk(market: Market) -> None:
    """Each step is small enough by itself; what later ones are held against follows only after hours."""
    told = ["2500"]
    async with serving(lambda _: web.json_response({"usd": told[0]})) as server:
        settings = {"price_url": server.url, "price_keep_ms": 0}
        changes: dict[str, Any] = {"feeds": (), "dex": type(market.network.dex)()}
        steady, short = [market.book(settings, memory, **changes) for memory in (None, PriceMemory(steady_s=0))]
        doubts = []
        for told[0] in ("2500", "130", "7"):
            doubts.append([(await book.value(COIN)).doubt for book in (steady, short)])
        assert doubts[:2] == [[None, None]] * 2
        for doubt in doubts[2]:
            assert "7 USD, and the price before was 2500 USD" in (doubt or ""), "the newest one never follows at once"
        for told[0] in ("130", "7"):
            doubts.append([(await book.value(COIN)).doubt for book in (steady, short)])
        assert doubts[3] == [None, None]
        assert doubts[4][0] is not None, "for hours"
        assert doubts[4][1] is None, "130 has waited long enough"


async def test_a_leap_is_seen_after_a_restart_and_what_a_simulation_sees_is_its_own(
    market: Market, tmp_path: Path
) -> None:
    told = ["1"]
    database = Database(f"sqlite:///{tmp_path / 'dustrun.db'}")
    migrate.upgrade(database)
    writer = Writer(database)
    writer.start()

    def book() -> PriceBook:
        """As a process that starts has it."""
        changes: dict[str, Any] = {"feeds": (), "dex": type(market.network.dex)()}
        settings = {"price_url": server.url, "price_keep_ms": 0}
        return market.book(settings, memory=PriceMemory(database, writer, steady_s=0), **changes)

    try:
        async with serving(lambda _: web.json_response({"usd": told[0]})) as server:
            first = book()
            assert (await first.value(COIN)).doubt is None
            told[0] = "1.05"
            for _ in range(2):  # the second one follows the first
                assert (await first.value(COIN)).doubt is None
            assert await database.read(lambda tx: known_prices.find(tx, COIN.key)) == (Decimal(1), True), (
                "little apart: not written"
            )
            told[0] = "19"
            simulated = first.on(market.opened[-1].get)
            assert (await simulated.value(COIN)).doubt is None
            assert await database.read(lambda tx: known_prices.find(tx, COIN.key)) == (Decimal(1), True), (
                "a simulation keeps nothing"
            )
            told[0] = "30"
            assert "the price before was 1.05 USD" in ((await first.value(COIN)).doubt or "")
            again = await book().value(COIN)
            assert "30 USD, and the price before was 1 USD" in (again.doubt or "")
            told[0], last = "2", book()
            for kept in (1, 2):
                assert (await last.value(COIN)).doubt is None
                assert await database.read(lambda tx: known_prices.find(tx, COIN.key)) == (Decimal(kept), True)
    finally:
        await writer.stop()
        database.close()


async def test_a_first_price_that_nothing_confirms_is_in_doubt(market: Market, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'dustrun.db'}")
    migrate.upgrade(database)
    writer = Writer(database)
    writer.start()
    alone: dict[str, Any] = {"feeds": (), "dex": type(market.network.dex)(), "is_testnet": False}

    def book(**changes: Any) -> PriceBook:
        """As a process that starts has it."""
        settings = {"price_url": server.url, "price_keep_ms": 0}
        return market.book(settings, memory=PriceMemory(database, writer, steady_s=0), **{**alone, **changes})

    try:
        async with serving(lambda _: web.json_response({"usd": "2500"})) as server:
            assert not (await book(is_testnet=True).value(COIN)).is_first, "worth nothing anyway"
            first = book()
            for lone in (first, first, first, book()):
                found = await lone.value(COIN)
                assert "Only the source http prices" in (found.doubt or ""), "however often it says so"
                assert found.is_first
            simulated = first.on(market.opened[-1].get)
            assert (await simulated.value(COIN)).is_first
            confirmed = book(feeds=market.network.feeds[:1])
            assert (await confirmed.value(COIN)).doubt is None, "two sources agree"
            for later in (confirmed, book(), simulated.on(market.opened[-1].get)):
                assert not (await later.value(COIN)).is_first
    finally:
        await writer.stop()
        database.close()


async def test_tokens_of_all_decimals_are_priced_by_their_pools(market: Market) -> None:
    witness = market.witness
    for name in ("cents", "whole", "fine"):
        for token in (name, "weth"):
            witness.send(token, "approve", witness.addresses["v2_router"], 2**255)
        amounts = (500 * 10 ** TOKENS[name], 5 * ETHER)
        pair = (witness.addresses[name], witness.addresses["weth"])
        witness.send("v2_router", "addLiquidity", *pair, *amounts, 0, 0, RICH, 2**40)
        assert (await market.only_pools().price(market.asset(name))).usd == 25


# --- static, HTTP, nominal ---


async def test_a_static_price_wins_and_is_compared(market: Market) -> None:
    book = market.book({"static_prices": {COIN.key: "2000.5"}})
    price = await book.price(market.asset("weth"))
    assert (price.usd, price.source, price.age_ms) == (Decimal("2000.5"), "static", 0)
    survey = await book.survey(COIN)
    assert survey.for_dust.source == "static"
    assert survey.warning is not None
    assert "static says 2000.5 USD" in survey.warning


async def test_an_http_source_is_asked_by_url_and_path(market: Market) -> None:
    dai = market.asset("dai")
    assert dai.token is not None
    answers: dict[str, Any] = {
        f"/31337/{dai.token.lower()}": {"data": {dai.token: {"usd": "0.99970000000000000001"}}},
        "/31337/0x0000000000000000000000000000000000000000": {"data": {"0x" + "0" * 40: {"usd": 2499.25}}},
    }

    def answer(seen: Seen) -> web.Response:
        found = answers.get(seen.path)
        return web.json_response(found) if found is not None else web.Response(status=404)

    async with serving(answer) as server:
        url = {"price_url": server.url + "/{chainId}/{address}", "price_path": "data.{address}.usd"}
        book = market.book(
            url, feeds=(), dex=market.network.dex.model_copy(update={"v2_factory": None, "v3_factory": None})
        )
        price = await book.price(dai)
        assert (price.usd, price.source) == (Decimal("0.99970000000000000001"), "http")
        assert (await book.price(COIN)).usd == Decimal("2499.25")
        await refusal(book, market.asset("whole"))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"usd": 0}', "no positive price"),
        ('{"usd": "-1"}', "no positive price"),
        ('{"usd": "NaN"}', "no positive price"),
        ('{"usd": "1_5"}', "no positive price"),
        ('{"usd": true}', "no positive price"),
        ('{"usd": {"a": 1}}', "no positive price"),
        ('{"eur": 1}', 'nothing at "usd"'),
        ("[1]", 'nothing at "usd"'),
        ("<html>", "not JSON"),
    ],
)
async def test_an_http_source_that_answers_nonsense_is_not_used(market: Market, body: str, why: str) -> None:
    async with serving(lambda _: web.Response(text=body)) as server:
        book = market.book({"price_url": server.url}, feeds=(), dex=type(market.network.dex)())
        assert why in await refusal(book, COIN)


async def test_an_http_source_that_is_down_is_temporary(market: Market) -> None:
    statuses = [503, 200]
    answers = lambda _: web.json_response({"usd": 5}, status=statuses.pop(0))  # noqa: E731
    async with serving(answers) as server:
        book = market.book({"price_url": server.url, "price_keep_ms": 60_000}, feeds=(), dex=type(market.network.dex)())
        with pytest.raises(Temporary):
            await book.price(COIN)
        assert (await book.price(COIN)).usd == 5  # a failure that passes is not kept
        assert (await book.price(COIN)).usd == 5
    with pytest.raises(Temporary):
        await market.book({"price_url": server.url}, feeds=(), dex=type(market.network.dex)()).price(COIN)


async def test_a_private_address_is_asked_only_when_the_operator_allows_it(market: Market) -> None:
    closed = OutboundClient((), 1_000_000, 10)
    await closed.start()
    chains = Chains(
        {CHAIN_ID: market.network.model_copy(update={"feeds": (), "dex": type(market.network.dex)()})}, Settings()
    )
    market.opened.append(chains)
    book = PriceBook.of(Settings(**BARE, price_url="http://127.0.0.1:9/"), chains.get, closed)
    assert "cannot be used" in await refusal(book, COIN)
    await closed.close()


async def test_the_coin_of_a_test_network_counts_as_something(market: Market) -> None:
    none = type(market.network.dex)()
    book = market.book({"test_coin_usd": "1800"}, feeds=(), dex=none)
    price = await book.price(market.asset("weth"))
    assert (price.usd, price.source) == (Decimal(1800), "nominal")
    assert (await book.price(COIN)).usd == 1800
    await refusal(book, market.asset("usdc"))  # a token there needs a source
    await refusal(market.book({"test_coin_usd": "0"}, feeds=(), dex=none), COIN)
    real = market.book({"test_coin_usd": "1800"}, feeds=(), dex=none, is_testnet=False)
    await refusal(real, COIN)
    with_pools = market.book({"test_coin_usd": "1800"}, feeds=())
    assert (await with_pools.price(market.asset("usdc"))).source == "uniswap-v2"
    assert (await with_pools.survey(COIN)).for_dust.source == "nominal"


# --- the book itself ---


async def test_prices_are_kept_for_a_while_and_so_is_their_absence(world: World, anvil: Anvil) -> None:
    chains = Chains({CHAIN_ID: world.network(anvil.url)}, Settings())
    async with _client() as http:
        book = PriceBook.of(Settings(test_coin_usd=None, price_keep_ms=60_000), chains.get, http)
        whole = Asset(CHAIN_ID, world["whole"])
        first = await book.price(COIN)
        await refusal(book, whole)
        anvil.stop()
        assert await asyncio.gather(*(book.price(COIN) for _ in range(5))) == [first] * 5
        await refusal(book, whole)
        with pytest.raises(Temporary):
            await book.on(chains.get).price(COIN)
    await chains.close()


async def test_tokens_that_lie_about_their_decimals_are_refused(market: Market) -> None:
    tokens = tuple(token.model_copy(update={"decimals": 18}) for token in market.network.tokens)
    with pytest.raises(Invalid, match="has 6 decimals, but the file of Test chain says 18"):
        await market.book(tokens=tokens).price(market.asset("usdc"))
    with pytest.raises(Invalid, match="is not an ERC-20"):
        await market.book().price(Asset(CHAIN_ID, market.witness.addresses["zoo"]))
    with pytest.raises(DustrunError):
        await market.book().price(Asset(2))


def test_the_median_of_an_even_number_is_the_higher_and_agreement_ends_at_five_percent() -> None:
    assert [middle([Decimal(x) for x in xs]) for xs in ([3], [1, 2], [5, 1, 3], [4, 1, 3, 2])] == [0, 1, 2, 2]
    assert disagreement([("a", Decimal("1")), ("b", Decimal("1.05"))]) is None
    assert disagreement([("a", Decimal("1")), ("b", Decimal("1.0501"))]) is not None
    assert disagreement([("a", Decimal("1"))]) is None


async def test_decimals_that_change_are_read_again_with_the_price(market: Market) -> None:
    """A token that no file lists: what a whole one is follows its own word, and is not remembered from before."""
    witness, book = market.witness, market.book()
    token = witness.deploy("usdc", "Shifting", "SHIFT", 24)
    asset = Asset(CHAIN_ID, token)
    assert await book.decimals(asset) == 24
    other = witness.deploy("usdc", "Six", "SIX", 6)
    market.node.rpc("anvil_setCode", token, market.node.rpc("eth_getCode", other, "latest"))
    assert await book.decimals(asset) == 6
