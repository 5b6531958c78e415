"""Timestamps and durations. A timestamp may be given as RFC 3339 text, a duration as text such as `1h30m`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from dustrun.core.expression.functions.calendar_text import read_pattern, write_pattern
from dustrun.core.expression.functions.table import Group
from dustrun.core.expression.runtime import arithmetic, times
from dustrun.core.expression.runtime.fault import Fault
from dustrun.core.expression.runtime.limits import Meter
from dustrun.core.expression.runtime.values import Duration, Timestamp

time = Group("Time")

_UNITS = {"milliseconds": 10**6, "seconds": times.SECOND, "minutes": 60 * times.SECOND,
          "hours": 3600 * times.SECOND, "days": 86_400 * times.SECOND, "weeks": 7 * 86_400 * times.SECOND}  # fmt: skip


@time.function(
    "parseTime(s: string, pattern: string?, zone: string?) -> timestamp",
    "Parses RFC 3339 text, or text in a pattern (see below) as local time in the zone.",
    'parseTime("01/05/2026 14:00", "dd/MM/yyyy HH:mm", "Europe/Berlin")',
    '"2026-05-01T12:00:00Z"',
)
def parse_time(meter: Meter, s: str, pattern: str | None = None, zone: str = "UTC") -> Timestamp:
    return times.read_moment(s) if pattern is None else read_pattern(s, pattern, zone)


@time.function(
    "formatTime(t: time, pattern: string, zone: string?) -> string",
    "Formats a timestamp with a pattern (see below), as local time in the zone.",
    'formatTime("2026-05-01T12:00:00Z", "EEE d MMM yyyy, HH:mm", "Asia/Tokyo")',
    '"Fri 1 May 2026, 21:00"',
)
def format_time(meter: Meter, t: Timestamp, pattern: str, zone: str = "UTC") -> str:
    return write_pattern(times.calendar(t, zone), pattern)


@time.function(
    "addDuration(t: time, span: span) -> timestamp",
    "Adds a duration, which may be negative.",
    'addDuration("2026-05-01T12:00:00Z", "-90m")',
    '"2026-05-01T10:30:00Z"',
)
def add_duration(meter: Meter, t: Timestamp, span: Duration) -> Timestamp:
    return times.in_range(Timestamp(t.nanos + span.nanos))


@time.function(
    "diff(start: time, end: time, unit: string?) -> number|duration",
    "The time from start to end: a duration, or an exact number of milliseconds, seconds, minutes, hours, days or "
    "weeks.",
    'diff("2026-05-01", "2026-05-02T12:00:00Z", "days")',
    "1.5",
)
def diff(meter: Meter, start: Timestamp, end: Timestamp, unit: str | None = None) -> int | Decimal | Duration:
    nanos = end.nanos - start.nanos
    if unit is None:
        return times.in_range(Duration(nanos))
    if unit not in _UNITS:
        raise Fault("value", f"diff(): the units are {', '.join(_UNITS)}")
    return arithmetic.divide(meter, nanos, _UNITS[unit])  # type: ignore[no-any-return]


@time.function(
    "startOf(t: time, unit: string, zone: string?) -> timestamp",
    "The start of the year, month, week (Monday), day, hour or minute in the zone.",
    'startOf("2026-05-01T01:30:00Z", "day", "America/New_York")',
    '"2026-04-30T04:00:00Z"',
)
def start_of(meter: Meter, t: Timestamp, unit: str, zone: str = "UTC") -> Timestamp:
    moment = times.calendar(t, zone)
    if unit in ("minute", "hour"):
        # Clocks do not jump within an hour; an hour that occurs twice keeps its own half.
        less = timedelta(minutes=moment.minute if unit == "hour" else 0, seconds=moment.second)
        return times.from_calendar(moment.astimezone(UTC).replace(microsecond=0) - less)
    day = datetime(moment.year, moment.month, moment.day, tzinfo=moment.tzinfo)
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit == "month":
        day = day.replace(day=1)
    elif unit == "year":
        day = day.replace(month=1, day=1)
    elif unit != "day":
        raise Fault("value", "startOf(): the units are year, month, week, day, hour, minute")
    return times.from_calendar(day)


@time.function(
    "inZone(t: time, zone: string) -> string",
    "RFC 3339 text with the zone's local time and offset.",
    'inZone("2026-05-01T12:00:00Z", "Europe/Berlin")',
    '"2026-05-01T14:00:00+02:00"',
)
def in_zone(meter: Meter, t: Timestamp, zone: str) -> str:
    moment = times.calendar(t, zone)
    fraction = f".{t.nanos % times.SECOND:09}".rstrip("0") if t.nanos % times.SECOND else ""
    return write_pattern(moment, "yyyy-MM-dd'T'HH:mm:ss") + fraction + write_pattern(moment, "XXX")
