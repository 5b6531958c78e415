"""Tells the waiters of committed groups what became of their units."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from dustrun.storage.db.group_commit import Outcome

_TOLD_AT_ONCE = 32


class Delivery:
    """Delivers outcomes to their waiters, a few at each round of the event loop. What five hundred do once told
    would keep the next group from its commit, and the database would wait."""

    def __init__(self, tell: Callable[[Outcome], Iterable[None]]) -> None:
        self._tell = tell
        self._outcomes: deque[Iterator[None]] = deque()
        self._is_done = asyncio.Event()
        self._is_done.set()

    def add(self, outcome: Outcome) -> None:
        """Tells what became of a group, after those before it."""
        self._outcomes.append(iter(self._tell(outcome)))
        if self._is_done.is_set():
            self._is_done.clear()
            asyncio.get_running_loop().call_soon(self._go_on)

    async def done(self) -> None:
        """Waits until all have been told."""
        await self._is_done.wait()

    def _go_on(self) -> None:
        told = 0
        try:
            while self._outcomes and told < _TOLD_AT_ONCE:
                told += sum(1 for _ in islice(self._outcomes[0], _TOLD_AT_ONCE - told))
                if told < _TOLD_AT_ONCE:
                    self._outcomes.popleft()
        except Exception:  # of a hook, not of a waiter
            self._outcomes.popleft()
            raise
        finally:
            if self._outcomes:
                asyncio.get_running_loop().call_soon(self._go_on)
            else:
                self._is_done.set()
