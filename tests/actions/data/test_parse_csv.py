from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dustrun.actions.data.parse_csv import Input, parse_csv
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform


async def run(text: str, **payload: Any) -> dict[str, Any]:
    return await perform(parse_csv, {"text": text, **payload})


async def test_numbers_are_exact_and_everything_else_is_text() -> None:
    result = await run("id,usd,eth\n007,1200.10,\n8,2,0.3\n", numbers=["usd", "eth"])
    assert result == {
        "rows": [{"id": "007", "usd": Decimal("1200.10"), "eth": None}, {"id": "8", "usd": 2, "eth": Decimal("0.3")}],
        "columns": ["id", "usd", "eth"],
        "count": 2,
    }


async def test_quotes_lines_and_marks_are_read() -> None:
    text = '\ufeffname;note\r\n"Ann ""A""";"two\nlines"\r\n\r\n Bob ; x \r\n'
    rows = [{"name": 'Ann "A"', "note": "two\nlines"}, {"name": "Bob", "note": "x"}]
    assert (await run(text, delimiter=";"))["rows"] == rows
    assert (await run(text, delimiter=";", trim=False))["rows"][1] == {"name": " Bob ", "note": " x "}


async def test_columns_may_be_named_here_or_not_at_all() -> None:
    assert (await run("1,2\n", header=False, columns=["a", "b"]))["rows"] == [{"a": "1", "b": "2"}]
    assert (await run("x,y\n1,2\n", columns=["a", "b"]))["rows"] == [{"a": "1", "b": "2"}]
    assert await run("1,2\n3,4\n", header=False) == {"rows": [["1", "2"], ["3", "4"]], "columns": [], "count": 2}
    assert await run("") == {"rows": [], "columns": [], "count": 0}


@pytest.mark.parametrize(
    ("text", "payload", "message"),
    [
        ("a,b\n1,2\n3\n", {}, "Line 3 has 1 cells, expected 2."),
        ('a,b\n"x\ny",1\n1,2,3\n', {}, "Line 4 has 3 cells, expected 2."),
        ("a,a\n1,2\n", {}, 'Two columns are named "a".'),
        ("a\nx\n", {"numbers": ["a"]}, 'Line 2: the "a" is "x", which is not a number.'),
        ("a,b\n", {"numbers": ["c"]}, 'There is no column "c"; the columns are a, b.'),
        ('a\n1\n"x\n', {}, "Line 3 is not valid CSV: unexpected end of data."),
        ('a\n"x"y\n', {}, "Line 2 is not valid CSV:"),
        ("a\n" + "x" * 200_000, {}, "Line 2 is not valid CSV: field larger than field limit"),
        ("a\n1\n2\n", {"maxRows": 1}, "There are more than 1 rows (maxRows)."),
        (",".join(map(str, range(1001))), {}, "There are 1001 columns; the limit is 1000."),
    ],
)
async def test_what_is_wrong_is_told_with_its_line(text: str, payload: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid) as caught:
        await run(text, **payload)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("delimiter", ["", "\n", "\r", '"', ",,"])
def test_a_delimiter_is_one_character_that_can_part(delimiter: str) -> None:
    with pytest.raises(ValidationError):
        Input(text="", delimiter=delimiter)


_cell = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=5)


async def run_found(text: str, **payload: Any) -> dict[str, Any]:
    """Reads a text that another node found: `{{` in it is no template."""
    return await perform(parse_csv, {"text": "{{$item}}", **payload}, roots={"$item": text})


@given(st.lists(st.lists(_cell, min_size=2, max_size=2), min_size=1, max_size=5))
async def test_rows_come_back_as_they_were_written(rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    assert (await run_found(text.getvalue(), header=False, trim=False))["rows"] == rows


@given(st.text(max_size=60), st.booleans())
async def test_any_text_is_read_or_refused(text: str, header: bool) -> None:
    try:
        result = await run_found(text, header=header)
    except Invalid:
        return
    assert result["count"] == len(result["rows"])
