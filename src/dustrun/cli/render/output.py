"""Output to the terminal: the console, JSON for programs, small formatting helpers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from dustrun.core.values import exact_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType, RenderHook

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType
    from rich.measure import Measurement
    from rich.segment import Segment


# Strips terminal control characters from untrusted text.
#
# A name, message or response from outside must not move the cursor, hide a line or reverse the order of letters, least
# of all where a person approves a payment.


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


@cache
def console() -> Console:
    """The console for standard output; plain text if it is not a terminal."""
    from rich.console import Console  # slow import

    found = Console(highlight=False, soft_wrap=True)
    found.push_render_hook(cast("RenderHook", PlainOnly()))
    return found


def say(text: str) -> None:
    """Prints lines of text for people."""
    sys.stdout.write(plain(text) + "\n")
    sys.stdout.flush()


def write(text: str) -> None:
    """Prints a part of a line for people."""
    sys.stdout.write(plain(text))
    sys.stdout.flush()


def draw(lines: Iterable[RenderableType], terminal: Console | None = None) -> None:
    """Prints tables and lines within the terminal's width; wrapped lines keep their indent."""
    from rich.padding import Padding  # slow import
    from rich.text import Text  # slow import

    for line in lines:
        if isinstance(line, Text) and line.plain.startswith("  "):
            line = Padding(line[2:], (0, 0, 0, 2), expand=False)
        (terminal or console()).print(line, soft_wrap=False)


def note(text: str) -> None:
    """Prints lines to standard error."""
    sys.stderr.write(plain(text) + "\n")
    sys.stderr.flush()


def note_warnings(answer: dict[str, Any]) -> None:
    """Prints what the server ignored of a request to standard error."""
    for item in answer.get("warnings", ()):
        note(f"Warning: {item['field']}: {item['message']}  [{item['code']}]")


def write_json(value: Any) -> None:
    """Prints one JSON document on one line, with exact numbers."""
    sys.stdout.write(exact_json.dumps_text(value) + "\n")
    sys.stdout.flush()


def compact(value: Any, limit: int = 100) -> str:
    """Formats a value as JSON, shortened to `limit` characters."""
    text = value if isinstance(value, str) else exact_json.dumps_text(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


_STYLES = {
    "success": "green",
    "active": "green",
    "running": "cyan",
    "waiting": "yellow",
    "uncertain": "yellow",
    "partial": "yellow",
    "paused": "yellow",
    "failure": "red",
    "cancelled": "magenta",
    "skipped": "dim",
    "archived": "dim",
}


def status_style(cell: Any) -> str:
    """The style of a status; empty for anything else."""
    return _STYLES.get(cell, "") if isinstance(cell, str) else ""
