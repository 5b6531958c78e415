"""Text. Lengths and indexes count Unicode code points, as CEL does."""

from __future__ import annotations

import base64 as base64_codec
import re
import unicodedata
from typing import Any
from urllib.parse import quote

from dustrun.core.expression.border import as_text
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.formatting import format_text
from dustrun.core.expression.functions.table import FunctionGroup
from dustrun.core.expression.values import Meter

text = FunctionGroup("Text")


@text.function("lower(s: string) -> string", "Converts to lower case.", 'lower("ÀB")', '"àb"')
def lower(meter: Meter, s: str) -> str:
    return s.lower()


@text.function("upper(s: string) -> string", "Converts to upper case.", 'upper("ab")', '"AB"')
def upper(meter: Meter, s: str) -> str:
    return s.upper()


@text.function("trim(s: string) -> string", "Removes white space at both ends.", 'trim("  a b ")', '"a b"')
def trim(meter: Meter, s: str) -> str:
    return s.strip()


@text.function(
    "replace(s: string, old: string, new: string, count: int?) -> string",
    "Replaces every `old`, or the first `count`.",
    'replace("a-b-c", "-", "+")',
    '"a+b+c"',
)
def replace(meter: Meter, s: str, old: str, new: str, count: int = -1) -> str:
    found = s.count(old) if count < 0 else min(count, s.count(old))
    meter.grow(len(s) + found * (len(new) - len(old)))
    return s.replace(old, new, count)


@text.function(
    "split(s: string, separator: string, limit: int?) -> list",
    "Splits at a separator into at most `limit` parts; an empty separator splits into characters.",
    'split("a,b,c", ",")',
    '["a", "b", "c"]',
)
def split(meter: Meter, s: str, separator: str, limit: int = -1) -> list[str]:
    if limit in (0, 1):
        return [s] if limit else []
    if separator == "":
        meter.charge(len(s) >> 2)
        return list(s) if limit < 0 or limit >= len(s) else [*s[: limit - 1], s[limit - 1 :]]
    meter.charge(s.count(separator) >> 2)
    return s.split(separator, limit - 1 if limit > 0 else -1)


