"""Asks for news in the name of `polled` triggers.

Each look reads the subscription, asks, and stores what it found together with the first event; so a restart goes on
where the last commit was, and of two hosts that look at the same time only one can fire. Looks are spread over time and
limited in number; a source that fails is asked less often. A look with a connector reads its newest secret, and what it
finds and says is masked before anything is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

from dustrun import clock, log, metrics
from dustrun.core.text.masking import Mask
from dustrun.core.triggers.event import CursorMove
from dustrun.core.triggers.polling import PollPlace, backoff_ms, spread_ms
from dustrun.errors import DustrunError, Temporary
from dustrun.sdk.threads import run_sized
from dustrun.sdk.trigger import Lost, NoRun, Polled, PolledEvent
from dustrun.services.triggers.arming import OVER
from dustrun.services.triggers.context import Contexts
from dustrun.services.triggers.events import gap_of
from dustrun.services.triggers.intake import Intake
from dustrun.services.triggers.recording import CursorMoved
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions, recorded_principal
from dustrun.storage.data.table_changes import TYPE as TABLE
from dustrun.trigger_host.due_work import LOOK_AGAIN_MS, DueWork

_logger = log.get(__name__)
AT_ONCE = 32
"""How many sources are asked at the same time."""
_LONGEST_S = 60.0
"""How long one look may take."""
_LOOKS = metrics.counter("dustrun_trigger_polls", "Looks of polled triggers.", "type", "outcome")


class Polls:
    """The source of `polled` triggers."""

    def __init__(self, intake: Intake, subscriptions: Subscriptions, contexts: Contexts) -> None:
        self._intake = intake
        self._subscriptions = subscriptions
        self._contexts = contexts
        self._armed: dict[str, str | None] = {}
        """Subscriptions, each with the connector that its looks use."""
        self._tables: dict[str, str] = {}
        """Those that watch a table, each with its organisation."""
        self._woken: set[str] = set()
        self._work = DueWork(self._advance, AT_ONCE)
        self._asking: set[asyncio.Task[Polled]] = set()

    def __len__(self) -> int:
        return len(self._armed)

    async def start(self) -> None:
        """Starts the loop that waits for the next look, and those who look."""
        self._work.start()

    async def stop(self) -> None:
        """Gives up what is being asked; an event that is being written is finished."""
        self._armed.clear()  # so that nobody begins to ask from here on
        for task in self._asking:
            task.cancel()
        await self._work.stop()

    async def arm(self, sub: Subscription) -> None:
        """Looks from now on: at once for a new subscription, else when the next look is due."""
        self._armed[sub.id] = None if sub.connector is None else sub.connector.id
        if sub.row.type == TABLE:
            self._tables[sub.id] = sub.row.org_id
        now, interval = clock.now_ms(), _interval(sub)
        if sub.row.next_at is None:
            at = now
        elif sub.row.next_at <= now:
            at = now + spread_ms(sub.id, interval)
        else:  # the interval may have become shorter
            at = sub.row.next_at if sub.row.failures else min(sub.row.next_at, now + interval)
        self._work.set(sub.id, at)
        await asyncio.sleep(0)  # thousands are armed at a start

    async def disarm(self, subscription_id: str) -> None:
        """Looks no more."""
        self._armed.pop(subscription_id, None)
        self._tables.pop(subscription_id, None)
        self._work.drop(subscription_id)

    def connector_changed(self, connector_id: str) -> None:
        """Looks now with a connector that somebody has changed: a new secret ends a back-off."""
        for name in [name for name, used in self._armed.items() if used == connector_id]:
            self._work.set(name, clock.now_ms())

    def tables_changed(self, org_id: str) -> None:
        """Looks now at the tables that triggers of an organisation watch."""
        for name in [name for name, of in self._tables.items() if of == org_id]:
            self._woken.add(name)
            self._work.set(name, clock.now_ms())

    async def _advance(self, name: str) -> int | None:
        """Looks once; returns when to look again, None: never."""
        self._woken.discard(name)
        next_at = await self._look_once(name)
        return clock.now_ms() if name in self._woken and next_at is not None else next_at

    async def _look_once(self, name: str) -> int | None:
        try:
            sub = await self._subscriptions.find(name)
            if name not in self._armed or sub is None or not sub.is_armed:
                self._armed.pop(name, None)
                return None
            next_at = await self._look(sub)
            return next_at if name in self._armed else None
        except CursorMoved:
            return clock.now_ms()
        except Exception as error:  # nothing was written, or it is not known: the next look reads the row again
            _logger.warning("what a trigger found could not be taken yet", subscription=name, exc_info=error)
            return clock.now_ms() + LOOK_AGAIN_MS

    async def _look(self, sub: Subscription) -> int | None:
        before, begun = PollPlace.read(sub.cursor), clock.now_ms()
        if before is not None and before.left:
            return await self._take(sub, steps_left(before), begun, is_over=False)
        mask = Mask()
        try:
            found = await self._ask(sub, None if before is None else before.cursor, mask)
        except DustrunError as error:
            return await self._fail(sub, error, mask)
        except asyncio.CancelledError:
            if sub.id in self._armed:
                raise
            return None  # the server stops
        except Exception as error:
            _logger.error("a polled trigger is broken", subscription=sub.id, type=sub.row.type, exc_info=error)
            return await self._fail(
                sub, Temporary("The look ended with an internal error; the server's log has it."), mask
            )
        next_at = begun + (_interval(sub) if found.after_ms is None else found.after_ms)
        if found.error is not None and not found.events:
            return await self._fail(sub, found.error, mask, latest=next_at)
        _LOOKS.add(sub.row.type, "events" if found.events else "nothing")
        is_as_before = not found.events and before == PollPlace(found.cursor) and found.lost is None
        if is_as_before and not sub.row.failures and not found.is_over:
            return next_at
        return await self._take(sub, steps_of(found), next_at, is_over=found.is_over, lost=found.lost)

    async def _ask(self, sub: Subscription, cursor: object, mask: Mask) -> Polled:
        poll = sub.trigger.poll
        assert poll is not None

        async def ask() -> Polled:
            async with asyncio.timeout(_LONGEST_S):
                context = await self._contexts.open(
                    sub.row.org_id, sub.connector, mask, by=recorded_principal(sub.row), workflow_id=sub.row.workflow_id
                )
                found = await poll(context, sub.config, cursor)
                return await _masked(found, mask) if mask else found

        task = asyncio.get_running_loop().create_task(ask())
        self._asking.add(task)
        try:
            return await task
        except TimeoutError:
            raise Temporary(f"The look took longer than {_LONGEST_S:g} s.") from None
        finally:
            self._asking.discard(task)
            del task  # its error refers to this frame: a reference cycle, which would keep the cursor in memory

    async def _take(
        self, sub: Subscription, steps: Sequence[Step], next_at: int, *, is_over: bool, lost: Lost | None = None
    ) -> int | None:
        """Takes the events one by one, each with the place after it; what was lost is told with the first."""
        version, beside = sub.row.cursor_version, None if lost is None else gap_of(sub.row, lost)
        for count, (event, after) in enumerate(steps, start=1):
            if sub.id not in self._armed and event is not None:
                return None  # what is left is stored, or will be shown again
            ends = OVER if is_over and count == len(steps) else None
            await self._intake.take(sub, event, CursorMove(version, after.stored(), next_at, ends), beside)
            version, beside = version + 1, None
        return None if is_over else next_at

    async def _fail(self, sub: Subscription, error: DustrunError, mask: Mask, *, latest: int | None = None) -> int:
        """Records a failed look; the next one is later each time, but at the `latest` when something is due."""
        _LOOKS.add(sub.row.type, "failed")
        failures, message = sub.row.failures + 1, mask.text(error.message)
        next_at = clock.now_ms() + backoff_ms(_interval(sub), failures, error.retry_after_s)
        next_at = next_at if latest is None else min(next_at, latest)
        _logger.info("a trigger could not look", subscription=sub.id, failures=failures, error=message)
        await self._intake.failed(sub, message, next_at)
        return next_at


Step = tuple[PolledEvent | None, PollPlace]
"""An event, None if there is none, and the place after it."""


def steps_of(found: Polled) -> list[Step]:
    """The fate of a look's events. What a source does not show again is stored with each place before it."""
    if not found.events:
        return [(None, PollPlace(found.cursor))]
    last, left = len(found.events) - 1, [_stored(one) for one in found.events]
    return [
        (
            one,
            PollPlace(found.cursor, tuple(left[n + 1 :])) if one.cursor is None or n == last else PollPlace(one.cursor),
        )
        for n, one in enumerate(found.events)
    ]


