"""Reads between simulated transactions, time, forks that go on elsewhere, and forks that are lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from chain.test_endpoints import chain_of
from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate import SimChain
from dustrun.chain.simulate.pinning import pin
from dustrun.chain.simulate.strategies.relay import Relay
from dustrun.chain.simulate.strategy import STRATEGIES
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.errors import Code, Permanent
from dustrun.sdk.chain import ChainCall
from testkit.chain.anvil import ACCOUNTS, Anvil, binary
from testkit.chain.contracts import ETHER, Witness, World
from testkit.chain.intents import call, pay
from testkit.chain.rpc_proxy import Answer, Call, proxy

ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]
FRESH = "0x00000000000000000000000000000000DeaDBeef"


def balance_of(witness: Witness, token: str, who: str) -> ChainCall:
    return ChainCall(witness.addresses[token], witness.data(token, "balanceOf", who))


async def test_reads_see_what_was_simulated(sim: SimChain, witness: Witness, world: World) -> None:
    assert int.from_bytes(await sim.call(balance_of(witness, "usdc", FRESH))) == 0
    await sim.send(ALICE, call(witness, "usdc", "transfer", FRESH, 77))
    assert int.from_bytes(await sim.call(balance_of(witness, "usdc", FRESH))) == 77
    asked = [balance_of(witness, "usdc", FRESH), ChainCall(world["zoo"], witness.data("zoo", "custom"))] * 30
    found = await sim.call_many(asked)
    assert [result.is_success for result in found] == [True, False] * 30
    assert int.from_bytes(found[58].data) == 77
    with pytest.raises(Permanent, match="reverted: no way"):
        await sim.call(ChainCall(world["zoo"], witness.data("zoo", "requireString")))
    assert witness.balance("usdc", FRESH) == 0
    assert await sim.code(world["usdc"]) == await sim._live.code(world["usdc"])
    assert await sim.code(FRESH) == b""


async def test_blocks_and_time_go_on(sim: SimChain, witness: Witness, world: World) -> None:
    async def facts() -> list[int]:
        answer = await sim.call(ChainCall(world["zoo"], witness.data("zoo", "blockFacts")))
        return [int.from_bytes(answer[place : place + 32]) for place in (0, 32, 64)]

    first = await sim.send(ALICE, pay(BOB, 1))
    second = await sim.send(ALICE, pay(BOB, 1))
    assert first.receipt is not None
    assert second.receipt is not None
    assert second.receipt.block_number == first.receipt.block_number + 1
    assert second.receipt.block_time == first.receipt.block_time + 1
    assert await facts() == [second.receipt.block_number, second.receipt.block_time, 31337]
    assert (await sim.block()).number == second.receipt.block_number
    sim.advance(3600)
    assert (await facts())[1] == second.receipt.block_time + 3600
    third = await sim.send(ALICE, pay(BOB, 1))
    assert third.receipt is not None
    assert third.receipt.block_time == second.receipt.block_time + 3601


async def test_the_real_chain_moves_on_without_it(sim: SimChain, witness: Witness, anvil: Anvil) -> None:
    before = await sim.balance(BOB)
    witness.pay(BOB, 5)
    anvil.mine(3)
    assert await sim.balance(BOB) == before
    result = await sim.send(ALICE, pay(BOB, 1))
    assert result.is_success
    assert await sim.balance(BOB) == before + 1


async def test_it_goes_on_from_its_json(sim: SimChain, chain: LiveChain, witness: Witness, world: World) -> None:
    assert sim.to_json() is None
    await sim.send(ALICE, call(witness, "usdc", "approve", world["v2_router"], 10**9))
    await sim.send(ALICE, pay(FRESH, ETHER))
    sim.advance(60)
    state = loads(dumps_text(sim.to_json()))
    again = SimChain(chain, fork_binary=binary(), state=state)
    path = [world["usdc"], world["weth"]]
    swap = call(witness, "v2_router", "swapExactTokensForTokens", 10**9, 1, path, ALICE, 2**40)
    one, other = await sim.send(ALICE, swap), await again.send(ALICE, swap)
    assert one.is_success
    assert one == other
    assert again.to_json() == sim.to_json()
    assert again.describe() == sim.describe()
    assert await again.balance(FRESH) == ETHER
    await again.close()


async def test_parallel_senders_are_put_in_a_row(sim: SimChain) -> None:
    results = await asyncio.gather(*(sim.send(who, pay(FRESH, 7)) for who in (ALICE, BOB) * 5))
    assert all(result.is_success for result in results)
    assert await sim.balance(FRESH) == 70
    numbers = {result.receipt.block_number for result in results if result.receipt is not None}
    assert len(numbers) == 10


@pytest.mark.parametrize("strategy", ["simulate-v1", "trace-call"])
async def test_a_fork_whose_block_is_gone_ends(strategy: Any, world: World, anvil: Anvil, witness: Witness) -> None:
    gone = [False]

    def forgets(call: Call, answer: Answer) -> Answer:
        if gone[0] and "blockHash" in json.dumps(call["params"]):
            error = {"code": -32000, "message": "header not found"}
            return {"jsonrpc": "2.0", "id": call["id"], "error": error}
        return answer

    async with proxy(anvil.url, twist=forgets) as node, chain_of(world, node.url) as chain:
        sim = SimChain(chain, strategy=strategy)
        await sim.send(ALICE, pay(BOB, 1))
        gone[0] = True
        with pytest.raises(Permanent, match="start a new one,") as raised:
            await sim.send(ALICE, pay(BOB, 1))
    assert raised.value.code is Code.SIM_FORK_LOST


async def test_the_best_strategy_is_taken_and_what_is_missing_is_told(world: World, anvil: Anvil) -> None:
    missing: set[str] = set()

    def lacks(call: Call, answer: Answer) -> Answer:
        if call["method"] in missing:
            error = {"code": -32601, "message": "the method does not exist/is not available"}
            return {"jsonrpc": "2.0", "id": call["id"], "error": error}
        return answer

    chosen = []
    for gone, anvil_binary in (((), None), (("debug_traceCall",), None), (("eth_simulateV1",), binary())):
        missing.update(gone)
        async with proxy(anvil.url, twist=lacks) as node, chain_of(world, node.url) as chain:
            sim = SimChain(chain, fork_binary=anvil_binary)
            assert (await sim.send(ALICE, pay(BOB, 1))).is_success
            chosen.append(sim.strategy)
            await sim.close()
    assert chosen == ["trace-call", "simulate-v1", "local-fork"]
    async with proxy(anvil.url, twist=lacks) as node, chain_of(world, node.url) as chain:
        with pytest.raises(Permanent, match="set an anvil binary in `fork_binary`,") as raised:
            await SimChain(chain).block()
    assert raised.value.code is Code.SIM_UNAVAILABLE


async def test_only_reads_leave_and_nothing_is_written(world: World, anvil: Anvil, witness: Witness) -> None:
    before = witness.nonce(ALICE)
    for strategy in STRATEGIES:
        async with proxy(anvil.url) as node, chain_of(world, node.url) as chain:
            sim = SimChain(chain, strategy=strategy, fork_binary=binary())
            assert (await sim.send(ALICE, call(witness, "usdc", "transfer", BOB, 5))).is_success
            await sim.balance(BOB)
            await sim.close()
            asked = set(node.methods)
        assert not asked & {"eth_sendRawTransaction", "eth_sendTransaction"}
        assert not {method for method in asked if method.startswith(("anvil_", "evm_", "personal_"))}
    assert witness.nonce(ALICE) == before


async def test_the_relay_passes_reads_only(chain: LiveChain) -> None:
    relay = Relay(chain.endpoints, await pin(chain))
    answered = await relay._answer({"id": 1, "method": "eth_chainId"})
    assert answered["result"] == "0x7a69"
    refused = await relay._answer({"id": 2, "method": "eth_sendRawTransaction", "params": ["0x00"]})
    assert refused["error"]["code"] == -32601
    assert (await relay._answer([]))["error"]["code"] == -32601


async def test_a_binary_that_does_not_serve_is_told(chain: LiveChain, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="cannot be started") as raised:
        await SimChain(chain, strategy="local-fork", fork_binary=tmp_path / "none").block()
    assert raised.value.code is Code.SIM_UNAVAILABLE
    with pytest.raises(Permanent, match="does not work"):
        await SimChain(chain, strategy="local-fork", fork_binary=Path("/bin/false")).block()
