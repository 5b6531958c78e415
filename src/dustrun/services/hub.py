"""Tells readers in this process what was committed. A wake-up with the facts attached: the tables are the truth.

A reader that falls behind loses its place in memory, never an event: it is told so and reads the table again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

from dustrun.storage.journal import ACTIVITY, Event

BUFFER = 256
RunKey = tuple[str, str]
K = TypeVar("K")


class Subscription:
    """One reader's small buffer of committed events. `lost` is set when it overflowed."""

    __slots__ = ("_ready", "events", "lost")

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.lost = False
        self._ready = asyncio.Event()

    def put(self, events: Sequence[Event]) -> None:
        """Adds events, or drops everything when the reader is too slow."""
        if len(self.events) + len(events) > BUFFER:
            self.events.clear()
            self.lost = True
        else:
            self.events.extend(events)
        self._ready.set()

    def wake(self) -> None:
        """Wakes the reader without an event."""
        self._ready.set()

    async def wait(self, timeout_s: float) -> bool:
        """Waits for something to read; False when the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            return False
        self._ready.clear()
        return True


class Hub:
    """Who reads which run, and who reads an organisation's activity."""

    def __init__(self) -> None:
        self._runs: dict[RunKey, list[Subscription]] = {}
        self._activity: dict[str, list[Subscription]] = {}

    def watch_run(self, org_id: str, run_id: str) -> Subscription:
        """Subscribes to one run, which need not exist yet."""
        subscription = Subscription()
        self._runs.setdefault((org_id, run_id), []).append(subscription)
        return subscription

    def leave_run(self, org_id: str, run_id: str, subscription: Subscription) -> None:
        """Ends a subscription to one run."""
        _leave(self._runs, (org_id, run_id), subscription)

    def watch_activity(self, org_id: str) -> Subscription:
        """Subscribes to starts, waits and ends of an organisation's runs; only as a wake-up."""
        subscription = Subscription()
        self._activity.setdefault(org_id, []).append(subscription)
        return subscription

    def leave_activity(self, org_id: str, subscription: Subscription) -> None:
        """Ends a subscription to an organisation's activity."""
        _leave(self._activity, org_id, subscription)

    def publish(self, org_id: str, run_id: str, events: Sequence[Event]) -> None:
        """Tells the readers of a run what was committed; on the event loop, in commit order."""
        for subscription in self._runs.get((org_id, run_id), ()):
            subscription.put(events)
        readers = self._activity.get(org_id)
        if readers and any(event.type in ACTIVITY for event in events):
            for subscription in readers:
                subscription.wake()

    def wake_all(self) -> None:
        """Wakes every reader, so that it can see that the server stops."""
        for subscriptions in (*self._runs.values(), *self._activity.values()):
            for subscription in subscriptions:
                subscription.wake()


def _leave(table: dict[K, list[Subscription]], key: K, subscription: Subscription) -> None:
    left = [other for other in table.get(key, ()) if other is not subscription]
    if left:
        table[key] = left
    else:
        table.pop(key, None)
