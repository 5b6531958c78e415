"""`GET /v1/search`: what it finds, and only for those who may see it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import run_words, runs
from testkit.composition import Client, Composition

FAILS: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "children": ["end"]},
        "end": {"type": "stop", "payload": {"status": "failure", "message": "The bank at api.example.com said no."}},
    },
    "triggerNodeIds": ["root"],
}
pytestmark = pytest.mark.both_stores


async def _found(client: Client, q: str, types: str = "") -> list[tuple[str, str]]:
    query = f"/v1/search?q={q}" + (f"&types={types}" if types else "")
    return [(one["type"], one["id"]) for one in (await client.get(query)).data["results"]]


async def _failed(client: Client, workflow_id: str) -> str:
    run_id: str = (await client.post(f"/v1/workflows/{workflow_id}/run", {})).data["runId"]
    async with asyncio.timeout(60):
        while (await client.get(f"/v1/runs/{run_id}?summary=true")).data["finishedAt"] is None:
            await asyncio.sleep(0.01)
    return run_id


async def test_each_kind_is_found_by_its_words(server: Composition) -> None:
    owner = server.owner
    payroll = await owner.create_workflow(FAILS, name="Payroll of Zürich")
    await owner.put(f"/v1/workflows/{payroll['id']}", {"folder": "people/pay", "tags": ["monthly"]})
    other = await owner.create_workflow(name="Other")
    run_id = await _failed(owner, payroll["id"])
    for q in ("payroll", "zürich+payroll", "people/pay", "MONTHLY", payroll["id"]):
        assert (await _found(owner, q, "workflow")) == [("workflow", payroll["id"])], q
    assert ("workflow", other["id"]) not in await _found(owner, "payroll")
    for q in ("bank+said", "example.com", "EXAMPLE", "payrol", run_id):
        assert await _found(owner, q, "run") == [("run", run_id)], q
    assert await _found(owner, "bank+yes", "run") == []
    assert (await _found(owner, "http-request"))[0] == ("action", "http-request")
    assert ("trigger", "cronjob") in await _found(owner, "cron", "trigger,action")
    assert ("doc", "list_runs") in await _found(owner, "list+runs", "doc")
    assert ("doc", "run_workflow") in await _found(owner, "run_workflow")
    assert ("template", "take-profit") in await _found(owner, "profit", "template")
    assert (await owner.get("/v1/search?q=..%27%22*)(")).data["results"] == []
    assert (await owner.get("/v1/search?q=x&types=parcel")).code == 400002


async def _similar(client: Client, place: str) -> list[str]:
    return [one["id"] for one in (await client.get(f"/v1/search/similar/{place}?limit=20")).data["results"]]


async def test_what_is_similar_is_of_those_that_the_key_may_read(server: Composition) -> None:
    owner = server.owner
    one, other = [await owner.create_workflow(FAILS, name=f"Payroll of {city}") for city in ("Zürich", "Bern")]
    assert (await _similar(owner, f"workflow/{one['id']}"))[0] == other["id"]
    assert "read-table" in await _similar(owner, "action/write-table")
    body = {"name": "limited", "permissions": ["admin"], "workflowIds": [one["id"]]}
    limited = server.client((await owner.post("/v1/api-keys", body)).data["key"])
    found = await _similar(limited, f"workflow/{one['id']}")
    assert (one["id"] in found, other["id"] in found) == (False, False)
    assert (await limited.get(f"/v1/search/similar/workflow/{other['id']}")).code == 404001
    blind = await server.client_with("run:read")
    assert one["id"] not in await _similar(blind, "action/stop")
    assert (await blind.get(f"/v1/search/similar/workflow/{one['id']}")).code == 404001
    assert (await owner.get("/v1/search/similar/template/none")).code == 404015
    assert (await owner.get("/v1/search/similar/action/none")).code == 404008


async def test_pages_of_what_is_found_go_on(server: Composition) -> None:
    for number in range(5):
        await server.owner.create_workflow(name=f"Many {number}")
    first = (await server.owner.get("/v1/search?q=many&types=workflow&limit=2")).data
    second = (await server.owner.get("/v1/search?q=many&types=workflow&limit=3&offset=2")).data
    assert (first["totalHits"], first["hasMore"], second["hasMore"]) == (5, True, False)
    assert len({one["id"] for one in [*first["results"], *second["results"]]}) == 5


async def test_a_key_finds_what_it_may_read(server: Composition) -> None:
    owner = server.owner
    own = await owner.create_workflow(FAILS, name="Shared bank")
    hidden = await owner.create_workflow(FAILS, name="Hidden bank")
    runs = {one["id"]: await _failed(owner, one["id"]) for one in (own, hidden)}
    assert {("run", run_id) for run_id in runs.values()} < set(await _found(owner, "bank"))
    body = {"name": "limited", "permissions": ["admin"], "workflowIds": [own["id"]]}
    limited = server.client((await owner.post("/v1/api-keys", body)).data["key"])
    assert await _found(limited, "bank", "workflow,run") == [("workflow", own["id"]), ("run", runs[own["id"]])]
    assert await _found(limited, runs[hidden["id"]], "run") == []
    assert await _found(await server.client_with("workflow:read"), "bank", "run") == []
    assert await _found(await server.client_with("run:read"), "bank", "workflow,template") == []
    assert ("action", "log") in await _found(await server.client_with("hook:read"), "log")
    stranger = await server.other_owner()
    assert await _found(stranger, "bank", "workflow,run") == []
    assert await _found(stranger, runs[own["id"]], "run") == []


async def test_a_run_that_was_deleted_is_not_found(server: Composition) -> None:
    workflow = await server.owner.create_workflow(FAILS)
    old, young = await _failed(server.owner, workflow["id"]), await _failed(server.owner, workflow["id"])
    shift = 100 * 86_400_000
    aged = {"started_at": runs.c.started_at - shift, "finished_at": runs.c.finished_at - shift}
    await server.execute(sa.update(runs).where(runs.c.id == old).values(aged))
    organization = (await server.owner.get("/v1/me")).data["organizationId"]
    await server.owner.send("PATCH", f"/v1/organizations/{organization}", {"retentionDays": 1})
    async with asyncio.timeout(10):
        while len(await server.rows(sa.select(run_words.c.run_pk))) > 1:
            await asyncio.sleep(0.02)
    assert await _found(server.owner, "bank", "run") == [("run", young)]
    assert len(await server.rows(sa.select(run_words.c.run_pk))) == 1
    assert not await server.rows(sa.select(runs.c.pk).where(runs.c.id == old))
