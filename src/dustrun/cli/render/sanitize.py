"""Strips terminal control characters from untrusted text.

A name, message or response from outside must not move the cursor, hide a line or reverse the order of letters, least
of all where a person approves a payment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType
    from rich.measure import Measurement
    from rich.segment import Segment

# Control characters except tab and newline, and characters that change the text direction.
_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BREAKS: Final = re.compile("[\t\n\u2028\u2029]")
_REPLACEMENT: Final = "\ufffd"


def plain(text: str) -> str:
    """Replaces each terminal control character with U+FFFD; keeps newlines and tabs."""
    return _COMMANDS.sub(_REPLACEMENT, text)


def plain_cell(text: str) -> str:
    """The same in one line, without tabs."""
    return _BREAKS.sub(" ", plain(text))


class Plain:
    """Wraps a renderable so that its text is sanitized; its own styles are kept."""

    def __init__(self, drawn: RenderableType) -> None:
        self._drawn = drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yields the sanitized segments."""
        from rich.segment import Segment  # slow import

        for piece in console.render(self._drawn, options):
            yield piece if piece.control else Segment(plain(piece.text), piece.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Measures the wrapped renderable."""
        from rich.measure import Measurement  # slow import

        return Measurement.get(console, options, self._drawn)


class PlainOnly:
    """A Rich render hook that sanitizes everything a console prints."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wraps the renderables about to be printed."""
        return [Plain(one) for one in renderables]
