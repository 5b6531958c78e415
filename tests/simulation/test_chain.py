"""The simulated chain answers as a real node does: the same transactions, sent to it and to anvil."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest
from eth_account import Account

from dustrun.chain.failures import kind_of
from dustrun.chain.rpc import RpcError
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil
from testkit.simulation.chain import BLOCK_S, GAS, GWEI, START_UNITS, Chain
from testkit.simulation.nodes import Node

_TO = "0x00000000000000000000000000000000000d0001"
Json = dict[str, Any]


class _Simulated:
    """A node of ours, and its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._chain = Chain(lambda: self.now, 1_700_000_000, _Always())
        self._chain.fund(ACCOUNTS[1])
        self._node = Node(self._chain, random.Random(1))

    def call(self, method: str, *params: Any) -> Json:
        return self._node.call({"id": 1, "method": method, "params": params})

    def mine(self) -> None:
        self.now += BLOCK_S

    def reorg(self) -> None:
        self._chain.reorg(1)


class _Always(random.Random):
    """Takes each transaction into the next block."""

    def random(self) -> float:
        return 0.0


class _Real:
    """Anvil, which mines when it is told to."""

    def __init__(self, anvil: Anvil) -> None:
        self._url = anvil.url

    def call(self, method: str, *params: Any) -> Json:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer: Json = httpx.post(self._url, json=body).json()
        return answer

    def mine(self) -> None:
        self.call("evm_mine")


def _signed(nonce: int, *, value: int = 10**15, max_fee: int = 4 * GWEI, tip: int = GWEI) -> str:
    fields = {
        **{"chainId": CHAIN_ID, "nonce": nonce, "to": _TO, "value": value, "gas": GAS, "data": "0x", "type": 2},
        **{"maxFeePerGas": max_fee, "maxPriorityFeePerGas": tip},
    }
    return "0x" + bytes(Account.sign_transaction(fields, KEYS[1]).raw_transaction).hex()


def _kind(answer: Json) -> str:
    """What the product makes of an error; empty for a result."""
    error = answer.get("error")
    return "" if error is None else kind_of(RpcError(error["code"], error["message"])).name


def _story(node: _Simulated | _Real) -> list[Any]:
    """What both must tell alike."""
    sender, told = ACCOUNTS[1], list[Any]()
    balance = int(node.call("eth_getBalance", sender, "latest")["result"], 16)
    first = node.call("eth_sendRawTransaction", _signed(0))
    told.append(first["result"])
    told += [_kind(node.call("eth_sendRawTransaction", _signed(0)))]
    told += [_kind(node.call("eth_sendRawTransaction", _signed(0, value=7)))]  # the same bid
    told += [_kind(node.call("eth_sendRawTransaction", _signed(1, value=2 * balance)))]
    told += [node.call("eth_getTransactionCount", sender, tag)["result"] for tag in ("latest", "pending")]
    told += [node.call("eth_getTransactionReceipt", first["result"])["result"]]
    better = node.call("eth_sendRawTransaction", _signed(0, max_fee=8 * GWEI, tip=2 * GWEI))
    told.append(better["result"])
    node.mine()
    told += [node.call("eth_getTransactionReceipt", first["result"])["result"]]
    receipt = node.call("eth_getTransactionReceipt", better["result"])["result"]
    told += [receipt[name] for name in ("transactionHash", "status", "gasUsed", "transactionIndex", "logs", "type")]
    told += [receipt["from"].lower(), receipt["to"].lower()]
    told += [node.call("eth_getTransactionCount", sender, tag)["result"] for tag in ("latest", "pending")]
    told += [_kind(node.call("eth_sendRawTransaction", _signed(0, value=1)))]
    paid = balance - int(node.call("eth_getBalance", sender, "latest")["result"], 16)
    told.append(paid - int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16))
    told.append(int(node.call("eth_getBalance", _TO, "latest")["result"], 16))
    block = node.call("eth_getBlockByHash", receipt["blockHash"], False)["result"]
    told += [block["transactions"], block["number"] == receipt["blockNumber"], block["gasUsed"]]
    told += [node.call("eth_estimateGas", {"from": sender, "to": _TO, "value": "0x1", "data": "0x"})["result"]]
    told += [node.call("eth_getTransactionByHash", better["result"])["result"]["nonce"]]
    told += [node.call("eth_getBlockByNumber", "0xffffff", False)["result"], _kind(node.call("eth_noSuchMethod"))]
    return told


