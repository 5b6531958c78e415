"""Background maintenance: deletes expired rows and measures event-loop lag."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from dustrun import clock, log, metrics
from dustrun.core.values.exact_json import loads
from dustrun.errors import DustrunError
from dustrun.services.access import audit, idempotency
from dustrun.services.access.principal import Principal
from dustrun.services.access.usage import Usage
from dustrun.services.attention import DiskWatch
from dustrun.services.quotas import RunSizes
from dustrun.services.streaming.streams import Streams
from dustrun.settings import Settings
from dustrun.storage.access import organizations
from dustrun.storage.access.organizations import OrganizationRow
from dustrun.storage.data import table_changes
from dustrun.storage.db import facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import deliveries, reading
from dustrun.storage.runs import retention
from dustrun.storage.triggers import events as trigger_events

# Retention: deletes old ended runs with their events, in small steps while the server works.


T = TypeVar("T")

_DAY_MS = 86_400_000
_RUNS_IN_STEP = 50
_ROWS_IN_STEP = 1000
_REST_S = 0.01
_BUSY = 200
_CHANGES_KEPT_MS = 7 * _DAY_MS
_CHANGES_KEPT = 100_000
"""Of one table, for a trigger that has not seen them; what is older is a gap to it."""


def _forget_events(tx: Tx, org_id: str, before: int) -> bool:
    """Deletes the content of some old events of triggers; False if none is left."""
    return trigger_events.forget_content(tx, org_id, before, _ROWS_IN_STEP) > 0


class Retention:
    """Deletes ended runs past their organisation's retention.

    `default_days` applies to organisations without a setting of their own; 0 keeps runs forever. Deliveries of hooks
    are kept for `delivery_days`."""

    def __init__(self, database: Database, writer: Writer, default_days: int, delivery_days: int) -> None:
        self._database = database
        self._writer = writer
        self._default_days = default_days
        self._delivery_days = delivery_days
        self.changed = asyncio.Event()
        """Set when an organisation has changed its days; whoever sweeps clears it."""

    def days_of(self, row: OrganizationRow) -> int:
        """Days that an organisation's ended runs are kept; 0 means forever."""
        return self._default_days if row.retention_days is None else row.retention_days

    async def set_days(self, principal: Principal, days: int | None) -> OrganizationRow:
        """Sets the retention of the caller's organisation in days; None means the server's setting."""
        principal.need_no_limits("change how long runs are kept")

        def unit(tx: Tx) -> OrganizationRow:
            organizations.set_retention(tx, principal.org_id, days)
            audit.record(tx, principal, "organization.update", principal.org_id, retentionDays=days)
            row = organizations.find(tx, principal.org_id)
            assert row is not None
            return row

        return await idempotency.write(self._writer, unit, lambda _: self.changed.set())

    async def sweep(self) -> int:
        """Deletes all expired runs in steps that let other writes in between; returns how many."""
        total = 0
        for row in await self._database.read(organizations.list_all):
            days = self.days_of(row)
            if days:
                before = clock.now_ms() - days * _DAY_MS
                total += await self._hide(row.id, before)
                while await self._step(partial(_forget_events, org_id=row.id, before=before)):
                    pass
        while await self._step(lambda tx: retention.purge(tx, _ROWS_IN_STEP)):
            pass
        if total:
            _logger.info("old runs deleted", runs=total)
        return total

    async def sweep_deliveries(self) -> int:
        """Deletes deliveries of hooks that are too old, with what they were made of, and facts; returns how many."""
        before, total = clock.now_ms() - self._delivery_days * _DAY_MS, 0
        for prune in (deliveries.prune, reading.prune, facts.prune):
            while gone := await self._step(partial(prune, before=before, count=_ROWS_IN_STEP)):
                total += gone
        return total

    async def _hide(self, org_id: str, before: int) -> int:
        hidden, after = 0, 0
        while True:
            unit = partial(retention.hide, org_id=org_id, before=before, after=after, count=_RUNS_IN_STEP)
            step = await self._step(unit)
            hidden += step.hidden
            if step.after is None:
                return hidden
            after = step.after

    async def _step(self, unit: Callable[[Tx], T]) -> T:
        """Performs one step once the writer has no backlog of callers' work."""
        while self._writer.backlog > _BUSY:  # noqa: ASYNC110 - nobody could tell when it is less
            await asyncio.sleep(_REST_S * 10)
        result = await self._writer.write(unit)
        await asyncio.sleep(_REST_S)
        return result

    async def sweep_table_changes(self) -> None:
        """Deletes the changes of tables that every trigger has seen, and those that are too old or too many to wait."""
        for table_id, org_id, name, newest in await self._database.read(table_changes.list_tables):
            watchers = await self._database.read(partial(table_changes.list_watchers, org_id=org_id))
            until = max(_seen_by_all(watchers, (table_id, name), newest), newest - _CHANGES_KEPT)
            before = clock.now_ms() - _CHANGES_KEPT_MS
            forget = partial(
                table_changes.delete_some, table_id=table_id, until=until, before=before, count=_ROWS_IN_STEP
            )
            while await self._step(lambda tx, forget=forget: forget(tx) > 0):  # type: ignore[misc]
                pass


