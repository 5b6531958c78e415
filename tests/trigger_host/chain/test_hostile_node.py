"""Chains that lie, lag, forget and reorganise themselves: what triggers told in the end is what the chain says."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testkit.chain.anvil import CHAIN_ID
from testkit.chain.hostile_node import CONTRACT, SIGNATURE, Face, Tree, serving
from testkit.chain.payments import Payments, numbers, on_chain, told
from testkit.chain_watching import Watching, watching

PAID: dict[str, Any] = {"chainId": CHAIN_ID, "address": CONTRACT, "eventSignature": SIGNATURE}


@dataclass
class Chain:
    """A tree, its face, payments on it, and the server that watches."""

    payments: Payments
    face: Face
    server: Watching

    @property
    def tree(self) -> Tree:
        """The blocks."""
        return self.payments.tree

    async def publish(self, **config: Any) -> str:
        """A workflow that watches the payments."""
        return await self.server.publish("evm-log", **{**PAID, **config})

    async def until_told(self, workflow: str, on_top: int = 0) -> None:
        """Waits until what runs were told is what the chain says."""

        async def holds() -> bool:
            return told(await self.server.runs(workflow)) == on_chain(self.tree, on_top)

        try:
            await self.server.until(holds, 20)
        except TimeoutError:
            assert told(await self.server.runs(workflow)) == on_chain(self.tree, on_top)


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    payments = Payments(Tree(), random.Random(11))
    payments.tree.mine(*[()] * 8)
    face = Face(payments.tree)
    async with serving(face) as urls, watching(urls, tmp_path, {"blockTimeMs": 150}) as server:
        yield Chain(payments, face, server)


@pytest.mark.parametrize("confirmations", [0, 1, 3])
async def test_after_any_reorgs_what_was_told_is_what_the_chain_says(chain: Chain, confirmations: int) -> None:
    workflow = await chain.publish(confirmations=confirmations, onReorg="retract")
    once = await chain.publish(confirmations=confirmations)
    for number in range(12):
        chain.payments.send(chain.payments.chance.randint(0, 3))
        if number % 2:
            chain.tree.mine(*[()] * confirmations)
            await chain.until_told(workflow, confirmations)
        else:
            await chain.server.pause(chain.payments.chance.uniform(0, 0.15))
        chain.payments.reorg(chain.payments.chance.randint(1, min(6, chain.tree.head.number - 1)))
    chain.tree.mine(*[()] * confirmations)
    await chain.until_told(workflow, confirmations)

    async def is_live() -> bool:
        events = await chain.server.events(once)
        live = [payload for _, outcome, payload, _ in events if outcome == "started"]
        return numbers(told(live)) == numbers(on_chain(chain.tree, confirmations))

    await chain.server.until(is_live, 20)
