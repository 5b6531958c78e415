"""What transactions take from their sender, by one request or on a fork: the same, whichever an endpoint offers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from dustrun.chain.chains import Chains
from dustrun.chain.simulate.taking import OutflowForecast, forecast_outflow
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.money.policy.outflow import RaisedAllowance, TakenAmounts
from dustrun.core.values.amounts import Asset
from dustrun.settings import Settings
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import World
from testkit.chain.intents import call, pay
from testkit.chain.rpc_proxy import Proxy, proxy

ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]
_MISSING = {"code": -32601, "message": "the method does not exist"}


def _traces_only(asked: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    if asked["method"] != "eth_simulateV1":
        return said
    return {"jsonrpc": "2.0", "id": asked["id"], "error": _MISSING}


@asynccontextmanager
async def chains_behind(world: World, counted: Proxy) -> AsyncIterator[Chains]:
    chains = Chains({CHAIN_ID: world.network(counted.url)}, Settings())
    try:
        yield chains
    finally:
        await chains.close()


@pytest.mark.parametrize("twist", [None, _traces_only])
async def test_losses_allowances_and_nfts_are_read_from_balances(world: World, twist: Any) -> None:
    with world.node() as node:
        witness = world.witness(node)
        witness.send("reentrant", "approve", world["greedy"], 5, sender=ALICE)
        witness.send("nft", "mint", ALICE, 7, sender=ALICE)
        usdc, token = (f"eip155:{CHAIN_ID}/erc20:{world[name]}" for name in ("usdc", "reentrant"))
        intents = [
            pay(BOB, 11),
            call(witness, "usdc", "approve", BOB, 40),
            call(witness, "usdc", "transfer", BOB, 3),
            call(witness, "reentrant", "transfer", world["greedy"], 5),
            call(witness, "nft", "transferFrom", ALICE, BOB, 7),
            call(witness, "usdc", "transfer", BOB, 10**30),
            pay(BOB, 1),
        ]
        async with proxy(node.url) as counted, chains_behind(world, counted) as chains:
            counted.twist = twist
            found = await forecast_outflow(chains.get(CHAIN_ID), ALICE, [_limited(each) for each in intents], [], None)
        assert [one.taken for one in found] == [
            TakenAmounts({f"eip155:{CHAIN_ID}/native": 11}),
            TakenAmounts({}, (RaisedAllowance(world["usdc"], BOB, 0, 40),)),
            TakenAmounts({usdc: 3}),
            TakenAmounts({token: 10}),
            TakenAmounts({f"eip155:{CHAIN_ID}/erc721:{world['nft']}/7": 1}),
            None,  # the sixth fails, and the seventh is not looked at
        ]
        assert found[-1].failure is not None
        assert "ERC20InsufficientBalance" in found[-1].failure.message


async def test_a_transfer_is_one_request_and_a_swap_at_most_two_besides_the_newest_block(world: World) -> None:
    with world.node() as node:
        witness, usdc = world.witness(node), Asset(CHAIN_ID, world["usdc"])
        witness.send("usdc", "approve", world["v2_router"], 10**9, sender=ALICE)
        path = [world["usdc"], world["weth"]]
        swap = call(witness, "v2_router", "swapExactTokensForTokens", 10**6, 1, path, ALICE, 2**40)
        send = call(witness, "usdc", "transfer", BOB, 10**6)
        tokens = [token.address for token in world.network().tokens]
        async with proxy(node.url) as counted, chains_behind(world, counted) as chains:
            live = chains.get(CHAIN_ID)
            await forecast_outflow(live, ALICE, [_limited(pay(BOB, 1))], tokens, None)  # asks what the endpoint offers
            for intent, to, most in (
                (send, BOB, 1),
                (swap, world["v2_router"], 2),
            ):  # the pair's event names the wallet
                intents = [_limited(replace(intent, movements=(Movement("send", usdc, 10**6, to),)))] * 3
                before = counted.requests
                found = await forecast_outflow(live, ALICE, intents, tokens, None)
                assert found == [OutflowForecast(TakenAmounts({usdc.key: 10**6}))] * 3
                assert counted.requests - before == most + 1


def _limited(intent: Intent) -> Intent:
    return replace(intent, gas_limit=500_000)
