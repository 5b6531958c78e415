"""What goes to the terminal: one console, JSON for programs, small formats."""

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
    """The terminal; plain text when it is not one."""
    from rich.console import Console  # slow import

    found = Console(highlight=False, soft_wrap=True)
    found.push_render_hook(cast("RenderHook", PlainOnly()))
    return found


def say(text: str) -> None:
    """Writes lines for people."""
    sys.stdout.write(plain(text) + "\n")
    sys.stdout.flush()


def draw(lines: Iterable[RenderableType], terminal: Console | None = None) -> None:
    """Writes tables and lines within the terminal's width; the rest of an indented line is indented too."""
    from rich.padding import Padding  # slow import
    from rich.text import Text  # slow import

    for line in lines:
        if isinstance(line, Text) and line.plain.startswith("  "):
            line = Padding(line[2:], (0, 0, 0, 2), expand=False)
        (terminal or console()).print(line, soft_wrap=False)


def note(text: str) -> None:
    """Writes lines beside the output, to standard error."""
    sys.stderr.write(plain(text) + "\n")
    sys.stderr.flush()


def write_json(value: Any) -> None:
    """Writes one JSON document on one line, exact."""
    sys.stdout.write(exact_json.dumps_text(value) + "\n")
    sys.stdout.flush()


def compact(value: Any, limit: int = 100) -> str:
    """A value as short JSON."""
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
    """The colour of a status; none for anything else."""
    return _STYLES.get(cell, "") if isinstance(cell, str) else ""
