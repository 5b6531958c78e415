"""Thirty assets for the proof of dust: tokens of all decimals and prices, each priced by one source, on a real node."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dustrun.core.evm.network import Feed, Network
from testkit.chain import contracts
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, RICH, USD_PER_ETHER, Witness, World

OWNER = ACCOUNTS[1]
SOURCES = ("static", "feed", "http", "uniswap-v2", "uniswap-v3")
FEED_DECIMALS = 18
_POOL_USD = 50_000
_MOST = 2**110  # what a pool of V2 can hold, and some room


@dataclass(frozen=True)
class AssetUnderTest:
    """A token that the owner has plenty of; `usd` is the price that its source was made to say."""

    name: str
    address: str
    decimals: int
    usd: Decimal
    source: str

    @property
    def unit_usd(self) -> Fraction:
        """What one base unit is worth."""
        worth: Fraction = Fraction(self.usd) / 10**self.decimals
        return worth


class PriceServer:
    """An HTTP source: prices by address, whatever a test put there."""

    def __init__(self) -> None:
        self.prices: dict[str, Any] = {}
        prices = self.prices

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = prices.get(self.path.rpartition("/")[2])
                body = json.dumps({"usd": found}).encode()
                self.send_response(200 if found is not None else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/{{address}}"

    def stop(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


class Market:
    """The assets with everything that prices them."""

    def __init__(self, world: World, witness: Witness, chance: random.Random) -> None:
        self.witness = witness
        self.web = PriceServer()
        self.assets: list[AssetUnderTest] = []
        self.static: dict[str, str] = {}
        self.feeds: list[Feed] = []
        self._world = world
        self._chance = chance

    def close(self) -> None:
        """Ends its source of prices, and forgets the names of its contracts."""
        self.web.stop()
        for name in [*(asset.name for asset in self.assets), *(f"feed{place}" for place in range(len(self.feeds)))]:
            contracts._OWN.pop(name, None)

    def build(self) -> None:
        """Decimals 0 to 24 and five more, prices 1e-12 to 1e6; the sources take turns where they can."""
        for place in range(30):
            decimals = place if place < 25 else (0, 6, 8, 18, 24)[place - 25]
            exponent = -12 + place * 7 % 19
            usd = (Decimal(self._chance.randint(1_000_000, 9_999_999)) / 10**6).scaleb(exponent)
            usd = min(usd, Decimal(10) ** 6)
            wanted = SOURCES[place % len(SOURCES)]
            source = wanted if not wanted.startswith("uniswap") or _fits(decimals, usd) else SOURCES[place % 3]
            self.assets.append(self.make(f"asset{place}", decimals, usd, source))

    def make(self, name: str, decimals: int, usd: Decimal, source: str) -> AssetUnderTest:
        """A token, minted to the owner, and what its source says."""
        address = self.token(name, decimals)
        if source == "static":
            self.static[f"eip155:{CHAIN_ID}/erc20:{address}"] = f"{usd:f}"
        elif source == "http":
            self.web.prices[address.lower()] = f"{usd:f}"
        elif source == "feed":
            self.feed(address, int(usd.scaleb(FEED_DECIMALS)))
        else:
            self._pool(name, decimals, usd, source)
        return AssetUnderTest(name, address, decimals, usd, source)

    def token(self, name: str, decimals: int) -> str:
        """A token of which the owner has more than any amount of the proof."""
        contracts._OWN[name] = ("Token", (name, name.upper(), decimals))
        address = self.witness.deploy(name, name, name.upper(), decimals)
        self.witness.addresses[name] = address
        self.witness.send(name, "mint", OWNER, 10**48)
        return address

    def feed(self, token: str, answer: int) -> str:
        """A feed of a token; gives the feed's name."""
        name = f"feed{len(self.feeds)}"
        contracts._OWN[name] = ("Feed", (FEED_DECIMALS, answer))
        self.witness.addresses[name] = self.witness.deploy(name, FEED_DECIMALS, answer)
        described = {"address": self.witness.addresses[name], "token": token, "heartbeat_s": 10**6}
        self.feeds.append(Feed(**described, decimals=FEED_DECIMALS))
        return name

    def _pool(self, name: str, decimals: int, usd: Decimal, source: str) -> None:
        wrapped = ETHER * _POOL_USD // USD_PER_ETHER
        self.pool(name, _pool_units(decimals, usd), wrapped, source)

    def pool(self, name: str, units: int, wrapped_units: int, source: str) -> None:
        """A pool of the token and WETH."""
        self.witness.send(name, "mint", RICH, units)
        self.witness.send("weth", "deposit", value=wrapped_units)
        router = "v2_router" if source == "uniswap-v2" else "v3_positions"
        for token in (name, "weth"):
            self.witness.send(token, "approve", self.witness.addresses[router], 2**256 - 1)
        parts = ((name, units), ("weth", wrapped_units))
        if source == "uniswap-v2":
            contracts._add_v2(self.witness, *parts)
        else:
            contracts._add_v3(self.witness, 3000, *parts)

    def network(self, url: str) -> Network:
        """The chain with the feeds of this market."""
        plain = self._world.network(url)
        return plain.model_copy(update={"feeds": (plain.feeds[0], *self.feeds), "confirmations": 1})


def _pool_units(decimals: int, usd: Decimal) -> int:
    return int(Fraction(_POOL_USD) / Fraction(usd) * 10**decimals)


def _fits(decimals: int, usd: Decimal) -> bool:
    """Whether a pool can hold enough whole units of it, so that its price is exact to a thousandth."""
    return 10**4 <= _pool_units(decimals, usd) <= _MOST


@contextmanager
def open_market(world: World, witness: Witness, seed: int, *, is_small: bool = False) -> Iterator[Market]:
    """A market, built: of all assets, or of the two that calls of contracts need."""
    market = Market(world, witness, random.Random(seed))
    try:
        if is_small:
            market.assets = [
                market.make(f"asset{place}", 8 + place, Decimal(place + 1) / 3, "static") for place in (0, 1)
            ]
        else:
            market.build()
        yield market
    finally:
        market.close()
