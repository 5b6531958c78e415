"""What schedules must do when a zone's clock changes, found in another way: by walking through every minute.

Nothing here uses the code that it judges. Fields are read by croniter, which the product does not use; the walk asks
`zoneinfo` what the clock shows in each minute, and the rules are applied as they are written in the guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter

MINUTE, HOUR = 60, 3600
FIRST, LAST = 2020, 2031


@dataclass(frozen=True)
class Change:
    """One change of a zone's clock."""

    zone: str
    at: int
    before: int
    after: int


def zone_groups() -> dict[str, list[str]]:
    """All zones of tzdata: those whose data is the same, byte for byte, under the first of their names."""
    groups: dict[str, list[str]] = {}
    root = resources.files("tzdata").joinpath("zoneinfo")
    names = (resources.files("tzdata") / "zones").read_text().split()
    for name in sorted(set(names) | (available_timezones() & set(names))):
        content = root.joinpath(*name.split("/")).read_bytes()
        groups.setdefault(sha256(content).hexdigest(), []).append(name)
    return {found[0]: found for found in groups.values()}


@lru_cache(maxsize=4)
def _zone(name: str) -> ZoneInfo:
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def wall(name: str, instant: int) -> datetime:
    """What the clock shows."""
    return datetime.fromtimestamp(instant, _zone(name)).replace(tzinfo=None, fold=0)


def _offset(name: str, instant: int) -> int:
    found = datetime.fromtimestamp(instant, _zone(name)).utcoffset()
    assert found is not None
    return int(found.total_seconds())


def changes(name: str) -> Iterator[Change]:
    """Every change of a zone in 2020–2030: the distance from UTC is asked for each hour, then for each minute."""
    instant = int(datetime(FIRST, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(LAST, 1, 1, tzinfo=UTC).timestamp())
    before = _offset(name, instant)
    while instant < end:
        after = _offset(name, instant + HOUR)
        if after != before:
            at = next(t for t in range(instant + MINUTE, instant + HOUR + 1, MINUTE) if _offset(name, t) != before)
            yield Change(name, at, before, after)
        before, instant = after, instant + HOUR


class Fields:
    """The fields of an expression, as croniter reads them."""

    def __init__(self, expression: str) -> None:
        words = expression.split()
        self.has_hours = not ("*" in words[1] or "/" in words[1])
        expanded = croniter.expand(expression)[0]
        every = [range(60), range(24), range(1, 32), range(1, 13), range(7)]
        self.sets = [set(every[n]) if found == ["*"] else set(found) for n, found in enumerate(expanded[:5])]
        self.sets[4] = {int(day) % 7 for day in self.sets[4]}
        self.both = words[2].startswith("*") or words[4].startswith("*")

    def fits(self, time: datetime) -> bool:
        """Whether the clock shows a time of the expression."""
        minutes, hours, days, months, weekdays = self.sets
        if time.minute not in minutes or time.hour not in hours or time.month not in months:
            return False
        day, weekday = time.day in days, time.isoweekday() % 7 in weekdays
        return (day and weekday) if self.both else (day or weekday)


class Window:
    """The minutes around a change, and what the clock shows in each."""

    def __init__(self, change: Change, hours: int) -> None:
        self.start, self.end = change.at - hours * HOUR, change.at + hours * HOUR
        self.shown = [(instant, wall(change.zone, instant)) for instant in range(self.start, self.end, MINUTE)]

    def fires(self, fields: Fields) -> list[int]:
        """When a schedule fires in the window, after its first minute."""
        if not fields.has_hours:
            return [instant for instant, time in self.shown[1:] if fields.fits(time)]
        found: set[int] = set()
        reached = self.shown[0][1]
        for instant, time in self.shown[1:]:
            while reached < time:  # each minute that the clock shows or jumps over, once
                reached += timedelta(minutes=1)
                if fields.fits(reached):
                    found.add(instant)
        return sorted(found)
