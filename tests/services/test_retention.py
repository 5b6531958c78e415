"""Old runs go, whole, and only those that nothing needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.storage.db.tables import idempotency_keys, metadata, runs
from dustrun.storage.runs import retention
from dustrun.storage.runs.large_values import LARGE
from testkit.composition import Composition, composed

DAY_MS = 86_400_000


def flow_of(variables: tuple[str, ...] = (), **nodes: Any) -> dict[str, Any]:
    """A definition whose first node follows the root."""
    root = {"type": "manual", "children": [next(iter(nodes))]}
    defs = [{"name": name, "type": "number", "default": 0} for name in variables]
    return {"nodes": {"root": root, **nodes}, "triggerNodeIds": ["root"], "variableDefs": defs}


SAY = {"type": "log", "payload": {"message": "hello"}}
COUNTING = flow_of(("n",), count={"type": "increment-variable", "payload": {"name": "n"}, "children": ["say"]}, say=SAY)
FAILING = flow_of(end={"type": "stop", "payload": {"status": "failure", "message": "no"}})
WAITING = flow_of(hold={"type": "wait", "payload": {"timeoutMs": 3_600_000}})


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, retention_days=30) as composition:
        yield composition


async def _run(server: Composition, workflow_id: str, until: str = "success", **body: Any) -> str:
    run_id: str = (await server.owner.post(f"/v1/workflows/{workflow_id}/run", body)).data["runId"]
    await _until(server, run_id, until)
    return run_id


async def _until(server: Composition, run_id: str, status: str) -> None:
    async with asyncio.timeout(60):
        while (await server.owner.get(f"/v1/runs/{run_id}?summary=true")).data["status"] != status:
            await asyncio.sleep(0.01)


async def _newest(server: Composition) -> str:
    """A run after all others: the newest one of a store stays whatever its age."""
    flow = await server.owner.create_workflow(name="newest")
    return await _run(server, flow["id"])


async def _age(server: Composition, *run_ids: str, days: int = 40) -> None:
    """Makes runs that many days old."""
    shift = days * DAY_MS
    await server.execute(
        sa.update(runs)
        .where(runs.c.id.in_(run_ids))
        .values(started_at=runs.c.started_at - shift, finished_at=runs.c.finished_at - shift)
    )


async def _left(server: Composition) -> set[str]:
    return {row[0] for row in await server.rows(sa.select(runs.c.id))}


OWNERS = {"run_variables": "owner_pk", "simulation_forks": "top_pk"}


async def _rows_of_runs(server: Composition) -> dict[str, set[int]]:
    """The runs that each table names."""
    found = {}
    for name in sorted(retention.HANDLED):
        table = metadata.tables[name]
        column = table.c[OWNERS.get(name, "run_pk")]
        found[name] = {row[0] for row in await server.rows(sa.select(column).where(column.is_not(None)))}
    return found


@pytest.mark.both_stores
async def test_an_old_run_goes_with_all_that_is_its_own(server: Composition) -> None:
    flow = await server.owner.create_workflow(COUNTING)
    large = {f"text{number}": f"{number:02}" * (LARGE // 2) for number in range(60)}
    old = await _run(server, flow["id"], payload=large)
    young = await _run(server, flow["id"], payload=large)
    assert len((await _rows_of_runs(server))["run_values"]) == 2
    await _age(server, old)
    assert await server.parts.access.retention.sweep() == 1
    assert await _left(server) == {young}
    assert len((await _rows_of_runs(server))["run_values"]) == 1
    kept = {row[0] for row in await server.rows(sa.select(runs.c.pk))}
    assert all(found <= kept for found in (await _rows_of_runs(server)).values())
    assert (await server.owner.get(f"/v1/runs/{old}")).code == 404003
    counts = (await server.owner.get(f"/v1/runs/status-counts?workflowId={flow['id']}")).data
    assert (counts["success"], counts["total"]) == (1, 1)
    history = (await server.owner.get(f"/v1/workflows/{flow['id']}/variables/n/history")).data["items"]
    assert [item["newValue"] for item in history] == [2, 1]
    assert await server.parts.access.retention.sweep() == 0


async def test_what_something_needs_stays(server: Composition) -> None:
    waiting = await server.owner.create_workflow(WAITING)
    failing = await server.owner.create_workflow(FAILING)
    call = {"type": "call-workflow", "payload": {"workflowId": waiting["id"], "mode": "start"}}
    caller = await server.owner.create_workflow(flow_of(call=call))
    still_open = await _run(server, waiting["id"], until="waiting")
    chained = await _run(server, failing["id"], until="failure")
    retried: str = (await server.owner.post(f"/v1/runs/{chained}/retry")).data["runId"]
    await _until(server, retried, "failure")
    calling = await _run(server, caller["id"])
    await _newest(server)
    await _age(server, still_open, chained, calling)
    assert await server.parts.access.retention.sweep() == 0
    await _age(server, retried)
    assert await server.parts.access.retention.sweep() == 2
    assert {still_open, calling} < await _left(server)


@pytest.mark.both_stores
async def test_a_called_run_goes_with_its_caller(server: Composition) -> None:
    said = await server.owner.create_workflow(COUNTING)
    call = {"type": "call-workflow", "payload": {"workflowId": said["id"]}}
    caller = await server.owner.create_workflow(flow_of(call=call))
    calling = await _run(server, caller["id"])
    called = (await _left(server)) - {calling}
    newest = await _newest(server)
    await _age(server, *called)
    assert await server.parts.access.retention.sweep() == 0
    await _age(server, calling)
    assert await server.parts.access.retention.sweep() == 2
    assert await _left(server) == {newest}


async def test_a_large_run_goes_in_pieces(server: Composition) -> None:
    each = {"type": "for-each", "payload": {"array": "{{$trigger.body.items}}"}, "loopBody": ["say"]}
    flow = await server.owner.create_workflow(flow_of(each=each, say=SAY))
    run_id = await _run(server, flow["id"], payload={"items": list(range(400))})
    newest = await _newest(server)
    await _age(server, run_id)
    units = server.parts.writer.units
    assert await server.parts.access.retention.sweep() == 1
    assert server.parts.writer.units - units >= 3
    assert await _left(server) == {newest}
    assert all(found <= {2} for found in (await _rows_of_runs(server)).values())


async def test_an_organisation_says_how_long(server: Composition, tmp_path: Path) -> None:
    own = (await server.owner.get("/v1/organizations")).data["items"][0]
    assert own["retentionDays"] is None
    flow = await server.owner.create_workflow()
    run_id = await _run(server, flow["id"])
    await _newest(server)
    await _age(server, run_id)
    path = f"/v1/organizations/{own['id']}"
    assert (await server.owner.send("PATCH", path, {"retentionDays": 0})).data["retentionDays"] == 0
    assert await server.parts.access.retention.sweep() == 0
    kept = sa.select(runs.c.pk).where(runs.c.id == run_id)
    assert await server.rows(kept)
    assert (await server.owner.send("PATCH", path, {"retentionDays": None})).data["retentionDays"] is None
    async with asyncio.timeout(10):  # by itself
        while await server.rows(kept):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("days", [-1, 36_501, "30", 1.5, True])
async def test_a_wrong_time_to_keep_is_refused(server: Composition, days: Any) -> None:
    own = (await server.owner.get("/v1/organizations")).data["items"][0]
    reply = await server.owner.send("PATCH", f"/v1/organizations/{own['id']}", {"retentionDays": days})
    assert (reply.status, reply.fields) == (400, ["retentionDays"])


@pytest.mark.both_stores
async def test_a_run_of_the_ledger_stays(server: Composition) -> None:
    flow = await server.owner.create_workflow()
    run_id = await _run(server, flow["id"])
    await _newest(server)
    await _age(server, run_id)
    own = (await server.owner.get("/v1/organizations")).data["items"][0]["id"]
    pk = (await server.rows(sa.select(runs.c.pk).where(runs.c.id == run_id)))[0][0]
    values = {"org_id": own, "root_run_id": run_id, "path": "pay", "generation": 1, "run_pk": pk, "created_at": 1}
    spends = metadata.tables["spends"]
    await server.execute(sa.insert(spends).values(**values, transactions="[]", signatures="[]", notes="{}"))
    assert await server.parts.access.retention.sweep() == 0


async def test_the_newest_run_stays(server: Composition) -> None:
    run_id = await _newest(server)
    await _age(server, run_id)
    assert await server.parts.access.retention.sweep() == 0


async def test_live_idempotency_keys_stay(server: Composition) -> None:
    flow = await server.owner.create_workflow()
    path, headers = f"/v1/workflows/{flow['id']}/run", {"Idempotency-Key": "k1"}
    first = (await server.owner.post(path, {}, headers=headers)).data["runId"]
    await _until(server, first, "success")
    await _newest(server)
    await _age(server, first)
    assert await server.parts.access.retention.sweep() == 1
    assert (await server.owner.post(path, {}, headers=headers)).data["runId"] == first
    assert len(await server.rows(sa.select(idempotency_keys.c.key))) == 1


def test_every_table_that_names_a_run_is_known() -> None:
    naming = {
        table.name
        for table in metadata.tables.values()
        for column in table.columns
        if column.name == "run_pk" or any(key.target_fullname == "runs.pk" for key in column.foreign_keys)
    }
    keeping = {table.name for table in retention.KEEPING}
    assert naming == retention.HANDLED | keeping


@pytest.mark.both_stores
async def test_a_sweep_lets_others_write(server: Composition) -> None:
    flow = await server.owner.create_workflow()
    run_ids = [await _run(server, flow["id"]) for _ in range(5)]
    await _newest(server)
    await _age(server, *run_ids)
    before = clock.monotonic_s()
    sweep = asyncio.create_task(server.parts.access.retention.sweep())
    await _run(server, flow["id"])
    assert clock.monotonic_s() - before < 5
    assert await sweep == 5
