"""Wakes runs at given times, with one loop for all of them."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from dustrun import clock


class Timers:
    """The times at which `wake` is called with a run."""

    def __init__(self, wake: Callable[[int], None]) -> None:
        self._wake = wake
        self._timers: list[tuple[int, int]] = []
        self._moved = asyncio.Event()

    def set(self, at: int, run_pk: int) -> None:
        """Schedules a wake-up of a run at `at`, in milliseconds UTC."""
        heapq.heappush(self._timers, (at, run_pk))
        if self._timers[0] == (at, run_pk):
            self._moved.set()

    async def keep(self) -> None:
        """Wakes every run when its time comes; never returns."""
        while True:
            now = clock.now_ms()
            while self._timers and self._timers[0][0] <= now:
                self._wake(heapq.heappop(self._timers)[1])
            wait_s = (self._timers[0][0] - now) / 1000 if self._timers else 3600.0
            try:
                async with asyncio.timeout(min(wait_s, 3600.0)):
                    await self._moved.wait()
            except TimeoutError:
                continue
            self._moved.clear()
