"""Fair queueing when all slots are taken: organisations take turns, so that one with many scripts delays only
itself."""

from __future__ import annotations

import asyncio
from collections import deque


class FairSlots:
    """A semaphore with one queue per organisation, served round-robin. For one event loop."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    async def acquire(self, tenant: str) -> None:
        """Takes a slot, waiting for this organisation's turn."""
        if self._free and not self._queues:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Releases a slot to the oldest waiter of the next organisation."""
        self._free += 1
        while self._free and self._queues:
            turn = self._next_turn()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def _next_turn(self) -> asyncio.Future[None]:
        tenant = next(iter(self._queues))
        queue = self._queues.pop(tenant)
        turn = queue.popleft()
        if queue:
            self._queues[tenant] = queue
        return turn
