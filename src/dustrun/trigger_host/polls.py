"""Asks for news in the name of `polled` triggers.

Each look reads the subscription, asks, and stores what it found together with the first event; so a restart goes on
where the last commit was, and of two hosts that look at the same time only one can fire. Looks are spread over time and
limited in number; a source that fails is asked less often. A look with a connector reads its newest secret, and what it
finds and says is masked before anything is stored.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dustrun import clock, log, metrics
from dustrun.core.text.masking import Mask
from dustrun.core.triggers.event import CursorMove, TriggerEvent
from dustrun.core.triggers.polling.pacing import Place, backoff_ms, spread_ms
from dustrun.errors import DustrunError, Temporary
from dustrun.sdk.threads import run_sized
from dustrun.sdk.trigger import Polled
from dustrun.services.triggers.arming import OVER
from dustrun.services.triggers.context import Contexts
from dustrun.services.triggers.intake import Intake
from dustrun.services.triggers.recording import CursorMoved
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions
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
        self._work.drop(subscription_id)

    def connector_changed(self, connector_id: str) -> None:
        """Looks now with a connector that somebody has changed: a new secret ends a back-off."""
        for name in [name for name, used in self._armed.items() if used == connector_id]:
            self._work.set(name, clock.now_ms())

    async def _advance(self, name: str) -> int | None:
        """Looks once; returns when to look again, None: never."""
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
        before, begun = Place.read(sub.cursor), clock.now_ms()
        if before is not None and before.left:
            return await self._take(sub, before, begun, is_over=False)
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
        _LOOKS.add(sub.row.type, "events" if found.events else "nothing")
        next_at = begun + (_interval(sub) if found.after_ms is None else found.after_ms)
        left = tuple({"key": one.key, "payload": one.payload, "at": one.occurred_at} for one in found.events)
        after = Place(found.cursor, left)
        if not left and before == after and not sub.row.failures and not found.is_over:
            return next_at
        return await self._take(sub, after, next_at, is_over=found.is_over)

    async def _ask(self, sub: Subscription, cursor: object, mask: Mask) -> Polled:
        poll = sub.trigger.poll
        assert poll is not None

        async def ask() -> Polled:
            async with asyncio.timeout(_LONGEST_S):
                context = await self._contexts.open(sub.row.org_id, sub.connector, mask)
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

    async def _take(self, sub: Subscription, place: Place, next_at: int, *, is_over: bool) -> int | None:
        """Takes the events one by one; each is written with the place after it, which has those that are left."""
        version = sub.row.cursor_version
        if not place.left:
            ends = OVER if is_over else None
            await self._intake.move(sub, CursorMove(version, place.stored(), next_at, ends))
            return None if is_over else next_at
        for count, one in enumerate(place.left, start=1):
            if sub.id not in self._armed:
                return None  # what is left is stored, unless nothing was
            after = Place(place.cursor, place.left[count:])
            ends = OVER if is_over and not after.left else None
            event = TriggerEvent(one["key"], one["payload"], one["at"])
            await self._intake.fire(sub, event, CursorMove(version, after.stored(), next_at, ends))
            version += 1
        return None if is_over else next_at

    async def _fail(self, sub: Subscription, error: DustrunError, mask: Mask) -> int:
        """Records a failed look; the next one is later each time."""
        _LOOKS.add(sub.row.type, "failed")
        failures, message = sub.row.failures + 1, mask.text(error.message)
        next_at = clock.now_ms() + backoff_ms(_interval(sub), failures, error.retry_after_s)
        _logger.info("a trigger could not look", subscription=sub.id, failures=failures, error=message)
        await self._intake.failed(sub, message, next_at)
        return next_at


async def _masked(found: Polled, mask: Mask) -> Polled:
    """What was found without the secrets of the connector, whatever the trigger has made of the answer."""

    def hide() -> Polled:
        events = [replace(one, key=mask.text(one.key), payload=mask.value(one.payload)) for one in found.events]
        return replace(found, events=events, cursor=mask.value(found.cursor))

    return await run_sized([found.cursor, *(one.payload for one in found.events)], hide)


def _interval(sub: Subscription) -> int:
    interval = sub.trigger.interval_ms
    assert interval is not None
    return interval(sub.config)
