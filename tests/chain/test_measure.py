"""What mined transactions changed, by balances read around their blocks, against web3.py as a witness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dustrun.chain.chains import Chains
from dustrun.chain.evm import LiveChain
from dustrun.chain.measure import Measure, MinedIntent, measure
from dustrun.core.money.intent import Intent
from dustrun.core.values.addresses import checksum
from dustrun.settings import Settings
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil
from testkit.chain.contracts import ETHER, Witness, World
from testkit.chain.rpc_proxy import Proxy, proxy

ALICE, BOB, CAROL = ACCOUNTS[1:4]
NATIVE = f"eip155:{CHAIN_ID}/native"


class Watch:
    """A chain behind a proxy that counts, and may twist."""

    def __init__(self, chain: LiveChain, between: Proxy, witness: Witness) -> None:
        self.chain = chain
        self.between = between
        self.witness = witness

    async def mined(self, receipt: Any, item: str = "a", value: int = 0, data: bytes = b"") -> MinedIntent:
        """A transaction of the witness as a node's intent."""
        found = await self.chain.receipt(receipt["transactionHash"].to_0x_hex())
        assert found is not None
        to = checksum(receipt["to"])
        return MinedIntent(Intent(item, CHAIN_ID, to, value, data, (), "test", method="f()" if data else None), found)

    async def measure(self, *mined: MinedIntent) -> tuple[list[Measure], int]:
        """The measures of ALICE's transactions and how many requests they took."""
        before = self.between.requests
        found = await measure(self.chain, ALICE, mined)
        return found, self.between.requests - before


@pytest.fixture
async def watch(world: World, anvil: Anvil, witness: Witness) -> AsyncIterator[Watch]:
    async with proxy(anvil.url) as between:
        network = world.network(between.url)
        chains = Chains({network.chain_id: network}, Settings())
        yield Watch(chains.get(network.chain_id), between, witness)
        await chains.close()


def by_pair(found: Measure) -> dict[tuple[str, str], int]:
    """The changes of a measure."""
    return {(who, asset): units for who, asset, units in found.changes}


async def test_one_batch_for_a_block_says_what_the_witness_says(watch: Watch, world: World) -> None:
    fee = f"eip155:{CHAIN_ID}/erc20:{world['fee']}"
    had = {who: (watch.witness.balance("fee", who), watch.witness.native(who)) for who in (ALICE, BOB)}
    receipt = watch.witness.send("fee", "transfer", BOB, 1000, sender=ALICE)
    mined = await watch.mined(receipt, data=watch.witness.data("fee", "transfer", BOB, 1000))
    (found,), requests = await watch.measure(mined)
    assert requests == 1
    changes = by_pair(found)
    for who in (ALICE, BOB):
        assert changes[(who, fee)] == watch.witness.balance("fee", who) - had[who][0]
    assert changes[(ALICE, NATIVE)] == watch.witness.native(ALICE) - had[ALICE][1], "gas is in the number"
    assert (BOB, NATIVE) in found.unchanged
    assert (found.others, found.failed, found.left_out) == ((), None, 0)


async def test_blocks_are_read_apart_and_approvals_again(watch: Watch, world: World) -> None:
    allowed = watch.witness.send("usdc", "approve", CAROL, 50, sender=ALICE)
    taken = watch.witness.send("usdc", "transferFrom", ALICE, BOB, 20, sender=CAROL)
    first = await watch.mined(allowed, "a", data=watch.witness.data("usdc", "approve", CAROL, 50))
    second = await watch.mined(taken, "b", data=watch.witness.data("usdc", "transferFrom", ALICE, BOB, 20))
    found, requests = await watch.measure(second, first)  # given in any order, answered in the same
    assert requests == 2
    usdc = f"eip155:{CHAIN_ID}/erc20:{world['usdc']}"
    assert by_pair(found[0])[(ALICE, usdc)] == -20
    assert (ALICE, usdc) not in by_pair(found[1])
    assert [one["amount"] for one in found[1].approvals] == ["50"]
    assert [one["amount"] for one in found[0].approvals if one["spender"] == CAROL] == ["30"]


async def test_others_of_the_block_are_named(watch: Watch, anvil: Anvil, world: World) -> None:
    anvil.rpc("evm_setAutomine", False)
    data = watch.witness.data("usdc", "transfer", BOB, 5)
    fields = {"from": ALICE, "to": world["usdc"], "data": f"0x{data.hex()}", "gas": hex(200_000)}
    ours = anvil.rpc("eth_sendTransaction", fields)
    theirs = anvil.rpc("eth_sendTransaction", {**fields, "from": CAROL})
    coin = anvil.rpc("eth_sendTransaction", {"from": CAROL, "to": ALICE, "value": hex(ETHER)})
    anvil.rpc("evm_mine")
    receipt = watch.witness.web3.eth.get_transaction_receipt(ours)
    ((found,), _) = await watch.measure(await watch.mined(receipt, data=data))
    usdc = f"eip155:{CHAIN_ID}/erc20:{world['usdc']}"
    assert by_pair(found)[(BOB, usdc)] == 10
    assert set(found.others) == {(BOB, usdc, theirs), (ALICE, NATIVE, coin)}


async def test_runs_that_ask_together_share_a_batch_and_keep_apart(watch: Watch, anvil: Anvil) -> None:
    anvil.rpc("evm_setAutomine", False)
    fields = {"from": ALICE, "gas": hex(21_000)}
    sent = [anvil.rpc("eth_sendTransaction", {**fields, "to": who, "value": hex(5)}) for who in (BOB, CAROL)]
    anvil.rpc("evm_mine")
    receipts = [watch.witness.web3.eth.get_transaction_receipt(hash) for hash in sent]
    mined = [await watch.mined(receipt, value=5) for receipt in receipts]
    before = watch.between.requests
    (first,), (second,) = await asyncio.gather(*(measure(watch.chain, ALICE, [one]) for one in mined))
    assert watch.between.requests - before == 1
    assert (by_pair(first)[(BOB, NATIVE)], by_pair(second)[(CAROL, NATIVE)]) == (5, 5)
    assert (CAROL, NATIVE) not in by_pair(first)
    assert (first.others, second.others) == (((ALICE, NATIVE, sent[1]),), ((ALICE, NATIVE, sent[0]),))


@pytest.mark.parametrize("broken", ["eth_call", "eth_getBlockByHash", "eth_getBlockByNumber"])
@pytest.mark.parametrize("answer", [None, "0x1234", {"hash": "0x1"}, []])
async def test_an_endpoint_that_answers_rubbish_measures_nothing(watch: Watch, broken: str, answer: Any) -> None:
    mined = await watch.mined(watch.witness.pay(BOB, 5, sender=ALICE), value=5)
    watch.between.twist = lambda call, said: {**said, "result": answer} if call["method"] == broken else said
    ((found,), _) = await watch.measure(mined)
    assert found.failed
    assert (found.changes, found.approvals) == ((), ())


async def test_a_block_that_was_reorganised_away_measures_nothing(watch: Watch, anvil: Anvil) -> None:
    mined = await watch.mined(watch.witness.pay(BOB, 5, sender=ALICE), value=5)
    anvil.rpc("anvil_reorg", 1, [])
    ((found,), _) = await watch.measure(mined)
    assert found.failed is not None
    assert str(mined.receipt.block_number) in found.failed
