"""Keeps signatures out of stored and displayed data, while the run itself can still use them.

A signature moves money, so a mere reader of a run must not see it. Everything stored of a run has a random *mark* in
its place, which reveals nothing; the signature itself is sealed in the vault. Only the engine replaces marks by
signatures; everyone else sees `•••`. Marks are random, so that none can be guessed and put into a payload.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dustrun.core.text.known_texts import KnownTexts
from dustrun.core.text.masking import MASK
from dustrun.core.values.exact_json import dumps_text

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
