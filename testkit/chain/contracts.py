"""The contracts that the tests meet: deployed once a run by web3.py, then loaded into a fresh node in some 60 ms.

Our own fixtures come compiled (`scripts/devchain/contracts.json`); WETH9 and Uniswap come from npm, never committed.
web3.py is the witness: it shares no code with the product's client.
"""

from __future__ import annotations

import fcntl
import functools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from web3 import Web3
from web3.contract import Contract

from dustrun.core.evm.network import Dex, Feed, NativeAsset, Network, Token
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, FOLDER, Anvil
from testkit.chain.lent import lent

ETHER = 10**18
MAX = 2**256 - 1
RICH = ACCOUNTS[0]  # deployed everything and has the liquidity
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
USD_PER_ETHER = 2500
_STATE = "state.json"
_MODULES = FOLDER / "node_modules"
_V3 = "@uniswap/v3-periphery/artifacts/contracts"
_ARTIFACTS = {
    "weth": "canonical-weth/build/contracts/WETH9.json",
    "v2_factory": "@uniswap/v2-core/build/UniswapV2Factory.json",
    "v2_pair": "@uniswap/v2-core/build/UniswapV2Pair.json",
    "v2_router": "@uniswap/v2-periphery/build/UniswapV2Router02.json",
    "v3_factory": "@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json",
    "v3_pool": "@uniswap/v3-core/artifacts/contracts/UniswapV3Pool.sol/UniswapV3Pool.json",
    "v3_router": f"{_V3}/SwapRouter.sol/SwapRouter.json",
    "v3_quoter": f"{_V3}/lens/QuoterV2.sol/QuoterV2.json",
    "v3_router_02": "@uniswap/swap-router-contracts/artifacts/contracts/SwapRouter02.sol/SwapRouter02.json",
    "v3_positions": f"{_V3}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json",
}
# what each of our own names is made of; tokens without arguments carry their own
_OWN: dict[str, tuple[str, tuple[Any, ...]]] = {
    "usdc": ("Token", ("USD Coin", "USDC", 6)),
    "dai": ("Token", ("Dai Stablecoin", "DAI", 18)),
    "wbtc": ("Token", ("Wrapped BTC", "WBTC", 8)),
    "cents": ("Token", ("Cents", "CENT", 2)),
    "whole": ("Token", ("Whole Things", "WHOLE", 0)),
    "fine": ("Token", ("Fine Token", "FINE", 24)),
    "fee": ("FeeToken", ()),
    "rebasing": ("RebasingToken", ()),
    "false": ("FalseToken", ()),
    "blocklist": ("BlocklistToken", ()),
    "pausable": ("PausableToken", ()),
    "reentrant": ("ReentrantToken", ()),
    "race": ("RaceToken", ()),
    "greedy": ("Greedy", ()),
    "nft": ("Nft", ()),
    "multi": ("MultiToken", ()),
    "zoo": ("Zoo", ()),
    "forwarder": ("Forwarder", ()),
    "rejector": ("Rejector", ()),
    "factory": ("Factory", ()),
    "multicall": ("Multicall", ()),
    "eth_usd": ("Feed", (8, USD_PER_ETHER * 10**8)),
    "usdc_usd": ("Feed", (8, 10**8)),
    "dai_usd": ("Feed", (8, 10**8)),
    "wbtc_usd": ("Feed", (8, 60_000 * 10**8)),
    "sequencer": ("Feed", (0, 0)),
}
TOKENS = {  # decimals of every ERC-20 here
    "weth": 18, "usdc": 6, "dai": 18, "wbtc": 8, "cents": 2, "whole": 0, "fine": 24, "fee": 18, "rebasing": 18,
    "false": 18, "blocklist": 6, "pausable": 18, "reentrant": 18, "race": 6,
}  # fmt: skip


@functools.cache
def _compiled() -> dict[str, Any]:
    compiled: dict[str, Any] = json.loads((FOLDER / "contracts.json").read_text())
    return compiled


@functools.cache
def artifact(name: str) -> tuple[list[Any], str]:
    """ABI and creation code of a contract by its name here (`weth`, `usdc`) or in Solidity (`Token`)."""
    if name in _ARTIFACTS:
        found = json.loads((_MODULES / _ARTIFACTS[name]).read_text())
        code = found.get("bytecode") or found["evm"]["bytecode"]["object"]
        return found["abi"], code if code.startswith("0x") else f"0x{code}"
    found = _compiled()[_OWN[name][0] if name in _OWN else name]
    return found["abi"], found["bytecode"]


