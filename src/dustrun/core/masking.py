"""Replaces secrets by value, however they come back: as they are, percent-encoded, escaped in JSON, XML or HTML, in
hexadecimal, or within Base64 of something larger.

A linear-time engine looks for all of them at once, in bytes, so that a whole response can be masked before anything
cuts a piece out of it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, quote_plus

from dustrun.core.exact_json import dumps, plain_digits

MASK: Final = "•••"
LEAST: Final = 6
"""Shorter texts are not masked: they occur everywhere by chance."""
_PIECE: Final = 256
_MEMORY: Final = 64 << 20
_JSON_ESCAPES: Final = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\", "/": "/"}
_ENTITIES: Final = {"&": "amp;", "<": "lt;", ">": "gt;", '"': "quot;", "'": "apos;"}


class Mask:
    """The secrets of one run; it only grows."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._pattern: Any = None
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Masks these too from now on."""
        fresh = {piece for secret in secrets for piece in _pieces(secret)} - self._secrets
        if fresh:
            self._secrets |= fresh
            self._pattern = _compile(self._secrets)

    def __bool__(self) -> bool:
        """Whether there is anything to mask."""
        return self._pattern is not None

    def bytes(self, raw: bytes) -> bytes:
        """The bytes with every secret replaced."""
        if self._pattern is None or self._pattern.search(raw) is None:
            return raw
        masked: bytes = self._pattern.sub(MASK.encode(), raw)
        return masked

    def text(self, text: str) -> str:
        """The text with every secret replaced."""
        if self._pattern is None:
            return text
        raw = text.encode("utf-8", "surrogatepass")
        masked = self.bytes(raw)
        return text if masked is raw else masked.decode("utf-8", "surrogatepass")

    def value(self, value: Any) -> Any:
        """A JSON value with every secret replaced, in names and in numbers too."""
        return value if self._pattern is None or self._is_clean(value) else self._walk(value)

    def _is_clean(self, value: Any) -> bool:
        """Whether its JSON as a whole holds no secret, which is seventy times quicker to see than text by text."""
        try:
            return self._pattern.search(dumps(value)) is None
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
    """The secret whole; a long one in parts, each of which is masked wherever it comes back alone."""
    for line in secret.splitlines() if len(secret) > _PIECE else [secret]:
        for start in range(0, len(line), _PIECE):
            piece = line[start : start + _PIECE]
            if len(piece) >= LEAST:
                yield piece


def _compile(secrets: set[str]) -> Any:
    import re2  # slow import

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes are matched as they are
    options.max_mem = _MEMORY
    options.log_errors = False
    # the longest first, so that a secret which holds another is replaced whole
    forms = [form for secret in sorted(secrets, key=lambda text: (-len(text), text)) for form in _forms(secret)]
    return re2.compile(b"|".join(forms), options)


def _forms(secret: str) -> Iterator[bytes]:
    yield b"".join(_char(letter) for letter in secret)
    for raw in _written(secret):
        yield b"(?i:" + raw.hex().encode() + b")"
        for before in range(3):
            yield b"".join(_base64_char(letter) for letter in _inner_base64(raw, before))


def _written(secret: str) -> set[bytes]:
    """The secret as it may stand in a URL, a form or a document that is then encoded as a whole."""
    raw = secret.encode("utf-8", "surrogatepass")
    escaped = json.dumps(secret)[1:-1]
    return {raw, quote(raw, safe="").encode(), quote_plus(raw).encode(), escaped.encode()}


def _char(letter: str) -> bytes:
    """One character in every spelling that an answer may give it, also one within another of the same kind."""
    raw = letter.encode("utf-8", "surrogatepass")
    forms = {re.escape(raw), b"(?i:" + b"".join(b"%%(?:25)*%02x" % byte for byte in raw) + b")"}
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
    """The letters of Base64 that the secret decides alone when `before` (mod 3) bytes stand before it."""
    encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
    first = -(-before * 8 // 6)
    return encoded[first : (before + len(raw)) * 8 // 6]


def _base64_char(letter: str) -> bytes:
    if letter == "+":
        return rb"(?:\+|-|(?i:%2b))"
    if letter == "/":
        return rb"(?:/|_|\\/|(?i:%2f))"
    return letter.encode()
