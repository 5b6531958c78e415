"""Dust tests of thirty assets through a live server, on a real node: what was really spent, by balances.

    scripts/soak dust [--scale ROUNDS] [--seed S]

Each round sends and approves dust of every asset (decimals 0 to 24, prices 1e-12 to 1e6 USD, each priced by one source)
with amounts of chance. What is expected is computed anew here. Then every refusal: nothing may be signed; and calls of
real contracts with declared amounts. Allowances may never be lower than before, no spend worth more than 5 × and no
run worth more than 100 × dust_usd.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import requests

from bench.dust_contracts import ContractCalls
from bench.dust_market import OWNER, AssetUnderTest, Market, open_market
from dustrun.core.values.addresses import checksum
from testkit.chain.anvil import CHAIN_ID, KEYS, Anvil
from testkit.chain.contracts import ETHER, MAX, Witness, World, build
from testkit.server_process import ServerProcess

SHOP, SPENDER = (checksum(f"0x{place:040x}") for place in (0xD0057, 0xD0058))
DUST, SPEND_CAP, RUN_CAP = Fraction(1, 100), Fraction(5, 100), Fraction(1)
_POLICY = {
    **{name: ["*"] for name in ("chains", "assets", "recipients", "contracts")},
    # its pool is no party that "*" covers
    "methods": ["*", "createIncentive((address,address,uint256,uint256,address),uint256)"],
    "allowUnverifiedCalldata": True,
    "allowUnpricedAssets": True,
    "signatures": {"messages": True, "typedData": "any"},
    "outflow": None,
    "sources": None,
    "feeAboveUsual": None,  # the first liquidity of a pair creates it, at more than ten times the usual gas
}


def run(scale: int | None, seed: int) -> dict[str, Any]:
    """So many rounds over all assets (default 3), then the refusals."""
    with tempfile.TemporaryDirectory(prefix="dustrun-dust-") as name:
        folder = Path(name)
        world = build(folder)
        with world.node() as node, open_market(world, world.witness(node), seed) as market:
            refusals, calls = Refusals(market), ContractCalls(market)
            with _server(folder, node, world, market) as server:
                proof = Proof(server, node, market, random.Random(seed))
                proof.rounds(scale or 3)
                refusals.check(proof)
                proof.check_run_cap()
                took = calls.check(proof)
                return {**proof.report(), "contractCallsUsd": took}


def prove_contract_calls(folder: Path, world: World, seed: int) -> dict[str, Any]:
    """The calls of real contracts alone: the dollars that each took, and what was wrong."""
    world = replace(world, addresses=dict(world.addresses))
    with world.node() as node, open_market(world, world.witness(node), seed, is_small=True) as market:
        calls = ContractCalls(market)
        with _server(folder, node, world, market) as server:
            proof = Proof(server, node, market, random.Random(seed))
            return {"took": calls.check(proof), "failures": proof.failures}


@contextmanager
def _server(folder: Path, node: Anvil, world: World, market: Market) -> Iterator[ServerProcess]:
    networks = folder / "networks"
    networks.mkdir()
    fields = market.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
    (networks / "local.json").write_text(json.dumps({**fields, "blockTimeMs": 200}))
    settings = {
        "networks_dir": str(networks),
        "chain_endpoints": json.dumps({str(CHAIN_ID): [node.url]}),
        "static_prices": json.dumps(market.static),
        "price_url": market.web.url,
        "price_keep_ms": "0",
        "outbound_allow": "127.0.0.1",
        "rate_limit_per_second": "0",
    }
    server = ServerProcess(folder / "data", settings)
    try:
        server.start()
        asyncio.run(server.wait_ready())
        yield server
    finally:
        asyncio.run(server.stop())


class Proof:
    """Runs dust tests and compares balances with what they may have spent."""

    def __init__(self, server: ServerProcess, node: Anvil, market: Market, chance: random.Random) -> None:
        self.node = node
        self.market = market
        self.witness: Witness = market.witness
        self.chance = chance
        self.failures: list[str] = []
        self.counted: Counter[str] = Counter()
        self.most_spent = Fraction(0)
        self._base = server.base
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {server.owner_key}"
        wallet = self.call("POST", "/v1/wallets/import", {"name": "w", "privateKey": KEYS[1], "isDefault": True})
        self._policy = f"/v1/wallets/{wallet['id']}/policy"
        self.state({})

    def state(self, most: dict[str, str]) -> None:
        """The policy: everything is allowed, up to a maximum in base units of some assets."""
        limits = [{"asset": asset, "maxUnits": units} for asset, units in most.items()]
        self.call("PUT", self._policy, {"policy": {**_POLICY, "limits": limits}})

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A call that must succeed; its `data`."""
        answer = self._session.request(method, self._base + path, json=body, timeout=60)
        if answer.status_code != 200:
            raise RuntimeError(f"{method} {path} was answered {answer.status_code}: {answer.text}")
        return answer.json()["data"]

    def dust(self, type: str, payload: dict[str, Any], **node: Any) -> dict[str, Any]:
        """One node in a dust test, to its end."""
        made = {"type": type, "payload": {"chainId": CHAIN_ID, **payload}, **node}
        return self.run({"root": {"type": "manual", "children": ["pay"]}, "pay": made})

    def run(self, nodes: dict[str, Any]) -> dict[str, Any]:
        """A dust test, to its end."""
        run_id = self.call("POST", "/v1/runs", {"definition": {"nodes": nodes}, "dustTest": True})["runId"]
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found: dict[str, Any] = self.call("GET", f"/v1/runs/{run_id}")
            if found["finishedAt"] is not None:
                return found
            time.sleep(0.01)
        raise RuntimeError(f"{run_id} did not end: {found['status']}, {found['executionState']}")

    def expect(self, holds: bool, what: str) -> None:
        """Notes a failure."""
        if not holds:
            self.failures.append(what)

    def rounds(self, number: int) -> None:
        """Sends and approvals of every asset."""
        for _ in range(number):
            for asset in self.market.assets:
                self._send(asset)
                self._approve(asset)

    def _amount(self, asset: AssetUnderTest) -> str:
        """Less than dust, about as much, far more, or all there is."""
        near = max(1, int(DUST / asset.unit_usd))
        choices = [max(1, near // 3), near, near + 1, near * self.chance.randint(2, 10**6), 10**40, "max"]
        return str(self.chance.choice(choices))

    def _send(self, asset: AssetUnderTest) -> None:
        amount, nonce = self._amount(asset), self.witness.nonce(OWNER)
        before = self.witness.balance(asset.name, OWNER), self.witness.balance(asset.name, SHOP)
        ended = self.dust("send-erc20-token", {"token": asset.address, "recipient": SHOP, "amount": amount})
        spent = before[0] - self.witness.balance(asset.name, OWNER)
        what = f"{asset}: amount {amount}, spent {spent}, {ended['status']}"
        self.expect(self.witness.balance(asset.name, SHOP) - before[1] == spent, f"{what}: it went elsewhere")
        self.expect(spent * asset.unit_usd <= SPEND_CAP, f"{what}: over the cap")
        self.most_spent = max(self.most_spent, spent * asset.unit_usd)
        self._judge(asset, amount, spent, ended, what)
        self.expect(self.witness.nonce(OWNER) - nonce == (spent > 0), f"{what}: another number of transactions")

    def _judge(self, asset: AssetUnderTest, amount: str, spent: int, ended: dict[str, Any], what: str) -> None:
        """Whether it is what was to be expected; of a pool's price within a percent, for it is not exact."""
        original = 10**60 if amount == "max" else int(amount)
        low, high = (_dust(asset.unit_usd * part) for part in self._range(asset))
        if asset.unit_usd > SPEND_CAP:
            code = ended["executionState"]["pay"]["error"]["code"]
            self.expect(spent == 0 and code == "DUST_OVER_CAP", f"{what}: {code}")
            self.counted[f"{asset.source} over the cap"] += 1
            return
        self.expect(ended["status"] == "success", f"{what}: {ended['executionState']['pay'].get('error')}")
        self.expect(min(original, low) <= spent <= min(original, high), f"{what}: not {low} to {high}")
        self.counted[f"{asset.source} sent"] += 1
        entries = [asset.source] if not asset.source.startswith("uniswap") else ["uniswap-v2", "uniswap-v3"]
        source = self._source_of(ended)
        self.expect(source in entries, f"{what}: priced by {source}")

    @staticmethod
    def _range(asset: AssetUnderTest) -> tuple[Fraction, Fraction]:
        """Factors of the price, the highest first: it gives the least dust."""
        return (
            (Fraction(101, 100), Fraction(99, 100))
            if asset.source.startswith("uniswap")
            else (Fraction(1), Fraction(1))
        )

    def _source_of(self, ended: dict[str, Any]) -> str | None:
        """Where the run says that the price of its only amount comes from."""
        (entry,) = self.call("GET", f"/v1/runs/{ended['id']}/effects")["dust"]["scaled"]
        return str(entry["price"]["source"]) if entry["price"] is not None else None

    def _approve(self, asset: AssetUnderTest) -> None:
        """An allowance of chance that was there before must never become less."""
        had = self.chance.choice([0, 1, max(1, int(DUST / asset.unit_usd)) * self.chance.randint(1, 9), MAX])
        self.witness.send(asset.name, "approve", SPENDER, had, sender=OWNER)
        amount = self.chance.choice([*("max",) * 2, self._amount(asset)])
        self.dust("approve-erc20", {"token": asset.address, "spender": SPENDER, "amount": amount})
        now = self.witness.allowance(asset.name, OWNER, SPENDER)
        what = f"{asset}: approval of {amount}, allowance {had} became {now}"
        self.expect(now >= had, f"{what}: lowered")
        self.expect(now == had or now * asset.unit_usd <= SPEND_CAP, f"{what}: over the cap")
        self.counted["approved" if now != had else "approval not needed"] += 1

    def refused(self, name: str, code: str, type: str, payload: dict[str, Any], **node: Any) -> None:
        """A dust test that must fail with a code, and sign nothing."""
        before = self.witness.nonce(OWNER), self.witness.native(OWNER)
        ended = self.dust(type, payload, **node)
        found = (ended["executionState"]["pay"].get("error") or {}).get("code")
        self.expect(found == code, f"{name}: {found} instead of {code}")
        self.expect((self.witness.nonce(OWNER), self.witness.native(OWNER)) == before, f"{name}: something was sent")
        self.counted[f"refused: {name}"] += 1

    def check_run_cap(self) -> None:
        """Forty spends of four cents each in one run: twenty-five of them fit into a dollar."""
        coin = {"chainId": CHAIN_ID, "recipient": SHOP, "amount": str(ETHER)}
        pay = {"type": "send-native", "payload": coin, "dustAmount": str(16 * 10**12)}
        rows = {"array": list(range(40)), "concurrency": 20, "onItemError": "continue"}
        each = {"type": "for-each", "payload": rows, "loopBody": ["pay"]}
        before = self.witness.native(SHOP)
        self.run({"root": {"type": "manual", "children": ["each"]}, "each": each, "pay": pay})
        spent = Fraction(self.witness.native(SHOP) - before, ETHER) * 2500
        self.expect(spent == RUN_CAP, f"a run spent {float(spent)} USD, not {float(RUN_CAP)}")
        self.counted["cap of a run"] += 1

    def report(self) -> dict[str, Any]:
        """What was found."""
        return {
            "node": str(self.node.rpc("web3_clientVersion")),
            "assets": len(self.market.assets),
            "sources": dict(Counter(asset.source for asset in self.market.assets)),
            "decimals": sorted({asset.decimals for asset in self.market.assets}),
            "mostSpentUsdInOneSpend": float(self.most_spent),
            "counted": dict(sorted(self.counted.items())),
            "failures": self.failures,
        }


def _dust(unit_usd: Fraction) -> int:
    wanted = DUST / unit_usd
    return max(1, -(-wanted.numerator // wanted.denominator))


_UNPRICED = (
    "unpriced",
    "thin pool",
    "old feed",
    "negative feed",
    "feed of other decimals",
    "unanswered round",
    "http says 0",
)


class Refusals:
    """What must be refused; made before the server reads the network's file."""

    def __init__(self, market: Market) -> None:
        self._market = market
        witness = market.witness
        now = int(witness.web3.eth.get_block("latest")["timestamp"])
        self._tokens = {name: market.token(f"odd{place}", 6) for place, name in enumerate(_UNPRICED)}
        market.pool("odd1", 10**9, ETHER, "uniswap-v2")
        for name, function, arguments in (
            ("old feed", "setAt", (10**18, now - 2 * 10**6)),
            ("negative feed", "set", (-1,)),
            ("feed of other decimals", "setDecimals", (8,)),
            ("unanswered round", "setStale", (1,)),
        ):
            witness.send(market.feed(self._tokens[name], 10**18), function, *arguments)
        market.web.prices[self._tokens["http says 0"].lower()] = 0

    def check(self, proof: Proof) -> None:
        """Each of them once."""
        for name, token in self._tokens.items():
            payload = {"token": token, "recipient": SHOP, "amount": "5000000"}
            proof.refused(name, "DUST_UNPRICED", "send-erc20-token", payload)
        token = self._tokens["unpriced"]
        approval = {"token": token, "spender": SPENDER, "amount": "0"}
        proof.refused("approval of 0, unpriced or not", "DUST_UNSCALABLE", "approve-erc20", approval)
        mint = {"contract": token, "function": "mint(address,uint256)", "args": [OWNER, "5"]}
        proof.refused("amounts in calldata", "DUST_UNSCALABLE", "write-contract", mint)
        proof.refused(
            "the node says refuse", "REFUSED", "send-native", {"recipient": SHOP, "amount": "1"}, dust="refuse"
        )
        large = {"recipient": SHOP, "amount": str(ETHER)}
        proof.refused("an own amount over the cap", "DUST_OVER_CAP", "send-native", large, dustAmount=str(21 * 10**12))
