"""Finds many known texts in a long one, such as ids, hashes or the spellings of signatures.

A pattern of them all would cost `re` one try each at every place, in one call that keeps the interpreter to itself.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

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