class Witness:
    """What web3.py reads of a node, and what it does with the node's own unlocked accounts."""

    def __init__(self, url: str, addresses: dict[str, str] | None = None) -> None:
        self.web3 = Web3(Web3.HTTPProvider(url))
        self.addresses = {} if addresses is None else addresses
        self._contracts: dict[tuple[str, str], Contract] = {}

    def contract(self, name: str, address: str | None = None) -> Contract:
        """A contract by its name here; at another `address` if need be. web3.py takes a while to make one."""
        where = address or self.addresses[name]
        if (name, where) not in self._contracts:
            made = self.web3.eth.contract(address=Web3.to_checksum_address(where), abi=artifact(name)[0])
            self._contracts[name, where] = made
        return self._contracts[name, where]

    def read(self, name: str, function: str, *arguments: Any) -> Any:
        """What a function returns."""
        return self.contract(name).get_function_by_name(function)(*arguments).call()

    def data(self, name: str, function: str, *arguments: Any) -> bytes:
        """A call as calldata."""
        return bytes.fromhex(self.contract(name).encode_abi(function, list(arguments))[2:])

    def native(self, address: str) -> int:
        """Balance of native coin."""
        return self.web3.eth.get_balance(Web3.to_checksum_address(address))

    def balance(self, token: str, address: str) -> int:
        """Balance of a token, by its name here."""
        return int(self.read(token, "balanceOf", Web3.to_checksum_address(address)))

    def allowance(self, token: str, owner: str, spender: str) -> int:
        """What a spender may still take."""
        return int(self.read(token, "allowance", owner, spender))

    def nonce(self, address: str) -> int:
        """Transactions of an address that are in blocks."""
        return self.web3.eth.get_transaction_count(Web3.to_checksum_address(address))

    def deploy(self, name: str, *arguments: Any, sender: str = RICH) -> str:
        """Creates a contract; gives its address."""
        abi, code = artifact(name)
        made = self.web3.eth.contract(abi=abi, bytecode=code).constructor(*arguments)
        receipt = self._mined(made.transact({"from": Web3.to_checksum_address(sender)}))
        return str(receipt["contractAddress"])

    def send(self, name: str, function: str, *arguments: Any, sender: str = RICH, value: int = 0) -> Any:
        """Calls a function in a transaction that must succeed; gives its receipt."""
        call = self.contract(name).get_function_by_name(function)(*arguments)
        fields: Any = {"from": Web3.to_checksum_address(sender), "value": value, "gas": 6_000_000}
        return self._mined(call.transact(fields))

    def pay(self, to: str, units: int, sender: str = RICH) -> Any:
        """Sends native coin."""
        fields: Any = {"from": Web3.to_checksum_address(sender), "to": Web3.to_checksum_address(to), "value": units}
        return self._mined(self.web3.eth.send_transaction(fields))

    def _mined(self, hash: Any) -> Any:
        receipt = self.web3.eth.wait_for_transaction_receipt(hash, timeout=30, poll_latency=0.005)
        assert receipt["status"] == 1, f"transaction {hash.hex()} of the fixture failed"
        return receipt


@dataclass(frozen=True)
class World:
    """Deployed contracts: the file of their state, their addresses by name."""

    state: Path
    addresses: dict[str, str]

    @contextmanager
    def node(self, *words: str, chain_id: int = CHAIN_ID) -> Iterator[Anvil]:
        """A fresh node with everything on it, or one that is as fresh."""
        with lent(*words, state=self.state, chain_id=chain_id) as node:
            yield node

    def witness(self, node: Anvil) -> Witness:
        """web3.py on that node."""
        return Witness(node.url, self.addresses)

    def __getitem__(self, name: str) -> str:
        return self.addresses[name]

    def network(self, *urls: str) -> Network:
        """The chain's description, as an operator would write it."""
        at = self.addresses
        feeds = (("eth_usd", None), ("usdc_usd", at["usdc"]), ("dai_usd", at["dai"]), ("wbtc_usd", at["wbtc"]))
        return Network(
            chain_id=CHAIN_ID,
            name="Test chain",
            short_name="test",
            is_testnet=True,
            native=NativeAsset(symbol="ETH", name="Ether"),
            usual_fee="0.01",
            endpoints=urls,
            block_time_ms=1000,
            confirmations=1,
            wrapped_native=at["weth"],
            multicall3=MULTICALL3,
            tokens=tuple(Token(address=at[name], symbol=name.upper(), decimals=TOKENS[name]) for name in TOKENS),
            feeds=tuple(Feed(address=at[feed], token=token, heartbeat_s=86_400) for feed, token in feeds),
            dex=Dex(**{name: at[name] for name in Dex.model_fields if name in at}),
            is_local=True,
        )


