"""The next act of a schedule: fire, skip what was missed, wait, or end.

A schedule that was not watched for a while has missed fires. `on_missed` says what becomes of them: `skip` drops them,
`once` runs the last one, `all` runs each, at most `missed_cap`. A latest fire that is `GRACE_MS` late is not missed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from dustrun.records import dataclass

GRACE_MS: Final = 60_000
MAX_COUNTED: Final = 200
"""How many missed fires are counted; more are not, so that no decision takes long."""
MAX_KEPT: Final = 100
"""The most missed or waiting fires that a policy may keep."""

NextFire = Callable[[int], int | None]
"""The first fire after a time in milliseconds; None if there is none."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A schedule's rules for late, overlapping and simultaneous fires, and whose clock it follows."""

    on_missed: Literal["skip", "once", "all"] = "once"
    missed_cap: int = 10
    overlap: Literal["allow", "skip", "queue"] = "allow"
    jitter_ms: int = 0
    zone_name: str = "UTC"


@dataclass(frozen=True, slots=True)
class ScheduleProgress:
    """How far a schedule has come: the next time to fire, and those that wait for a run to end."""

    next: int | None
    waiting: tuple[int, ...] = ()

    @classmethod
    def read(cls, cursor: Mapping[str, Any]) -> ScheduleProgress:
        """The place that a cursor stores."""
        return cls(cursor["next"], tuple(cursor.get("waiting", ())))

    def cursor(self) -> dict[str, Any]:
        """The place as it is stored."""
        return {"next": self.next, **({"waiting": list(self.waiting)} if self.waiting else {})}


@dataclass(frozen=True, slots=True)
class Fire:
    """Fire the time `at`; `missed`: how many fires before it are dropped with it; `waited`: it waited for a run."""

    at: int
    after: ScheduleProgress
    missed: int = 0
    waited: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Record that the times `first` to `last` were missed and do not run; `count` stops at `MAX_COUNTED`."""

    first: int
    last: int
    count: int
    after: ScheduleProgress


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`; None: nothing ever again."""

    until: int | None


def healed(place: ScheduleProgress, now: int, next_fire: NextFire) -> ScheduleProgress:
    """A place that is not behind a clock that was set back. What has fired does not fire again: it has the same key."""
    following = None if place.next is None else next_fire(now)
    if place.next is None or following is None or place.next <= following:
        return place
    return replace(place, next=following)


def hold(
    place: ScheduleProgress, fire: Fire, now: int, policy: Policy, name: str, next_fire: NextFire
) -> ScheduleProgress | None:
    """The place when a fire must wait for a run to end; None if nothing changes, or no more can wait."""
    if not fire.waited:
        at, following = fire.at, fire.after.next
    elif place.next is not None and place.next + jitter(name, place.next, policy.jitter_ms) <= now:
        at, following = place.next, next_fire(place.next)
    else:
        return None
    return ScheduleProgress(following, (*place.waiting, at)) if len(place.waiting) < MAX_KEPT else None


def decide(place: ScheduleProgress, now: int, policy: Policy, name: str, next_fire: NextFire) -> Fire | Drop | Wait:
    """The next thing to do. `name` identifies the schedule: its jitter follows from it and the time."""
    if place.waiting:
        return Fire(place.waiting[0], ScheduleProgress(place.next, place.waiting[1:]), waited=True)
    if place.next is None:
        return Wait(None)
    due_at = place.next + jitter(name, place.next, policy.jitter_ms)
    if due_at > now:
        return Wait(due_at)
    if now - due_at <= GRACE_MS:
        following = next_fire(place.next)
        if following is None or following + jitter(name, following, policy.jitter_ms) > now:
            return Fire(place.next, ScheduleProgress(following))
    return _missed(_Late(place.next, now, policy, name, next_fire))


@dataclass(frozen=True, slots=True)
class _Late:
    """A schedule whose next time has passed without a fire."""

    first: int
    now: int
    policy: Policy
    name: str
    next_fire: NextFire

    def late_by(self, at: int) -> int:
        """How long ago it was due; negative if it is not due yet."""
        return self.now - at - jitter(self.name, at, self.policy.jitter_ms)

    def due_from(self, at: int | None) -> list[int]:
        """The due times from one on, up to one more than are counted."""
        found: list[int] = []
        while at is not None and self.late_by(at) >= 0 and len(found) <= MAX_COUNTED:
            found.append(at)
            at = self.next_fire(at)
        return found

    def fire(self, at: int, missed: int = 0) -> Fire:
        return Fire(at, ScheduleProgress(self.next_fire(at)), missed)

    def drop_before(self, kept: int, passed: list[int]) -> Drop | Fire:
        """Drops what is before a time, which stays due."""
        dropped = [at for at in passed if at < kept][:MAX_COUNTED]
        return Drop(self.first, dropped[-1], len(dropped), ScheduleProgress(kept)) if dropped else self.fire(kept)


def _missed(late: _Late) -> Fire | Drop:
    passed = late.due_from(late.first)
    recent = passed if len(passed) <= MAX_COUNTED else _recent(late, late.policy.missed_cap)
    last = recent[-1]
    if late.policy.on_missed == "once":
        return late.fire(last, missed=min(len(passed), MAX_COUNTED + 1) - 1)
    if late.policy.on_missed == "all":
        return late.drop_before(recent[-late.policy.missed_cap :][0], passed)
    if late.late_by(last) <= GRACE_MS:
        return late.drop_before(last, passed)
    return Drop(late.first, last, min(len(passed), MAX_COUNTED), ScheduleProgress(late.next_fire(last)))


def _recent(late: _Late, least: int) -> list[int]:
    """The last due times, at least so many. Looks back further and further, because there may be a year of minutes."""
    back, short, long = 1_000, 0, 0
    while True:
        found = late.due_from(late.next_fire(late.now - back))
        if len(found) > MAX_COUNTED:
            long = back
        elif len(found) >= least:
            return found
        else:
            short = back
        back = (short + long) // 2 if long else back * 2


def jitter(name: str, at: int, most: int) -> int:
    """How long after a time a schedule fires, up to `most` milliseconds; always the same for the same time."""
    if most <= 0:
        return 0
    digest = hashlib.sha256(f"{name}:{at}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (most + 1)
