"""What stands on the chain: WETH, a dollar token, their price feeds, and Uniswap V2 and V3 with pools of both."""

from __future__ import annotations

import math
import time
from typing import Any

from devchain.node import CHAIN_ID, Node, NodeFault
from devchain.parts import artifact

from dustrun.core.evm import abi
from dustrun.core.evm.abi_signatures import parse_function, parse_params
from dustrun.core.values.addresses import checksum

ETHER = 10**18
DOLLAR = 10**6  # USDC has six digits
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
_FEED_DIGITS = 8
_HEARTBEAT_S = 30 * 86_400  # nobody renews the feeds between two starts
_MINED_WITHIN_S = 20.0
_GAS = 8_000_000  # not estimated: what a call costs can hang on the second in which it is mined
_MAX = 2**256 - 1
_NOBODY = f"0x{'00' * 20}"
_POOLS_V3 = {500: 10, 3000: 60}  # fee in hundredths of a basis point: spacing of its ticks
_MINT = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256) params)"


class Builder:
    """Deploys and calls from the node's first account, which is rich and unlocked."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.rich = str(node.ask("eth_accounts")[0])

    def create(self, name: str, *arguments: Any) -> str:
        """Deploys a contract; gives its address."""
        described, code = artifact(name)
        inputs: list[Any] = next((part["inputs"] for part in described if part["type"] == "constructor"), [])
        params = parse_params(", ".join(part["type"] for part in inputs)) if inputs else ()
        made = self._mined({"data": code + abi.encode(params, arguments).hex()})
        return checksum(made["contractAddress"])

    def send(self, to: str, function: str, *arguments: Any, value: int = 0) -> None:
        """Calls a function, by its signature, in a transaction that must succeed."""
        data = parse_function(function).encode(*arguments)
        self._mined({"to": to, "data": f"0x{data.hex()}", "value": hex(value)})

    def read(self, to: str, function: str, *arguments: Any) -> Any:
        """What a function returns."""
        found = parse_function(function)
        answer = self.node.ask("eth_call", {"to": to, "data": f"0x{found.encode(*arguments).hex()}"}, "latest")
        return found.decode_result(bytes.fromhex(answer[2:]))[0]

    def _mined(self, fields: dict[str, Any]) -> dict[str, Any]:
        found = self.node.ask("eth_sendTransaction", {"from": self.rich, "gas": hex(_GAS), **fields})
        deadline = time.monotonic() + _MINED_WITHIN_S
        while time.monotonic() < deadline:
            receipt: dict[str, Any] | None = self.node.ask("eth_getTransactionReceipt", found)
            if receipt is not None:
                if int(receipt["status"], 16) != 1:
                    raise NodeFault(f"the transaction {found} was reverted")
                return receipt
            time.sleep(0.005)
        raise NodeFault(f"the transaction {found} does not get into a block")


def build(node: Node, ether_usd: int) -> dict[str, str]:
    """Deploys everything and fills the pools; gives the addresses. `ether_usd` has eight digits after the point."""
    builder = Builder(node)
    at = {
        "weth": builder.create("WETH9"),
        "usdc": builder.create("Token", "USD Coin", "USDC", 6),
        "ethUsd": builder.create("Feed", _FEED_DIGITS, ether_usd),
        "usdcUsd": builder.create("Feed", _FEED_DIGITS, 10**_FEED_DIGITS),
        "v2Factory": builder.create("V2Factory", builder.rich),
        "v3Factory": builder.create("V3Factory"),
    }
    at["v2Router"] = builder.create("V2Router", at["v2Factory"], at["weth"])
    at["v3Router"] = builder.create("V3Router", at["v3Factory"], at["weth"])
    at["v3Quoter"] = builder.create("V3Quoter", at["v3Factory"], at["weth"])
    at["v3Positions"] = builder.create("V3Positions", at["v3Factory"], at["weth"], _NOBODY)
    node.ask("anvil_setCode", MULTICALL3, node.ask("eth_getCode", builder.create("Multicall"), "latest"))
    _fill_pools(builder, at, ether_usd)
    pair = "getPair(address, address) returns (address)"
    return at | {"v2Pool": builder.read(at["v2Factory"], pair, at["weth"], at["usdc"])}


def renew_feeds(node: Node, at: dict[str, str], ether_usd: int) -> None:
    """The feeds answer as of now: after a pause their last answers would be too old to be used."""
    builder = Builder(node)
    builder.send(at["ethUsd"], "set(int256 answer)", ether_usd)
    builder.send(at["usdcUsd"], "set(int256 answer)", 10**_FEED_DIGITS)


def _dollars(ether: int, ether_usd: int) -> int:
    """What so many ether are worth, in base units of the dollar token."""
    whole: int = 10**_FEED_DIGITS
    return ether * ether_usd * DOLLAR // whole


def _fill_pools(builder: Builder, at: dict[str, str], ether_usd: int) -> None:
    """WETH and USDC on V2, and on V3 at fees of 0.05 % and 0.3 %."""
    parts = {"v2Router": 1000, "v3Positions": 500}  # ether in each pool
    builder.send(at["weth"], "deposit()", value=2000 * ETHER)
    builder.send(at["usdc"], "mint(address to, uint256 value)", builder.rich, _dollars(2000, ether_usd))
    for name in parts:
        for token in ("weth", "usdc"):
            builder.send(at[token], "approve(address spender, uint256 value)", at[name], _MAX)
    deadline = int(builder.node.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16) + 3600
    whole = (parts["v2Router"] * ETHER, _dollars(parts["v2Router"], ether_usd))
    builder.send(
        at["v2Router"],
        "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)",
        *(at["weth"], at["usdc"], *whole, 0, 0, builder.rich, deadline),
    )
    whole = (parts["v3Positions"] * ETHER, _dollars(parts["v3Positions"], ether_usd))
    for fee, spacing in _POOLS_V3.items():
        _add_v3(builder, at, whole, fee, spacing, deadline)


def _add_v3(
    builder: Builder, at: dict[str, str], whole: tuple[int, int], fee: int, spacing: int, deadline: int
) -> None:
    """Liquidity over the whole range at the price that the two amounts say."""
    (token0, amount0), (token1, amount1) = sorted(
        zip((at["weth"], at["usdc"]), whole, strict=True), key=lambda part: int(part[0], 16)
    )
    root = math.isqrt((amount1 << 192) // amount0)
    opens = "createAndInitializePoolIfNecessary(address,address,uint24,uint160)"
    builder.send(at["v3Positions"], opens, token0, token1, fee, root)
    edge = 887272 // spacing * spacing
    position = [token0, token1, fee, -edge, edge, amount0, amount1, 0, 0, builder.rich, deadline]
    builder.send(at["v3Positions"], _MINT, position)


def network(url: str, genesis: str, at: dict[str, str]) -> dict[str, Any]:
    """The chain's description, as an operator would write it into a file of `networks_dir`."""
    return {
        "chainId": CHAIN_ID,
        "genesisHash": genesis,
        "endpoints": [url],
        "wrappedNative": at["weth"],
        "multicall3": MULTICALL3,
        "tokens": [
            {"address": at["weth"], "symbol": "WETH", "decimals": 18},
            {"address": at["usdc"], "symbol": "USDC", "decimals": 6},
        ],
        "feeds": [
            {"address": at["ethUsd"], "heartbeatS": _HEARTBEAT_S},
            {"address": at["usdcUsd"], "token": at["usdc"], "heartbeatS": _HEARTBEAT_S},
        ],
        "dex": {name: at[name] for name in ("v2Factory", "v2Router", "v3Factory", "v3Router", "v3Quoter")},
    }
