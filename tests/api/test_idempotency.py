"""`Idempotency-Key`: one execution per key, and its answer again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.services.access import idempotency
from dustrun.storage.db.tables import api_keys, idempotency_keys, organizations, workflows
from testkit.composition import DEFINITION, Client, Composition, composed

BODY: dict[str, Any] = {"name": "flow", "description": "", "definition": DEFINITION}
KEY = {"Idempotency-Key": "once-1"}


async def _count(server: Composition, table: sa.Table) -> int:
    rows = await server.rows(sa.select(sa.func.count()).select_from(table))
    return int(rows[0][0])


@pytest.mark.both_stores
async def test_the_same_request_gets_the_first_answer_again(server: Composition, owner: Client) -> None:
    first = await owner.post("/v1/workflows", BODY, headers=KEY)
    second = await owner.post("/v1/workflows", BODY, headers=KEY)
    assert second.response.content == first.response.content
    assert "idempotent-replayed" not in first.response.headers
    assert second.response.headers["idempotent-replayed"] == "true"
    assert await _count(server, workflows) == 1


async def test_another_body_or_path_with_the_key_conflicts(server: Composition, owner: Client) -> None:
    await owner.post("/v1/workflows", BODY, headers=KEY)
    for path, body in [("/v1/workflows", {**BODY, "name": "x"}), ("/v1/conversations", None)]:
        reply = await owner.post(path, body, headers=KEY)
        assert (reply.status, reply.code) == (409, 409007)
    assert await _count(server, workflows) == 1


@pytest.mark.both_stores
async def test_concurrent_duplicates_execute_once(server: Composition, owner: Client) -> None:
    replies = await asyncio.gather(*(owner.post("/v1/workflows", BODY, headers=KEY) for _ in range(12)))
    assert {reply.response.content for reply in replies} == {replies[0].response.content}
    assert [reply.status for reply in replies] == [200] * 12
    assert await _count(server, workflows) == 1


async def test_concurrent_changes_of_state_replay_instead_of_conflicting(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}/publish"
    replies = await asyncio.gather(*(owner.post(path, headers=KEY) for _ in range(6)))
    assert [reply.status for reply in replies] == [200] * 6


async def test_a_failure_is_not_kept(server: Composition, owner: Client) -> None:
    assert (await owner.post("/v1/workflows", {"name": "x"}, headers=KEY)).status == 400
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}/pause"
    assert (await owner.post(path, headers={"Idempotency-Key": "two"})).code == 409006
    assert await _count(server, idempotency_keys) == 0
    assert (await owner.post("/v1/workflows", BODY, headers=KEY)).status == 200


async def test_an_answer_with_a_secret_is_not_stored(server: Composition, owner: Client) -> None:
    for path, body, table in [
        ("/v1/api-keys", {"name": "k", "scope": "read"}, api_keys),
        ("/v1/organizations", {"name": "Second"}, organizations),
    ]:
        key = {"Idempotency-Key": path}
        first = await owner.post(path, body, headers=key)
        before = await _count(server, table)
        second = await owner.post(path, body, headers=key)
        assert (second.status, second.code) == (409, 409008)
        assert second.body["details"][0]["id"] == first.data["id"]
        assert await _count(server, table) == before
    stored = await server.rows(sa.select(idempotency_keys.c.response))
    assert list(stored) == [(None,), (None,)]


async def test_a_call_that_writes_nothing_replays_too(owner: Client) -> None:
    first = await owner.post("/v1/workflows/validate", {"definition": DEFINITION}, headers=KEY)
    second = await owner.post("/v1/workflows/validate", {"definition": DEFINITION}, headers=KEY)
    assert second.response.content == first.response.content
    assert (await owner.post("/v1/workflows/validate", {"definition": 1}, headers=KEY)).code == 409007


async def test_keys_belong_to_the_organisation(server: Composition, owner: Client) -> None:
    other = await server.other_owner()
    first = await owner.post("/v1/workflows", BODY, headers=KEY)
    second = await other.post("/v1/workflows", BODY, headers=KEY)
    assert second.data["id"] != first.data["id"]


async def test_a_key_ends_after_its_time(server: Composition, owner: Client) -> None:
    first = await owner.post("/v1/workflows", BODY, headers=KEY)
    await server.execute(sa.update(idempotency_keys).values(created_at=idempotency_keys.c.created_at - 86_400_000))
    second = await owner.post("/v1/workflows", BODY, headers=KEY)
    assert second.data["id"] != first.data["id"]
    assert await _count(server, idempotency_keys) == 1
    await server.execute(sa.update(idempotency_keys).values(created_at=1))
    assert await idempotency.prune(server.parts.writer, 24) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "tab\tinside"])
async def test_a_malformed_key_is_refused(owner: Client, key: str) -> None:
    reply = await owner.post("/v1/workflows", BODY, headers={"Idempotency-Key": key})
    assert (reply.status, reply.code, reply.fields) == (400, 400002, ["Idempotency-Key"])


@pytest.mark.parametrize("limit", ["permissions", "workflowIds", "walletIds"])
async def test_a_key_that_reaches_less_reads_no_replay(server: Composition, owner: Client, limit: str) -> None:
    flow, other = await owner.create_workflow(), await owner.create_workflow(name="other")
    wallet = (await owner.post("/v1/wallets", {"name": "w"})).data
    limits = {"permissions": ["workflow:execute"], "workflowIds": [other["id"]], "walletIds": [wallet["id"]]}
    body = {"name": "less", "permissions": ["admin"], limit: limits[limit]}
    less = server.client((await owner.post("/v1/api-keys", body)).data["key"])
    same = server.client(
        (await owner.post("/v1/api-keys", {"name": "same", "permissions": ["admin", "operator"]})).data["key"]
    )
    for path, sent in [
        (f"/v1/workflows/{flow['id']}/run", {}),
        ("/v1/runs/{runId}/retry", None),
        ("/v1/runs", {"definition": {"nodes": DEFINITION["nodes"]}}),
    ]:
        if "{runId}" in path:
            stopped = {**DEFINITION["nodes"], "say": {"type": "stop", "payload": {"status": "failure"}}}
            failing = await owner.create_workflow({"nodes": stopped, "triggerNodeIds": ["root"]})
            run_id = (await owner.post(f"/v1/workflows/{failing['id']}/run", {})).data["runId"]
            while (await owner.get(f"/v1/runs/{run_id}")).data["status"] != "failure":
                await asyncio.sleep(0.01)
            path = path.format(runId=run_id)
        key = {"Idempotency-Key": path}
        first = await owner.post(path, sent, headers=key)
        assert first.status == 200
        reply = await less.post(path, sent, headers=key)
        assert reply.code in (403001, 404001, 404003, 409007), reply.body
        assert first.data["runId"] not in reply.response.text
        assert (await same.post(path, sent, headers=key)).response.content == first.response.content


async def test_a_replay_needs_the_permission(server: Composition, owner: Client) -> None:
    await owner.post("/v1/workflows", BODY, headers=KEY)
    reader = await server.client_with("workflow:read")
    assert (await reader.post("/v1/workflows", BODY, headers=KEY)).code == 403001


async def test_a_run_call_with_a_key_counts_once_against_the_rate(tmp_path: Path) -> None:
    async with composed(tmp_path, rate_limit_per_second=1) as limited:  # a burst of two
        made = await limited.owner.post("/v1/workflows", BODY)
        assert (await limited.owner.post(f"/v1/workflows/{made.data['id']}/run", {}, headers=KEY)).status == 200
