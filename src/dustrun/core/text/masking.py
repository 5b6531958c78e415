"""Replaces secrets in any form in which they may come back: literal, in another case, percent-encoded, escaped in JSON,
XML or HTML, in hexadecimal, or inside the Base64 of something larger, with or without line breaks.

A linear-time regex engine searches for all of them at once, in bytes, so that a whole response can be masked before it
is truncated.
"""

from __future__ import annotations

import base64
import bisect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, quote_plus

from dustrun.core.values.exact_json import dumps, dumps_text, plain_digits

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


# Finds many known texts in a long one, such as ids, hashes or the spellings of signatures.
#
# A pattern of them all would cost `re` one try each at every place, in one call that keeps the interpreter to itself.


_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]+")


class KnownTexts:
    """Texts of the characters of Base64, in either alphabet, that are looked up by their first `start` characters;
    shorter ones are not found. It only grows."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._known: set[str] = set()
        self._lengths: dict[str, list[int]] = {}

    def add(self, texts: Iterable[str]) -> None:
        """Adds texts to find."""
        for text in texts:
            self._known.add(text)
            lengths = self._lengths.setdefault(text[: self._start], [])
            if len(text) not in lengths:
                bisect.insort(lengths, len(text), key=int.__neg__)

    def found_in(self, text: str) -> Iterator[tuple[int, str]]:
        """(place, known text) in their order: the longest at each place, and none that overlaps an earlier one."""
        for run in _RUN.finditer(text) if self._known else ():
            at, last = run.start(), run.end() - self._start
            while at <= last:
                found = self._at(text, at)
                if found is not None:
                    yield at, found
                at += 1 if found is None else len(found)

    def replaced(self, text: str, by: Callable[[str], str]) -> str:
        """The text with each of them replaced by what `by` gives for it."""
        parts: list[str] = []
        end = 0
        for start, found in self.found_in(text):
            parts += (text[end:start], by(found))
            end = start + len(found)
        return "".join((*parts, text[end:])) if parts else text

    def _at(self, text: str, at: int) -> str | None:
        for length in self._lengths.get(text[at : at + self._start], ()):
            if (found := text[at : at + length]) in self._known:
                return found
        return None


# Keeps signatures out of stored and displayed data, while the run itself can still use them.
#
# A signature moves money, so a mere reader of a run must not see it. Everything stored of a run has a random *mark* in
# its place, which reveals nothing; the signature itself is sealed in the vault. Only the engine replaces marks by
# signatures; everyone else sees `•••`. Marks are random, so that none can be guessed and put into a payload.


_PREFIX: Final = "dlv_"
_MARK = re.compile(rf"{_PREFIX}([0-9a-f]{{32}})_(\d+)_")
_NUMBER = re.compile(rf'"{_PREFIX}([0-9a-f]{{32}})_(\d+)n"')
_ANY = re.compile(rf"{_PREFIX}([0-9a-f]{{32}})_\d+[_n]")
_ANY_BYTES = re.compile(_ANY.pattern.encode())
_START: Final = 16  # no part of a signature that is worth hiding is shorter


class Redaction:
    """The signatures of one run by their marks; it only grows. `secrets` is shared with the caller."""

    def __init__(self, secrets: dict[str, str]) -> None:
        self.secrets = secrets
        self._marks: dict[str, str] = {}
        self._known = KnownTexts(_START)
        self._add(secrets)

    def learn(self, secrets: Mapping[str, str]) -> None:
        """Adds signatures to redact."""
        new = {mark: signature for mark, signature in secrets.items() if mark not in self.secrets}
        self.secrets.update(new)
        self._add(new)

    def _add(self, secrets: Mapping[str, str]) -> None:
        for mark, signature in secrets.items():
            for index, text in enumerate(spellings(signature)):
                self._marks.setdefault(text, f"{_PREFIX}{mark}_{index}")
                self._known.add([text])

    def text(self, text: str) -> str:
        """The text with marks in place of signatures."""
        return self._known.replaced(text, lambda found: f"{self._marks[found]}_")

    def value(self, value: Any) -> Any:
        """A JSON value with marks in place of signatures; the same object if it contains none."""
        if not self._marks or next(self._known.found_in(dumps_text(value)), None) is None:
            return value
        return self._walk(value)

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self._walk(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(item) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            mark = self._marks.get(str(value))
            return f"{mark}n" if mark is not None else value
        return value


def spellings(signature: str) -> list[str]:
    """The forms in which a signature (0x-hex) is searched for: whole, its parts and the compact form of EIP-2098, in
    hexadecimal, decimal and Base64. Their order is part of the stored format.
    """
    raw = bytes.fromhex(signature.removeprefix("0x"))
    r, s, v = raw[:32], raw[32:64], raw[64:]
    compact = bytes([s[0] | 0x80, *s[1:]]) if v in (b"\x01", b"\x1c") else s
    found = [form for part in (raw, r, s, compact) for form in (part.hex(), part.hex().upper())]
    found += [str(int.from_bytes(part)) for part in (r, s, compact)]
    return found + [encode(raw).decode().rstrip("=") for encode in (base64.b64encode, base64.urlsafe_b64encode)]


def marks_in(texts: Iterable[str | None]) -> set[str]:
    """The marks in stored texts."""
    return {found for text in texts if text is not None and _PREFIX in text for found in _ANY.findall(text)}


def unseal(text: str, find: Callable[[str], str | None]) -> str:
    """A stored JSON text with signatures in place of marks. `find` returns a mark's signature; an unknown mark
    stays.
    """
    if _PREFIX not in text:
        return text

    def plain(found: re.Match[str]) -> str:
        signature = find(found.group(1))
        known = spellings(signature) if signature is not None else []
        index = int(found.group(2))
        return known[index] if index < len(known) else found.group()

    return _MARK.sub(plain, _NUMBER.sub(plain, text))


def hide(text: str) -> str:
    """A stored text as displayed, with `•••` in place of marks."""
    return _ANY.sub(MASK, text) if _PREFIX in text else text


def hide_bytes(raw: bytes) -> bytes:
    """Like `hide`, for bytes."""
    return _ANY_BYTES.sub(MASK.encode(), raw) if _PREFIX.encode() in raw else raw
