"""Listens in the name of `streamed` triggers, each over a connection of its own.

Only the process that hosts triggers holds connections. What comes is written event by event, each with the cursor after
it, and acknowledged after that; meanwhile nothing more is read, so a source that floods is held back, and memory stays
flat. A connection that breaks is opened again from the stored cursor, later each time that it cannot be opened, or
breaks soon without having brought anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from dustrun import clock, log, metrics
from dustrun.core.text.masking import Mask
from dustrun.core.triggers.event import CursorMove
from dustrun.core.triggers.polling import PollPlace, backoff_ms
from dustrun.errors import DustrunError, Temporary
from dustrun.sdk.context import NoConnection
from dustrun.sdk.threads import run_sized
from dustrun.sdk.trigger import Received
from dustrun.services.triggers.context import Contexts, LiveContext
from dustrun.services.triggers.events import gap_of
from dustrun.services.triggers.intake import Intake
from dustrun.services.triggers.recording import CursorMoved
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions

_logger = log.get(__name__)
T = TypeVar("T")
_FIRST_WAIT_MS = 500
_LONGEST_WAIT_MS = 300_000
_SOON_S = 10.0
"""A connection that was open for so long has not broken at once: many proxies close those over which nothing comes."""
_YIELDS_MS = 250
_AGAIN_MS = 1_000
_OPENING_AT_ONCE = 16
_OPENS_WITHIN_S = 120.0
"""Longer than any trigger's own limits: Kafka may ask several servers in turn, each for half a minute."""
_ENDS_WITHIN_S = 10.0
_OPENS = metrics.counter("dustrun_trigger_streams", "Connections of streamed triggers.", "type", "outcome")


class Streams:
    """The source of `streamed` triggers."""

    def __init__(
        self, intake: Intake, subscriptions: Subscriptions, contexts: Contexts, ends_within_s: float = _ENDS_WITHIN_S
    ) -> None:
        self._ends_within_s = ends_within_s
        self._intake = intake
        self._subscriptions = subscriptions
        self._contexts = contexts
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._connectors: dict[str, str | None] = {}
        self._broken: dict[str, int] = {}  # connections in a row that broke soon, by subscription
        self._opening = asyncio.Semaphore(_OPENING_AT_ONCE)

    def __len__(self) -> int:
        return len(self._tasks)

    async def start(self) -> None:
        """Begins to listen for what is armed from here on."""

    async def stop(self) -> None:
        """Closes every connection; an event that is being written is finished."""
        await asyncio.gather(*(self.disarm(name) for name in list(self._tasks)))

    async def arm(self, sub: Subscription) -> None:
        """Listens from the stored cursor on; for one that is armed, over a new connection as its newer row says."""
        await self.disarm(sub.id)
        self._connectors[sub.id] = None if sub.connector is None else sub.connector.id
        self._tasks[sub.id] = asyncio.get_running_loop().create_task(self._keep(sub.id))
        await asyncio.sleep(0)  # thousands are armed at a start

    async def disarm(self, subscription_id: str) -> None:
        """Listens no more."""
        self._connectors.pop(subscription_id, None)
        self._broken.pop(subscription_id, None)
        task = self._tasks.pop(subscription_id, None)
        if task is not None:
            task.cancel()
            await _ended(task, subscription_id, self._ends_within_s)

    def connector_changed(self, connector_id: str) -> None:
        """Connects anew with a connector that somebody has changed: a new secret ends a back-off."""
        for name in [name for name, used in self._connectors.items() if used == connector_id]:
            self._broken.pop(name, None)
            self._tasks[name].cancel()
            self._tasks[name] = asyncio.get_running_loop().create_task(self._keep(name, self._tasks[name]))

    async def _keep(self, name: str, before: asyncio.Task[None] | None = None) -> None:
        """Listens until it is cancelled or the subscription is armed no more; `before`: who did so until now."""
        is_first = before is None  # a back-off outlives a restart, not a new secret
        if before is not None:
            await _ended(before, name, self._ends_within_s)
        while True:
            try:
                sub = await self._subscriptions.find(name)
                if sub is None or not sub.is_armed:
                    return
                if is_first and sub.row.failures and sub.row.next_at is not None:
                    await asyncio.sleep(max(0, sub.row.next_at - clock.now_ms()) / 1000)
                    is_first = False
                    continue
                is_first = False
                wait_ms = await self.listen(sub)
            except CursorMoved:  # somebody else has gone on with it, or it is armed no more
                wait_ms = _YIELDS_MS
            except Exception as error:  # nothing was written, or it is not known: it comes again from the cursor
                _logger.warning("what a stream brought could not be taken yet", subscription=name, exc_info=error)
                wait_ms = _AGAIN_MS
            await asyncio.sleep(wait_ms / 1000)

    async def listen(self, sub: Subscription) -> int:
        """Listens until the connection ends; returns for how long to wait then, in milliseconds."""
        mask, kind = Mask(), sub.row.type
        try:
            await self._follow(sub, mask)
            error: DustrunError = Temporary("The source has closed the connection.")
        except DustrunError as caught:
            error = caught
        except (CursorMoved, asyncio.CancelledError):
            raise
        except Exception as caught:
            _logger.error("a streamed trigger is broken", subscription=sub.id, type=kind, exc_info=caught)
            error = Temporary("It ended with an internal error; the server's log has it.")
        _OPENS.add(kind, "failed")
        now = await self._subscriptions.find(sub.id)
        if now is None or not now.is_armed:
            return 0
        failures = max(now.row.failures + 1, self._broken.get(sub.id, 0))
        wait_ms = min(backoff_ms(_FIRST_WAIT_MS, failures, error.retry_after_s), _LONGEST_WAIT_MS)
        message = mask.text(error.message)
        _logger.info("a stream has ended", subscription=sub.id, failures=failures, error=message)
        await self._intake.failed(now, message, clock.now_ms() + wait_ms)
        return wait_ms

    async def _follow(self, sub: Subscription, mask: Mask) -> None:
        listen, place = sub.trigger.listen, PollPlace.read(sub.cursor)
        assert listen is not None
        context = await self._contexts.open(sub.row.org_id, sub.connector, mask, reads=True)
        source = listen(context, sub.config, None if place is None else place.cursor)
        opened_s: float | None = None
        try:
            async with self._opening:
                received = await _first(context, source)
            _OPENS.add(sub.row.type, "opened")
            opened_s = clock.monotonic_s()
            self._broken[sub.id] = self._broken.get(sub.id, 0) + 1
            known = sub.row.cursor_version, place, bool(sub.row.failures)
            while received is not None:
                known = await _finish(self._take(sub, received, known, mask))
                if received.events:
                    self._broken.pop(sub.id, None)
                received = await anext(source, None)
        finally:
            if opened_s is not None and clock.monotonic_s() - opened_s >= _SOON_S:
                self._broken.pop(sub.id, None)
            await _close(source, self._ends_within_s)

    async def _take(
        self, sub: Subscription, received: Received, known: tuple[int, PollPlace | None, bool], mask: Mask
    ) -> tuple[int, PollPlace | None, bool]:
        """Writes what has come, then acknowledges it. `known`: the cursor's version, the cursor, and whether a failure
        is on record; returns them as they are then."""
        if mask:
            received = await _masked(received, mask)
        version, place, has_failed = known
        after, beside = PollPlace(received.cursor), None
        if received.lost is not None:
            beside = gap_of(sub.row, received.lost)
        if not received.events and (after != place or has_failed or beside is not None):
            await self._intake.take(sub, None, CursorMove(version, after.stored()), beside)
            version += 1
        last = len(received.events) - 1
        for number, event in enumerate(received.events):
            reached = after if number == last else PollPlace(event.cursor)
            if number != last and event.cursor is None:  # the source sends again what is not acknowledged
                reached = place or PollPlace(None)
            await self._intake.take(sub, event, CursorMove(version, reached.stored()), beside)
            version, beside = version + 1, None
        if received.acknowledge is not None:
            await received.acknowledge()
        return version, after, False


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that is not interrupted: whoever is cancelled meanwhile waits for its end."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # it is read again from the cursor
        raise


