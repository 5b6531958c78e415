"""Timestamps and durations: RFC 3339 text, CEL's duration text, calendar fields in a time zone."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.values import Duration, Timestamp

SECOND = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = -62_135_596_800 * SECOND
_LAST = 253_402_300_800 * SECOND - 1
_LONGEST = 2**63 - 1

_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):?(\d\d))", re.ASCII
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|d|h|m|s)", re.ASCII)
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": SECOND, "m": 60 * SECOND,
          "h": 3600 * SECOND, "d": 86_400 * SECOND}  # fmt: skip
_OFFSET = re.compile(r"([+-]?)(\d\d?):(\d\d)", re.ASCII)

Time = TypeVar("Time", Timestamp, Duration)


def in_range(value: Time) -> Time:
    """Returns the value if it is in range: timestamps in the years 1 to 9999, durations within 292 years (64-bit
    nanoseconds).
    """
    if isinstance(value, Timestamp):
        if not _FIRST <= value.nanos <= _LAST:
            raise Fault("limit", "a timestamp outside the years 1 to 9999")
    elif abs(value.nanos) > _LONGEST:
        raise Fault("limit", "a duration longer than 292 years")
    return value


def read_moment(text: str) -> Timestamp:
    """Parses `2026-05-01T12:00:00Z`, with optional fraction and offset; a bare date is midnight UTC."""
    if _DAY.fullmatch(text):
        text += "T00:00:00Z"
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise Fault("value", "not a timestamp like 2026-05-01T12:00:00Z")
    numbers = [int(part) for part in match.groups()[:6]]
    fraction, _, sign, hours, minutes = match.groups()[6:]
    try:
        seconds = int((datetime(*numbers, tzinfo=UTC) - _EPOCH).total_seconds())  # type: ignore[misc,arg-type]
    except ValueError:
        raise Fault("value", "not a timestamp: there is no such date or time") from None
    if sign:
        seconds -= (1 if sign == "+" else -1) * (int(hours) * 3600 + int(minutes) * 60)
    return in_range(Timestamp(seconds * SECOND + int((fraction or "").ljust(9, "0"))))


def write_moment(value: Timestamp) -> str:
    """Formats as RFC 3339 in UTC with the shortest exact fraction."""
    seconds, nanos = divmod(value.nanos, SECOND)
    moment = _EPOCH + timedelta(seconds=seconds)
    return moment.strftime(f"{moment.year:04}-%m-%dT%H:%M:%S") + _fraction(nanos) + "Z"


def _fraction(nanos: int) -> str:
    return f".{nanos:09}".rstrip("0") if nanos else ""


_LONGEST_SPAN = 200
_LONGEST_ZONE = 100


def read_span(text: str) -> Duration:
    """Parses `1h30m`, `-1.5s`, `2d` (CEL's units, and `d` for 24 hours)."""
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return Duration(0)
    nanos, last = 0, 0
    while match := _PART.match(body, last, _LONGEST_SPAN):  # a search would try each digit of a long number anew
        last = match.end()
        whole, _, part = match.group(1).partition(".")
        scale = _UNITS[match.group(2)]
        nanos += int(whole or 0) * scale + int((part or "0")[:30]) * scale // 10 ** len((part or "0")[:30])
    if last != len(body) or not body:
        raise Fault("value", "not a duration like 1h30m, 90s or 1.5h")
    return in_range(Duration(-nanos if text[:1] == "-" else nanos))


def write_span(value: Duration) -> str:
    """Formats as seconds with an `s`, as CEL does."""
    seconds, nanos = divmod(abs(value.nanos), SECOND)
    return ("-" if value.nanos < 0 else "") + f"{seconds}{_fraction(nanos)}s"


@functools.lru_cache(maxsize=256)
def zone(name: str) -> tzinfo:
    """An IANA time zone, or a fixed offset such as `+02:00`."""
    if match := _OFFSET.fullmatch(name):
        minutes = int(match.group(2)) * 60 + int(match.group(3))
        if minutes >= 24 * 60:
            raise Fault("value", "an offset from UTC must be less than a day")
        return timezone(timedelta(minutes=-minutes if match.group(1) == "-" else minutes))
    found = _find_zone(name) if len(name) <= _LONGEST_ZONE else None
    if found is None:
        raise Fault("value", "unknown time zone; use names like Europe/Berlin, UTC or +02:00")
    return found


@functools.lru_cache(maxsize=256)
def _find_zone(name: str) -> tzinfo | None:
    """Remembers unknown names as well: to look for one in the file system takes long."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def calendar(value: Timestamp, zone_name: str | None = None) -> datetime:
    """The timestamp as local date and time in the zone (UTC by default)."""
    moment = _EPOCH + timedelta(microseconds=value.nanos // 1000)
    if zone_name is None:
        return moment
    try:
        return moment.astimezone(zone(zone_name))
    except (OverflowError, ValueError):
        raise Fault("limit", "a timestamp outside the years 1 to 9999") from None


def from_calendar(moment: datetime, nanos: int = 0) -> Timestamp:
    """Converts an aware datetime to a timestamp; `nanos` is the part below the microsecond."""
    try:
        span = moment.astimezone(UTC) - _EPOCH
    except (OverflowError, ValueError):
        raise Fault("limit", "a timestamp outside the years 1 to 9999") from None
    return in_range(Timestamp(span // timedelta(microseconds=1) * 1000 + nanos))
