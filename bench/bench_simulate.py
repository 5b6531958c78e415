"""What a simulated transaction costs: near a node and far from it, by each strategy, and as a run grows; first on the
simulated chain alone, then as a workflow through the API with all that an action reads and a run records.

    scripts/bench simulate [--scale 200] [--seed 1] [--away_ms 30]

`scale` is the length of the longest run. The far node is the same one behind a server that answers later. A run is
approve, swap, transfer, wrap and pay in turn. A graph that only computes is measured beside its live run.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import simulated_runs
from dustrun.chain.chains import Chains
from dustrun.chain.simulate import SimChain
from dustrun.chain.simulate.strategy import STRATEGIES, Strategy
from dustrun.core.money.intent import Intent
from dustrun.settings import Settings
from testkit.chain.anvil import ACCOUNTS, Anvil, binary
from testkit.chain.contracts import Witness, World, build
from testkit.chain.intents import call, pay
from testkit.chain.rpc_proxy import proxy

DEFAULT_SCALE = 200
_NEAR_MS, _FAR_S, _SAME = 5.0, 1.0, 1.05  # the last leaves room for noise
_OFFERED = ("simulate-v1", "trace-call")
ALICE, BOB = ACCOUNTS[1], ACCOUNTS[2]


def run(scale: int | None = None, seed: int = 1, away_ms: str = "30") -> dict[str, Any]:
    """Milliseconds a transaction near, seconds and requests of a run of ten far away."""
    with tempfile.TemporaryDirectory(prefix="dustrun-bench-") as folder:
        world = build(Path(folder))
        with world.node() as node:
            found = asyncio.run(_measure(world, node, scale or DEFAULT_SCALE, int(away_ms)))
            return _through_the_api(world, node, scale or DEFAULT_SCALE, int(away_ms), found)


async def _measure(world: World, node: Anvil, longest: int, away_ms: int) -> dict[str, Any]:
    found: dict[str, Any] = {"node": "anvil 1.7.1"}
    failures = []
    for strategy in STRATEGIES:
        near = {f"{count} transactions": await _near(world, node, strategy, count) for count in _lengths(longest)}
        found[f"{strategy}, near, ms a transaction"] = near
        if strategy != "local-fork":
            failures += _slow(strategy, near)
    for strategy in STRATEGIES:
        far = await _far(world, node, strategy, away_ms)
        found[f"{strategy}, 10 transactions {away_ms} ms away"] = far
        if strategy != "local-fork" and far["seconds"] > _FAR_S:
            failures.append(f"{strategy} took {far['seconds']} s for 10 transactions {away_ms} ms away")
    return {**found, "failures": failures}


def _through_the_api(world: World, node: Anvil, longest: int, away_ms: int, found: dict[str, Any]) -> dict[str, Any]:
    failures = found.pop("failures")
    for strategy in _OFFERED:
        near = simulated_runs.near(world, node, strategy, _lengths(longest))
        found[f"{strategy}, through the API, near, ms a transaction"] = near
        failures += _slow(f"{strategy} through the API", {length: taken["ms"] for length, taken in near.items()})
        far = simulated_runs.far(world, node, strategy, away_ms)
        found[f"{strategy}, through the API, 10 transactions {away_ms} ms away"] = far
        if far["seconds"] > _FAR_S:
            failures.append(f"{strategy} through the API took {far['seconds']} s {away_ms} ms away")
    pure = found["40 nodes that only compute"] = simulated_runs.pure(world, node)
    if pure["simulatedToLive"] > _SAME:
        failures.append(f"simulating nodes that compute took {pure['simulatedToLive']} of the live run")
    return {**found, "failures": failures}


def _slow(what: str, near: Mapping[str, float]) -> list[str]:
    return [f"{what} took {ms} ms a transaction near, with {length}" for length, ms in near.items() if ms > _NEAR_MS]


def _lengths(longest: int) -> list[int]:
    return sorted({10, 50, 100, longest})


def _intents(witness: Witness, world: World, count: int) -> list[Intent]:
    path = [world["usdc"], world["weth"]]
    turn = [
        call(witness, "usdc", "approve", world["v2_router"], 10**9),
        call(witness, "v2_router", "swapExactTokensForTokens", 10**6, 1, path, ALICE, 2**40),
        call(witness, "weth", "transfer", BOB, 10**10),
        call(witness, "weth", "deposit", value=5),
        pay(BOB, 7),
    ]
    return (turn * (count // len(turn) + 1))[:count]


async def _near(world: World, node: Anvil, strategy: Strategy, count: int) -> float:
    network = world.network(node.url)
    chains = Chains({network.chain_id: network}, Settings())
    sim = SimChain(chains.get(network.chain_id), strategy=strategy, fork_binary=binary())
    await sim.block()
    intents = _intents(world.witness(node), world, count)
    began = time.perf_counter()
    for intent in intents:
        assert (await sim.send(ALICE, intent)).is_success
    taken = time.perf_counter() - began
    await sim.close()
    await chains.close()
    return round(taken * 1000 / count, 2)


async def _far(world: World, node: Anvil, strategy: Strategy, away_ms: int) -> dict[str, Any]:
    async with proxy(node.url, delay_s=away_ms / 1000) as far:
        network = world.network(far.url)
        chains = Chains({network.chain_id: network}, Settings())
        sim = SimChain(chains.get(network.chain_id), strategy=strategy, fork_binary=binary())
        intents = _intents(world.witness(node), world, 10)
        began = time.perf_counter()
        for intent in intents:
            assert (await sim.send(ALICE, intent)).is_success
        taken = time.perf_counter() - began
        await sim.close()
        await chains.close()
        return {"seconds": round(taken, 2), "requests": far.requests}
