"""Reads recurrences of RFC 5545: `DTSTART`, `RRULE`, `RDATE` and `EXDATE`. Problems are named by position."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from dateutil import rrule

from dustrun.core.triggers.schedules.wall_clock import wall_time, zone
from dustrun.records import dataclass

MAX_LENGTH: Final = 4096
MAX_DATES: Final = 500
MAX_COUNT: Final = 1_000
FREQUENCIES: Final[dict[str, Literal[0, 1, 2, 3, 4, 5, 6]]] = {
    "YEARLY": 0, "MONTHLY": 1, "WEEKLY": 2, "DAILY": 3, "HOURLY": 4, "MINUTELY": 5, "SECONDLY": 6,
}  # fmt: skip
_WEEKDAYS: Final = {str(day): day for day in (rrule.MO, rrule.TU, rrule.WE, rrule.TH, rrule.FR, rrule.SA, rrule.SU)}
# part: dateutil's name, least, most, whether negative numbers count from the end
_NUMBERS: Final = {
    "BYSECOND": ("bysecond", 0, 59, False),
    "BYMINUTE": ("byminute", 0, 59, False),
    "BYHOUR": ("byhour", 0, 23, False),
    "BYMONTHDAY": ("bymonthday", 1, 31, True),
    "BYYEARDAY": ("byyearday", 1, 366, True),
    "BYWEEKNO": ("byweekno", 1, 53, True),
    "BYMONTH": ("bymonth", 1, 12, False),
    "BYSETPOS": ("bysetpos", 1, 366, True),
}
_ONLY_WITH: Final = {"BYWEEKNO": ("YEARLY",), "BYYEARDAY": ("YEARLY", "HOURLY", "MINUTELY", "SECONDLY")}
_MOMENT: Final = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?")


class RecurrenceProblem(ValueError):
    """A fault in a recurrence; `position` counts its characters from 1."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(f"{message.removesuffix('.')} (at character {position})." if position else message)
        self.position = position


@dataclass(frozen=True, slots=True)
class Moment:
    """A date or time as it is written; `utc` if it ends with Z."""

    wall: datetime
    utc: bool = False
    day: bool = False
    """Whether it is a date without a time."""

    def in_zone(self, zone_name: str) -> datetime:
        """The wall time that it means in a zone."""
        if not self.utc:
            return self.wall
        return wall_time(zone(zone_name), int(self.wall.replace(tzinfo=UTC).timestamp()))


@dataclass(slots=True)
class RecurrenceParts:
    """The parts of a recurrence, before it is put together. `rule` has the arguments of dateutil's `rrule`."""

    start: Moment | None = None
    zone_name: str | None = None
    freq: str | None = None
    rule: dict[str, Any] = field(default_factory=dict)
    until: Moment | None = None
    count: int | None = None
    rule_position: int = 1
    more: list[Moment] = field(default_factory=list)
    less: list[Moment] = field(default_factory=list)


def read(text: str) -> RecurrenceParts:
    """The parts of a text; raises `RecurrenceProblem`. A text without a property name is the value of an `RRULE`."""
    if len(text) > MAX_LENGTH:
        raise RecurrenceProblem(f"The recurrence is longer than {MAX_LENGTH} characters.", MAX_LENGTH + 1)
    parts = RecurrenceParts()
    for line in re.finditer(r"[^\r\n\s][^\r\n]*", text):
        _read_line(parts, line.group().rstrip(), line.start() + 1)
    if parts.freq is None:
        raise RecurrenceProblem("There is no RRULE with a FREQ, such as RRULE:FREQ=DAILY.", 1)
    return parts


def _read_line(parts: RecurrenceParts, line: str, position: int) -> None:
    head, colon, value = line.partition(":")
    if not colon:
        head, value, at = "RRULE", line, position
    else:
        at = position + len(head) + 1
    name = head.split(";")[0].upper()
    reader = _PROPERTIES.get(name)
    if reader is None:
        raise RecurrenceProblem(f"{name[:32]!r} is not known; known are {', '.join(_PROPERTIES)}.", position)
    zone_name = _zone_of(head.split(";")[1:], position + len(name) + 1)
    if zone_name is not None:
        if parts.zone_name not in (None, zone_name):
            raise RecurrenceProblem(f"The zones differ: {parts.zone_name} and {zone_name}.", position)
        parts.zone_name = zone_name
    reader(parts, value, at)


def _zone_of(options: list[str], position: int) -> str | None:
    found = None
    for option in options:
        name, _, value = option.partition("=")
        if name.upper() == "TZID":
            try:
                found = zone(value.strip('"')).key
            except ValueError as error:
                raise RecurrenceProblem(str(error), position + len(name) + 1) from None
        elif option.upper() not in ("VALUE=DATE", "VALUE=DATE-TIME"):
            raise RecurrenceProblem(f"{option[:32]!r} is not known; use TZID=… or VALUE=DATE.", position)
        position += len(option) + 1
    return found


def read_moment(text: str, position: int = 0) -> Moment:
    """A date or time such as `20260131`, `20260131T090000` or `20260131T080000Z`."""
    match = _MOMENT.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        numbers = [int(number or 0) for number in match.groups()[:6]]
        return Moment(datetime(*numbers), match.group(7) == "Z", match.group(4) is None)  # type: ignore[arg-type]
    except ValueError:
        example = "20260131T090000 (local) or 20260131T080000Z"
        raise RecurrenceProblem(f"{text[:32]!r} is no date or time; write {example}.", position) from None