def shared(folder: Path) -> World:
    """The world in `folder`: the first process that asks deploys it, and the others load what it wrote."""
    addresses = folder / "addresses.json"
    with (folder / "world.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not addresses.exists():  # written last: a deployment that failed is tried again
            addresses.write_text(json.dumps(build(folder).addresses))
        return World(folder / _STATE, json.loads(addresses.read_text()))


def build(folder: Path) -> World:
    """Deploys everything on a node of its own and writes its state into `folder`."""
    with Anvil() as node:
        witness = Witness(node.url)
        _deploy(witness)
        code = node.rpc("eth_getCode", witness.addresses["multicall"], "latest")
        node.rpc("anvil_setCode", MULTICALL3, code)
        _hand_out(witness)
        _fill_pools(witness)
        state = folder / _STATE
        node.dump(state)
        return World(state, witness.addresses)


def _deploy(witness: Witness) -> None:
    at = witness.addresses
    at["weth"] = witness.deploy("weth")
    for name, (_, arguments) in _OWN.items():
        at[name] = witness.deploy(name, *arguments)
    at["v2_factory"] = witness.deploy("v2_factory", RICH)
    at["v2_router"] = witness.deploy("v2_router", at["v2_factory"], at["weth"])
    at["v3_factory"] = witness.deploy("v3_factory")
    for name in ("v3_router", "v3_quoter"):
        at[name] = witness.deploy(name, at["v3_factory"], at["weth"])
    at["v3_positions"] = witness.deploy("v3_positions", at["v3_factory"], at["weth"], f"0x{'00' * 20}")


def _hand_out(witness: Witness) -> None:
    """A million of each token to every account; WETH cannot be minted."""
    for name, decimals in TOKENS.items():
        if name != "weth":
            for account in ACCOUNTS:
                witness.send(name, "mint", account, 10**6 * 10**decimals)
    for account in ACCOUNTS:
        witness.send("weth", "deposit", sender=account, value=1000 * ETHER)


def _fill_pools(witness: Witness) -> None:
    """V2: WETH/USDC, USDC/DAI, WETH/FEE, WETH/WBTC. V3: WETH/USDC at 0.3 % and 0.05 %, USDC/DAI at 0.05 %."""
    for router in ("v2_router", "v3_positions"):
        for token in ("weth", "usdc", "dai", "wbtc", "fee"):
            witness.send(token, "approve", witness.addresses[router], MAX)
    _add_v2(witness, ("weth", 100 * ETHER), ("usdc", 250_000 * 10**6))
    _add_v2(witness, ("usdc", 100_000 * 10**6), ("dai", 100_000 * ETHER))
    _add_v2(witness, ("weth", 10 * ETHER), ("fee", 10_000 * ETHER))
    _add_v2(witness, ("weth", 48 * ETHER), ("wbtc", 2 * 10**8))
    _add_v3(witness, 3000, ("weth", 50 * ETHER), ("usdc", 125_000 * 10**6))
    _add_v3(witness, 500, ("weth", 20 * ETHER), ("usdc", 50_000 * 10**6))
    _add_v3(witness, 500, ("usdc", 50_000 * 10**6), ("dai", 50_000 * ETHER))


def _deadline(witness: Witness) -> int:
    return int(witness.web3.eth.get_block("latest")["timestamp"]) + 3600


def _add_v2(witness: Witness, first: tuple[str, int], second: tuple[str, int]) -> None:
    at = witness.addresses
    tokens, amounts = (at[first[0]], at[second[0]]), (first[1], second[1])
    witness.send("v2_router", "addLiquidity", *tokens, *amounts, 0, 0, RICH, _deadline(witness))


def _add_v3(witness: Witness, fee: int, *parts: tuple[str, int]) -> None:
    """Liquidity over the whole range at the price that the two amounts say."""
    (token0, amount0), (token1, amount1) = sorted((int(witness.addresses[name], 16), units) for name, units in parts)
    pair = (Web3.to_checksum_address(f"0x{token0:040x}"), Web3.to_checksum_address(f"0x{token1:040x}"))
    root = math.isqrt((amount1 << 192) // amount0)
    witness.send("v3_positions", "createAndInitializePoolIfNecessary", *pair, fee, root)
    spacing = {500: 10, 3000: 60}[fee]
    edge = 887272 // spacing * spacing
    position = (*pair, fee, -edge, edge, amount0, amount1, 0, 0, RICH, _deadline(witness))
    witness.send("v3_positions", "mint", position)
