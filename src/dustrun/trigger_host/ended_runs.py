"""The source of `internal` triggers: follows the ends of runs, as soon as they are on disk."""

from __future__ import annotations

import asyncio

from dustrun import clock, log
from dustrun.services.triggers.ended_runs import EndedRuns
from dustrun.services.triggers.subscriptions import Subscription

_logger = log.get(__name__)
_LOOK_EVERY_S = 10.0
_TRY_AGAIN_S = 0.5
_GATHER_S = 0.02
"""Ends that come within this are followed together."""
_GATHER_IDLE_S = 0.1
"""The same while no trigger waits for ends, and only failures are counted."""


class EndedRunsSource:
    """Follows ends whether or not anything waits for them, since failures of triggered runs are counted too. What is
    armed is read from the tables for each end; what arms here only tells which ends are followed at once."""

    def __init__(self, ended_runs: EndedRuns) -> None:
        self._ended_runs = ended_runs
        self._armed: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to follow."""
        await self._ended_runs.begin()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Stops; the cursor stays where the last page ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def arm(self, sub: Subscription) -> None:
        """Follows every end at once from now on, and looks for those of before."""
        self._armed.add(sub.id)
        self._wake.set()

    async def disarm(self, subscription_id: str) -> None:
        """Nobody waits under that subscription any more."""
        self._armed.discard(subscription_id)

    def wake(self, source: str | None) -> None:
        """A run has ended; `source`: what had started it, if known. Ends that lead to nothing are passed over later,
        many at once."""
        if self._armed or source is None or self._ended_runs.counts(source):
            self._wake.set()

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            try:
                while await self._ended_runs.follow():
                    pass
            except Exception as error:
                _logger.error("the ends of runs could not be followed", exc_info=error)
                await asyncio.sleep(_TRY_AGAIN_S)
                continue
            try:
                async with asyncio.timeout(clock.look_around_s(_LOOK_EVERY_S)):
                    await self._wake.wait()
                await asyncio.sleep(_GATHER_S if self._armed else _GATHER_IDLE_S)
            except TimeoutError:
                pass
