"""What a simulated transaction asks of the chain: each question once, and no answer of an older state."""

from __future__ import annotations

import asyncio

import pytest

from chain.simulate.conftest import Watched
from dustrun.chain.simulate import SimChain
from dustrun.chain.simulate.creation import contract_address
from dustrun.core.money.intent import Intent
from dustrun.errors import Invalid, Permanent
from dustrun.sdk.chain import ChainCall
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import Witness, World
from testkit.chain.intents import call, pay

ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]


@pytest.fixture
async def watched(watched: Watched) -> Watched:
    """With a nonce that is known from here on."""
    await watched[0].send(ALICE, pay(BOB, 1))
    return watched


def tried(intent: Intent, sender: str = ALICE) -> ChainCall:
    """The call that an intent makes, tried for its wallet."""
    assert intent.to is not None
    return ChainCall(intent.to, intent.data, sender, intent.value_units)


async def test_a_try_an_estimate_and_the_transaction_look_once(watched: Watched, witness: Witness) -> None:
    sim, counted = watched
    for intent in (call(witness, "weth", "deposit", value=5), pay(BOB, 7), call(witness, "weth", "transfer", BOB, 3)):
        assert intent.to is not None
        before = counted.requests
        await sim.call(tried(intent))
        assert counted.requests == before + 1
        await sim.estimate_gas(ALICE, intent.to, intent.value_units, intent.data)
        assert counted.requests == before + 1
        assert (await sim.send(ALICE, intent)).is_success
        assert counted.requests == before + 2


async def test_what_was_read_before_a_transaction_comes_along_with_it(watched: Watched, witness: Witness) -> None:
    sim, counted = watched
    had = await seen(sim, witness)
    for round in range(1, 4):
        intent = call(witness, "weth", "deposit", value=5)
        await sim.call(tried(intent))
        before = counted.requests
        result = await sim.send(ALICE, intent)
        assert result.receipt is not None
        now = await seen(sim, witness)
        await asyncio.sleep(0.05)  # nothing is asked behind it either
        assert counted.requests == before + 1
        assert now == (had[0] - 5 - result.receipt.fee_units, had[1] + 5 * round, had[2] + 5 * round, had[3])
        had = (now[0], *had[1:])


async def test_what_is_a_word_comes_along_in_one_call_and_what_answered_nothing_is_not_asked_anew(
    watched: Watched, witness: Witness, world: World
) -> None:
    sim, counted = watched
    decimals = witness.data("usdc", "decimals")
    asked = [ChainCall(world["usdc"], witness.data("usdc", "balanceOf", who)) for who in ACCOUNTS]
    asked += [ChainCall(place, decimals) for place in (world["usdc"], world["dai"], BOB)]  # one of them no contract
    before, calls = await sim.call_many(asked), len(counted.methods)
    assert [len(answer.data) for answer in before] == [32] * (len(asked) - 1) + [0]
    assert (await sim.send(ALICE, pay(BOB, 1))).is_success
    if (
        sim.strategy == "trace-call"
    ):  # its sender's balance, balances before and after, what answered nothing, the words
        assert counted.methods[calls:].count("eth_call") == 5
    calls = len(counted.methods)
    assert await sim.call_many(asked) == before
    assert len(counted.methods) == calls


async def test_the_code_of_what_was_called_comes_along(watched: Watched, witness: Witness, world: World) -> None:
    sim, counted = watched
    await seen(sim, witness)
    assert (await sim.send(ALICE, call(witness, "usdc", "approve", BOB, 1))).is_success
    before = counted.requests
    assert await sim.code(world["usdc"]) == bytes(witness.web3.eth.get_code(world["usdc"]))  # type: ignore[arg-type]
    assert counted.requests == before


async def test_what_is_asked_in_one_moment_goes_out_together(watched: Watched, witness: Witness, world: World) -> None:
    sim, counted = watched
    weth, before = world["weth"], counted.requests
    alone = await asyncio.gather(sim.balance(BOB), wrapped(sim, witness, ALICE), wrapped(sim, witness, BOB))
    code, supply = await asyncio.gather(sim.code(weth), sim.call(ChainCall(weth, witness.data("weth", "totalSupply"))))
    assert counted.requests == before + 2
    anew = SimChain(sim._live, state=sim.to_json())
    assert await anew.balance(BOB) == alone[0]
    assert [await wrapped(anew, witness, who) for who in (ALICE, BOB)] == list(alone[1:])
    assert await anew.code(weth) == code
    assert await anew.call(ChainCall(weth, witness.data("weth", "totalSupply"))) == supply
    await anew.close()


async def test_one_that_fails_fails_alone(watched: Watched, witness: Witness, world: World) -> None:
    sim, _ = watched
    asked = (sim.call(ChainCall(BOB, witness.data("weth", "balanceOf", BOB))), wrapped(sim, witness, ALICE))
    reverting = sim.call(ChainCall(world["zoo"], witness.data("weth", "decimals")))
    nothing, had, failed = await asyncio.gather(*asked, reverting, return_exceptions=True)
    assert (nothing, had) == (b"", await wrapped(sim, witness, ALICE))
    assert isinstance(failed, Permanent)


