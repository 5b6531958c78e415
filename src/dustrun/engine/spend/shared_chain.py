"""Read access to a simulated chain for the nodes of all runs of one simulation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from dustrun.chain.simulate import SimChain
from dustrun.core.evm.network import Network
from dustrun.sdk.chain import Block, CallResult, ChainCall, ChainTransaction, Fees


async def set_clock(sim: SimChain, now_ms: int) -> None:
    """Advances the chain so that its next block is not older than the run's clock."""
    head = await sim.block()
    ahead_s = now_ms // 1000 - head.time - max(1, sim.network.block_time_ms // 1000)
    if ahead_s > 0:
        sim.advance(ahead_s)


class SharedChain:
    """A `Chain` over a simulated chain, which is loaded from the tables on first use."""

    def __init__(self, network: Network, find: Callable[[], Awaitable[SimChain]]) -> None:
        self._network = network
        self._find = find

    @property
    def network(self) -> Network:
        """The chain's description."""
        return self._network

    async def block(self) -> Block:
        """The newest simulated block."""
        return await (await self._find()).block()

    async def call(self, call: ChainCall) -> bytes:
        """The return data of a call on the simulated state."""
        return await (await self._find()).call(call)

    async def call_many(self, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Many calls on the simulated state."""
        return await (await self._find()).call_many(calls)

    async def balance(self, address: str) -> int:
        """Native balance on the simulated state."""
        return await (await self._find()).balance(address)

    async def code(self, address: str) -> bytes:
        """A contract's code on the simulated state."""
        return await (await self._find()).code(address)

    async def fees(self) -> Fees:
        """The fees at the pinned block."""
        return await (await self._find()).fees()

    async def find_transaction(self, hash: str) -> ChainTransaction | None:
        """A real transaction by its hash."""
        return await (await self._find()).find_transaction(hash)
