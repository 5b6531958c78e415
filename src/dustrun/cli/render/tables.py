"""Lists and single objects: tables on a terminal, tab-separated lines elsewhere, JSON with `--json`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dustrun.cli.render.output import console, note, plain_cell, status_style, write_json
from dustrun.cli.render.wording import short_hash

if TYPE_CHECKING:
    from rich.console import Console

Row = Callable[[dict[str, Any]], list[Any]]
_TIME = re.compile(r"^(\d{4}-)(\d\d-\d\d)T(\d\d:\d\d)(:\d\d)(\.\d+)?Z$")
_SECONDS, _MINUTES, _NO_YEAR = r"\1\2 \3\4", r"\1\2 \3", r"\2 \3"
"""How times are written: the longest that fits."""
_HASH = re.compile(r"0x[0-9a-f]{64}")
_ADDRESS = re.compile(r"(0x[0-9a-fA-F]{4})[0-9a-fA-F]{32}([0-9a-fA-F]{4})(?![0-9a-fA-F])")
_GAP = 2
_EASY, _LEAST = 24, 12
"""Minimum widths of a text column: before another column is left out, and in the last resort."""


def show_page(page: dict[str, Any], columns: Sequence[str], row: Row, as_json: bool, *, spare: Sequence[str]) -> None:
    """Prints one page of a list, and how to get the next page."""
    if as_json:
        write_json(page)
        return
    table(columns, [row(item) for item in page["items"]], spare=spare)
    if page["hasMore"]:
        cursor = page.get("nextCursor")
        note(f"More items: --cursor {cursor}" if cursor else f"More items: --offset {page['offset'] + page['limit']}")


def show_one(found: dict[str, Any], columns: Sequence[str], row: Row, as_json: bool) -> None:
    """Prints one object, one column per line."""
    if as_json:
        write_json(found)
    else:
        record(columns, row(found))


def table(columns: Sequence[str], rows: list[list[Any]], *, spare: Sequence[str] = (), names: bool = False) -> None:
    """Prints a table; on a narrow terminal, `spare` columns are left out first. `names`: elsewhere too, the first line
    has the names of the columns."""
    if console().is_terminal:
        draw_table(console(), columns, rows, spare)
    else:
        _write_lines([list(columns), *rows] if names and rows else rows)


def record(columns: Sequence[str], row: list[Any]) -> None:
    """Prints one row; on a terminal, one line per column."""
    if console().is_terminal:
        draw_record(console(), columns, row)
    else:
        _write_lines([row])


def gap() -> None:
    """Prints an empty line between two tables on a terminal."""
    if console().is_terminal:
        console().print()


def _write_lines(rows: list[list[Any]]) -> None:
    for row in rows:
        sys.stdout.write("\t".join("" if cell is None else plain_cell(str(cell)) for cell in row) + "\n")


def draw_table(terminal: Console, columns: Sequence[str], rows: list[list[Any]], spare: Sequence[str]) -> None:
    """Draws the columns that fit."""
    from rich.table import Table  # slow import
    from rich.text import Text  # slow import

    width = terminal.width
    shown = _fitting(columns, rows, spare, width)
    moment = _longest_moment(shown, columns, rows, width)
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name in shown:
        drawn.add_column(name, overflow="fold", no_wrap=_is_whole(_cells(name, columns, rows)))
    for row in rows:
        cells = [row[columns.index(name)] for name in shown]
        drawn.add_row(*(Text(_cell(cell, moment), style=status_style(cell)) for cell in cells))
    terminal.print(drawn)
    left_out = [name for name in columns if name not in shown]
    if left_out:
        terminal.print(f"Columns that did not fit: {', '.join(left_out)}. --json shows all.", style="dim")


def draw_record(terminal: Console, columns: Sequence[str], row: list[Any]) -> None:
    """Draws column names and full values."""
    from rich.table import Table  # slow import
    from rich.text import Text  # slow import

    drawn = Table.grid(padding=(0, _GAP, 0, 0))
    drawn.add_column(no_wrap=True, style="dim")
    drawn.add_column(overflow="fold")
    for name, value in zip(columns, row, strict=True):
        drawn.add_row(
            name, Text(_moment(str(value), _SECONDS) if value is not None else "–", style=status_style(value))
        )
    terminal.print(drawn)


def _fitting(columns: Sequence[str], rows: list[list[Any]], spare: Sequence[str], width: int) -> list[str]:
    """The columns that fit: drops spare columns, narrows text columns, then drops from the end down to two."""
    shown = list(columns)
    for name in spare:
        if _width(shown, columns, rows, _EASY) <= width:
            return shown
        shown.remove(name)
    while len(shown) > 2 and _width(shown, columns, rows, _LEAST, _NO_YEAR) > width:
        shown.pop()
    return shown


def _longest_moment(shown: Sequence[str], columns: Sequence[str], rows: list[list[Any]], width: int) -> str:
    if _width(shown, columns, rows, _EASY, _SECONDS) <= width:
        return _SECONDS
    return _MINUTES if _width(shown, columns, rows, _LEAST, _MINUTES) <= width else _NO_YEAR


def _width(
    shown: Sequence[str], columns: Sequence[str], rows: list[list[Any]], words: int, moment: str = _MINUTES
) -> int:
    """The table's width if its text columns are `words` wide."""
    needed = 0
    for name in shown:
        cells = [_cell(cell, moment) for cell in _cells(name, columns, rows)]
        longest = max(map(len, [name, *cells]))
        if not _is_whole(_cells(name, columns, rows)):
            longest = min(longest, max(words, *(len(word) for cell in cells for word in cell.split())))
        needed += longest
    return needed + _GAP * (len(shown) - 1)


def _cells(name: str, columns: Sequence[str], rows: list[list[Any]]) -> list[Any]:
    place = columns.index(name)
    return [row[place] for row in rows]


def _is_whole(cells: list[Any]) -> bool:
    """Whether no cell of the column may wrap: ids, numbers and times, not text."""
    return not any(" " in str(cell) for cell in cells)


def _cell(cell: Any, moment: str) -> str:
    """Formats a value for people: times without fractions of a second, hashes and addresses in texts shortened."""
    if cell is None:
        return "–"
    text = str(cell)
    if _HASH.fullmatch(text):
        return short_hash(text)
    return _ADDRESS.sub(r"\1…\2", text) if " " in text else _moment(text, moment)


def _moment(text: str, moment: str) -> str:
    return _TIME.sub(moment, text)
