"""When a recurrence of RFC 5545 fires next. python-dateutil finds the times; bounds and zones are added.

A recurrence that names hours or days follows the clock on the wall, as a cron schedule with fixed hours does. One that
only counts hours, minutes or seconds from its start follows elapsed time.
"""

from __future__ import annotations

import contextlib
import itertools
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from math import prod
from typing import Any, Final
from zoneinfo import ZoneInfo

from dateutil.rrule import MO, rrule

from dustrun.core.triggers.schedules.recurrence_text import (
    FREQUENCIES,
    Moment,
    RecurrenceParts,
    RecurrenceProblem,
    read,
)
from dustrun.core.triggers.schedules.wall_clock import DAY, EPOCH, instant_of, next_by_wall, offset_at, seconds_of, zone
from dustrun.records import dataclass

_UNITS: Final = {"WEEKLY": 7 * DAY, "DAILY": DAY, "HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}
_DAYS: Final = {"YEARLY": 366, "MONTHLY": 31, "WEEKLY": 7}
# How many periods one search looks at: 10 to 30 ms
_PERIODS: Final = {"YEARLY": 120, "MONTHLY": 900, "WEEKLY": 2_500, "DAILY": 3_700}
_SHORT_PERIODS: Final = 1_500
_MOST_IN_PERIOD: Final = 10_000
_MOST_IN_DAY: Final = 1_440
_SAMPLE: Final = 500
_SPECIFIC: Final = ("bymonth", "bymonthday", "byyearday", "byweekno", "byweekday", "byhour", "bysetpos")


class SearchedLong(Exception):
    """A search that has looked at as many periods as one may."""


class _Steps(int):
    """An interval that counts how often it is added: `rrule` itself searches without a limit."""

    left: int

    def __new__(cls, interval: int, left: int) -> _Steps:
        made = super().__new__(cls, interval)
        made.left = left
        return made

    def _step(self) -> int:
        self.left -= 1
        if self.left < 0:
            raise SearchedLong
        return int(self)

    def __radd__(self, other: int) -> int:
        return other + self._step()

    def __mul__(self, other: Any) -> Any:  # weekly rules multiply it by 7
        return self._step() * other


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A recurrence ready to be searched. Its times are what the clock shows, or, if it follows elapsed time, what it
    would show at the distance from UTC that the start has."""

    where: ZoneInfo
    freq: str
    interval: int
    by: Mapping[str, Any]
    start: datetime
    until: datetime | None
    offset: int | None
    """The distance from UTC if it follows elapsed time, in seconds."""
    more: tuple[int, ...]
    """The instants of `RDATE`."""
    less: frozenset[datetime]
    """The times of `EXDATE`."""
    less_at: frozenset[int] = frozenset()
    """Those of them that are instants (UTC) at which a skipped time fires."""

    def next_after(self, after: int) -> int | None:
        """The first instant after another, in seconds."""
        at = bisect_right(self.more, after)
        found = (self._rule_after(after), self.more[at] if at < len(self.more) else None)
        return min((instant for instant in found if instant is not None), default=None)

    def times(self, start: datetime) -> Iterator[datetime]:
        """The rule's times from a start on; raises `SearchedLong`."""
        steps = _Steps(self.interval, _PERIODS.get(self.freq, _SHORT_PERIODS))
        found = rrule(FREQUENCIES[self.freq], dtstart=start, interval=steps, until=self.until, **self.by)
        return (time for time in found if time not in self.less and not self._is_excluded(time))

    def _is_excluded(self, time: datetime) -> bool:
        return bool(self.less_at) and self.offset is None and instant_of(self.where, time) in self.less_at

    def time_of(self, instant: int) -> datetime:
        """Its start and `until` as they would be at an instant."""
        offset = offset_at(self.where, instant) if self.offset is None else self.offset
        return EPOCH + timedelta(seconds=instant + offset)

    def _rule_after(self, after: int) -> int | None:
        try:
            if self.offset is None:
                return next_by_wall(self.where, after, self._next_time)
            found = self._next_time(self.time_of(after))
            return None if found is None else seconds_of(found) - self.offset
        except SearchedLong:
            return None

    def _next_time(self, time: datetime) -> datetime | None:
        if self.until is not None and time >= self.until:
            return None
        return next((found for found in self.times(self._start_near(time)) if found > time), None)

    def _start_near(self, time: datetime) -> datetime:
        """A start one period before a time, in step with the real one, so that no search begins years ago."""
        if self.freq in _UNITS:
            period = timedelta(seconds=_UNITS[self.freq] * self.interval)
            periods = (time - self.start) // period - 1
            if periods <= 0:
                return self.start
            near = self.start + periods * period
            return near if self.freq != "WEEKLY" else _week_start(near, self.by["wkst"])
        months = self.interval * (12 if self.freq == "YEARLY" else 1)
        passed = (time.year - self.start.year) * 12 + time.month - self.start.month
        periods = passed // months - 1
        if periods <= 0:
            return self.start
        month = self.start.year * 12 + self.start.month - 1 + periods * months
        return datetime(month // 12, month % 12 + 1 if self.freq == "MONTHLY" else 1, 1)


def _week_start(time: datetime, first: Any) -> datetime:
    midnight = time.replace(hour=0, minute=0, second=0)
    return midnight - timedelta(days=(time.weekday() - first.weekday) % 7)


@lru_cache(maxsize=4096)
def compile_recurrence(text: str, zone_name: str | None) -> Recurrence:
    """The recurrence of a text; raises `RecurrenceProblem` if it is wrong, never fires or takes too long to search.

    `zone_name` is used when the text has no `TZID`."""
    parts = read(text)
    place = _zone_name(parts, zone_name)
    begins = _begin(parts).in_zone(place)
    by = _complete(parts, begins)
    _check_amount(parts, by)
    where = zone(place)
    elapsed = parts.freq in ("HOURLY", "MINUTELY", "SECONDLY") and not any(name in parts.rule for name in _SPECIFIC)
    offset = offset_at(where, instant_of(where, begins)) if elapsed else None
    made = Recurrence(
        where=where, freq=parts.freq or "", interval=by.pop("interval"), by=by, start=begins, until=None, offset=offset,
        more=(), less=frozenset(),
    )  # fmt: skip
    made = replace(made, until=_until(made, parts, place))
    instants = {_instant(place, moment) for moment in parts.less}
    more = {_instant(place, moment) for moment in parts.more} - instants
    if offset is not None:
        return replace(made, more=tuple(sorted(more)), less=frozenset(map(made.time_of, instants)))
    # as it is written: within an hour that is skipped, the instant is that of the time after it too
    less = frozenset(moment.in_zone(place) for moment in parts.less)
    less_at = frozenset(_instant(place, moment) for moment in parts.less if moment.utc)
    return replace(made, more=tuple(sorted(more)), less=less, less_at=less_at)


def _zone_name(parts: RecurrenceParts, given: str | None) -> str:
    """The zone that the text names, else the one of the trigger; a start in UTC needs none."""
    utc = parts.start is not None and parts.start.utc
    if parts.zone_name and given and parts.zone_name != given:
        raise RecurrenceProblem(f"The text has TZID={parts.zone_name}, the trigger has timezone {given}; name one.")
    return parts.zone_name or given or "UTC" if not utc else given or "UTC"


def _begin(parts: RecurrenceParts) -> Moment:
    if parts.start is not None:
        return parts.start
    raise RecurrenceProblem(
        "There is no DTSTART; begin the text with a line such as DTSTART;TZID=Europe/Berlin:20260131T090000."
    )


def _complete(parts: RecurrenceParts, start: datetime) -> dict[str, Any]:
    """The rule's parts with what it takes from its start, as `rrule` would; so any period can be its first."""
    by: dict[str, Any] = {"interval": 1, "wkst": MO, **parts.rule}
    if not any(name in by for name in ("byweekno", "byyearday", "bymonthday", "byweekday")):
        if parts.freq == "YEARLY":
            by.setdefault("bymonth", [start.month])
        if parts.freq in ("YEARLY", "MONTHLY"):
            by["bymonthday"] = [start.day]
        if parts.freq == "WEEKLY":
            by["byweekday"] = [start.weekday()]
    order = FREQUENCIES[parts.freq or ""]
    for name, value, unit in (
        ("byhour", start.hour, "HOURLY"),
        ("byminute", start.minute, "MINUTELY"),
        ("bysecond", start.second, "SECONDLY"),
    ):
        if order < FREQUENCIES[unit]:
            by.setdefault(name, [value])
    return by


def _check_amount(parts: RecurrenceParts, by: Mapping[str, Any]) -> None:
    times = prod(len(set(by[name])) for name in ("byhour", "byminute", "bysecond") if name in by)
    if times > _MOST_IN_DAY or times * _DAYS.get(parts.freq or "", 1) > _MOST_IN_PERIOD:
        message = f"FREQ={parts.freq} has too many times in one period; use a shorter FREQ, such as DAILY or MINUTELY."
        raise RecurrenceProblem(message, parts.rule_position)


def _instant(zone_name: str, moment: Moment) -> int:
    return instant_of(zone(zone_name), moment.in_zone(zone_name))


def _until(made: Recurrence, parts: RecurrenceParts, place: str) -> datetime | None:
    last = _counted(made, parts.count or 1, parts.rule_position)
    if parts.count is not None:
        return last
    if parts.until is None:
        return None
    moment = Moment(parts.until.wall + timedelta(days=1, seconds=-1)) if parts.until.day else parts.until
    return moment.in_zone(place) if made.offset is None else made.time_of(_instant(place, moment))


def _counted(made: Recurrence, count: int, position: int) -> datetime:
    """The last of `count` times. It is remembered as an `UNTIL`, so that no later search counts from the start."""
    try:
        last = next(itertools.islice(made.times(made.start), count - 1, None), None)
    except ValueError:
        raise RecurrenceProblem("The rule never fires: its parts exclude each other.", position) from None
    except SearchedLong:
        raise RecurrenceProblem(_LONG_COUNT if count > 1 else _LONG, position) from None
    if last is None:
        raise RecurrenceProblem("The rule never fires: no dates fit it.", position)
    return last


_LONG_COUNT: Final = "COUNT reaches too far ahead to be counted; give UNTIL instead."
_LONG: Final = (
    "The rule never fires, or not for so long that the search was given up. "
    "If its dates are rare, use FREQ=YEARLY with BYMONTH and BYMONTHDAY."
)


def min_gap(recurrence: Recurrence) -> int | None:
    """The shortest time between two of the first hundreds of times, in seconds; None if there is at most one."""
    times = {recurrence.time_of(instant) for instant in recurrence.more}
    with contextlib.suppress(SearchedLong):
        for time in itertools.islice(recurrence.times(recurrence.start), _SAMPLE):
            times.add(time)
    gaps = (seconds_of(after) - seconds_of(before) for before, after in itertools.pairwise(sorted(times)))
    return min(gaps, default=None)
