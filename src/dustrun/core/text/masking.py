"""Replaces secrets in any form in which they may come back: literal, in another case, percent-encoded, escaped in JSON,
XML or HTML, in hexadecimal, or inside the Base64 of something larger, with or without line breaks.

A linear-time regex engine searches for all of them at once, in bytes, so that a whole response can be masked before it
is truncated.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, quote_plus

from dustrun.core.values.exact_json import dumps, plain_digits

MASK: Final = "•••"
LEAST: Final = 6
"""Shorter strings are not masked, since they occur by chance; so shorter secrets are not accepted."""
_PIECE: Final = 256
_SHARD: Final = 300_000
"""Characters per pattern: beyond some hundred thousand the engine leaves its fast path, and later refuses."""
_MEMORY: Final = 64 << 20
_JSON_ESCAPES: Final = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\", "/": "/"}
_BREAK: Final = rb"(?:\\+[rn]|[\r\n])*"
"""Base64 in mail and certificates has line breaks, which are escaped inside JSON."""
_BETWEEN_BYTES: Final = rb"(?:[ :,-]|\\+x|0x)*"
r"""Separators between two hexadecimal bytes: `4b:33`, `4b 33`, `\x4b\x33`, `0x4b, 0x33`."""
_ENTITIES: Final = {"&": "amp;", "<": "lt;", ">": "gt;", '"': "quot;", "'": "apos;"}


class Mask:
    """The secrets of one run; it only grows."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._patterns: list[Any] = []
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Adds secrets to mask."""
        fresh = {piece for secret in secrets for piece in _pieces(secret)} - self._secrets
        if fresh:
            self._secrets |= fresh
            self._patterns = [_compile(forms) for forms in _shards(self._secrets)]

    def __bool__(self) -> bool:
        """Whether there is anything to mask."""
        return bool(self._patterns)

    def bytes(self, raw: bytes) -> bytes:
        """The bytes with every secret replaced."""
        for pattern in self._patterns:
            if pattern.search(raw) is not None:
                raw = pattern.sub(MASK.encode(), raw)
        return raw

    def text(self, text: str) -> str:
        """The text with every secret replaced."""
        if not self._patterns:
            return text
        raw = text.encode("utf-8", "surrogatepass")
        masked = self.bytes(raw)
        return text if masked is raw else masked.decode("utf-8", "surrogatepass")

    def value(self, value: Any) -> Any:
        """A JSON value with every secret replaced, including in keys and numbers."""
        return value if not self._patterns or self._is_clean(value) else self._walk(value)

    def _is_clean(self, value: Any) -> bool:
        """Whether the value's whole JSON text contains no secret: seventy times faster than checking each string."""
        try:
            raw = dumps(value)
            return all(pattern.search(raw) is None for pattern in self._patterns)
        except (TypeError, ValueError):
            return False

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self._walk(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(item) for item in value]
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            digits = plain_digits(value) if isinstance(value, Decimal) else str(value)
            return value if self.text(digits) == digits else MASK
        return value


def _pieces(secret: str) -> Iterator[str]:
    """The whole secret; a long one also in parts, each of which is masked on its own."""
    for line in secret.splitlines() if len(secret) > _PIECE else [secret]:
        for start in range(0, len(line), _PIECE):
            piece = line[start : start + _PIECE]
            if len(piece) >= LEAST:
                yield piece


def _shards(secrets: set[str]) -> Iterator[list[bytes]]:
    """The spellings of all secrets, as many per pattern as the engine allows; longest first, so that a secret that
    contains another is replaced whole.
    """
    shard: list[bytes] = []
    for secret in sorted(secrets, key=lambda text: (-len(text), text)):
        for form in _forms(secret):
            if shard and sum(map(len, shard)) + len(form) > _SHARD:
                yield shard
                shard = []
            shard.append(form)
    yield shard


def _compile(forms: list[bytes]) -> Any:
    import re2  # slow import

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes are matched literally
    options.max_mem = _MEMORY
    options.log_errors = False
    return re2.compile(b"|".join(forms), options)


def _forms(secret: str) -> Iterator[bytes]:
    yield b"".join(_char(letter) for letter in secret)
    raw = secret.encode("utf-8", "surrogatepass")
    yield from _encoded(raw, _BETWEEN_BYTES, _BREAK)
    for written in _written(secret) - {raw}:
        yield from _encoded(written, b"", b"")


def _encoded(raw: bytes, between_bytes: bytes, line_break: bytes) -> Iterator[bytes]:
    yield b"(?i:" + between_bytes.join(b"%02x" % byte for byte in raw) + b")"
    for before in range(3):
        yield line_break.join(_base64_char(letter) for letter in _inner_base64(raw, before))


def _written(secret: str) -> set[bytes]:
    """The secret as it may be written in a URL, a form or a document that is then encoded as a whole."""
    raw = secret.encode("utf-8", "surrogatepass")
    escaped = json.dumps(secret)[1:-1]
    return {quote(raw, safe="").encode(), quote_plus(raw).encode(), escaped.encode()}


def _char(letter: str) -> bytes:
    """One character in every encoding that a response may use, including nested encodings of the same kind."""
    raw = letter.encode("utf-8", "surrogatepass")
    forms = {re.escape(one.encode("utf-8", "surrogatepass")) for one in (letter, letter.upper(), letter.lower())}
    forms.add(b"(?i:" + b"".join(b"%%(?:25)*%02x" % byte for byte in raw) + b")")
    units = letter.encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2].hex().encode() for at in range(0, len(units), 2))
    forms.add(b"(?i:" + b"".join(rb"\\+u" + pair for pair in pairs) + b")")
    forms.add(b"(?i:&(?:amp;)*#(?:0*%d|x0*%x);)" % (ord(letter), ord(letter)))
    if letter in _JSON_ESCAPES:
        forms.add(rb"\\+" + re.escape(_JSON_ESCAPES[letter].encode()))
    if letter in _ENTITIES:
        forms.add(b"&(?:amp;)*" + _ENTITIES[letter].encode())
    if letter == " ":
        forms.add(rb"\+")
    return b"(?:" + b"|".join(sorted(forms)) + b")"


def _inner_base64(raw: bytes, before: int) -> str:
    """The Base64 characters that depend on the secret alone when `before` (mod 3) bytes precede it."""
    encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
    first = -(-before * 8 // 6)
    return encoded[first : (before + len(raw)) * 8 // 6]


def _base64_char(letter: str) -> bytes:
    if letter == "+":
        return rb"(?:\+|-|(?i:%2b))"
    if letter == "/":
        return rb"(?:/|_|\\/|(?i:%2f))"
    return letter.encode()
