"""Reads of a simulated chain: once on a state, ahead on the next one, and never those of an older one."""

from __future__ import annotations

from chain.simulate.conftest import Watched
from dustrun.sdk.chain import ChainCall
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import ETHER, Witness, World
from testkit.chain.intents import call, pay

ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]


def balance_of(world: World, witness: Witness, who: str) -> ChainCall:
    return ChainCall(world["weth"], witness.data("weth", "balanceOf", who))


async def test_a_read_is_asked_once_on_a_state(watched: Watched, world: World, witness: Witness) -> None:
    sim, counted = watched
    asked = balance_of(world, witness, ALICE)
    first = await sim.call(asked), await sim.balance(BOB), await sim.code(world["weth"])
    before = counted.requests
    assert (await sim.call(asked), await sim.balance(BOB), await sim.code(world["weth"])) == first
    assert counted.requests == before


async def test_what_was_read_is_read_ahead_on_the_next_state(watched: Watched, world: World, witness: Witness) -> None:
    sim, counted = watched
    calls = [balance_of(world, witness, who) for who in (ALICE, BOB)]
    had = [int.from_bytes(await sim.call(asked)) for asked in calls]
    had_native, code = await sim.balance(BOB), await sim.code(world["weth"])
    for round in range(1, 4):
        assert (await sim.send(ALICE, call(witness, "weth", "transfer", BOB, 5))).is_success
        assert (await sim.send(ALICE, pay(BOB, ETHER))).is_success
        before = counted.requests
        found = [int.from_bytes(await sim.call(asked)) for asked in calls]
        assert found == [had[0] - 5 * round, had[1] + 5 * round]
        assert await sim.balance(BOB) == had_native + round * ETHER
        assert await sim.code(world["weth"]) == code
        assert counted.requests - before <= 1


async def test_an_estimate_tells_the_senders_balance(watched: Watched, witness: Witness) -> None:
    sim, counted = watched
    await sim.estimate_gas(ALICE, BOB, 1, b"")
    before = counted.requests
    assert await sim.balance(ALICE) == witness.native(ALICE)
    assert counted.requests == before


async def test_what_was_tried_for_a_wallet_changes_no_read(watched: Watched, world: World, witness: Witness) -> None:
    sim, _ = watched
    tried = ChainCall(world["weth"], witness.data("weth", "transfer", BOB, 7), ALICE)
    seen = balance_of(world, witness, ALICE)
    had = witness.balance("weth", ALICE)
    for round in range(1, 4):
        await sim.call(tried)
        assert int.from_bytes(await sim.call(seen)) == had - 5 * (round - 1)
        assert (await sim.send(ALICE, call(witness, "weth", "transfer", BOB, 5))).is_success


async def test_a_read_ahead_that_fails_is_asked_again(watched: Watched, world: World, witness: Witness) -> None:
    sim, _ = watched
    asked = ChainCall(world["nft"], witness.data("nft", "ownerOf", 10**9))
    for _ in range(2):
        assert [result.is_success for result in await sim.call_many([asked])] == [False]
        await sim.send(ALICE, pay(BOB, 1))
