"""Keeps every armed subscription watched by the source of its kind.

The tables are the truth. The host reads them at its start, reads a workflow's rows again after each commit that changed
them, and sweeps over all of them now and then, so that a missed call heals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from dustrun import clock, log
from dustrun.listeners import Listeners
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions

_logger = log.get(__name__)
_SWEEP_EVERY_S = 30.0
_TRY_AGAIN_S = 0.5
_MANY = 1_000


class TriggerSource(Protocol):
    """Watches the subscriptions of one kind, and fires through the intake.

    Calls come one at a time. `arm` may come again for a subscription that is armed, with its newer row."""

    async def start(self) -> None:
        """Begins to watch; nothing is armed yet."""
        ...

    async def stop(self) -> None:
        """Stops watching; what is in hand is finished or given up, never half done. Does nothing if it is stopped."""
        ...

    async def arm(self, sub: Subscription) -> None:
        """Watches for a subscription from its cursor on; without one, from `sub.row.armed_at` on."""
        ...

    async def disarm(self, subscription_id: str) -> None:
        """Watches for it no more."""
        ...


class TriggerHost:
    """Arms and disarms subscriptions in this process."""

    def __init__(self, subscriptions: Subscriptions, sources: Mapping[str, TriggerSource]) -> None:
        self._subscriptions = subscriptions
        self._sources = sources
        self._armed: dict[str, tuple[str, str, tuple[object, ...]]] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._must_sweep = True
        self._newly_armed = 0
        self.on_many_armed: Listeners[[]] = Listeners()
        """Called each time that a thousand more subscriptions are armed."""
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._armed)

    async def start(self) -> None:
        """Starts the sources, and arms every armed subscription in the background. If one fails to start, all are
        stopped, so that the next attempt begins anew."""
        try:
            for source in self._sources.values():
                await source.start()
        except BaseException:
            await self.stop()
            raise
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Disarms everything: no event is taken after this."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for source in self._sources.values():
            await source.stop()
        self._armed.clear()
        self._changed.clear()
        self._must_sweep = True

    def changed(self, workflow_id: str) -> None:
        """A commit may have changed a workflow's subscriptions."""
        self._changed.add(workflow_id)
        self._wake.set()

    def sweep_soon(self) -> None:
        """A commit of unknown outcome may have changed any subscription."""
        self._must_sweep = True
        self._wake.set()

    async def _keep(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:
                _logger.error("subscriptions could not be read", exc_info=error)
                self._must_sweep = True
                await asyncio.sleep(_TRY_AGAIN_S)
                continue
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(clock.look_around_s(_SWEEP_EVERY_S)):
                await self._wake.wait()
        except TimeoutError:
            self._must_sweep = True

    async def _look(self) -> None:
        self._wake.clear()
        if self._must_sweep:
            self._must_sweep = False
            self._changed.clear()
            await self._settle(await self._subscriptions.list_armed(), set(self._armed))
        while self._changed:
            workflow_id = self._changed.pop()
            armed = {one for one, (workflow, _, _) in self._armed.items() if workflow == workflow_id}
            await self._settle(await self._subscriptions.list_of(workflow_id), armed)

    async def _settle(self, found: list[Subscription], known: set[str]) -> None:
        """Makes what is watched equal to the rows; `known`: what is armed of what was looked for."""
        armed = [sub for sub in found if sub.is_watched]
        for one in known - {sub.id for sub in armed}:
            await self._disarm(one)
        for sub in armed:
            await self._arm(sub)
        if self._newly_armed >= _MANY:
            self._newly_armed = 0
            self.on_many_armed()

    async def _arm(self, sub: Subscription) -> None:
        source, row = self._sources.get(sub.kind), sub.row
        seen = (row.version, row.config, row.mode, row.principal, row.armed_at, row.updated_at)
        if source is None or self._armed.get(sub.id, ("", "", ()))[2] == seen:
            return
        try:
            await source.arm(sub)
        except Exception as error:
            _logger.error("a trigger could not be armed", subscription=sub.id, type=row.type, exc_info=error)
            return  # the next sweep tries again
        self._armed[sub.id] = (row.workflow_id, sub.kind, seen)
        self._newly_armed += 1

    async def _disarm(self, subscription_id: str) -> None:
        _, kind, _ = self._armed.pop(subscription_id)
        await self._sources[kind].disarm(subscription_id)
