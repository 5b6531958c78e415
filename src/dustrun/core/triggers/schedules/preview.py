"""The next fires of a schedule, in words that a person can check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from dustrun.core.triggers.schedules.due import NextFire
from dustrun.core.triggers.schedules.wall_clock import offset_at, wall_time, zone
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class UpcomingFire:
    """One fire to come: when, what the clock shows then, and what is unusual about it."""

    at: int
    local_time: str
    note: str | None


def upcoming(next_fire: NextFire, zone_name: str, after: int, count: int) -> list[UpcomingFire]:
    """The next fires after a time in milliseconds."""
    found: list[UpcomingFire] = []
    previous, at = after, next_fire(after)
    while at is not None and len(found) < count:
        found.append(UpcomingFire(at, local_time(zone_name, at), _note(zone_name, previous, at)))
        previous, at = at, next_fire(at)
    return found


def payload_of(zone_name: str, at: int, missed: int = 0) -> dict[str, Any]:
    """The payload of a fire."""
    found: dict[str, Any] = {
        "scheduledAt": _utc(at),
        "localTime": local_time(zone_name, at),
        "timezone": zone_name,
    }
    return {**found, "missed": missed} if missed else found


def local_time(zone_name: str, at: int) -> str:
    """The time on the clock, with its distance from UTC."""
    return datetime.fromtimestamp(at / 1000, zone(zone_name)).isoformat(timespec="seconds")


def _utc(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _note(zone_name: str, previous: int, at: int) -> str | None:
    where, instant = zone(zone_name), at // 1000
    before, now = offset_at(where, previous // 1000), offset_at(where, instant)
    skipped = now - offset_at(where, instant - 1)
    if skipped > 0:
        return f"The clock goes forward by {_span(skipped)} at this moment; times that it skips run now, once."
    if pass_ := _repeated(where, instant):
        return f"The clock shows this time twice; this is the {pass_} one."
    if before != now:
        direction = "forward" if now > before else "back"
        moved = f"{_from_utc(before)} to {_from_utc(now)}"
        return f"The clock has gone {direction} by {_span(abs(now - before))} since the fire before ({moved})."
    return None


def _repeated(where: ZoneInfo, instant: int) -> str | None:
    """Which of two it is, if the clock shows this time twice."""
    wall = wall_time(where, instant)
    both = [int(wall.replace(tzinfo=where, fold=fold).timestamp()) for fold in (0, 1)]
    if both[0] == both[1] or any(wall_time(where, one) != wall for one in both):
        return None
    return "first" if instant == both[0] else "second"


def _span(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds // 60} min"


def _from_utc(seconds: int) -> str:
    sign = "-" if seconds < 0 else "+"
    return f"UTC{sign}{timedelta(seconds=abs(seconds))}".rsplit(":", 1)[0]