@text.function(
    "join(items: list, separator: string?) -> string",
    "Joins texts, numbers and bools into one text.",
    'join(["a", 1, 2.50], ", ")',
    '"a, 1, 2.50"',
)
def join(meter: Meter, items: list[Any], separator: str = "") -> str:
    for item in items:
        if isinstance(item, list | dict | bytes):
            raise Fault("type", "join() takes texts, numbers and bools; convert the items with map() first")
    parts = [as_text(meter, item) for item in items]
    meter.grow(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


@text.function(
    "substring(s: string, start: int, end: int?) -> string",
    "From index `start` up to, but not including, `end`; the first character is 0.",
    'substring("invoice", 2, 5)',
    '"voi"',
)
def substring(meter: Meter, s: str, start: int, end: int | None = None) -> str:
    stop = len(s) if end is None else end
    if not 0 <= start <= stop <= len(s):
        raise Fault("value", f"substring(): {start} to {stop} is out of range for a text of {len(s)} characters")
    return s[start:stop]


@text.function(
    "indexOf(s: string, part: string, start: int?) -> int",
    "The first index of a part, or -1.",
    'indexOf("a-b-c", "-")',
    "1",
)
def index_of(meter: Meter, s: str, part: str, start: int = 0) -> int:
    _within("indexOf", s, start)
    return s.find(part, start)


@text.function(
    "lastIndexOf(s: string, part: string, start: int?) -> int",
    "The last index of a part (at or before `start`), or -1.",
    'lastIndexOf("a-b-c", "-")',
    "3",
)
def last_index_of(meter: Meter, s: str, part: str, start: int | None = None) -> int:
    if start is None:
        return s.rfind(part)
    _within("lastIndexOf", s, start)
    return s.rfind(part, 0, start + len(part))


def _within(name: str, s: str, place: int) -> None:
    if not 0 <= place <= len(s):
        raise Fault("value", f"{name}(): {place} is out of range for a text of {len(s)} characters")


@text.function(
    "charAt(s: string, place: int) -> string",
    ("The character at an index; empty at the end of the text."),
    'charAt("abc", 1)',
    '"b"',
)
def char_at(meter: Meter, s: str, place: int) -> str:
    _within("charAt", s, place)
    return s[place : place + 1]


@text.function("reverse(x: string|list) -> any", "Reverses a text or list.", 'reverse("abc")', '"cba"')
def backwards(meter: Meter, x: Any) -> Any:
    return x[::-1]


@text.function(
    "padLeft(s: string, width: int, fill: string?) -> string",
    "Pads the left side with `fill` (a space by default) up to a width.",
    'padLeft("7", 3, "0")',
    '"007"',
)
def pad_left(meter: Meter, s: str, width: int, fill: str = " ") -> str:
    if len(fill) != 1:
        raise Fault("value", "padLeft(): fill must be one character")
    meter.grow(width)
    return s.rjust(width, fill)


@text.function(
    "format(template: string, values: list) -> string",
    "Fills %s (anything), %d (integers), %f or %.2f (numbers), %x (hex), %b (binary), %% in order.",
    'format("%s owes %.2f", ["Ann", 12.5])',
    '"Ann owes 12.50"',
)
def formatted(meter: Meter, template: str, values: list[Any]) -> str:
    return format_text(meter, template, values)


@text.function(
    "urlEncode(s: string) -> string",
    ("Percent-encodes one component of a URL."),
    'urlEncode("a b/ü")',
    '"a%20b%2F%C3%BC"',
)
def url_encode(meter: Meter, s: str) -> str:
    meter.charge(len(s) >> 3)
    return quote(utf8(s), safe="")


@text.function("base64(data: data) -> string", "In base64.", 'base64("hi")', '"aGk="')
def base64(meter: Meter, data: str | bytes) -> str:
    return base64_codec.b64encode(utf8(data)).decode()


@text.function("fromBase64(s: string) -> bytes", "Decodes base64.", 'string(fromBase64("aGk="))', '"hi"')
def from_base64(meter: Meter, s: str) -> bytes:
    try:
        return base64_codec.b64decode(s + "=" * (-len(s) % 4), validate=True)
    except ValueError:
        raise Fault("value", "fromBase64(): the text is not base64") from None


@text.function(
    "hex(x: int|string|bytes) -> string", "Hexadecimal with a `0x` prefix; text as its UTF-8.", "hex(255)", '"0xff"'
)
def hexadecimal(meter: Meter, x: int | str | bytes) -> str:
    return hex(x) if isinstance(x, int) else "0x" + utf8(x).hex()


@text.function(
    "fromHex(s: string) -> bytes", "Decodes hexadecimal, with or without `0x`.", 'string(fromHex("0x6869"))', '"hi"'
)
def from_hex(meter: Meter, s: str) -> bytes:
    return hex_bytes("fromHex", s)


def hex_bytes(name: str, s: str) -> bytes:
    """Decodes a hexadecimal argument."""
    digits = s[2:] if s[:2] in ("0x", "0X") else s
    if len(digits) % 2 or not re.fullmatch(r"[0-9a-fA-F]*", digits):
        raise Fault("value", f"{name}(): the text is not an even number of hexadecimal digits")
    return bytes.fromhex(digits)


def utf8(data: str | bytes) -> bytes:
    """Bytes unchanged, text as UTF-8."""
    try:
        return data.encode() if isinstance(data, str) else data
    except UnicodeEncodeError:
        raise Fault("value", "the text contains a lone surrogate") from None


@text.function(
    "slug(s: string) -> string",
    "A URL slug: lower-case words joined by `-`.",
    'slug("Añejo, 2 yrs!")',
    '"anejo-2-yrs"',
)
def slug(meter: Meter, s: str) -> str:
    meter.charge(len(s) >> 2)
    plain = unicodedata.normalize("NFKD", s).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