def _read_start(parts: RecurrenceParts, value: str, position: int) -> None:
    if parts.start is not None:
        raise RecurrenceProblem("There are two DTSTART lines.", position)
    parts.start = read_moment(value, position)


def _into(name: str) -> Callable[[RecurrenceParts, str, int], None]:
    def read_dates(parts: RecurrenceParts, value: str, position: int) -> None:
        dates: list[Moment] = getattr(parts, name)
        for text in value.split(","):
            dates.append(read_moment(text, position))
            position += len(text) + 1
        if len(dates) > MAX_DATES:
            raise RecurrenceProblem(f"There are more than {MAX_DATES} dates.", position)

    return read_dates


def _read_rule(parts: RecurrenceParts, value: str, position: int) -> None:
    if parts.freq is not None:
        raise RecurrenceProblem("There are two RRULE lines; make two triggers of them.", position)
    parts.rule_position = position
    seen: dict[str, int] = {}
    for part in value.rstrip(";").split(";"):
        name, equals, content = part.partition("=")
        name = name.strip().upper()
        if not equals or not content:
            raise RecurrenceProblem(f"{part[:32]!r} is not of the form NAME=VALUE.", position)
        if name in seen:
            raise RecurrenceProblem(f"{name} is there twice.", position)
        seen[name] = position
        _read_part(parts, name, content.strip().upper(), position + len(name) + 1)
        position += len(part) + 1
    _check_together(parts, seen)


def _read_part(parts: RecurrenceParts, name: str, value: str, position: int) -> None:
    if name == "FREQ":
        if value not in FREQUENCIES:
            raise RecurrenceProblem(f"FREQ is one of {', '.join(FREQUENCIES)}, not {value[:32]!r}.", position)
        parts.freq = value
    elif name == "UNTIL":
        parts.until = read_moment(value, position)
    elif name in ("COUNT", "INTERVAL"):
        number = _number(name, value, (1, MAX_COUNT), False, position)
        if name == "COUNT":
            parts.count = number
        else:
            parts.rule["interval"] = number
    elif name == "WKST":
        if value not in _WEEKDAYS:
            raise RecurrenceProblem(f"WKST is one of {', '.join(_WEEKDAYS)}, not {value[:32]!r}.", position)
        parts.rule["wkst"] = _WEEKDAYS[value]
    elif name == "BYDAY":
        parts.rule["byweekday"] = _list(value, position, _weekday)
    elif name in _NUMBERS:
        argument, least, most, negative = _NUMBERS[name]
        parts.rule[argument] = _list(value, position, lambda n, at: _number(name, n, (least, most), negative, at))
    else:
        known = ", ".join(("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_NUMBERS))
        raise RecurrenceProblem(f"{name[:32]!r} is not known; known are {known}.", position - len(name) - 1)


def _list(value: str, position: int, read_one: Callable[[str, int], Any]) -> list[Any]:
    found = []
    for text in value.split(","):
        found.append(read_one(text, position))
        position += len(text) + 1
    return found


def _number(name: str, text: str, limits: tuple[int, int], negative: bool, position: int) -> int:
    least, most = limits
    if re.fullmatch(r"[+-]?[0-9]{1,5}", text):
        number = int(text)
        if least <= number <= most or (negative and least <= -number <= most):
            return number
    signed = f" or -{most} to -{least}" if negative else ""
    raise RecurrenceProblem(f"{name} takes whole numbers from {least} to {most}{signed}, not {text[:32]!r}.", position)


def _weekday(text: str, position: int) -> Any:
    match = re.fullmatch(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)", text)
    if match is None or (match.group(1) and not 1 <= abs(int(match.group(1))) <= 53):
        raise RecurrenceProblem(
            f"{text[:32]!r} is no weekday; write MO, or 1MO for the first, -1FR for the last.", position
        )
    day = _WEEKDAYS[match.group(2)]
    return day(int(match.group(1))) if match.group(1) else day


def _check_together(parts: RecurrenceParts, seen: dict[str, int]) -> None:
    if parts.freq is None:
        raise RecurrenceProblem("FREQ is missing, such as FREQ=DAILY.", parts.rule_position)
    if parts.count is not None and parts.until is not None:
        raise RecurrenceProblem("Give COUNT or UNTIL, not both.", max(seen["COUNT"], seen["UNTIL"]))
    for name, allowed in _ONLY_WITH.items():
        if name in seen and parts.freq not in allowed:
            raise RecurrenceProblem(f"{name} goes with FREQ={' or '.join(allowed)}, not {parts.freq}.", seen[name])
    numbered = any(day.n for day in parts.rule.get("byweekday", []))
    if numbered and (parts.freq not in ("YEARLY", "MONTHLY") or "BYWEEKNO" in seen):
        raise RecurrenceProblem("Numbered weekdays go with FREQ=MONTHLY, or YEARLY without BYWEEKNO.", seen["BYDAY"])
    if "BYMONTHDAY" in seen and parts.freq == "WEEKLY":
        raise RecurrenceProblem("BYMONTHDAY does not go with FREQ=WEEKLY; use MONTHLY or DAILY.", seen["BYMONTHDAY"])
    if "BYSETPOS" in seen and not any(name.startswith("BY") and name != "BYSETPOS" for name in seen):
        raise RecurrenceProblem("BYSETPOS chooses among other BY parts; there are none.", seen["BYSETPOS"])


_PROPERTIES: Final[dict[str, Callable[[RecurrenceParts, str, int], None]]] = {
    "DTSTART": _read_start,
    "RRULE": _read_rule,
    "RDATE": _into("more"),
    "EXDATE": _into("less"),
}
