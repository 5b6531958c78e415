"""Simulates random transactions in rows, below the API, then really sends them on the same state, also those that
revert, and compares all that web3.py sees. `scripts/soak fidelity` is the proof of whole workflows.

    scripts/soak chain_fidelity [--scale 1000] [--seed 1] [--strategies simulate-v1,trace-call] [--steps 10]

`scale` is how many workflows each strategy gets; see `bench/fidelity.py` for what is compared, and
`bench/chain_operations.py` for what is drawn. The figures are those of the named node and of no other.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from bench import fidelity
from bench.chain_operations import MAKERS
from dustrun.chain.chains import Chains
from dustrun.settings import Settings
from testkit.chain.anvil import binary
from testkit.chain.contracts import World, build

DEFAULT_SCALE = 1000
_LEAST_SHARE_FAILING = 0.1
_LEAST_OF_EACH = 200
_FULL = 10_000  # transactions from which on every kind must have come often enough


def run(
    scale: int | None = None, seed: int = 1, strategies: str = "simulate-v1,trace-call", steps: str = "10"
) -> dict[str, Any]:
    """The tally of each strategy; `failures` are differences and quotas that were missed."""
    with tempfile.TemporaryDirectory(prefix="dustrun-fidelity-") as folder:
        world = build(Path(folder))
        found = {
            strategy: asyncio.run(_compare(world, strategy, scale or DEFAULT_SCALE, int(steps), seed))
            for strategy in strategies.split(",")
        }
    failures = [failure for tally in found.values() for failure in [*tally["failures"], *_missed(tally)]]
    return {"node": "anvil 1.7.1", **found, "failures": failures}


async def _compare(world: World, strategy: str, workflows: int, steps: int, seed: int) -> dict[str, Any]:
    with world.node() as node:
        network = world.network(node.url)
        chains = Chains({network.chain_id: network}, Settings())
        try:
            live = chains.get(network.chain_id)
            options = {"fork_binary": binary()}
            return (
                await fidelity.compare_workflows(live, node, world, strategy, workflows, steps, seed, **options)
            ).public()
        finally:
            await chains.close()


def _missed(tally: dict[str, Any]) -> list[str]:
    missed = []
    if tally["failing"] < tally["transactions"] * _LEAST_SHARE_FAILING:
        missed.append(f"only {tally['failing']} of {tally['transactions']} transactions were failing ones")
    if tally["transactions"] >= _FULL:
        few = {kind: tally["kinds"].get(kind, 0) for kind in MAKERS}
        missed += [f"only {count} of {kind}" for kind, count in few.items() if count < _LEAST_OF_EACH]
    return missed
