"""Compiled versions are shared by all who need them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dustrun import catalog
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.storage.db.database import Database
from testkit.composition import DEFINITION, composed

_MANY = 30


async def test_many_callers_at_once_get_what_one_of_them_compiles(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        workflow_id = (await server.owner.create_workflow(DEFINITION))["id"]
    database = Database(f"sqlite:///{tmp_path / 'dustrun.db'}")
    try:
        programs = CompiledWorkflows(database, catalog.load())
        gone = asyncio.create_task(programs.find(workflow_id, 1))
        asked = [asyncio.create_task(programs.find(workflow_id, 1)) for _ in range(_MANY)]
        await asyncio.sleep(0)
        gone.cancel()  # it asked first, and the others do not wait in vain
        found = await asyncio.gather(*asked)
        assert found[0] is not None
        assert {id(one) for one in found} == {id(programs.find_kept(workflow_id, 1))}
        assert await programs.find(workflow_id, 2) is None
    finally:
        database.close()