async def test_the_simulated_chain_tells_what_anvil_tells() -> None:
    def real() -> list[Any]:
        with Anvil("--no-mining") as anvil:
            return _story(_Real(anvil))

    assert _story(_Simulated()) == await asyncio.to_thread(real)


def test_a_reorg_takes_a_transaction_back_and_brings_it_again() -> None:
    node = _Simulated()
    hash = node.call("eth_sendRawTransaction", _signed(0))["result"]
    node.mine()
    before = node.call("eth_getTransactionReceipt", hash)["result"]
    node.reorg()
    after = node.call("eth_getTransactionReceipt", hash)["result"]
    assert after["blockHash"] != before["blockHash"]
    assert node.call("eth_getBlockByHash", before["blockHash"], False)["result"] is None
    assert int(node.call("eth_getBalance", _TO, "latest")["result"], 16) == 10**15
    assert int(node.call("eth_getBalance", ACCOUNTS[1], "latest")["result"], 16) < START_UNITS - 10**15


def test_miners_may_leave_out_for_some_blocks_what_a_reorg_took_back() -> None:
    node = _Simulated()
    node._chain.holds = 1000
    hash = node.call("eth_sendRawTransaction", _signed(0))["result"]
    node.mine()
    assert node.call("eth_getTransactionReceipt", hash)["result"]["status"] == "0x1"
    node.reorg()
    assert node.call("eth_getTransactionByHash", hash)["result"] is None
    for _ in range(6):
        node.mine()
    assert node.call("eth_getTransactionReceipt", hash)["result"]["status"] == "0x1"


def test_miners_that_do_not_hear_of_a_replacement_mine_one_of_both() -> None:
    node = _Simulated()
    node._chain.deaf = 1000
    bids = [_signed(0), _signed(0, max_fee=8 * GWEI, tip=2 * GWEI)]
    hashes = [node.call("eth_sendRawTransaction", bid)["result"] for bid in bids]
    node.mine()
    receipts = [node.call("eth_getTransactionReceipt", hash)["result"] for hash in hashes]
    assert [one is None for one in receipts].count(False) == 1
    assert node.call("eth_getTransactionCount", ACCOUNTS[1], "pending")["result"] == "0x1"


def test_a_deep_reorg_forgets_what_one_sender_paid() -> None:
    node = _Simulated()
    hash = node.call("eth_sendRawTransaction", _signed(0))["result"]
    for _ in range(6):
        node.mine()
    assert node.call("eth_getTransactionReceipt", hash)["result"]["blockNumber"] == "0x1"
    node._chain.reorg(6, ACCOUNTS[1].lower())
    node.mine()
    assert node.call("eth_getTransactionByHash", hash)["result"] is None
    assert node.call("eth_sendRawTransaction", _signed(0))["result"] == hash


def test_an_endpoint_that_is_behind_does_not_know_the_newest_block() -> None:
    node = _Simulated()
    hash = node.call("eth_sendRawTransaction", _signed(0))["result"]
    node.mine()
    node._node.lag = 1
    assert node.call("eth_getTransactionReceipt", hash)["result"] is None
    node.mine()
    assert node.call("eth_getTransactionReceipt", hash)["result"]["status"] == "0x1"


@pytest.mark.parametrize("share", ["lies", "busy", "hides"])
def test_each_face_does_what_it_is_named_for(share: str) -> None:
    node = _Simulated()
    setattr(node._node, share, 1000)
    answer = node.call("eth_sendRawTransaction", _signed(0))
    assert ("error" in answer) == (share != "hides")
    setattr(node._node, share, 0)
    node.mine()
    assert int(node.call("eth_getTransactionCount", ACCOUNTS[1], "latest")["result"], 16) == (share != "busy")
