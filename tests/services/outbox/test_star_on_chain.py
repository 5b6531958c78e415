"""The proof of `scripts/soak policy` at a small scale: what a star lets through on a real chain."""

from __future__ import annotations

import random

from bench.soak_policy import Proof
from testkit.chain.contracts import World


async def test_no_method_that_gives_anything_away_passes_and_honest_calls_do(world: World) -> None:
    with world.node() as node:
        found = await Proof(world, node, random.Random(7)).prove(1)
    assert found["failures"] == []
    assert found["attacks"] >= 60
    assert (found["honest"], found.get("honestRefused", 0)) == (120, 0)
