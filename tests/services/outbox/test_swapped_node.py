"""The node behind an endpoint's URL is swapped while the server runs: for another chain, or for another one of the same
id. Nothing is signed, sent or decided by its word, and all goes on when the right one is back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from outbox import ALICE, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.rpc_proxy import Proxy, proxy


@pytest.fixture(params=["another chain", "a fresh one of the same id"])
def other(request: pytest.FixtureRequest) -> Iterator[Anvil]:
    """A node that mines, where the wallet has money and has used more nonces."""
    chain_id = CHAIN_ID + 1 if request.param == "another chain" else CHAIN_ID
    words = ("--block-time", "0.1", "--timestamp", "1700000000", "--slots-in-an-epoch", "1")
    with Anvil(*words, chain_id=chain_id) as other:
        other.rpc("anvil_setNonce", ALICE, hex(5))
        yield other


def _web3(node: Anvil) -> Web3:
    return Web3(Web3.HTTPProvider(node.url))


def _pool(node: Anvil) -> int:
    found: Any = _web3(node).provider.make_request("txpool_status", [])  # type: ignore[arg-type]
    return int(found["result"]["pending"], 16) + int(found["result"]["queued"], 16)


async def _swap(served: Proxy, node: Anvil) -> None:
    """Connections stay open: nothing fails."""
    served.upstream = node.url
    await asyncio.sleep(2.2)


async def _new(outbox: Outbox, path: str) -> str:
    """The code of a new payment's failure."""
    status = await outbox.pay(path, transfer(address(9), 5))
    assert status.failure is not None, status
    return status.failure.code


async def test_a_swapped_node_decides_nothing(tmp_path: Path, node: Anvil, other: Anvil) -> None:
    async with (
        proxy(node.url) as served,
        open_outbox(tmp_path, node, url=served.url, transaction_stuck_s=0.5) as outbox,
    ):
        await outbox.pay("first", transfer(address(1), 5))
        node.mine(3)
        await outbox.settled("first")
        await outbox.pay("open", transfer(address(2), 5))
        await outbox.pay("mined", transfer(address(3), 5))
        node.mine()
        await outbox.state("mined", "mined")
        node.rpc("anvil_dropAllTransactions")
        await outbox.pay("sent", transfer(address(4), 5))
        before = _web3(other).eth.get_transaction_count(Web3.to_checksum_address(ALICE))
        await _swap(served, other)
        assert await _new(outbox, "wrong") == "CHAIN_MISMATCH"
        await asyncio.sleep(2)
        assert [(await outbox.status(path)).status for path in ("open", "mined", "sent")] == ["open"] * 3
        states = [(await outbox.status(path)).transactions[0]["status"] for path in ("mined", "sent")]
        assert states == ["mined", "sent"]
        assert _web3(other).eth.get_transaction_count(Web3.to_checksum_address(ALICE)) == before
        assert _pool(other) == 0
        await _swap(served, node)
        for path in ("open", "mined", "sent"):
            async with asyncio.timeout(60):
                while (await outbox.status(path)).status != "settled":
                    node.mine()
                    await asyncio.sleep(0.05)
        assert (await outbox.pay("right", transfer(address(5), 5))).is_signed
        node.mine(2)
        await outbox.settled("right")
        paid = [_web3(node).eth.get_balance(Web3.to_checksum_address(address(number))) for number in range(1, 6)]
        assert (paid, outbox.nonce()) == ([5] * 5, 5)
        assert _pool(other) == 0
