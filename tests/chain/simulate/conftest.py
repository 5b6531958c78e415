"""Simulated chains over a fresh node, by each strategy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dustrun.chain.chains import Chains
from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate import SimChain
from dustrun.settings import Settings
from testkit.chain.anvil import Anvil, binary
from testkit.chain.contracts import World
from testkit.chain.rpc_proxy import Proxy, proxy

Watched = tuple[SimChain, Proxy]


@pytest.fixture(params=["simulate-v1", "trace-call", "local-fork"])
async def sim(request: pytest.FixtureRequest, chain: LiveChain) -> AsyncIterator[SimChain]:
    """A simulation of each kind."""
    simulated = SimChain(chain, strategy=request.param, fork_binary=binary())
    yield simulated
    await simulated.close()


@pytest.fixture(params=["simulate-v1", "trace-call"])
async def watched(request: pytest.FixtureRequest, world: World, anvil: Anvil) -> AsyncIterator[Watched]:
    """A simulation whose requests are counted."""
    async with proxy(anvil.url) as counted:
        network = world.network(counted.url)
        chains = Chains({network.chain_id: network}, Settings())
        simulated = SimChain(chains.get(network.chain_id), strategy=request.param)
        await simulated.block()
        yield simulated, counted
        await simulated.close()
        await chains.close()
