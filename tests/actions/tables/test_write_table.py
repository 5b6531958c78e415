"""Which inputs go together; whole runs are in `tests/engine/node/test_node_tables.py`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dustrun.actions.tables.write_table import write_table
from dustrun.sdk.tables import TableChange
from dustrun.sdk.testing import FakeContext, perform

ROW = {"id": "a"}


@pytest.mark.parametrize(
    ("payload", "change"),
    [
        ({"rows": ROW}, TableChange("t", "insert", (ROW,))),
        ({"mode": "upsert", "rows": [ROW, ROW]}, TableChange("t", "upsert", (ROW, ROW))),
        ({"mode": "update", "where": ROW, "values": {"n": 1}}, TableChange("t", "update", (), ROW, {"n": 1})),
        ({"mode": "delete", "where": ROW}, TableChange("t", "delete", (), ROW)),
    ],
)
async def test_each_mode_asks_for_its_change(payload: dict[str, Any], change: TableChange) -> None:
    ctx = FakeContext()
    await perform(write_table, {"table": "t", **payload}, ctx)
    assert ctx.tables.changes == [change]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"rows": ROW, "where": ROW},
        {"mode": "update", "where": ROW},
        {"mode": "update", "values": ROW},
        {"mode": "delete", "rows": ROW},
        {"mode": "delete", "where": ROW, "values": ROW},
        {"mode": "replace", "rows": ROW},
    ],
)
def test_what_does_not_belong_to_the_mode_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        write_table.input.model_validate({"table": "t", **payload})


def test_a_write_may_come_again_and_stays_inside() -> None:
    assert write_table.idempotent
    assert write_table.inside
