"""Output to the terminal: the console, JSON for programs, small formatting helpers."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from dustrun.cli.render.sanitize import PlainOnly, plain
from dustrun.core.values import exact_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType, RenderHook


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
