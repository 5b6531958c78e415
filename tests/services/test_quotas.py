"""What an organisation keeps of runs: counted without counting rows, refused before a start, freed by retention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.errors import Code
from dustrun.services.quotas import RunSizes
from dustrun.storage.access import stored_bytes
from dustrun.storage.db.tables import run_sizes, runs
from testkit.composition import Composition, composed
from testkit.recount import recount
from testkit.sharing import ended, until

DAY_MS = 86_400_000

SAY: dict[str, Any] = {"nodes": {"root": {"type": "manual"}}}
WAIT = {
    "root": {"type": "manual", "children": ["hold"]},
    "hold": {"type": "wait", "payload": {"timeoutMs": 3_600_000}, "children": ["after"]},
    "after": {"type": "log", "payload": {"message": "done"}},
}


async def _quota(server: Composition, name: str) -> tuple[int, int | None]:
    own = (await server.owner.get("/v1/organizations")).data["items"][0]["id"]
    items = (await server.owner.get(f"/v1/organizations/{own}/quotas")).data["items"]
    return next((one["used"], one["limit"]) for one in items if one["name"] == name)


async def _measure(server: Composition) -> None:
    await RunSizes(server.parts.database, server.parts.writer).measure()


async def _until(server: Composition, run_id: str, status: str) -> None:
    async def reached() -> bool:
        found: bool = (await server.owner.get(f"/v1/runs/{run_id}?summary=true")).data["status"] == status
        return found

    await until(reached)


async def _start(server: Composition, payload: Any = None, nodes: Any = None) -> str:
    body = {"definition": SAY if nodes is None else {"nodes": nodes}, "payload": payload or {}}
    answer = await server.owner.post("/v1/runs", body)
    assert answer.status == 200, answer.body
    run_id: str = answer.data["runId"]
    return run_id


@pytest.mark.both_stores
async def test_the_bytes_of_runs_are_what_a_recount_finds(tmp_path: Path, store_url: str) -> None:
    """Of two organisations; of runs that have ended and one that waits; and after it went on and ended too."""
    async with composed(tmp_path, database_url=store_url) as server:
        other = await server.other_owner()
        assert (await other.post("/v1/runs", {"definition": SAY, "payload": {"of": "another"}})).status == 200
        for n in range(5):
            await ended(server.owner, await _start(server, {"text": "ä" * 1000 * n}))
        waiting = await _start(server, {"text": "x" * 5000}, WAIT)
        await _until(server, waiting, "waiting")
        await _measure(server)
        kept, counted = await recount(server)
        assert kept == counted
        assert len(kept) == 2
        assert (await _quota(server, "runs"), await _quota(server, "runBytes")) == (
            (6, None),
            (max(kept.values()), None),
        )
        assert (await server.owner.post(f"/v1/runs/{waiting}/nodes/hold/resume", {})).status == 200
        await ended(server.owner, waiting)
        await _measure(server)
        again, counted = await recount(server)
        assert again == counted
        assert max(again.values()) > max(kept.values())
        await _measure(server)
        assert (await recount(server))[0] == again  # nothing is counted twice


@pytest.mark.both_stores
async def test_what_was_measured_twice_at_once_counts_once(tmp_path: Path, store_url: str) -> None:
    """Two servers of a store measure the same; and what a crash left unmeasured is measured after the next start."""
    async with composed(tmp_path, database_url=store_url) as server:
        await ended(server.owner, await _start(server, {"text": "x" * 2000}))
        found = await server.parts.database.read(stored_bytes.measure)
        assert found is not None
        wrote = [await server.parts.writer.write(lambda tx: stored_bytes.keep(tx, found)) for _ in range(2)]
        assert wrote == [True, False]
        await ended(server.owner, await _start(server, {"text": "y" * 3000}))
    async with composed(tmp_path, database_url=store_url) as server:
        await _measure(server)
        kept, counted = await recount(server)
        assert kept == counted
        assert sum(kept.values()) > 2 * 5000  # the payload is in the run and in its trigger's result, at least


@pytest.mark.both_stores
async def test_retention_gives_back_what_it_deletes(tmp_path: Path, store_url: str) -> None:
    """Also of a run that was not measured yet; and shorter days delete at once, so that runs start again."""
    async with composed(tmp_path, database_url=store_url, max_runs=3) as server:
        old = [await _start(server, {"text": "x" * 1000}) for _ in range(2)]
        for run_id in old:
            await ended(server.owner, run_id)
        await _measure(server)
        unmeasured = await _start(server, {"text": "z" * 1000})
        await ended(server.owner, unmeasured)
        refused = await server.owner.post("/v1/runs", {"definition": SAY})
        says = "The organisation keeps 3 runs, and may keep 3 (setting max_runs). Have ended runs deleted sooner"
        assert (refused.status, refused.code) == (409, Code.RUN_LIMIT)
        assert refused.body["message"].startswith(says), refused.body
        aged = sa.update(runs).where(runs.c.id == old[0]).values(
            started_at=runs.c.started_at - 40 * DAY_MS, finished_at=runs.c.finished_at - 40 * DAY_MS
        )  # fmt: skip
        await server.execute(aged)
        own = (await server.owner.get("/v1/organizations")).data["items"][0]["id"]
        assert (await server.owner.send("PATCH", f"/v1/organizations/{own}", {"retentionDays": 30})).status == 200

        async def starts() -> bool:
            return (await server.owner.post("/v1/runs", {"definition": SAY})).status == 200

        await until(starts)
        assert (await server.owner.post("/v1/runs", {"definition": SAY})).code == Code.RUN_LIMIT
        await _measure(server)
        kept, counted = await recount(server)
        assert kept == counted
        sized = {row[0] for row in await server.rows(sa.select(run_sizes.c.run_pk))}
        assert sized == {row[0] for row in await server.rows(sa.select(runs.c.pk).where(runs.c.org_id != ""))}


@pytest.mark.both_stores
async def test_a_run_under_way_ends_though_the_quota_is_reached(tmp_path: Path, store_url: str) -> None:
    """It calls another workflow after that, whose run is new; only starts are refused: by hand, by a trigger, again."""
    async with composed(tmp_path, database_url=store_url, max_run_bytes=1_000) as server:
        called = await server.owner.create_workflow()
        nodes = {**WAIT, "after": {"type": "call-workflow", "payload": {"workflowId": called["id"]}}}
        waiting = await _start(server, {"text": "x" * 5000}, nodes)
        await _until(server, waiting, "waiting")
        await _measure(server)

        async def is_refused() -> bool:
            return (await server.owner.post("/v1/runs", {"definition": SAY})).code == Code.RUN_LIMIT

        await until(is_refused)
        refused = await server.owner.post(f"/v1/workflows/{called['id']}/run", {})
        assert "bytes in runs, and may keep 1000 (setting max_run_bytes)" in refused.body["message"]
        assert (await server.owner.post(f"/v1/runs/{waiting}/nodes/hold/resume", {})).status == 200
        found = await ended(server.owner, waiting)
        assert (found["status"], found["executionState"]["after"]["status"]) == ("success", "success")