async def test_a_code_is_asked_whole_once(watched: Watched, witness: Witness, world: World) -> None:
    sim, counted = watched
    router = bytes(witness.web3.eth.get_code(world["v2_router"]))  # type: ignore[arg-type]
    for round in range(4):
        before = counted.answered
        assert await sim.code(world["v2_router"]) == router
        assert (await sim.send(ALICE, call(witness, "weth", "deposit", value=5))).is_success
        if round > 1:
            assert counted.answered - before < 2 * len(router)


async def test_a_code_that_changes_is_read_anew(watched: Watched, witness: Witness) -> None:
    sim, _ = watched
    creation = Intent("", witness.web3.eth.chain_id, None, 0, bytes.fromhex("6001600c60003960016000f3fe"), (), "")
    first = await sim.send(ALICE, creation)
    assert first.receipt is not None
    assert first.receipt.contract_address is not None
    second = contract_address(ALICE, witness.web3.eth.get_transaction_count(ALICE) + 2)  # type: ignore[arg-type]
    assert await sim.code(second) == b""
    assert await sim.code(first.receipt.contract_address) == b"\xfe"
    assert (await sim.send(ALICE, creation)).is_success
    assert await sim.code(second) == b"\xfe"
    assert await sim.code(first.receipt.contract_address) == b"\xfe"


async def test_a_transaction_that_fails_brings_no_reads(watched: Watched, witness: Witness) -> None:
    sim, _ = watched
    had = await seen(sim, witness)
    too_much = had[1] + 1
    assert (await sim.send(ALICE, call(witness, "weth", "transfer", BOB, too_much))).status == "reverted"
    assert await seen(sim, witness) == had
    burnt = await sim.send(ALICE, call(witness, "weth", "transfer", BOB, too_much), reverts_stay=True)
    assert burnt.receipt is not None
    assert await seen(sim, witness) == (had[0] - burnt.receipt.fee_units, *had[1:])


async def test_what_came_along_is_what_a_new_reader_reads(watched: Watched, witness: Witness) -> None:
    sim, _ = watched
    await seen(sim, witness)
    assert (await sim.send(ALICE, call(witness, "weth", "deposit", value=11))).is_success
    known = await seen(sim, witness)
    anew = SimChain(sim._live, state=sim.to_json())
    assert await seen(anew, witness) == known
    await anew.close()


async def test_a_wait_after_a_transaction_leaves_nothing_known(watched: Watched, witness: Witness) -> None:
    sim, counted = watched
    had = await seen(sim, witness)
    await sim.send(ALICE, call(witness, "weth", "transfer", BOB, 1))
    sim.advance(5)
    before = counted.requests
    assert (await seen(sim, witness))[1] == had[1] - 1
    assert counted.requests == before + 1


async def seen(sim: SimChain, witness: Witness) -> tuple[int, int, int, bytes]:
    """What one knows of a state: native coin and wrapped coin of Alice, all that is wrapped, the contract."""
    weth = witness.addresses["weth"]
    total = int.from_bytes(await sim.call(ChainCall(weth, witness.data("weth", "totalSupply"))))
    return await sim.balance(ALICE), await wrapped(sim, witness, ALICE), total, await sim.code(weth)


async def test_a_try_tells_what_a_plain_read_tells(watched: Watched, witness: Witness, world: World) -> None:
    sim, _ = watched
    for data, value in ((witness.data("weth", "transfer", BOB, 3), 0), (witness.data("weth", "deposit"), 9)):
        asked = (world["weth"], data, ALICE, value)
        assert await sim.call(ChainCall(*asked)) == await sim.call(ChainCall(*asked, is_view=True))


async def test_a_try_that_fails_tells_why_and_changes_nothing(watched: Watched, witness: Witness) -> None:
    sim, _ = watched
    had = await sim.balance(ALICE)
    intent = call(witness, "zoo", "requireString")
    for _ in range(2):
        with pytest.raises(Permanent, match="no way"):
            await sim.call(tried(intent))
        with pytest.raises(Permanent, match="no way"):
            await sim.estimate_gas(ALICE, str(intent.to), 0, intent.data)
        assert (await sim.send(ALICE, intent)).status == "reverted"
    with pytest.raises((Invalid, Permanent)):
        await sim.call(tried(pay(BOB, had + 1)))
    assert await sim.balance(ALICE) == had


async def test_a_try_is_made_anew_on_every_state(watched: Watched, witness: Witness) -> None:
    sim, _ = watched
    everything = call(witness, "weth", "transfer", BOB, await wrapped(sim, witness, ALICE))
    await sim.call(tried(everything))
    assert (await sim.send(ALICE, call(witness, "weth", "transfer", BOB, 1))).is_success
    with pytest.raises(Permanent):
        await sim.call(tried(everything))
    assert not (await sim.send(ALICE, everything)).is_success


async def test_a_wait_makes_another_state(watched: Watched, witness: Witness) -> None:
    sim, _ = watched
    facts = call(witness, "zoo", "blockFacts")
    first = await sim.call(tried(facts))
    sim.advance(1000)
    second = await sim.call(tried(facts))
    times = [int.from_bytes(answer[32:64]) for answer in (first, second)]
    assert times[1] - times[0] == 1000


async def wrapped(sim: SimChain, witness: Witness, who: str) -> int:
    data = witness.data("weth", "balanceOf", who)
    return int.from_bytes(await sim.call(ChainCall(witness.addresses["weth"], data)))
