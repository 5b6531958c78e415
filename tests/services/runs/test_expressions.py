"""What an expression gives in a run that has happened: what a reader may see, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from testkit.composition import Client, Composition, composed

_MANY = "[" + "1," * 300 + "1]"
TOO_MUCH = f"{{{{{_MANY}.map(a, {_MANY}.map(b, a * b))}}}}"
FLOW: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "children": ["each"]},
        "each": {"type": "for-each", "payload": {"array": "{{$trigger.body.orders}}"}, "loopBody": ["say"]},
        "say": {"type": "log", "payload": {"message": "{{$item.n}}"}, "children": ["hold"]},
        "hold": {"type": "wait", "payload": {"timeoutMs": 3_600_000}},
    },
    "triggerNodeIds": ["root"],
}


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, env_allow="HOME") as server:
        yield server


async def evaluated(client: Client, run: str, template: str, path: str = "", **more: Any) -> Any:
    body = {"template": template, "runId": run, "path": path, **more}
    found = (await client.post("/v1/expressions/evaluate", body)).data
    return found["error"]["message"].split("\n")[0] if found["error"] else found["value"]


async def test_what_a_template_gives_in_a_run(server: Composition) -> None:
    workflow = (await server.owner.create_workflow(FLOW))["id"]
    payload = {"orders": [{"n": 1}, {"n": "0.100000000000000000001"}], "price": 3}
    started = await server.owner.post(f"/v1/workflows/{workflow}/run", {"payload": payload})
    run = started.data["runId"]
    async with asyncio.timeout(60):
        while (await server.owner.get(f"/v1/runs/{run}")).data["status"] != "waiting":
            await asyncio.sleep(0.01)
    reader = await server.client_with("run:read")

    async def given(template: str, path: str = "", **more: Any) -> Any:
        return await evaluated(reader, run, template, path, **more)

    assert await given("{{$trigger.body.price * 2}} USD") == "6 USD"
    assert await given("{{size($trigger.body.orders)}}", "each") == 2
    assert await given("{{$item.n}}", "each[1].say") == "0.100000000000000000001"
    assert await given("{{$index}} {{say.status}}", "each[0].hold") == "0 success"
    assert await given("$trigger.body.price > 2", isExpression=True) is True
    assert await given("no braces") == "no braces"
    for wrong in ("{{$nodes.nobody.result}}", "{{1 +}}", "{{$item}}", "{{$env.HOME}}", TOO_MUCH):
        assert isinstance(await given(wrong), str), wrong
        reply = await reader.post("/v1/expressions/evaluate", {"template": wrong, "runId": run})
        assert reply.data["error"], wrong


async def test_who_may_not_read_the_run_learns_nothing(server: Composition) -> None:
    workflow = (await server.owner.create_workflow(FLOW))["id"]
    run = (await server.owner.post(f"/v1/workflows/{workflow}/run", {"payload": {"orders": []}})).data["runId"]
    body = {"template": "{{$run.id}}", "runId": run}
    other = await server.other_owner()
    assert (await other.post("/v1/expressions/evaluate", body)).code == 404003
    assert (await (await server.client_with("workflow:read")).post("/v1/expressions/evaluate", body)).code == 403001
    assert (await server.owner.post("/v1/expressions/evaluate", {**body, "path": "each[1.say"})).code == 400001


async def test_no_link_can_be_taken_apart(server: Composition) -> None:
    workflow = (await server.owner.create_workflow(FLOW))["id"]
    payload = {"orders": [{"n": 1}]}
    run = (await server.owner.post(f"/v1/workflows/{workflow}/run", {"payload": payload})).data["runId"]
    async with asyncio.timeout(60):
        while (await server.owner.get(f"/v1/runs/{run}")).data["status"] != "waiting":
            await asyncio.sleep(0.01)
    link = "$run.resumeUrl('hold')"
    assert "dlk_***" in await evaluated(server.owner, run, f"{{{{{link}}}}}", "each[0].say")
    apart = await evaluated(server.owner, run, f"{{{{{link}.split('_')}}}}", "each[0].say")
    token = "dlk_" + apart[-1]
    nobody = server.client(None)
    org = (await server.owner.get("/v1/me")).data["organizationId"]
    query = f"?org={org}&token={token}"
    assert (await nobody.post(f"/v1/runs/{run}/nodes/each[0].hold/resume{query}", {})).code == 401002
