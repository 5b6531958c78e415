"""CEL's standard functions: conversions, sizes, string tests and calendar fields."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from dustrun.core.expression import operators, times
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.table import FunctionGroup, is_digits
from dustrun.core.expression.logic import type_of
from dustrun.core.expression.syntax import literals
from dustrun.core.expression.values import Duration, Meter, Timestamp, TypeName

standard = FunctionGroup("CEL")

MAX_PATTERN = 1000
MAX_PATTERN_MEMORY = 1 << 20
_HEX = re.compile(r"0[xX][0-9a-fA-F]+")
# RE2 may follow every instruction of a program for every character, 4 ns each; a step is about a microsecond. To
# compile a pattern takes up to 0.1 ms and a microsecond for each instruction; to find it too large, 5 ms.
_NEW_PATTERN_STEPS = 100
_INVALID_PATTERN_STEPS = 5000
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")


@standard.function(
    "int(x: number|string|timestamp|duration) -> int",
    "Converts a decimal (truncated), digits, hex after 0x, or a timestamp (seconds since 1970) to an integer.",
    'int("42")',
    "42",
)
def to_int(meter: Meter, x: Any) -> int:
    if isinstance(x, Timestamp | Duration):
        return _seconds(x)
    if not isinstance(x, str):
        return int(x)
    if not is_digits(x) and _HEX.fullmatch(x) is None:
        raise Fault("value", "int(): the text is neither a whole number in plain digits nor hex digits after 0x")
    return literals.read_integer(x)


def _seconds(x: Timestamp | Duration) -> int:
    return x.nanos // times.SECOND


@standard.function("uint(x: number|string) -> int", "CEL's name for int() of a non-negative number.", "uint(7)", "7")
def to_uint(meter: Meter, x: Any) -> int:
    value: int = to_int(meter, x)
    if value < 0:
        raise Fault("value", "uint(): the number is negative")
    return value


@standard.function("dec(x: number|string) -> decimal", "An exact decimal of a number or text.", 'dec("1.50")', "1.50")
def to_decimal(meter: Meter, x: Any) -> Decimal:
    if not isinstance(x, str):
        return Decimal(x)
    if not _NUMBER.fullmatch(x):
        raise Fault("value", "dec(): the text is not a number; infinity and NaN do not exist")
    return literals.read_decimal(x)


standard.function("double(x: number|string) -> decimal", "CEL's name for dec().", "double(2)", "2")(to_decimal)


@standard.function(
    "string(x: any) -> string",
    ("Converts a number, bool, timestamp, duration or UTF-8 bytes to text."),
    "string(1.50)",
    '"1.50"',
)
def to_string(meter: Meter, x: Any) -> str:
    if isinstance(x, str):
        return x
    if isinstance(x, bool):
        return "true" if x else "false"
    if isinstance(x, int | Decimal):
        return operators.plain(x)
    if isinstance(x, Timestamp):
        return times.write_moment(x)
    if isinstance(x, Duration):
        return times.write_span(x)
    if isinstance(x, TypeName):
        return x.name
    if isinstance(x, bytes):
        return _decode(x)
    raise Fault("type", "string() does not take lists, maps or null; use json()")


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Fault("value", "string(): the bytes are not UTF-8") from None


@standard.function("bool(x: bool|string) -> bool", 'Parses "true" or "false".', 'bool("true")', "true")
def to_bool(meter: Meter, x: Any) -> bool:
    known = {"true": True, "True": True, "TRUE": True, "t": True, "1": True,
             "false": False, "False": False, "FALSE": False, "f": False, "0": False}  # fmt: skip
    if isinstance(x, bool):
        return x
    if x not in known:
        raise Fault("value", "bool(): the text is neither true nor false")
    return known[x]


@standard.function("bytes(x: data) -> bytes", "The UTF-8 bytes of a text.", 'size(bytes("é"))', "2")
def to_bytes(meter: Meter, x: str | bytes) -> bytes:
    return x.encode("utf-8", "replace") if isinstance(x, str) else x


@standard.function(
    "timestamp(x: timestamp|string|int) -> timestamp",
    "A timestamp from RFC 3339 text or seconds since 1970.",
    'timestamp("2026-05-01T12:00:00+02:00")',
    '"2026-05-01T10:00:00Z"',
)
def to_timestamp(meter: Meter, x: Any) -> Timestamp:
    if isinstance(x, str):
        return times.read_moment(x)
    return x if isinstance(x, Timestamp) else times.in_range(Timestamp(int(x) * times.SECOND))


@standard.function("duration(x: span) -> duration", "A duration, like `1h30m`.", 'duration("1h30m")', '"5400s"')
def to_duration(meter: Meter, x: Any) -> Duration:
    return times.read_span(x) if isinstance(x, str) else x


@standard.function("type(x: any) -> type", "The type of a value.", "type(1) == int", "true")
def type_name(meter: Meter, x: Any) -> TypeName:
    return type_of(x)


@standard.function("dyn(x: any) -> any", "The value unchanged (for CEL's type checkers).", "dyn(1)", "1")
def dynamic(meter: Meter, x: Any) -> Any:
    return x


@standard.function(
    "size(x: string|bytes|list|map) -> int", ("The number of characters, bytes, items or entries."), 'size("día")', "3"
)
def size(meter: Meter, x: Any) -> int:
    return len(x)


@standard.function(
    "matches(s: string, pattern: string) -> bool",
    "Whether the text contains a match of an RE2 pattern.",
    'matches("INV-042", "^INV-[0-9]+$")',
    "true",
)
def matches(meter: Meter, s: str, pattern: str) -> bool:
    compiled = _charged_pattern(meter, pattern)
    meter.charge(compiled.programsize * len(s) >> 8)
    return compiled.search(s) is not None


def _charged_pattern(meter: Meter, pattern: str) -> Any:
    """The compiled pattern. Each new pattern of an evaluation is charged, each invalid one for the work that showed it,
    whatever the cache holds, so that the limit does not depend on what ran before.
    """
    try:
        compiled = pattern_of(pattern)
    except Fault:
        meter.charge(_INVALID_PATTERN_STEPS)
        raise
    if pattern not in meter.patterns:
        meter.patterns.add(pattern)
        meter.charge(_NEW_PATTERN_STEPS + compiled.programsize)
    return compiled


@functools.lru_cache(maxsize=256)
def pattern_of(pattern: str) -> Any:
    """Compiles a pattern. RE2 needs time in proportion to program and text, and its memory is bounded."""
    import re2  # slow import

    if len(pattern) > MAX_PATTERN:
        raise Fault("limit", f"a pattern of {len(pattern)} characters is too long; the limit is {MAX_PATTERN}")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PATTERN_MEMORY
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeError):
        raise Fault(
            "value", "the pattern is not a valid regular expression (RE2: no look-around, no backreferences)"
        ) from None


@standard.function(
    "startsWith(s: string, prefix: string) -> bool",
    ("Whether the text starts with a prefix."),
    '"0xabc".startsWith("0x")',
    "true",
)
def starts_with(meter: Meter, s: str, prefix: str) -> bool:
    return s.startswith(prefix)


@standard.function(
    "endsWith(s: string, suffix: string) -> bool",
    ("Whether the text ends with a suffix."),
    '"a.eth".endsWith(".eth")',
    "true",
)
def ends_with(meter: Meter, s: str, suffix: str) -> bool:
    return s.endswith(suffix)


@standard.function(
    "contains(s: string, part: string) -> bool", "Whether the text contains another.", '"abc".contains("b")', "true"
)
def contains(meter: Meter, s: str, part: str) -> bool:
    return part in s


def _field(name: str, line: str, result: int, read: Callable[[datetime], int], span_unit: int = 0) -> None:
    """Declares an accessor for a calendar field of a timestamp, some of which durations have too."""

    def work(meter: Meter, x: Any, zone: str | None = None) -> int:
        if isinstance(x, Duration):
            whole = abs(x.nanos) // span_unit * (1 if x.nanos >= 0 else -1)
            return whole % 1000 if name == "getMilliseconds" else whole
        return read(times.calendar(x, zone))

    kinds = "timestamp|duration" if span_unit else "timestamp"
    example = f'{name}(timestamp("2026-05-01T12:34:56.789Z"))'
    standard.function(f"{name}(x: {kinds}, zone: string?) -> int", line, example, str(result))(work)


_field("getFullYear", "The year.", 2026, lambda m: m.year)
_field("getMonth", "The month, starting at 0.", 4, lambda m: m.month - 1)
_field("getDate", "The day of the month, starting at 1.", 1, lambda m: m.day)
_field("getDayOfMonth", "The day of the month, starting at 0.", 0, lambda m: m.day - 1)
_field("getDayOfWeek", "The day of the week; Sunday is 0.", 5, lambda m: m.isoweekday() % 7)
_field("getDayOfYear", "The day of the year, starting at 0.", 120, lambda m: m.timetuple().tm_yday - 1)
_field("getHours", "The hour; for a duration, its total hours.", 12, lambda m: m.hour, 3600 * times.SECOND)
_field("getMinutes", "The minute; for a duration, its total minutes.", 34, lambda m: m.minute, 60 * times.SECOND)
_field("getSeconds", "The second; for a duration, its total seconds.", 56, lambda m: m.second, times.SECOND)
_field("getMilliseconds", "The millisecond.", 789, lambda m: m.microsecond // 1000, 10**6)
