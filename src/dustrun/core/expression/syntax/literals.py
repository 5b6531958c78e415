"""Literals: parses and prints numbers, strings and bytes with CEL's escapes."""

from __future__ import annotations

import re
from decimal import Decimal

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.operators import MAX_EXPONENT

MAX_DIGITS = 2500

_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "`": "`", "?": "?",
}  # fmt: skip
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"`?])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.|\n)|$)"
)


def read_integer(text: str) -> int:
    """Parses `12`, `0x1F`, `12u`; integers are not limited to 64 bits."""
    digits = text.rstrip("uU")
    if len(digits) > MAX_DIGITS:
        raise Fault("limit", f"an integer of {len(digits)} digits is too long; the limit is {MAX_DIGITS}")
    return int(digits, 16 if digits[:2] in ("0x", "0X") else 10)


def read_decimal(text: str) -> Decimal:
    """Parses `1.5`, `2e3` as exact decimals."""
    if len(text) > MAX_DIGITS:
        raise Fault("limit", f"a number of {len(text)} digits is too long; the limit is {MAX_DIGITS}")
    value = Decimal(text)
    if value and not -MAX_EXPONENT <= value.adjusted() <= MAX_EXPONENT:
        raise Fault("limit", f"number out of range; exponents go up to {MAX_EXPONENT}")
    return value


def read_string(token: str) -> str | bytes:
    """Parses a string or bytes literal with its prefix and quotes."""
    body = token.lstrip("rRbB")
    prefix = token[: len(token) - len(body)].lower()
    quotes = 3 if body[:3] in ("'''", '"""') and len(body) >= 6 else 1
    text = body[quotes:-quotes]
    is_bytes = "b" in prefix
    if "r" in prefix or "\\" not in text:
        return text.encode() if is_bytes else text
    return _bytes(text) if is_bytes else _ESCAPE.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    simple, byte, short, long, octal, _ = match.groups()
    if simple:
        return _SIMPLE[simple]
    if byte or short or long:
        return _scalar(int(byte or short or long, 16))
    if octal:
        return _scalar(int(octal, 8))
    raise Fault("syntax", f"unknown escape {match.group(0)!r}")


def _scalar(code: int) -> str:
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise Fault("syntax", f"U+{code:X} is not a character")
    return chr(code)


def _bytes(text: str) -> bytes:
    r"""In bytes literals, `\x` and octal escapes are bytes; everything else is the character's UTF-8."""
    out = bytearray()
    last = 0
    for match in _ESCAPE.finditer(text):
        out += text[last : match.start()].encode()
        last = match.end()
        _, byte, short, long, octal, _ = match.groups()
        if short or long:
            raise Fault("syntax", "a bytes literal cannot contain \\u escapes")
        out += bytes([int(byte, 16) if byte else int(octal, 8)]) if byte or octal else _character(match).encode()
    return bytes(out + text[last:].encode())


_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}


def write_string(text: str) -> str:
    """A string literal that parses back to this text."""
    return '"' + "".join(_NAMED.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in text) + '"'


def write_bytes(data: bytes) -> str:
    """A bytes literal that parses back to these bytes."""
    plain = {ord(c) for c in map(chr, range(32, 127)) if c not in '"\\'}
    return 'b"' + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in data) + '"'
