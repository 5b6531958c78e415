"""What the client reads of a real node, against web3.py as a witness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hexbytes import HexBytes

from chain.signing import signed
from dustrun.chain.evm import LiveChain
from dustrun.core.values.addresses import keccak256
from dustrun.errors import Code, Permanent
from dustrun.sdk.chain import ChainCall
from testkit.chain.anvil import ACCOUNTS, Anvil
from testkit.chain.contracts import MULTICALL3, RICH, Witness, World

ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]
FRESH = "0x00000000000000000000000000000000DeaDBeef"


async def test_reads_equal_the_witness(chain: LiveChain, witness: Witness, world: World) -> None:
    head = witness.web3.eth.get_block("latest")
    block = await chain.block()
    assert (block.number, block.time) == (head["number"], head["timestamp"])
    assert (block.hash, block.base_fee_units) == (head["hash"].to_0x_hex(), head["baseFeePerGas"])
    assert await chain.find_block(block.hash) == await chain.find_block(block.number) == block
    assert await chain.find_block(block.number + 1) is None
    assert await chain.find_block(f"0x{'12' * 32}") is None
    assert await chain.balance(ALICE) == witness.native(ALICE)
    assert await chain.nonce(ALICE) == witness.nonce(ALICE)
    code = witness.web3.eth.get_code(witness.web3.to_checksum_address(world["usdc"]))
    assert await chain.code(world["usdc"]) == bytes(code)
    assert await chain.code(FRESH) == b""
    call = ChainCall(world["usdc"], witness.data("usdc", "balanceOf", ALICE))
    assert int.from_bytes(await chain.call(call)) == witness.balance("usdc", ALICE)
    assert int.from_bytes(await chain.call(call, block.hash)) == witness.balance("usdc", ALICE)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 40, 130])
async def test_many_calls_answer_each_for_itself(count: int, chain: LiveChain, witness: Witness, world: World) -> None:
    good = ChainCall(world["usdc"], witness.data("usdc", "balanceOf", ALICE))
    bad = ChainCall(world["zoo"], witness.data("zoo", "custom"))
    found = await chain.call_many([good if place % 2 == 0 else bad for place in range(count)])
    assert [result.is_success for result in found] == [place % 2 == 0 for place in range(count)]
    assert all(int.from_bytes(found[place].data) == witness.balance("usdc", ALICE) for place in range(0, count, 2))
    selector = keccak256(b"Custom(uint256,string)")[:4]
    assert all(found[place].data[:4] == selector for place in range(1, count, 2))


async def test_many_calls_without_the_contract_are_a_batch(
    chain: LiveChain, anvil: Anvil, witness: Witness, world: World
) -> None:
    anvil.rpc("anvil_setCode", MULTICALL3, "0x")
    good = ChainCall(world["usdc"], witness.data("usdc", "balanceOf", ALICE))
    sender = ChainCall(world["zoo"], witness.data("zoo", "count"), sender=ALICE)
    found = await chain.call_many([good, sender, ChainCall(world["zoo"], witness.data("zoo", "empty"))] * 2)
    assert [result.is_success for result in found] == [True, True, False] * 2
    assert found[2].data == b""


async def test_a_reverting_call_tells_its_reason(chain: LiveChain, witness: Witness, world: World) -> None:
    call = ChainCall(world["usdc"], witness.data("usdc", "transfer", BOB, 10**30), sender=ALICE)
    with pytest.raises(Permanent) as raised:
        await chain.call(call)
    assert raised.value.code is Code.CALL_REVERTED
    reason = raised.value.public_details()[0]["revert"]
    assert (reason["kind"], reason["name"]) == ("custom", "ERC20InsufficientBalance")
    assert reason["args"] == {"sender": ALICE, "balance": str(10**12), "needed": str(10**30)}


async def test_fees_bid_twice_the_base_and_the_tip(chain: LiveChain, anvil: Anvil) -> None:
    history = anvil.rpc("eth_feeHistory", "0x5", "latest", [50])
    fees = await chain.fees()
    base = int(history["baseFeePerGas"][-1], 16)
    assert fees.max_fee_units == 2 * base + fees.tip_units
    assert (fees.expected_units, fees.is_legacy) == (base + fees.tip_units, False)
    assert fees.tip_units >= 1


async def test_gas_is_estimated_and_lacks_are_told(chain: LiveChain, witness: Witness, world: World) -> None:
    assert await chain.estimate_gas(ALICE, BOB, 1, b"") == 21_000
    transfer = witness.data("usdc", "transfer", BOB, 5)
    assert await chain.estimate_gas(ALICE, world["usdc"], 0, transfer) > 30_000
    with pytest.raises(Permanent, match="ERC20InsufficientAllowance"):
        await chain.estimate_gas(ALICE, world["usdc"], 0, witness.data("usdc", "transferFrom", BOB, ALICE, 5))


async def test_a_transaction_goes_out_and_its_receipt_comes_back(chain: LiveChain, witness: Witness) -> None:
    before, nonce = witness.native(BOB), await chain.nonce(ALICE)
    raw = signed(nonce, value=7)
    sent = await chain.broadcast(raw)
    assert sent.outcome == "accepted"
    seen: Any = witness.web3.eth.wait_for_transaction_receipt(HexBytes(sent.hash), poll_latency=0.01)
    receipt = await chain.receipt(sent.hash, "pay")
    assert receipt is not None
    assert (receipt.item, receipt.is_success, receipt.gas_used) == ("pay", True, 21_000)
    assert receipt.fee_units == seen["gasUsed"] * seen["effectiveGasPrice"]
    assert (receipt.block_number, receipt.block_hash) == (seen["blockNumber"], seen["blockHash"].to_0x_hex())
    assert witness.native(BOB) == before + 7
    assert await chain.block_receipts(seen["blockHash"].to_0x_hex()) == [replace(receipt, item="")]
    found = await chain.find_transaction(sent.hash)
    assert found is not None
    assert (found.sender, found.to, found.nonce, found.value_units, found.confirmations) == (ALICE, BOB, nonce, 7, 1)
    assert await chain.receipts([sent.hash, f"0x{'34' * 32}"]) == [replace(receipt, item=""), None]


async def test_what_a_node_says_of_a_broadcast_is_named(chain: LiveChain, anvil: Anvil) -> None:
    nonce = await chain.nonce(ALICE)
    anvil.set_automine(False)
    first = signed(nonce, max_fee=50 * 10**9)
    assert (await chain.broadcast(first)).outcome == "accepted"
    assert (await chain.broadcast(first)).outcome == "known"
    assert (await chain.broadcast(signed(nonce, value=2, max_fee=10**9 + 5))).outcome in ("underpriced", "refused")
    assert (await chain.broadcast(signed(nonce + 1, value=10**30))).outcome == "funds"
    anvil.mine()
    assert (await chain.broadcast(signed(nonce, value=3))).outcome == "nonce-too-low"
    anvil.stop()
    assert (await chain.broadcast(signed(nonce + 1))).outcome in ("unknown", "not-sent")  # a kept connection broke
    assert (await chain.broadcast(signed(nonce + 1))).outcome == "not-sent"


async def test_a_mined_revert_is_explained(chain: LiveChain, witness: Witness, world: World) -> None:
    data = witness.data("zoo", "custom")
    fields: Any = {"from": RICH, "to": world["zoo"], "data": data, "gas": 100_000}
    sent = witness.web3.eth.send_transaction(fields)
    witness.web3.eth.wait_for_transaction_receipt(sent, poll_latency=0.01)
    receipt = await chain.receipt(sent.to_0x_hex())
    assert receipt is not None
    assert not receipt.is_success
    abi = [entry for entry in witness.contract("zoo").abi if entry["type"] == "error"]
    reason = await chain.explain(sent.to_0x_hex(), abi)
    assert reason is not None
    assert (reason["name"], reason["args"]) == ("Custom", {"code": "7", "why": "because"})


async def test_logs_of_a_block_by_its_hash(chain: LiveChain, witness: Witness, world: World) -> None:
    receipt = witness.send("usdc", "transfer", BOB, 5, sender=ALICE)
    found = await chain.logs(receipt["blockHash"].to_0x_hex(), world["usdc"])
    assert [(log.address, log.topics[0].hex()[:8], log.index) for log in found] == [(world["usdc"], "ddf252ad", 0)]
    assert await chain.logs(receipt["blockHash"].to_0x_hex(), world["dai"]) == []
