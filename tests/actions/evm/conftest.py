"""One node with all contracts for a module of tests; each test goes back to the state that it began with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from actions.evm.node_wallet import NodeWallet
from dustrun import clock
from dustrun.chain.chains import Chains
from dustrun.core.money.intent import Spend
from dustrun.sdk import Action
from dustrun.sdk.testing import FakeContext, intents, perform
from dustrun.settings import Settings
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.contracts import Witness, World


@dataclass
class Scene:
    """A node, the witness that reads it, the wallet that spends, and the `ctx` that actions get."""

    node: Anvil
    witness: Witness
    wallet: NodeWallet
    ctx: FakeContext

    def __getitem__(self, name: str) -> str:
        return self.witness.addresses[name]

    async def do(self, action: Action, **payload: Any) -> dict[str, Any]:
        """Carries an action out, whole."""
        return await perform(action, {"chainId": CHAIN_ID, **payload}, self.ctx, execute=self.wallet.execute)

    async def plan(self, action: Action, **payload: Any) -> Spend:
        """The intents of an action."""
        return await intents(action, {"chainId": CHAIN_ID, **payload}, self.ctx)


def make_context(chains: Chains, wallet: NodeWallet) -> FakeContext:
    """The `ctx` of an action that runs now: the newest block may be as old as the state that the node has loaded."""
    ctx = FakeContext(chains={CHAIN_ID: chains.get(CHAIN_ID)}, wallet=wallet.view)
    ctx.now_ms = clock.now_ms()
    return ctx


@pytest.fixture(scope="module")
def node(world: World) -> Iterator[Anvil]:
    with world.node() as found:
        yield found


@pytest.fixture
async def scene(world: World, node: Anvil) -> AsyncIterator[Scene]:
    before = node.snapshot()
    witness, network = world.witness(node), world.network(node.url)
    wallet, chains = NodeWallet(witness), Chains({CHAIN_ID: network}, Settings())
    yield Scene(node, witness, wallet, make_context(chains, wallet))
    await chains.close()
    node.revert(before)
