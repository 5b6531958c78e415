"""What the check of a spend's outflow adds before it is signed: milliseconds and requests of one transaction, near.

    scripts/bench outflow [--scale 200]

A transfer of a token and a swap, `scale` times each on the newest block: at most 5 ms, and one request; two for the
swap, whose pool names the wallet in an event. And a batch of a hundred transfers, which is one request too.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from dustrun.chain.chains import Chains
from dustrun.chain.simulate.taking import forecast_outflow
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.values.amounts import Asset
from dustrun.settings import Settings
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import Witness, World, build
from testkit.chain.intents import call
from testkit.chain.rpc_proxy import proxy

DEFAULT_SCALE = 200
_NEAR_MS = 5.0
ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]


def run(scale: int | None = None, seed: int = 1) -> dict[str, Any]:
    """Medians of milliseconds, and requests."""
    del seed
    with tempfile.TemporaryDirectory(prefix="dustrun-outflow-") as folder:
        world = build(Path(folder))
        with world.node() as node:
            return asyncio.run(_measure(world, node.url, world.witness(node), scale or DEFAULT_SCALE))


async def _measure(world: World, url: str, witness: Witness, scale: int) -> dict[str, Any]:
    witness.send("usdc", "approve", world["v2_router"], 2**255, sender=ALICE)
    path = [world["usdc"], world["weth"]]
    swap = call(witness, "v2_router", "swapExactTokensForTokens", 10**6, 1, path, ALICE, 2**40)
    send = _sends(call(witness, "usdc", "transfer", BOB, 10**6), world["usdc"])
    cases = {
        "a token's transfer": ([send], scale),
        "a swap": ([_sends(swap, world["usdc"])], scale),
        "a batch of 100": ([send] * 100, 5),
    }
    found: dict[str, Any] = {"node": "anvil 1.7.1"}
    failures = []
    for name, (intents, rounds) in cases.items():
        near, requests = await _near(world, url, intents, rounds), await _requests(world, url, intents)
        found[name] = {"ms": near, "requests": requests}
        if len(intents) == 1 and near > _NEAR_MS:
            failures.append(f"{name} took {near} ms near")
        if requests > (2 if name == "a swap" else 1):
            failures.append(f"{name} took {requests} requests")
    return {**found, "failures": failures}


def _sends(intent: Intent, token: str) -> Intent:
    moved = Movement("send", Asset(CHAIN_ID, token), 10**6, BOB)
    return replace(intent, movements=(moved,), gas_limit=500_000)


async def _near(world: World, url: str, intents: list[Intent], rounds: int) -> float:
    network = world.network(url)
    chains = Chains({CHAIN_ID: network}, Settings())
    live, tokens = chains.get(CHAIN_ID), [token.address for token in network.tokens]
    await forecast_outflow(live, ALICE, intents, tokens, None)
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        found = await forecast_outflow(live, ALICE, intents, tokens, None)
        took.append(time.perf_counter() - began)
        assert all(one.taken is not None for one in found)
    await chains.close()
    return round(statistics.median(took) * 1000, 2)


async def _requests(world: World, url: str, intents: list[Intent]) -> int:
    async with proxy(url) as counted:
        network = world.network(counted.url)
        chains = Chains({CHAIN_ID: network}, Settings())
        live, tokens = chains.get(CHAIN_ID), [token.address for token in network.tokens]
        await forecast_outflow(live, ALICE, intents, tokens, None)  # finds out once what the endpoint offers
        before = counted.requests
        await forecast_outflow(live, ALICE, intents, tokens, None)
        await chains.close()
        return counted.requests - before
