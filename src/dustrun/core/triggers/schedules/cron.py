"""Reads cron expressions, and finds when they fire next. Problems are named by field and position.

The fields are parsed and evaluated by cronsim; what is added here is where a problem is, `@daily` and the like, whether
an expression ever fires, how close together, and changes of the clock: a schedule with fixed hours fires a skipped time
right after the gap, and a repeated time once. A schedule whose hour field is a wildcard or a step fires whenever the
clock shows a time that fits: `*/15 * * * *` goes on every 15 minutes.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field

from dustrun.core.triggers.schedules.wall_clock import DAY, next_by_elapsed, next_by_wall, zone
from dustrun.records import dataclass

MAX_LENGTH: Final = 256
NAMED: Final = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip

_RANGES: Final = {
    Field.SECOND: "seconds are 0-59",
    Field.MINUTE: "minutes are 0-59",
    Field.HOUR: "hours are 0-23",
    Field.DAY: "days are 1-31, L (the last) or LW (the last weekday)",
    Field.MONTH: "months are 1-12 or JAN-DEC",
    Field.DOW: "weekdays are 0-7 or SUN-SAT, 5L (the last Friday), 1#2 (the second Monday)",
}
_ENDS: Final = {Field.HOUR: (0, 23), Field.DAY: (1, 31), Field.MONTH: (1, 12), Field.DOW: (0, 6)}
_NAMES: Final = ("second", "minute", "hour", "day of month", "month", "day of week")
# Every kind of year there is, once: 14 pairs of length and weekday of January 1
_YEARS: Final = (*range(2000, 2007), *range(2008, 2011), *range(2012, 2025, 4))


class CronProblem(ValueError):
    """A fault in an expression; `position` counts its characters from 1."""

    def __init__(self, message: str, position: int = 1) -> None:
        super().__init__(f"{message.removesuffix('.')} (at character {position})." if position else message)
        self.position = position


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression."""

    sim: CronSim
    elapsed: bool
    """Whether it follows elapsed time through changes of the clock; otherwise it names hours."""
    min_gap: int
    """The shortest time between two fires, in seconds, on days on which the clock does not change."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Cron:
    """The expression of a text; raises `CronProblem`, also for one that never fires."""
    if len(text) > MAX_LENGTH:
        raise CronProblem(f"The schedule is longer than {MAX_LENGTH} characters.", MAX_LENGTH + 1)
    words = _words(text)
    fields = list(Field)[6 - len(words) :]
    for field, (word, position) in zip(fields, words, strict=True):
        _check_field(field, word, position)
    by_field = dict(zip(fields, words, strict=True))
    sim = _simulator(" ".join(word for word, _ in words), by_field)
    if not any(sim.match_day(day) for day in _days(sim)):
        raise CronProblem("The schedule never fires: no date fits its days and months.", by_field[Field.DAY][1])
    return Cron(sim, _is_elapsed(by_field[Field.HOUR][0], sim), _min_gap(sim))


def _words(text: str) -> list[tuple[str, int]]:
    stripped = text.strip()
    if stripped.startswith("@"):
        named = NAMED.get(stripped.lower())
        if named is None:
            raise CronProblem(
                f"{stripped[:32]!r} is not known; use 5 or 6 fields or one of {', '.join(NAMED)}.",
                text.index("@") + 1,
            )
        return [(word, text.index("@") + 1) for word in named.split()]
    words = [(match.group(), match.start() + 1) for match in re.finditer(r"\S+", text)]
    if len(words) not in (5, 6):
        raise CronProblem(
            f"A schedule has 5 fields (minute hour day month weekday) or 6 (second first), not {len(words)}.",
            words[6][1] if len(words) > 6 else len(text.rstrip()) + 1,
        )
    return words


def _check_field(field: Field, word: str, position: int) -> None:
    for term in word.split(","):
        try:
            field.parse(term.upper())
        except (CronSimError, ValueError):
            raise CronProblem(
                f"{term!r} does not fit the {_NAMES[field]} field: {_why(field, term)}.", position
            ) from None
        position += len(term) + 1


def _why(field: Field, term: str) -> str:
    if not term:
        return "something is missing beside the comma"
    if term.endswith("/0"):
        return "a step is 1 or more"
    ends = term.split("/")[0].split("-")
    if len(ends) == 2 and all(_fits(field, end) for end in ends):
        return f"the range ends before it starts; list its two parts, such as {_around(field, ends)}"
    return _RANGES[field]


def _fits(field: Field, text: str) -> bool:
    try:
        field.int(text.upper())
    except (CronSimError, ValueError):
        return False
    return True


def _around(field: Field, ends: Sequence[str]) -> str:
    first, last = _ENDS.get(field, (0, 59))
    return f"{ends[0]}-{last},{first}-{ends[1]}"


def _simulator(expression: str, by_field: dict[Field, tuple[str, int]]) -> CronSim:
    try:
        return CronSim(expression, datetime(2000, 1, 1))
    except CronSimError:  # the fields are fine each by itself: no chosen month has the chosen day
        raise CronProblem("The schedule never fires: no chosen month has such a day.", by_field[Field.DAY][1]) from None


def _days(sim: CronSim) -> Iterable[date]:
    """The days of all kinds of years in the chosen months."""
    for year in _YEARS:
        day = date(year, 1, 1)
        while day.year == year:
            if day.month in sim.months:
                yield day
            day += timedelta(days=1)


def _is_elapsed(hours: str, sim: CronSim) -> bool:
    return "*" in hours or "/" in hours or len(sim.hours) == 24


def _min_gap(sim: CronSim) -> int:
    """Neighbours differ in the second, or in the minute, the hour or the day; the closest ones of each kind count."""
    seconds, minutes, hours = (sorted(part) for part in (sim.seconds, sim.minutes, sim.hours))
    in_minute = seconds[-1] - seconds[0]
    in_hour = (minutes[-1] - minutes[0]) * 60 + in_minute
    in_day = (hours[-1] - hours[0]) * 3600 + in_hour
    steps = [
        (seconds, _closest(seconds)),
        (minutes, _closest(minutes) * 60 - in_minute),
        (hours, _closest(hours) * 3600 - in_hour),
    ]
    within = min((gap for part, gap in steps if len(part) > 1), default=2 * DAY)
    overnight = DAY - in_day
    return overnight if overnight < within and _on_two_days(sim) else within


def _closest(part: Sequence[int]) -> int:
    return min((after - before for before, after in itertools.pairwise(part)), default=0)


def _on_two_days(sim: CronSim) -> bool:
    previous: date | None = None
    for day in _days(sim):
        if sim.match_day(day):
            if previous is not None and day - previous == timedelta(days=1):
                return True
            previous = day
    return False


def next_fire(text: str, zone_name: str, after_ms: int) -> int | None:
    """The first fire after a time, both in milliseconds since 1970."""
    cron, where = parse(text), zone(zone_name)

    def next_wall(wall: datetime) -> datetime | None:
        sim = copy.copy(cron.sim)
        sim.dt = wall
        return next(sim, None)

    search = next_by_elapsed if cron.elapsed else next_by_wall
    instant = search(where, after_ms // 1000, next_wall)
    return None if instant is None else instant * 1000
