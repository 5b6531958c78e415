"""A heap of times at which something is due. One loop waits for the earliest."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from dustrun import clock, log

_logger = log.get(__name__)
_LONGEST_S = 1.0
"""How long the loop sleeps at most: the clock may be set, and a machine may sleep."""


class Alarms:
    """Calls `due(name)` on the event loop once the time set for a name has come; a new time replaces the old one."""

    def __init__(self, due: Callable[[str], None]) -> None:
        self._due = due
        self._at: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._at)

    def set(self, name: str, at_ms: int) -> None:
        """Sets when a name is due."""
        self._at[name] = at_ms
        heapq.heappush(self._heap, (at_ms, name))
        if self._heap[0][1] == name:
            self._changed.set()

    def drop(self, name: str) -> None:
        """The name is not due any more."""
        self._at.pop(name, None)

    def start(self) -> None:
        """Starts the loop."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Stops the loop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take_due(self, now: int) -> list[str]:
        """Removes and returns the names that are due, earliest first."""
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            at, name = heapq.heappop(self._heap)
            if self._at.get(name) == at:
                del self._at[name]
                found.append(name)
        return found

    async def _keep(self) -> None:
        while True:
            for name in self.take_due(clock.now_ms()):
                try:
                    self._due(name)
                except Exception as error:
                    _logger.error("a due trigger could not begin", subscription=name, exc_info=error)
            self._changed.clear()
            left = (self._heap[0][0] - clock.now_ms()) / 1000 if self._heap else _LONGEST_S
            try:
                async with asyncio.timeout(min(max(left, 0.0), _LONGEST_S)):
                    await self._changed.wait()
            except TimeoutError:
                pass