async def _first(context: LiveContext, source: AsyncIterator[Received]) -> Received | None:
    """The first message; how connecting went is noted of the connector."""
    try:
        received = await _in_time(source)
    except NoConnection as error:
        await context.connected(error)
        raise
    await context.connected(None)
    return received


async def _in_time(
    source: AsyncIterator[Received], opens_s: float = _OPENS_WITHIN_S, ends_s: float = _ENDS_WITHIN_S
) -> Received | None:
    """The first message. A source that does not open in time is given up, or it would hold a turn for ever; the outer
    limit is for one that then does not end either."""
    limit = asyncio.timeout(opens_s)
    try:
        async with asyncio.timeout(opens_s + ends_s), limit:
            return await anext(source, None)
    except TimeoutError:
        if not limit.expired():
            raise
        message = f"No connection was made within {opens_s:.0f} s: check where the connector leads to."
        raise NoConnection(message) from None


async def _ended(task: asyncio.Task[None], name: str, within_s: float) -> None:
    """Waits for the end of a task that was cancelled, also if whoever waits is cancelled too. One that hangs, as on a
    peer that does not answer a closing, is cancelled again, then left: what it may still write is taken once, by the
    cursor's version."""
    is_cancelled, now_s = False, asyncio.get_running_loop().time
    for way in ("cancelled again", "left"):
        deadline = now_s() + within_s
        while not task.done() and (left_s := deadline - now_s()) > 0:
            try:
                await asyncio.wait({task}, timeout=left_s)
            except asyncio.CancelledError:
                is_cancelled = True
        if task.done():
            break
        _logger.warning("a connection does not end", subscription=name, now=way)
        task.cancel()
    if is_cancelled:
        raise asyncio.CancelledError


async def _close(source: AsyncIterator[Received], within_s: float) -> None:
    if isinstance(source, AsyncGenerator):
        with contextlib.suppress(DustrunError, TimeoutError):
            async with asyncio.timeout(within_s):
                await source.aclose()


async def _masked(received: Received, mask: Mask) -> Received:
    """The messages without the secrets of the connector."""

    def hide() -> Received:
        events = [
            replace(
                one,
                key=mask.text(one.key),
                payload=mask.value(one.payload),
                cursor=mask.value(one.cursor),
                formerly=None if one.formerly is None else mask.text(one.formerly),
            )
            for one in received.events
        ]
        return replace(received, events=events, cursor=mask.value(received.cursor))

    return await run_sized([received.cursor, *(one.payload for one in received.events)], hide)
