"""Takes the power over the terminal from what others wrote: a name, a message or an answer from outside must not move
the cursor, hide a line or turn the order of letters, least of all where a person approves a payment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType
    from rich.measure import Measurement
    from rich.segment import Segment

# Control characters but tab and newline, and those that set the direction of writing.
_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BREAKS: Final = re.compile("[\t\n\u2028\u2029]")
_STANDS_FOR: Final = "\ufffd"


def plain(text: str) -> str:
    """A text of lines with U+FFFD for each character that commands a terminal."""
    return _COMMANDS.sub(_STANDS_FOR, text)


def plain_cell(text: str) -> str:
    """A text in one line without tabs."""
    return _BREAKS.sub(" ", plain(text))


class Plain:
    """What is to be drawn, with plain text; its own colours stay."""

    def __init__(self, drawn: RenderableType) -> None:
        self._drawn = drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Its pieces."""
        from rich.segment import Segment  # slow import

        for piece in console.render(self._drawn, options):
            yield piece if piece.control else Segment(plain(piece.text), piece.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as what is drawn."""
        from rich.measure import Measurement  # slow import

        return Measurement.get(console, options, self._drawn)


class PlainOnly:
    """A hook that makes all plain that a console prints."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Called with what is to be printed."""
        return [Plain(one) for one in renderables]
