"""What actions on a chain come to through the whole server: a simulation foresees the real run to the last unit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import Bench
from outbox import ALICE, ANYTHING, open_outbox
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, Witness, World, artifact

CAROL = ACCOUNTS[3]
USDC = 10**6
# what a simulation cannot know: the transaction's own name, block and price of gas
_REAL_ONLY = {"hash", "blockNumber", "gasUsed", "fee", "feeFormatted", "totalFee", "explorerUrl", "approvalHash"}

Case = tuple[str, str, dict[str, Any]]
_ROWS = [{"recipient": CAROL, "amount": 3}, {"recipient": CAROL, "amount": 4, "key": "b"}]
_PING = "Ping(uint256 indexed n, address who)"
CASES: list[Case] = [
    ("native", "send-native", {"recipient": CAROL, "amount": "5"}),
    ("token", "send-erc20-token", {"token": "usdc", "recipient": CAROL, "amount": "5"}),
    ("fee-token", "send-erc20-token", {"token": "fee", "recipient": CAROL, "amount": "1000"}),
    ("rebasing", "send-erc20-token", {"token": "rebasing", "recipient": CAROL, "amount": "max"}),
    ("race", "approve-erc20", {"token": "race", "spender": CAROL, "amount": "9"}),
    ("wrap", "wrap-native", {"amount": str(ETHER)}),
    ("unwrap", "unwrap-native", {"amount": str(ETHER)}),
    ("v2-in", "swap-uniswap-v2", {"tokenIn": "usdc", "tokenOut": "native", "amountIn": str(25 * USDC)}),
    ("v2-fee", "swap-uniswap-v2", {"tokenIn": "fee", "tokenOut": "weth", "amountIn": str(ETHER), "slippageBps": 200}),
    ("v2-out", "swap-uniswap-v2", {"tokenIn": "native", "tokenOut": "usdc", "amountOut": str(25 * USDC)}),
    ("v3-in", "swap-uniswap-v3", {"tokenIn": "usdc", "tokenOut": "native", "amountIn": str(25 * USDC)}),
    ("v3-out", "swap-uniswap-v3", {"tokenIn": "native", "tokenOut": "usdc", "amountOut": str(25 * USDC)}),
    ("batch", "batch-transfer", {"token": "usdc", "rows": _ROWS}),
    ("nft", "send-erc721", {"contract": "nft", "tokenId": "7", "recipient": CAROL}),
    ("write", "write-contract", {"contract": "zoo", "function": "count()", "events": [_PING]}),
]  # fmt: skip
_NAMES = ("token", "contract", "tokenIn", "tokenOut")


class Shop:
    """A server on a chain that makes a block for every transaction."""

    def __init__(self, bench: Bench, witness: Witness) -> None:
        self.bench = bench
        self.witness = witness

    async def result(self, kind: str, payload: dict[str, Any], **body: Any) -> dict[str, Any]:
        """What one node came to."""
        at = self.witness.addresses
        named = {name: at.get(value, value) if name in _NAMES else value for name, value in payload.items()}
        node = {"type": kind, "payload": {"chainId": CHAIN_ID, **named}}
        run = await self.bench.run({"it": node}, **body)
        assert run["status"] == "success", run["executionState"]["it"].get("error")
        result: dict[str, Any] = run["executionState"]["it"]["result"]
        return result


@pytest.fixture
async def shop(tmp_path: Path, world: World) -> AsyncIterator[Shop]:
    with world.node() as node:
        left_out = {"chain_id", "block_time_ms", "confirmations", "endpoints"}
        network = world.network(node.url).model_dump(mode="json", by_alias=True, exclude=left_out)
        witness = world.witness(node)
        witness.send("nft", "mint", ALICE, 7)
        witness.send("rebasing", "rebase", 150)
        witness.send("race", "approve", CAROL, 3, sender=ALICE)
        changes = {**network, "confirmations": 1}
        async with open_outbox(tmp_path, node, network=changes) as outbox:
            policy = {**ANYTHING, "allowUnpricedAssets": True, "allowDeploy": True}
            path = f"/v1/wallets/{outbox.wallet_id}/policy"
            assert (await outbox.composition.owner.put(path, {"policy": policy})).status == 200
            yield Shop(Bench(outbox.composition), witness)


def alike(value: Any) -> Any:
    """A result without what only a real transaction has."""
    if isinstance(value, dict):
        return {name: alike(item) for name, item in value.items() if name not in _REAL_ONLY}
    return [alike(item) for item in value] if isinstance(value, list) else value


async def test_a_simulation_foresees_what_each_action_comes_to(shop: Shop) -> None:
    for name, kind, payload in CASES:
        nonce = shop.witness.nonce(ALICE)
        predicted = await shop.result(kind, payload, simulate=True)
        assert shop.witness.nonce(ALICE) == nonce, f"{name}: a simulation sends nothing"
        real = await shop.result(kind, payload)
        assert shop.witness.nonce(ALICE) > nonce, name
        assert alike(real) == alike(predicted), name


async def test_a_contract_that_was_just_created_is_called_by_the_next_node(shop: Shop) -> None:
    abi, code = artifact("usdc")
    made = {"chainId": CHAIN_ID, "bytecode": code, "abi": abi, "args": ["My Token", "MINE", 9]}
    asked = {
        "chainId": CHAIN_ID,
        "contract": "{{$nodes.make.result.contractAddress}}",
        "function": "decimals() returns (uint8)",
    }
    nodes = {
        "make": {"type": "deploy-contract", "payload": made, "children": ["ask"]},
        "ask": {"type": "read-contract", "payload": asked},
    }
    for body in ({"simulate": True}, {}):
        run = await shop.bench.run(nodes, **body)
        assert run["status"] == "success", run["executionState"]
        assert run["executionState"]["ask"]["result"]["value"] == 9
