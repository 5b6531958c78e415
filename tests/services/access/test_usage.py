"""What keys did: last use, and the ring of requests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.storage.db.tables import api_keys, key_requests
from testkit.composition import Client, Composition, composed


async def _seen(server: Composition, client: Client, key_id: str) -> list[tuple[str, str, int]]:
    await server.parts.access.usage.flush()
    page = (await client.get(f"/v1/api-keys/requests?apiKeyId={key_id}&limit=100")).data
    return [(item["method"], item["route"], item["status"]) for item in page["items"]]


async def test_requests_are_listed_by_route_and_answer(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        body = {"name": "k", "permissions": ["workflow:read", "workflow:execute"]}
        made = (await server.owner.post("/v1/api-keys", body)).data
        assert made["lastUsedAt"] is None
        client = server.client(made["key"])
        flow = await server.owner.create_workflow()
        begun = clock.now_ms()
        first = await client.get(f"/v1/workflows/{flow['id']}")
        await client.post(f"/v1/workflows/{flow['id']}/run", {})
        await client.post("/v1/api-keys", {"name": "k", "scope": "read"})
        await client.get("/v1/nothing/here")
        assert await _seen(server, server.owner, made["id"]) == [
            ("POST", "/v1/api-keys", 403),
            ("POST", "/v1/workflows/{id}/run", 200),
            ("GET", "/v1/workflows/{id}", 200),
        ]
        listed = (await server.owner.get(f"/v1/api-keys/requests?apiKeyId={made['id']}")).data["items"]
        assert listed[-1]["requestId"] == first.body["requestId"]
        used = await server.rows(sa.select(api_keys.c.last_used_at).where(api_keys.c.id == made["id"]))
        assert begun <= used[0][0] <= clock.now_ms()
        other = await server.other_owner()
        assert (await other.get(f"/v1/api-keys/requests?apiKeyId={made['id']}")).data["items"] == []


async def test_last_use_is_written_once_a_minute(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url, request_audit_rows=0) as server:
        await server.owner.get("/v1/workflows")
        await server.parts.access.usage.flush()
        before = await server.rows(sa.select(api_keys.c.last_used_at))
        units = server.parts.writer.units
        await server.owner.get("/v1/workflows")
        await server.parts.access.usage.flush()
        assert server.parts.writer.units == units
        assert await server.rows(sa.select(api_keys.c.last_used_at)) == before
        assert await server.rows(sa.select(key_requests.c.id)) == []


async def test_the_ring_keeps_the_newest(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url, request_audit_rows=10) as server:
        for _ in range(3):
            for _ in range(8):
                await server.owner.get("/v1/workflows")
            await server.parts.access.usage.flush()
        kept = await server.rows(sa.select(key_requests.c.id).order_by(key_requests.c.id))
        assert [row[0] for row in kept] == list(range(15, 25))
        await server.execute(sa.update(key_requests).where(key_requests.c.id < 20).values(at=1))
        assert await server.parts.access.usage.prune(30) == 5
        await server.execute(sa.update(key_requests).values(at=1))
        assert await server.parts.access.usage.prune(30) == 5


async def test_what_is_noted_is_written_at_the_end(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        await server.owner.get("/v1/workflows/counts")
    async with composed(tmp_path) as server:
        routes = {row[0] for row in await server.rows(sa.select(key_requests.c.route))}
    assert "/v1/workflows/counts" in routes


@pytest.mark.both_stores
async def test_requests_that_come_while_others_are_written_wait_for_the_next_time(
    tmp_path: Path, store_url: str
) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        usage = server.parts.access.usage
        principal = await server.parts.access.keys.find(server.owner_key)
        assert principal is not None
        await usage.flush()
        counted = sa.select(sa.func.count()).select_from(key_requests)
        before = (await server.rows(counted))[0][0]
        usage.note(principal, "GET", "/first", 200, "req_1")
        writing = asyncio.create_task(usage.flush())
        await asyncio.sleep(0)
        usage.note(principal, "GET", "/second", 200, "req_2")
        await writing
        assert (await server.rows(counted))[0][0] == before + 1
        await usage.flush()
        assert (await server.rows(counted))[0][0] == before + 2


@pytest.mark.parametrize("setting", ["request_audit_rows", "request_audit_days", "retention_days"])
async def test_wrong_settings_are_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        async with composed(tmp_path, **{setting: -1}):
            pass
