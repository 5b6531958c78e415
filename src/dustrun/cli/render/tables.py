"""Lists and single things: drawn within the terminal's width, tab-separated lines elsewhere, JSON when asked."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dustrun.cli.render.output import console, note, status_style, write_json
from dustrun.cli.render.sanitize import plain_cell
from dustrun.cli.render.wording import short_hash

if TYPE_CHECKING:
    from rich.console import Console

Row = Callable[[dict[str, Any]], list[Any]]
_TIME = re.compile(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)(\.\d+)?Z$")
_HASH = re.compile(r"0x[0-9a-f]{64}")
_ADDRESS = re.compile(r"(0x[0-9a-fA-F]{4})[0-9a-fA-F]{32}([0-9a-fA-F]{4})(?![0-9a-fA-F])")
_GAP = 2
_EASY, _LEAST = 24, 12
"""How narrow a column of words may get: before another column is left out, and at the very least."""


def show_page(page: dict[str, Any], columns: Sequence[str], row: Row, as_json: bool, *, spare: Sequence[str]) -> None:
    """One page of a list, and how to get the next."""
    if as_json:
        write_json(page)
        return
    table(columns, [row(item) for item in page["items"]], spare=spare)
    if page["hasMore"]:
        note(f"There are more: --offset {page['offset'] + page['limit']}")


def show_one(found: dict[str, Any], columns: Sequence[str], row: Row, as_json: bool) -> None:
    """One thing with all its columns, below one another."""
    if as_json:
        write_json(found)
    else:
        record(columns, row(found))


def table(columns: Sequence[str], rows: list[list[Any]], *, spare: Sequence[str] = ()) -> None:
    """A table on a terminal, where `spare` columns are the first to be left out for want of room."""
    if console().is_terminal:
        draw_table(console(), columns, rows, spare)
    else:
        _write_lines(rows)


def record(columns: Sequence[str], row: list[Any]) -> None:
    """A line for each column of a single row on a terminal."""
    if console().is_terminal:
        draw_record(console(), columns, row)
    else:
        _write_lines([row])


def gap() -> None:
    """An empty line between two tables on a terminal."""
    if console().is_terminal:
        console().print()


def _write_lines(rows: list[list[Any]]) -> None:
    for row in rows:
        sys.stdout.write("\t".join("" if cell is None else plain_cell(str(cell)) for cell in row) + "\n")


def draw_table(terminal: Console, columns: Sequence[str], rows: list[list[Any]], spare: Sequence[str]) -> None:
    """The columns that fit."""
    from rich.table import Table  # slow import
    from rich.text import Text  # slow import

    width = terminal.width
    shown = _fitting(columns, rows, spare, width)
    seconds = _width(shown, columns, rows, _EASY, seconds=True) <= width
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name in shown:
        drawn.add_column(name, overflow="fold", no_wrap=_is_whole(_cells(name, columns, rows)))
    for row in rows:
        cells = [row[columns.index(name)] for name in shown]
        drawn.add_row(*(Text(_cell(cell, seconds), style=status_style(cell)) for cell in cells))
    terminal.print(drawn)
    left_out = [name for name in columns if name not in shown]
    if left_out:
        terminal.print(f"Left out for want of room: {', '.join(left_out)}. --json has all.", style="dim")


def draw_record(terminal: Console, columns: Sequence[str], row: list[Any]) -> None:
    """Names and whole values."""
    from rich.table import Table  # slow import
    from rich.text import Text  # slow import

    drawn = Table.grid(padding=(0, _GAP, 0, 0))
    drawn.add_column(no_wrap=True, style="dim")
    drawn.add_column(overflow="fold")
    for name, value in zip(columns, row, strict=True):
        drawn.add_row(name, Text(_moment(str(value), True) if value is not None else "–", style=status_style(value)))
    terminal.print(drawn)


def _fitting(columns: Sequence[str], rows: list[list[Any]], spare: Sequence[str], width: int) -> list[str]:
    """What fits: first without the spare ones, then with narrow words, then without the last ones but two."""
    shown = list(columns)
    for name in spare:
        if _width(shown, columns, rows, _EASY) <= width:
            return shown
        shown.remove(name)
    while len(shown) > 2 and _width(shown, columns, rows, _LEAST) > width:
        shown.pop()
    return shown


def _width(
    shown: Sequence[str], columns: Sequence[str], rows: list[list[Any]], words: int, seconds: bool = False
) -> int:
    """What the columns need beside one another, when those of several words are `words` wide."""
    needed = 0
    for name in shown:
        cells = [_cell(cell, seconds) for cell in _cells(name, columns, rows)]
        longest = max(map(len, [name, *cells]))
        if not _is_whole(_cells(name, columns, rows)):
            longest = min(longest, max(words, *(len(word) for cell in cells for word in cell.split())))
        needed += longest
    return needed + _GAP * (len(shown) - 1)


def _cells(name: str, columns: Sequence[str], rows: list[list[Any]]) -> list[Any]:
    place = columns.index(name)
    return [row[place] for row in rows]


def _is_whole(cells: list[Any]) -> bool:
    """Whether no cell is broken into lines: ids, numbers and times, not words."""
    return not any(" " in str(cell) for cell in cells)


def _cell(cell: Any, seconds: bool) -> str:
    """A value as a person reads it: times without their smallest parts, the ends of hashes and addresses in a text."""
    if cell is None:
        return "–"
    text = str(cell)
    if _HASH.fullmatch(text):
        return short_hash(text)
    return _ADDRESS.sub(r"\1…\2", text) if " " in text else _moment(text, seconds)


def _moment(text: str, seconds: bool) -> str:
    return _TIME.sub(r"\1 \2\3" if seconds else r"\1 \2", text)
