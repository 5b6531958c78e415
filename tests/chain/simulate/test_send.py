"""One simulated transaction after the other: status, balances, events, approvals, gas, against really sent ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from eth_abi.abi import encode

from dustrun.chain.simulate import SimChain
from dustrun.chain.simulate.creation import PROBER_CODE, contract_address
from dustrun.core.money.intent import BalanceChange, Intent
from dustrun.services.outbox.fees import FeeRequest, price
from dustrun.services.outbox.spend_status import IntentFailure
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, FOLDER, Anvil
from testkit.chain.contracts import ETHER, MAX, Witness, World, artifact
from testkit.chain.intents import call, create, pay

ALICE, BOB, CAROL = ACCOUNTS[1], ACCOUNTS[2], ACCOUNTS[3]
FRESH = "0x00000000000000000000000000000000DeaDBeef"
NATIVE = f"eip155:{CHAIN_ID}/native"
LATE = 2**40


def erc20(world: World, name: str) -> str:
    return f"eip155:{CHAIN_ID}/erc20:{world[name]}"


def changes(result: Any) -> set[tuple[str, str, int]]:
    return {(change.address, change.asset, change.delta_units) for change in result.changes}


async def test_native_coin_moves_without_the_fee(sim: SimChain) -> None:
    result = await sim.send(ALICE, pay(FRESH, ETHER))
    assert result.status == "success"
    assert result.receipt is not None
    assert (result.receipt.gas_used, result.receipt.hash, result.receipt.is_simulated) == (21_000, None, True)
    assert set(result.changes) == {BalanceChange(ALICE, NATIVE, -ETHER), BalanceChange(FRESH, NATIVE, ETHER)}
    assert await sim.balance(FRESH) == ETHER
    assert await sim.balance(ALICE) == await sim._live.balance(ALICE) - ETHER - result.receipt.fee_units


async def test_later_steps_see_earlier_ones(sim: SimChain, witness: Witness, world: World) -> None:
    approve = await sim.send(ALICE, call(witness, "usdc", "approve", world["v2_router"], 10**9))
    assert approve.is_success
    assert approve.approvals == (
        {"owner": ALICE, "spender": world["v2_router"], "asset": erc20(world, "usdc"), "amount": str(10**9)},
    )
    path = [world["usdc"], world["weth"]]
    swap = await sim.send(ALICE, call(witness, "v2_router", "swapExactTokensForTokens", 10**9, 1, path, ALICE, LATE))
    assert swap.is_success
    gained = {asset: delta for address, asset, delta in changes(swap) if address == ALICE}
    assert gained[erc20(world, "usdc")] == -(10**9)
    assert gained[erc20(world, "weth")] > 10**17
    assert swap.approvals[0]["amount"] == "0"
    names = [event.get("name") for event in swap.events]
    assert "Swap" in names
    assert names.count("Transfer") == 2
    forward = await sim.send(ALICE, call(witness, "weth", "transfer", FRESH, gained[erc20(world, "weth")]))
    assert (FRESH, erc20(world, "weth"), gained[erc20(world, "weth")]) in changes(forward)


async def test_balances_are_read_not_summed(sim: SimChain, witness: Witness, world: World) -> None:
    wrapped = await sim.send(ALICE, call(witness, "weth", "deposit", value=5))
    assert (ALICE, erc20(world, "weth"), 5) in changes(wrapped)
    assert (ALICE, NATIVE, -5) in changes(wrapped)
    assert (world["weth"], NATIVE, 5) in changes(wrapped)
    fee = await sim.send(ALICE, call(witness, "fee", "transfer", FRESH, 1000))
    assert changes(fee) == {
        (ALICE, erc20(world, "fee"), -1000),
        (FRESH, erc20(world, "fee"), 990),
        (world["fee"], erc20(world, "fee"), 10),
    }
    rebase = await sim.send(ALICE, call(witness, "rebasing", "rebase", 150))
    assert (ALICE, erc20(world, "rebasing"), 10**24 // 2) in changes(rebase)
    false = await sim.send(ALICE, call(witness, "false", "transfer", FRESH, 10**30))
    assert (false.status, changes(false)) == ("success", set())


async def test_internal_transfers_of_native_coin_are_seen(sim: SimChain, witness: Witness, world: World) -> None:
    result = await sim.send(ALICE, call(witness, "forwarder", "split", FRESH, BOB, value=10))
    assert changes(result) == {(ALICE, NATIVE, -10), (FRESH, NATIVE, 5), (BOB, NATIVE, 5)}


async def test_ids_of_nfts_have_owners_and_balances(sim: SimChain, witness: Witness, world: World) -> None:
    minted = await sim.send(ALICE, call(witness, "nft", "mint", ALICE, 7))
    nft = f"eip155:{CHAIN_ID}/erc721:{world['nft']}/7"
    assert changes(minted) == {(ALICE, nft, 1)}
    approved = await sim.send(ALICE, call(witness, "nft", "approve", BOB, 7))
    assert approved.approvals == ({"owner": ALICE, "spender": BOB, "asset": nft, "amount": "1"},)
    moved = await sim.send(BOB, call(witness, "nft", "transferFrom", ALICE, CAROL, 7))
    assert changes(moved) == {(ALICE, nft, -1), (CAROL, nft, 1)}
    assert moved.approvals == ({"owner": ALICE, "spender": BOB, "asset": nft, "amount": "0"},)
    multi = f"eip155:{CHAIN_ID}/erc1155:{world['multi']}"
    await sim.send(ALICE, call(witness, "multi", "mint", ALICE, 1, 50))
    await sim.send(ALICE, call(witness, "multi", "mint", ALICE, 2, 60))
    batch = await sim.send(ALICE, call(witness, "multi", "safeBatchTransferFrom", ALICE, BOB, [1, 2], [5, 6], b""))
    wanted = {(ALICE, f"{multi}/1", -5), (BOB, f"{multi}/1", 5), (ALICE, f"{multi}/2", -6), (BOB, f"{multi}/2", 6)}
    assert changes(batch) == wanted
    every = await sim.send(ALICE, call(witness, "multi", "setApprovalForAll", BOB, True))
    assert every.approvals[0]["amount"] == str(MAX)


async def test_a_revert_is_decoded_and_leaves_nothing(sim: SimChain, witness: Witness, world: World) -> None:
    before = await sim.balance(ALICE)
    result = await sim.send(ALICE, call(witness, "zoo", "custom"))
    assert (result.status, result.changes, result.events) == ("reverted", (), ())
    assert result.revert is not None
    assert (result.revert["name"], result.revert["args"]) == ("Custom", {"code": "7", "why": "because"})
    assert await sim.balance(ALICE) == before
    over = await sim.send(ALICE, call(witness, "usdc", "transfer", BOB, 10**30))
    assert over.reason is not None
    assert over.reason.startswith("ERC20InsufficientBalance(")


async def test_a_revert_that_stays_burns_nonce_and_gas(sim: SimChain, witness: Witness) -> None:
    before = await sim.balance(ALICE)
    result = await sim.send(ALICE, call(witness, "zoo", "requireString"), reverts_stay=True)
    assert result.reason == "no way"
    assert result.receipt is not None
    assert await sim.balance(ALICE) == before - result.receipt.fee_units
    made = await sim.send(ALICE, create(code_of("Rejector")))
    assert made.receipt is not None
    nonce = await sim._live.nonce(ALICE)
    assert made.receipt.contract_address == contract_address(ALICE, nonce + 1)


async def test_a_gas_limit_counts_although_an_estimate_saw_the_call_without(
    sim: SimChain, witness: Witness, world: World
) -> None:
    await sim.send(ALICE, call(witness, "reentrant", "approve", world["greedy"], 1000))
    intent = call(witness, "reentrant", "transfer", world["greedy"], 1, gas_limit=2_000_000)
    assert intent.to is not None
    await sim.estimate_gas(ALICE, intent.to, 0, intent.data)
    result = await sim.send(ALICE, intent)
    assert result.is_success
    assert result.receipt is not None
    witness.send("reentrant", "approve", world["greedy"], 1000, sender=ALICE)
    fields: Any = {"from": ALICE, "to": intent.to, "data": intent.data, "gas": 2_000_000}
    real = witness.web3.eth.wait_for_transaction_receipt(witness.web3.eth.send_transaction(fields))
    assert (len(result.receipt.logs), result.receipt.gas_used) == (len(real["logs"]), real["gasUsed"])


def code_of(name: str) -> bytes:
    return bytes.fromhex(artifact(name)[1][2:])


async def test_who_cannot_pay_is_rejected(sim: SimChain, anvil: Anvil) -> None:
    poor = "0x00000000000000000000000000000000C0FFEE00"
    anvil.set_balance(poor, 10**16)
    for units in (10**18, 10**16):  # more than there is; all of it, with nothing left for gas
        result = await sim.send(poor, pay(BOB, units))
        assert (result.status, result.receipt) == ("rejected", None)
        assert result.rejected is not None
    some = await sim.send(poor, pay(BOB, 10**15))
    assert some.is_success


async def test_a_spend_that_cannot_be_sent_fails_with_the_code_of_the_real_chain(
    sim: SimChain, witness: Witness, anvil: Anvil
) -> None:
    poor = "0x00000000000000000000000000000000C0FFEE00"
    anvil.set_balance(poor, 10**18)
    spends = {
        "INSUFFICIENT_FUNDS": pay(BOB, 2 * 10**18),
        "REVERTED": create(bytes(50_000)),
        "GAS_LIMIT": replace(create(bytes.fromhex("60006000f3")), gas_limit=30_000),
    }
    beyond_a_block = call(witness, "usdc", "transfer", BOB, 0, gas_limit=100_000_000)  # no block could include it
    called = [("REVERTED", call(witness, "usdc", "transfer", BOB, 10**30)), ("GAS_LIMIT", beyond_a_block)]
    for code, intent in [*spends.items(), *called]:
        priced = [await price(chain, FeeRequest(poor, intent), 2) for chain in (sim, sim._live)]
        assert [failure.code for failure in priced if isinstance(failure, IntentFailure)] == [code, code]


async def test_a_created_contract_works(sim: SimChain, witness: Witness, world: World, anvil: Anvil) -> None:
    code = code_of("Token") + encode(["string", "string", "uint8"], ["New Token", "NEW", 9])
    made = await sim.send(ALICE, create(code))
    assert made.is_success
    assert made.receipt is not None
    token = made.receipt.contract_address
    assert token is not None
    at = Witness(anvil.url, {"new": token})
    mint = witness.contract("usdc", token).encode_abi("mint", [ALICE, 5])
    minted = await sim.send(ALICE, Intent("mint", CHAIN_ID, token, 0, bytes.fromhex(mint[2:]), (), "mints"))
    assert (ALICE, f"eip155:{CHAIN_ID}/erc20:{token}", 5) in changes(minted)
    fields: Any = {"from": ALICE, "data": "0x" + code.hex()}
    real = at.web3.eth.wait_for_transaction_receipt(at.web3.eth.send_transaction(fields), poll_latency=0.01)
    assert real["contractAddress"] == token
    assert real["gasUsed"] == made.receipt.gas_used
    assert await sim.code(token) == bytes(at.web3.eth.get_code(at.web3.to_checksum_address(token)))


async def test_a_constructor_that_reverts_creates_nothing(sim: SimChain) -> None:
    result = await sim.send(ALICE, create(bytes.fromhex("60006000fd")))
    assert (result.status, result.receipt and result.receipt.contract_address) == ("reverted", None)
    too_much = await sim.send(ALICE, create(bytes(50_000)))
    assert too_much.status == "rejected"


def test_the_probers_code_is_that_of_its_source() -> None:
    compiled = json.loads((FOLDER / "contracts.json").read_text())
    assert compiled["Prober"]["runtime"] == PROBER_CODE
