"""Time zones, and how wall clock times become instants.

Zones come from the bundled `tzdata`, so a schedule means the same on every machine. Instants are whole seconds since
1970; a wall time is a `datetime` without a zone.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo

DAY: Final = 86_400
EPOCH: Final = datetime(1970, 1, 1)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The names of all bundled zones."""
    return frozenset((resources.files("tzdata") / "zones").read_text(encoding="ascii").split())


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The zone of a name; raises ValueError that suggests a similar name."""
    if name not in zone_names():
        raise ValueError(f"There is no time zone {name[:64]!r}; {_hint(name)}")
    place = resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    with place.open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def _hint(name: str) -> str:
    by_city: dict[str, str] = {}
    for known in sorted(zone_names()):
        by_city.setdefault(known.rsplit("/", 1)[-1].lower(), known)
        by_city.setdefault(known.lower(), known)
    city = name[:64].rsplit("/", 1)[-1].replace(" ", "_").lower()
    close = difflib.get_close_matches(name[:64].lower(), by_city, 1) or difflib.get_close_matches(city, by_city, 1)
    return f"did you mean {by_city[close[0]]!r}?" if close else "use an IANA name such as 'Europe/Berlin' or 'UTC'."


def offset_at(where: ZoneInfo, instant: int) -> int:
    """The zone's distance from UTC at an instant, in seconds."""
    found = datetime.fromtimestamp(instant, UTC).astimezone(where).utcoffset()
    return int(found.total_seconds()) if found is not None else 0


def wall_time(where: ZoneInfo, instant: int) -> datetime:
    """The time that a clock on the wall shows at an instant."""
    return datetime.fromtimestamp(instant, UTC).astimezone(where).replace(tzinfo=None, fold=0)


def seconds_of(wall: datetime) -> int:
    """A wall time as if it were UTC, in seconds since 1970."""
    return (wall - EPOCH) // timedelta(seconds=1)


def instant_of(where: ZoneInfo, wall: datetime) -> int:
    """The instant of a wall time: the first if the clock shows it twice, and right after the gap if it is skipped."""
    earliest = int(wall.replace(tzinfo=where, fold=0).timestamp())
    if wall_time(where, earliest) == wall:
        return earliest
    return change_between(where, earliest - DAY, earliest)


def change_between(where: ZoneInfo, low: int, high: int) -> int:
    """The instant at which the offset of `low` ends; there is exactly one change in between."""
    before = offset_at(where, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset_at(where, middle) == before else (low, middle)
    return high


def next_change(where: ZoneInfo, after: int, until: int) -> int | None:
    """The first change of the offset in (after, until], if any. Looks once a day: no zone changes twice in one."""
    before = offset_at(where, after)
    low = after
    while low < until:
        high = min(low + DAY, until)
        if offset_at(where, high) != before:
            return change_between(where, low, high)
        low = high
    return None


NextWall = Callable[[datetime], datetime | None]


def next_by_wall(where: ZoneInfo, after: int, next_wall: NextWall) -> int | None:
    """The next fire of a schedule that names hours: a skipped time fires right after the gap, a repeated one once."""
    wall = _settled_wall(where, after)
    while (found := next_wall(wall)) is not None:
        instant = instant_of(where, found)
        if instant > after:
            return instant
        wall = found
    return None


def _settled_wall(where: ZoneInfo, after: int) -> datetime:
    """The wall time up to which everything has fired. While an hour is repeated that is its end, not what the clock
    shows."""
    wall = wall_time(where, after)
    if instant_of(where, wall) >= after:
        return wall
    change = change_between(where, after - DAY, after)
    return wall_time(where, change - 1)


def next_by_elapsed(where: ZoneInfo, after: int, next_wall: NextWall) -> int | None:
    """The next instant whose wall time fits: a skipped time does not fire, a repeated one fires twice."""
    while True:
        offset = offset_at(where, after)
        found = next_wall(EPOCH + timedelta(seconds=after + offset))
        if found is None:
            return None
        instant = seconds_of(found) - offset
        change = next_change(where, after, instant)
        if change is None:
            return instant
        wall = wall_time(where, change)  # nothing fires before the change; the search goes on with the offset after it
        if next_wall(wall - timedelta(seconds=1)) == wall:
            return change
        after = change
