"""Simulated transactions become real ones: a small part of `scripts/soak chain_fidelity`."""

from __future__ import annotations

from typing import Any

import pytest

from bench import fidelity
from dustrun.chain.evm import LiveChain
from testkit.chain.anvil import Anvil, binary
from testkit.chain.contracts import World


@pytest.mark.parametrize(
    ("strategy", "workflows"),
    [
        ("simulate-v1", 5),
        ("trace-call", 10),
        ("local-fork", 3),
        pytest.param("local-fork", 5, marks=pytest.mark.long),
        pytest.param("simulate-v1", 50, marks=pytest.mark.long),
        pytest.param("trace-call", 50, marks=pytest.mark.long),
    ],
)
async def test_what_is_simulated_is_what_happens(
    strategy: Any, workflows: int, chain: LiveChain, anvil: Anvil, world: World
) -> None:
    tally = await fidelity.compare_workflows(chain, anvil, world, strategy, workflows, 4, 7, fork_binary=binary())
    assert tally.failures == []
    assert (tally.workflows, tally.transactions) == (workflows, 4 * workflows)
    assert tally.failed >= tally.transactions // 10
    assert tally.events > 0
    assert tally.gas_compared == tally.transactions - tally.rejected
