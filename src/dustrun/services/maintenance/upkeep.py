"""Background maintenance: deletes expired rows and measures event-loop lag."""

from __future__ import annotations

import asyncio

from dustrun import clock, log, metrics
from dustrun.services.access import idempotency
from dustrun.services.access.usage import Usage
from dustrun.services.maintenance.retention import Retention
from dustrun.services.streaming.streams import Streams
from dustrun.settings import Settings
from dustrun.storage.db.writer import Writer

_logger = log.get(__name__)
PRUNE_EVERY_S = 3600.0
_FIRST_AFTER_S = 60.0
_LOOK_EVERY_S = 0.5
_LAG = metrics.histogram("dustrun_event_loop_lag_seconds", "How late timers of the event loop fire.")


class Upkeep:
    """The server's background maintenance tasks."""

    def __init__(
        self, writer: Writer, settings: Settings, usage: Usage, streams: Streams, retention: Retention
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._usage = usage
        self._streams = streams
        self._retention = retention
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts the tasks."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._prune()), loop.create_task(self._watch_loop())]
        self._usage.start()

    async def stop(self) -> None:
        """Stops the tasks; call it before the writer stops, because key usage is flushed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._usage.stop()

    async def _prune(self) -> None:
        await asyncio.sleep(_FIRST_AFTER_S)
        while True:
            try:
                await self.prune()
            except Exception as error:
                _logger.error("pruning failed", exc_info=error)
            await asyncio.sleep(PRUNE_EVERY_S)

    async def prune(self) -> None:
        """Deletes expired rows."""
        await idempotency.prune(self._writer, self._settings.idempotency_hours)
        await self._streams.prune_tokens()
        await self._usage.prune(self._settings.request_audit_days)
        await self._retention.sweep()
        await self._retention.sweep_deliveries()
        await self._retention.sweep_table_changes()

    async def _watch_loop(self) -> None:
        while True:
            started = clock.monotonic_s()
            await asyncio.sleep(_LOOK_EVERY_S)
            _LAG.observe(max(0.0, clock.monotonic_s() - started - _LOOK_EVERY_S))
