"""A chain over a fresh node, as the server has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dustrun.chain.chains import Chains
from dustrun.chain.evm import LiveChain
from dustrun.settings import Settings
from testkit.chain.anvil import Anvil
from testkit.chain.contracts import Witness, World


@pytest.fixture
def witness(world: World, anvil: Anvil) -> Witness:
    """web3.py on the test's node."""
    return world.witness(anvil)


@pytest.fixture
async def chain(world: World, anvil: Anvil) -> AsyncIterator[LiveChain]:
    """The product's client of the test's node."""
    network = world.network(anvil.url)
    chains = Chains({network.chain_id: network}, Settings())
    yield chains.get(network.chain_id)
    await chains.close()
