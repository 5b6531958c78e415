"""Simulated chains over a fresh node, by each strategy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from anvil import binary
from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate import SimChain


@pytest.fixture(params=["simulate-v1", "trace-call", "local-fork"])
async def sim(request: pytest.FixtureRequest, chain: LiveChain) -> AsyncIterator[SimChain]:
    """A simulation of each kind."""
    simulated = SimChain(chain, strategy=request.param, fork_binary=binary())
    yield simulated
    await simulated.close()
