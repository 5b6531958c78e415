"""Parses CSV text into rows.

Cells stay texts, because "007" is a name to one system and a number to another: list numeric columns in `numbers`, and
they become exact numbers. A row that is longer or shorter than the first fails the node with its line number: most
often the delimiter or a quote is wrong.
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from typing import Any, Final

from pydantic import Field

from dustrun.actions.data.items import number_of, refuse
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.threads import run_in_thread

_MOST_CHARS: Final = 1_048_576
_MOST_COLUMNS: Final = 1000


class Input(Fields):
    """The CSV text and its format."""

    text: str = Field(max_length=_MOST_CHARS, description="The CSV text.")
    delimiter: str = Field(",", pattern=r'^[^"\r\n]$', description="The cell delimiter, one character.")
    header: bool = Field(True, description="Whether the first line contains the column names.")
    columns: list[str] = Field(
        [], max_length=_MOST_COLUMNS, description="Column names, instead of those of the first line."
    )
    numbers: list[str] = Field([], description="Columns whose cells are numbers; an empty cell becomes null.")
    trim: bool = Field(True, description="Whether to strip spaces around cells.")
    max_rows: int = Field(10_000, ge=1, le=100_000, description="Fail the node if there are more rows than this.")


class Output(Fields):
    """The rows."""

    rows: list[Any] = Field(description="One object per row; a list of cells if there are no column names.")
    columns: list[str] = Field(description="The column names.")
    count: int = Field(description="Number of rows.")


def _lines(input: Input) -> Iterator[tuple[int, list[str]]]:
    """Non-empty lines with their line numbers, from 1."""
    text = io.StringIO(input.text.removeprefix("\ufeff"), newline="")
    try:
        reader = csv.reader(text, delimiter=input.delimiter, strict=True)
        begin = 1
        for cells in reader:
            if cells:
                yield begin, [cell.strip() for cell in cells] if input.trim else cells
            begin = reader.line_num + 1
    except (csv.Error, TypeError, ValueError) as error:
        raise refuse(f"Line {begin} is not valid CSV: {error}", "text") from None


def _check_columns(input: Input, columns: list[str]) -> None:
    if len(columns) > _MOST_COLUMNS:
        raise refuse(f"There are {len(columns)} columns; the limit is {_MOST_COLUMNS}", "text")
    twice = next((name for number, name in enumerate(columns) if name in columns[:number]), None)
    if twice is not None:
        raise refuse(f'Two columns are named "{twice}"', "columns")
    unknown = next((name for name in input.numbers if name not in columns), None)
    if unknown is not None:
        raise refuse(f'There is no column "{unknown}"; the columns are {", ".join(columns) or "none"}', "numbers")


def _row(input: Input, columns: list[str], line: int, cells: list[str]) -> Any:
    if not columns:
        return cells
    row: dict[str, Any] = dict(zip(columns, cells, strict=True))
    for name in input.numbers:
        number = number_of(row[name])
        if number is None and row[name]:
            raise refuse(f'Line {line}: the "{name}" is "{row[name][:50]}", which is not a number', "numbers")
        row[name] = number
    return row


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"text": "symbol,usd\nETH,3127.41\n", "numbers": []},
    example_output={"rows": [{"symbol": "ETH", "usd": "3127.41"}], "columns": ["symbol", "usd"], "count": 1},
    idempotent=True,
    tags=("text", "csv"),
)
async def parse_csv(input: Input, ctx: Context) -> Output:
    """Parses line by line."""
    return await run_in_thread(lambda stop: _read(input, stop), len(input.text))


def _read(input: Input, stop: threading.Event) -> Output:
    lines = _lines(input)
    first = next(lines, None) if input.header else None
    columns = input.columns or (first[1] if first else [])
    _check_columns(input, columns)
    rows: list[Any] = []
    width = len(columns)
    for line, cells in lines:
        width = width or len(cells)
        if len(cells) != width:
            raise refuse(f"Line {line} has {len(cells)} cells, expected {width}", "text")
        if len(rows) == input.max_rows or stop.is_set():
            raise refuse(f"There are more than {input.max_rows} rows (maxRows)", "text")
        rows.append(_row(input, columns, line, cells))
    return Output(rows=rows, columns=columns, count=len(rows))
