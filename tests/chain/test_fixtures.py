"""The chain that the tests stand on is what they take it for: real Uniswap, odd tokens that are odd as they should."""

from __future__ import annotations

import time
from typing import Any

import pytest
from eth_account import Account

from testkit.chain.anvil import ACCOUNTS, KEYS, Anvil, NodeError
from testkit.chain.contracts import ETHER, MULTICALL3, RICH, TOKENS, World

BOB = ACCOUNTS[1]


def test_accounts_are_those_of_the_keys(anvil: Anvil) -> None:
    assert tuple(Account.from_key(key).address for key in KEYS) == ACCOUNTS
    assert [account.lower() for account in ACCOUNTS] == anvil.rpc("eth_accounts")[: len(ACCOUNTS)]


def test_a_loaded_node_is_ready_soon(world: World) -> None:
    with Anvil(state=world.state) as node:
        assert node.rpc("eth_getCode", MULTICALL3, "latest") != "0x"
        assert node.processor_s() < 5


def _seen(node: Anvil) -> dict[str, Any]:
    """What a test could tell a fresh node by."""
    block = node.rpc("eth_getBlockByNumber", "latest", True)
    pending = node.rpc("eth_getBlockByNumber", "pending", False)
    return {
        "head": (block["number"], block["hash"], block["timestamp"]),
        "next": (pending["number"], pending["baseFeePerGas"], pending["transactions"]),
        "fees": node.rpc("eth_feeHistory", "0x5", "latest", [50]),
        "pool": node.rpc("txpool_content"),
        "account": [node.rpc(f"eth_get{what}", BOB, "latest") for what in ("Balance", "TransactionCount", "Code")],
    }


def test_a_node_that_is_lent_again_is_as_fresh_as_a_new_one(world: World) -> None:
    with world.node() as node:
        fresh, pid = _seen(node), node.pid
        sent = node.rpc("eth_sendTransaction", {"from": BOB, "to": RICH, "value": "0x5"})
        node.mine(3)
        node.set_balance(BOB, 7)
        node.rpc("anvil_setCode", BOB, "0x00")
        node.set_automine(False)
        node.rpc("eth_sendTransaction", {"from": RICH, "to": BOB, "value": "0x5"})
        assert _seen(node) != fresh
    with world.node() as node:
        assert (_seen(node), node.pid) == (fresh, pid)
        assert node.rpc("eth_getTransactionReceipt", sent) is None
        paid = world.witness(node).pay(RICH, 5, sender=BOB)
        mined = node.rpc("eth_getBlockByNumber", hex(paid["blockNumber"]), False)
        assert abs(int(mined["timestamp"], 16) - time.time()) < 30
        assert (mined["baseFeePerGas"], len(mined["transactions"])) == (fresh["next"][1], 1)
        node.reorg(1)
    with world.node() as node:
        assert node.pid != pid  # what a reorg leaves is not undone


def test_every_account_has_every_token(world: World, anvil: Anvil) -> None:
    witness = world.witness(anvil)
    for name, decimals in TOKENS.items():
        assert witness.balance(name, BOB) == (1000 * ETHER if name == "weth" else 10**6 * 10**decimals)


def test_swaps_of_both_versions_give_what_they_quote(world: World, anvil: Anvil) -> None:
    witness = world.witness(anvil)
    quoted = witness.read("v2_router", "getAmountsOut", ETHER, [world["weth"], world["usdc"]])[1]
    before = witness.balance("usdc", BOB)
    path, late = [world["weth"], world["usdc"]], 2**40
    witness.send("v2_router", "swapExactETHForTokens", quoted, path, BOB, late, sender=BOB, value=ETHER)
    assert witness.balance("usdc", BOB) - before == quoted
    asked = (world["weth"], world["usdc"], ETHER, 3000, 0)
    quoted = witness.read("v3_quoter", "quoteExactInputSingle", asked)[0]
    before = witness.balance("usdc", BOB)
    swap = (world["weth"], world["usdc"], 3000, BOB, late, ETHER, quoted, 0)
    witness.send("v3_router", "exactInputSingle", swap, sender=BOB, value=ETHER)
    assert witness.balance("usdc", BOB) - before == quoted


def test_odd_tokens_are_odd(world: World, anvil: Anvil) -> None:
    witness, fresh = world.witness(anvil), "0x00000000000000000000000000000000DeaDBeef"
    witness.send("fee", "transfer", fresh, 1000)
    assert witness.balance("fee", fresh) == 990
    witness.send("rebasing", "transfer", fresh, 1000)
    witness.send("rebasing", "rebase", 150)
    assert witness.balance("rebasing", fresh) == 1500
    witness.send("false", "transfer", fresh, 10**30, sender=BOB)
    assert witness.balance("false", fresh) == 0
    call = {"from": RICH, "to": world["race"], "data": "0x" + witness.data("race", "transfer", fresh, 1).hex()}
    assert anvil.rpc("eth_call", call, "latest") == "0x"
    witness.send("race", "approve", BOB, 5)
    approval = "0x" + witness.data("race", "approve", BOB, 6).hex()
    with pytest.raises(NodeError):
        anvil.rpc("eth_call", {"from": RICH, "to": world["race"], "data": approval}, "latest")
    witness.send("reentrant", "approve", world["greedy"], 10)
    witness.send("reentrant", "transfer", world["greedy"], 10)
    assert witness.balance("reentrant", world["greedy"]) == 20


def test_snapshot_reorg_and_restart_of_the_helper(world: World, anvil: Anvil) -> None:
    witness = world.witness(anvil)
    snapshot, before = anvil.snapshot(), witness.native(BOB)
    witness.pay(BOB, 5)
    assert witness.native(BOB) == before + 5
    anvil.revert(snapshot)
    assert witness.native(BOB) == before
    witness.pay(BOB, 5)
    height = int(anvil.rpc("eth_blockNumber"), 16)
    anvil.reorg(1)
    assert (int(anvil.rpc("eth_blockNumber"), 16), witness.native(BOB)) == (height, before)
    anvil.stop()
    anvil.start()
    assert int(anvil.rpc("eth_chainId"), 16) == anvil.chain_id


def test_a_node_that_ends_at_once_fails_with_its_words() -> None:
    with pytest.raises(AssertionError, match="anvil did not start"), Anvil("--no-such-option"):
        pass