def _seen_by_all(watchers: Sequence[tuple[str, str | None]], table: tuple[str, str], newest: int) -> int:
    """The number of the newest change that no trigger of a table (id and name) waits for."""
    seen = newest
    for config, cursor in watchers:
        if loads(config)["table"] in table:
            place = loads(cursor)["at"] if cursor is not None else None
            seen = min(seen, place["seq"] if place is not None and place["table"] == table[0] else 0)
    return seen


_logger = log.get(__name__)
PRUNE_EVERY_S = 3600.0
_FIRST_AFTER_S = 60.0
_LOOK_EVERY_S = 0.5
_LOOK_AT_DISK_EVERY_S = 60.0
_MEASURE_EVERY_S = 5.0
_LAG = metrics.histogram("dustrun_event_loop_lag_seconds", "How late timers of the event loop fire.")


class Upkeep:
    """The server's background maintenance tasks."""

    def __init__(
        self,
        writer: Writer,
        settings: Settings,
        usage: Usage,
        streams: Streams,
        retention: Retention,
        sizes: RunSizes,
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._usage = usage
        self._streams = streams
        self._retention = retention
        self._sizes = sizes
        self._disk = DiskWatch(writer, settings.data_dir)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts the tasks."""
        loop = asyncio.get_running_loop()
        every = (self._prune, self._sweep_if_changed, self._measure_runs, self._watch_loop, self._watch_disk)
        self._tasks = [loop.create_task(each()) for each in every]
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

    async def _sweep_if_changed(self) -> None:
        """Whoever keeps runs for a shorter time wants room now."""
        while True:
            await self._retention.changed.wait()
            self._retention.changed.clear()
            try:
                await self._retention.sweep()
            except Exception as error:
                _logger.error("deleting old runs failed", exc_info=error)

    async def _measure_runs(self) -> None:
        while True:
            await asyncio.sleep(clock.look_around_s(_MEASURE_EVERY_S))
            try:
                await self._sizes.measure()
            except DustrunError as error:
                _logger.failed("the sizes of runs were not measured", error)
            except Exception as error:
                _logger.error("measuring the sizes of runs failed", exc_info=error)

    async def prune(self) -> None:
        """Deletes expired rows."""
        await idempotency.prune(self._writer, self._settings.idempotency_hours)
        await self._streams.prune_tokens()
        await self._usage.prune(self._settings.request_audit_days)
        await self._retention.sweep()
        await self._retention.sweep_deliveries()
        await self._retention.sweep_table_changes()

    async def _watch_disk(self) -> None:
        while True:
            with contextlib.suppress(OSError, DustrunError):
                await self._disk.look()
            await asyncio.sleep(clock.look_around_s(_LOOK_AT_DISK_EVERY_S))

    async def _watch_loop(self) -> None:
        while True:
            started, pause_s = clock.monotonic_s(), clock.look_around_s(_LOOK_EVERY_S)
            await asyncio.sleep(pause_s)
            _LAG.observe(max(0.0, clock.monotonic_s() - started - pause_s))
