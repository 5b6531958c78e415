"""Updates of stores that old versions left with runs that wait: what waited goes on, and no old version is let in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from testkit import older_stores, processes
from testkit.composition import Composition, composed

_WAIT_S = 60.0
_SEEN = 4
"""The one thing that each trigger had seen before the update, by its number."""
_NEW = (5, 6)
_KILLED_AFTER = 60
"""So many statements into the first try to update."""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store without a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'dustrun.db'}"
    found: str = request.getfixturevalue("cluster").empty()
    return found


async def _until(holds: Callable[[], Awaitable[Any]], what: str) -> Any:
    async with asyncio.timeout(_WAIT_S):
        while not (found := await holds()):
            await asyncio.sleep(0.02)
    assert found, what
    return found


async def _ended(server: Composition, run_id: str) -> dict[str, Any]:
    async def look() -> Any:
        run = (await server.owner.get(f"/v1/runs/{run_id}")).data
        return run if run["status"] not in ("running", "waiting") else None

    found: dict[str, Any] = await _until(look, f"{run_id} ended")
    return found


async def _triggered(server: Composition, workflow_id: str, older: int) -> Any:
    async def look() -> Any:
        found = await server.owner.get(f"/v1/runs?workflowId={workflow_id}&status=success&limit=100")
        return len(found.data["items"]) > older

    return await _until(look, f"{workflow_id} was started")


def test_the_oldest_frozen_schema_the_first_of_rolling_upgrades_and_one_with_every_kind_of_trigger_are_here() -> None:
    assert older_stores.schemas() == ["0003", "0017", "0027"]


@pytest.mark.parametrize("schema", older_stores.schemas())
async def test_what_waited_goes_on_after_the_update(schema: str, empty_url: str, tmp_path: Path) -> None:
    database, own = Database(empty_url), {"database_url": empty_url, "master_key_file": tmp_path / "master.key"}
    async with older_stores.outside() as world:
        named = older_stores.put(schema, database, tmp_path, world)
        older_stores.kill_in_update(empty_url, after=_KILLED_AFTER)
        assert migrate.revision_of(database) == schema
        world.say(_SEEN)
        for number in _NEW:  # while no server runs
            world.say(number)
        async with composed(tmp_path, **world.settings, **own) as server:
            await _go_on(server, database, named)
            for name in older_stores.NUMBER_IN:
                if name in named["workflows"]:
                    await _told(server, named["workflows"][name])
            await _whole_streams(server)
    database.close()


async def _go_on(server: Composition, database: Database, named: dict[str, Any]) -> None:
    assert migrate.revision_of(database) == migrate.head()
    runs = named["runs"]
    assert (await _ended(server, runs["delayed"]))["status"] == "success"
    (asked,) = (await server.owner.get("/v1/approvals")).data["items"]
    assert (asked["runId"], asked["message"]) == (runs["asked"], "May it?")
    assert (await server.owner.post(f"/v1/approvals/{asked['id']}/approve", {})).status == 200
    held = (await server.owner.get(f"/v1/runs/{runs['held']}")).data
    assert held["status"] == "waiting"
    resume = f"/v1/runs/{runs['held']}/nodes/hold/resume"
    assert (await server.owner.post(resume, {"data": {}})).data["action"] == "resumed"
    for name in ("asked", "held"):
        ended = await _ended(server, runs[name])
        assert (ended["status"], ended["executionState"]["say"]["status"]) == ("success", "success")
    for name in ("each second", "after delayed"):
        if name in named["workflows"]:
            await _triggered(server, named["workflows"][name], older=1 if name == "each second" else 0)


async def _told(server: Composition, workflow_id: str) -> None:
    """What came before the update was taken once and is not again; what came meanwhile is taken now, in its order."""

    async def numbers() -> list[int]:
        found = await server.rows(
            sa.text(
                "SELECT execution.result FROM executions execution JOIN runs run ON run.pk = execution.run_pk"
                f" WHERE run.workflow_id = '{workflow_id}' AND execution.path = 'say' ORDER BY run.pk"
            )
        )
        return [json.loads(result)["message"] for (result,) in found if result]

    async def look() -> Any:
        found = await numbers()
        return found if len(found) > len(_NEW) else None

    assert list(map(int, await _until(look, f"{workflow_id} was started"))) == [_SEEN, *_NEW]


async def _whole_streams(server: Composition) -> None:
    """No event of the old version and none of this one is missing or there twice."""
    for run_id in ("run_delayed", "run_asked", "run_held"):
        query = "SELECT seq FROM events JOIN runs ON pk = run_pk WHERE id = '" + run_id + "' ORDER BY seq"
        seqs = [seq for (seq,) in await server.rows(sa.text(query))]
        assert seqs == list(range(1, len(seqs) + 1))


def test_a_server_that_is_too_old_for_the_store_says_so_and_changes_nothing(tmp_path: Path) -> None:
    """The way down after a version that took something away."""
    database = Database(f"sqlite:///{tmp_path / 'dustrun.db'}")
    older_stores.put("0017", database, tmp_path)
    migrate.upgrade(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(sa.text("UPDATE oldest_revision SET revision = '9998'"))
    database.close()
    before = _rows(tmp_path / "dustrun.db")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DUSTRUN_")}
    environment["DUSTRUN_MASTER_KEY_FILE"] = str(tmp_path / "master.key")
    command = [*processes.DUSTRUN, "serve", "--port", "0", "--data-dir", str(tmp_path)]
    done = processes.run(command, env=environment)
    assert done.returncode != 0
    assert 'schema "9999", newer than' in done.stderr
    assert "restore a backup" in done.stderr
    assert "Traceback" not in done.stderr
    assert _rows(tmp_path / "dustrun.db") == before


def _rows(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())
