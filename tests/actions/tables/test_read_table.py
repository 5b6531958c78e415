"""What the action asks for and makes of the answer; whole runs are in `tests/engine/node/test_node_tables.py`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dustrun.actions.tables.read_table import read_table
from dustrun.sdk.tables import TableQuery
from dustrun.sdk.testing import FakeContext, perform

ROWS = [{"id": "a"}, {"id": "b"}, {"id": "c"}]


async def test_query_is_passed_on_and_the_rows_counted() -> None:
    ctx = FakeContext(tables=[ROWS])
    payload = {"table": "t", "where": {"id": {"$ne": "z"}}, "sort": "-id", "limit": 2, "offset": 4}
    found = await perform(read_table, payload, ctx)
    assert found == {"rows": ROWS[:2], "first": ROWS[0], "count": 2, "hasMore": True}
    assert ctx.tables.queries == [TableQuery("t", {"id": {"$ne": "z"}}, "-id", 2, 4)]


async def test_no_row_is_an_answer_too() -> None:
    assert await perform(read_table, {"table": "t"}) == {"rows": [], "first": None, "count": 0, "hasMore": False}


@pytest.mark.parametrize("change", [{"limit": 0}, {"limit": 1001}, {"offset": -1}, {"table": ""}, {"where": []}])
def test_bad_input_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read_table.input.model_validate({"table": "t", **change})
