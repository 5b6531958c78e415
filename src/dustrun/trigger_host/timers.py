"""Fires schedules at their times.

A schedule's place is its cursor: it moves in the transaction that takes the event, and an event's key is its time. So a
restart goes on where the last commit was, and two hosts cannot both fire.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace

from dustrun import clock, ids, log
from dustrun.core.triggers.event import CursorMove, TriggerEvent
from dustrun.core.triggers.limits import Skip
from dustrun.core.triggers.schedules.due import (
    MAX_COUNTED,
    Drop,
    Fire,
    NextFire,
    Policy,
    ScheduleProgress,
    Wait,
    decide,
    healed,
    hold,
)
from dustrun.core.triggers.schedules.preview import local_time, payload_of
from dustrun.core.values import exact_json
from dustrun.records import dataclass
from dustrun.services.triggers.arming import OVER
from dustrun.services.triggers.intake import FireOptions, Intake
from dustrun.services.triggers.recording import CursorMoved, EventOutcome, Overlap, StillRunning
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions
from dustrun.trigger_host.due_work import LOOK_AGAIN_MS, DueWork

_logger = log.get(__name__)
_AT_ONCE = 8
"""How many schedules are fired at the same time."""
_LONGEST_MS = 3_600_000
"""When a schedule is looked at again at the latest: the clock may have been set back."""


@dataclass(frozen=True, slots=True)
class _Schedule:
    """A subscription as a schedule."""

    sub: Subscription
    policy: Policy
    next_fire: NextFire

    @classmethod
    def of(cls, sub: Subscription) -> _Schedule:
        """The schedule of a subscription."""
        next_fire = sub.trigger.next_fire
        assert next_fire is not None
        config = sub.config
        return cls(
            sub, sub.trigger.policy(config), functools.lru_cache(4)(lambda after: next_fire(config, after, None))
        )

    @property
    def place(self) -> ScheduleProgress:
        """How far it has come."""
        cursor = self.sub.cursor
        return (
            ScheduleProgress.read(cursor)
            if cursor is not None
            else ScheduleProgress(self.next_fire(self.sub.row.armed_at))
        )

    @property
    def last_run(self) -> str | None:
        """The run that it started last."""
        return (self.sub.cursor or {}).get("run")

    def moved(self, cursor: object, version: int) -> _Schedule:
        """The schedule after its cursor has moved."""
        row = replace(self.sub.row, cursor=exact_json.dumps_text(cursor), cursor_version=version)
        return replace(self, sub=replace(self.sub, row=row))


class Timers:
    """The source of `timed` triggers."""

    def __init__(self, intake: Intake, subscriptions: Subscriptions) -> None:
        self._intake = intake
        self._subscriptions = subscriptions
        self._armed: dict[str, _Schedule] = {}
        self._work = DueWork(self._advance, _AT_ONCE)
        self._must_read: set[str] = set()

    def __len__(self) -> int:
        return len(self._armed)

    async def start(self) -> None:
        """Starts the loop that waits for the next time, and those who fire."""
        self._work.start()

    async def stop(self) -> None:
        """Fires nothing more; what is being written is finished."""
        self._armed.clear()
        await self._work.stop()

    async def arm(self, sub: Subscription) -> None:
        """Fires a subscription from now on."""
        schedule = self._armed[sub.id] = _Schedule.of(sub)
        found = _decide(schedule)
        if isinstance(found, Wait) and found.until is not None:
            self._work.set(sub.id, _at_latest(found.until))
        else:
            self._work.set_due(sub.id)
        await asyncio.sleep(0)  # thousands are armed at a start

    async def disarm(self, subscription_id: str) -> None:
        """Fires it no more."""
        self._armed.pop(subscription_id, None)
        self._work.drop(subscription_id)

    async def _advance(self, name: str) -> int | None:
        """Does all that is due of a schedule; returns when to look at it again, None: never."""
        try:
            if name in self._must_read:
                await self._read_again(name)
                self._must_read.discard(name)
            while (schedule := self._armed.get(name)) is not None:
                until = await self._step(schedule)
                if until is not None:
                    return _at_latest(until)
                await asyncio.sleep(0)
        except Exception as error:
            _logger.warning("a schedule could not fire; it is tried again", subscription=name, exc_info=error)
            self._must_read.add(name)
            return clock.now_ms() + LOOK_AGAIN_MS
        return None

    async def _step(self, schedule: _Schedule) -> int | None:
        """Does the next thing; returns until when there is nothing more to do."""
        found = _decide(schedule)
        try:
            if isinstance(found, Fire):
                return await self._fire(schedule, found)
            if isinstance(found, Drop):
                await self._drop(schedule, found)
                return None
            if found.until is None:
                await self._move(schedule, schedule.place, ends=OVER)
                self._armed.pop(schedule.sub.id, None)
        except CursorMoved:
            await self._read_again(schedule.sub.id)
            return None
        return found.until

    async def _fire(self, schedule: _Schedule, fire: Fire) -> int | None:
        run_id = ids.new_id("run")
        then = schedule.policy.overlap
        overlap = None
        if then != "allow" and schedule.last_run is not None:
            overlap = Overlap(schedule.last_run, then)
        payload = payload_of(schedule.policy.zone_name, fire.at, fire.missed)
        event = TriggerEvent(str(fire.at), payload, fire.at, run_id=run_id)
        cursor = {**fire.after.cursor(), "run": run_id}
        try:
            await self._take(schedule, event, fire.after, cursor, FireOptions(overlap=overlap))
        except StillRunning:
            return await self._hold(schedule, fire, event)
        return None

    async def _hold(self, schedule: _Schedule, fire: Fire, event: TriggerEvent) -> int | None:
        """Lets a fire wait for the run before."""
        now = clock.now_ms()
        place = hold(_place(schedule), fire, now, schedule.policy, schedule.sub.id, schedule.next_fire)
        if place is not None:
            await self._move(schedule, place)
        elif not fire.waited:
            full = Skip("overlap", "Too many times wait for the run before to end.")
            await self._take(schedule, event, fire.after, self._cursor(schedule, fire.after), FireOptions(given=full))
        return now + LOOK_AGAIN_MS

    async def _drop(self, schedule: _Schedule, drop: Drop) -> None:
        """Records times that were missed and do not run, as one event."""
        zone_name = schedule.policy.zone_name
        more = "more than " if drop.count >= MAX_COUNTED else ""
        times = "1 time was" if drop.count == 1 else f"{more}{drop.count} times were"
        first, last = (local_time(zone_name, at) for at in (drop.first, drop.last))
        skip = Skip("missed", f"{times} missed while the schedule was not watched: {first} to {last}.")
        payload = {**payload_of(zone_name, drop.first), "missed": drop.count, "lastMissedAt": last}
        event = TriggerEvent(f"missed {drop.first}", payload, drop.first)
        await self._take(schedule, event, drop.after, self._cursor(schedule, drop.after), FireOptions(given=skip))

    def _cursor(self, schedule: _Schedule, place: ScheduleProgress) -> dict[str, object]:
        run = schedule.last_run
        return {**place.cursor(), **({"run": run} if run is not None else {})}

    async def _take(
        self,
        schedule: _Schedule,
        event: TriggerEvent,
        after: ScheduleProgress,
        cursor: dict[str, object],
        options: FireOptions,
    ) -> EventOutcome:
        """Writes an event and the place after it."""
        sub = schedule.sub
        ends = OVER if after.next is None and not after.waiting else None
        unchanged = self._cursor(schedule, after)
        move = CursorMove(sub.row.cursor_version, cursor, after.next, ends, if_skipped=unchanged)
        fired = await self._intake.fire(sub, event, move, options)
        if fired.action == "skipped":
            cursor = unchanged
        if fired.is_duplicate:
            await self._read_again(sub.id)
        elif ends is not None:
            self._armed.pop(sub.id, None)
        elif self._armed.get(sub.id) is schedule:
            self._armed[sub.id] = schedule.moved(cursor, sub.row.cursor_version + 1)
        return fired

    async def _move(self, schedule: _Schedule, place: ScheduleProgress, ends: str | None = None) -> None:
        sub, cursor = schedule.sub, self._cursor(schedule, place)
        version = await self._intake.move(sub, CursorMove(sub.row.cursor_version, cursor, place.next, ends))
        if self._armed.get(sub.id) is schedule:
            self._armed[sub.id] = schedule.moved(cursor, version)

    async def _read_again(self, name: str) -> None:
        found = await self._subscriptions.find(name)
        if found is None or not found.is_armed:
            self._armed.pop(name, None)
        elif name in self._armed:
            self._armed[name] = _Schedule.of(found)


def _at_latest(until: int) -> int:
    return min(until, clock.now_ms() + _LONGEST_MS)


def _place(schedule: _Schedule) -> ScheduleProgress:
    return healed(schedule.place, clock.now_ms(), schedule.next_fire)


def _decide(schedule: _Schedule) -> Fire | Drop | Wait:
    now, place = clock.now_ms(), schedule.place
    return decide(healed(place, now, schedule.next_fire), now, schedule.policy, schedule.sub.id, schedule.next_fire)
