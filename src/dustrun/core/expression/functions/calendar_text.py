"""Date and time patterns with Unicode (CLDR) letters; names are always English, independent of any locale."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from dustrun.core.expression.runtime import times
from dustrun.core.expression.runtime.fault import Fault
from dustrun.core.expression.runtime.values import Timestamp

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
