"""A text is found among many runs, page after page, by what a list shows of them; on both stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.services.access.paging import Paging
from dustrun.services.runs.pages import list_page
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import organizations, runs
from dustrun.storage.runs.run_lists import RunFilters

COUNT = 3_000


def made(number: int) -> dict[str, Any]:
    return {
        "id": f"run_{number:05}",
        "org_id": "a" if number % 2 else "b",
        "workflow_id": "w1",
        "workflow_name": "Pay 100% of Ann's bills" if number % 501 == 0 else "Other",
        "version": 1,
        "mode": "live",
        "status": "failure" if number % 3 == 0 else "success",
        "trigger_node_id": "root",
        "trigger_source": "schedule" if number == 7 else "api",
        "triggered_by": "key",
        "payload": '{"hidden": "needle"}',
        "prop_values": "{}",
        "root_run_id": f"run_{number:05}",
        "started_at": number,
        "finished_at": number,
        "error": '{"code": 502001, "message": "no \\"Route\\" to host"}' if number % 1001 == 0 else None,
        "summary": "Nothing to pay" if number == 2_001 else None,
    }


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    opened = Database(store_url)
    migrate.upgrade(opened)
    tx = opened.begin()
    tx.run(Statement(sa.insert(organizations).values(id="a", name="", created_at=0)))
    insert = Statement(sa.insert(runs).values({name: sa.bindparam(name) for name in made(1)}))
    tx.many(insert, [made(number) for number in range(1, COUNT)])
    opened.commit()
    yield opened
    opened.close_writer()
    opened.close()


async def walk(database: Database, text: str | None, limit: int = 2, filters: RunFilters | None = None) -> list[str]:
    """The numbers of all runs that the pages show, in their order."""
    shown: list[str] = []
    here = filters or RunFilters()
    while True:
        page = await list_page(database, "a", here, Paging(limit), text)
        assert len(page.items) <= limit
        assert page.has_more is (page.cursor is not None)
        shown += [row.id for row in page.items]
        if page.cursor is None:
            return shown
        assert here.before is None or page.cursor < here.before
        here = replace(here, before=page.cursor)


@pytest.mark.both_stores
async def test_a_text_is_found_wherever_a_list_shows_it(database: Database) -> None:
    every = [run for number in range(COUNT - 1, 0, -1) if (run := made(number))["org_id"] == "a"]
    named = [run["id"] for run in every if run["workflow_name"] != "Other"]
    assert len(named) == 3
    for text in ("ANN'S", "100%", "y 100% o"):
        assert await walk(database, text) == named
    assert await walk(database, '"route"') == [run["id"] for run in every if run["error"]] == ["run_01001"]
    assert await walk(database, "nothing TO") == ["run_02001"]
    assert await walk(database, "schedule") == ["run_00007"]
    assert await walk(database, "run_0150", 50) == [f"run_0150{digit}" for digit in (9, 7, 5, 3, 1)]
    assert await walk(database, "pay", filters=RunFilters(statuses=("success",))) == []  # all of these failed
    assert await walk(database, "pay", filters=RunFilters(statuses=("failure",), until=2_000)) == [
        "run_01503",
        "run_00501",
    ]


async def test_a_text_is_not_found_in_what_lists_do_not_show(database: Database) -> None:
    for text in ("needle", "message", 'message": "no', "a_i", "%"):
        found = await walk(database, text)
        assert all("100%" in made(int(one[4:]))["workflow_name"] for one in found), text
        assert found == [] or text == "%"


@pytest.mark.both_stores
async def test_pages_by_cursor_show_every_run_once(database: Database) -> None:
    shown = await walk(database, None, 100, RunFilters(statuses=("failure",)))
    assert shown == [f"run_{number:05}" for number in range(COUNT - 1, 0, -1) if number % 2 and number % 3 == 0]