def steps_left(place: PollPlace) -> list[Step]:
    """The fate of the events that an earlier look has stored."""
    events = [PolledEvent(one["key"], one["payload"], one["at"], no_run=_no_run(one)) for one in place.left]
    return [(one, PollPlace(place.cursor, place.left[n:])) for n, one in enumerate(events, start=1)]


def _stored(one: PolledEvent) -> dict[str, Any]:
    no_run = {} if one.no_run is None else {"noRun": list(astuple(one.no_run))}
    return {"key": one.key, "payload": one.payload, "at": one.occurred_at, **no_run}


def _no_run(stored: Mapping[str, Any]) -> NoRun | None:
    return NoRun(*stored["noRun"]) if "noRun" in stored else None


async def _masked(found: Polled, mask: Mask) -> Polled:
    """The findings without the secrets of the connector, whatever the trigger has made of the answer."""

    def hide() -> Polled:
        events = [replace(one, key=mask.text(one.key), payload=mask.value(one.payload)) for one in found.events]
        return replace(found, events=events, cursor=mask.value(found.cursor))

    return await run_sized([found.cursor, *(one.payload for one in found.events)], hide)


def _interval(sub: Subscription) -> int:
    interval = sub.trigger.interval_ms
    assert interval is not None
    return interval(sub.config)
