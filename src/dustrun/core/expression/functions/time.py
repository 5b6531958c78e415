"""Timestamps and durations. A timestamp may be given as RFC 3339 text, a duration as text such as `1h30m`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from dustrun.core.expression import operators, times
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.table import FunctionGroup
from dustrun.core.expression.values import Duration, Meter, Timestamp

# Date and time patterns with Unicode (CLDR) letters; names are always English, independent of any locale.


MAX_PATTERN = 200
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TOKEN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+|'")


def _offset(moment: datetime) -> str:
    text = moment.strftime("%z")[:5]
    return f"{text[:3]}:{text[3:]}"


# token → (how to format it, the regular expression that parses it)
_TOKENS: dict[str, tuple[Callable[[datetime], str], str]] = {
    "yyyy": (lambda m: f"{m.year:04}", r"(?P<year>\d{4})"),
    "yy": (lambda m: f"{m.year % 100:02}", r"(?P<short_year>\d\d)"),
    "MMMM": (lambda m: _MONTHS[m.month - 1], f"(?P<month_name>{'|'.join(_MONTHS)})"),
    "MMM": (lambda m: _MONTHS[m.month - 1][:3], f"(?P<month_name>{'|'.join(n[:3] for n in _MONTHS)})"),
    "MM": (lambda m: f"{m.month:02}", r"(?P<month>\d\d)"),
    "M": (lambda m: str(m.month), r"(?P<month>\d\d?)"),
    "dd": (lambda m: f"{m.day:02}", r"(?P<day>\d\d)"),
    "d": (lambda m: str(m.day), r"(?P<day>\d\d?)"),
    "EEEE": (lambda m: _DAYS[m.weekday()], f"(?:{'|'.join(_DAYS)})"),
    "EEE": (lambda m: _DAYS[m.weekday()][:3], f"(?:{'|'.join(n[:3] for n in _DAYS)})"),
    "HH": (lambda m: f"{m.hour:02}", r"(?P<hour>\d\d)"),
    "H": (lambda m: str(m.hour), r"(?P<hour>\d\d?)"),
    "hh": (lambda m: f"{(m.hour + 11) % 12 + 1:02}", r"(?P<half_hour>\d\d)"),
    "h": (lambda m: str((m.hour + 11) % 12 + 1), r"(?P<half_hour>\d\d?)"),
    "a": (lambda m: "AM" if m.hour < 12 else "PM", r"(?P<half>[AaPp][Mm])"),
    "mm": (lambda m: f"{m.minute:02}", r"(?P<minute>\d\d)"),
    "ss": (lambda m: f"{m.second:02}", r"(?P<second>\d\d)"),
    "SSS": (lambda m: f"{m.microsecond // 1000:03}", r"(?P<millisecond>\d{3})"),
    "XXX": (_offset, r"(?P<offset>[Zz]|[+-]\d\d:\d\d)"),
}
TOKENS = tuple(_TOKENS)


def _parts(pattern: str) -> list[tuple[str, bool]]:
    """Splits a pattern into (text, whether it is a token)."""
    if len(pattern) > MAX_PATTERN:
        raise Fault("limit", f"a time pattern of {len(pattern)} characters is too long; the limit is {MAX_PATTERN}")
    parts = []
    for match in _TOKEN.finditer(pattern):
        quoted, letter = match.groups()
        if letter:
            if match.group() not in _TOKENS:
                message = f'"{match.group()}" is not a time pattern token; the tokens are {" ".join(TOKENS)}'
                raise Fault("value", message + "; put literal letters in single quotes")
            parts.append((match.group(), True))
        else:
            text = match.group() if quoted is None else quoted.replace("''", "'") or "'"
            parts.append((text, False))
    return parts


def write_pattern(moment: datetime, pattern: str) -> str:
    """Formats an aware datetime with a pattern."""
    return "".join(_TOKENS[part][0](moment) if is_token else part for part, is_token in _parts(pattern))


def read_pattern(text: str, pattern: str, zone: str) -> Timestamp:
    """Parses text with a pattern; an offset in the text takes precedence over the zone."""
    seen: set[str] = set()
    expression = ""
    for part, is_token in _parts(pattern):
        piece = _TOKENS[part][1] if is_token else re.escape(part)
        group = re.match(r"\(\?P<(\w+)>", piece) if is_token else None
        if group and group.group(1) in seen:
            raise Fault("value", "a time pattern contains the same part twice")
        seen |= {group.group(1)} if group else set()
        expression += piece
    match = re.fullmatch(expression, text, re.ASCII)
    if match is None:
        raise Fault("value", "the text does not match the time pattern")
    try:
        return times.from_calendar(_moment(match.groupdict(), zone))
    except ValueError:
        raise Fault("value", "there is no such date or time") from None


def _moment(found: dict[str, str], zone: str) -> datetime:
    month = found.get("month")
    if name := found.get("month_name"):
        month = str([m[:3] for m in _MONTHS].index(name[:3]) + 1)
    hour = int(found.get("hour") or 0)
    if half_hour := found.get("half_hour"):
        hour = int(half_hour) % 12 + (12 if found.get("half", "am").lower() == "pm" else 0)
    offset = found.get("offset") or zone
    return datetime(
        int(found.get("year") or f"20{found.get('short_year', '00')}"),
        int(month or 1),
        int(found.get("day") or 1),
        hour,
        int(found.get("minute") or 0),
        int(found.get("second") or 0),
        int(found.get("millisecond") or 0) * 1000,
        tzinfo=times.zone("UTC" if offset in ("Z", "z") else offset),
    )


time = FunctionGroup("Time")

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
    return operators.divide(meter, nanos, _UNITS[unit])  # type: ignore[no-any-return]


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
