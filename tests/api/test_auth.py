"""Keys, permissions and organisations at the door."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.operations.declaration.operation import ANY_KEY, PUBLIC
from dustrun.services.access.principal import OF_THE_SERVER, PERMISSIONS, PROVISION
from dustrun.services.connectors.consents import CALLBACK
from dustrun.storage.db.tables import api_keys
from testkit.composition import Client, Composition

DOCUMENTS = {"/", "/openapi.json", "/docs", "/docs/{name}", "/assets/{name}"}


def _routes(server: Composition) -> list[tuple[str, str, str, str | None]]:
    """Every route as method, path with sample ids, permission, and the one that is enough for some requests."""
    found = []
    for route in server.app.routes:
        if route.path in DOCUMENTS:
            continue
        path = re.sub(r"\{(\w+)(:\w+)?\}", lambda name: "1" if name.group(1) == "number" else "none_1", route.path)
        found += [(method, path, route.permission, route.or_else) for method in sorted(route.methods - {"HEAD"})]
    return found


async def _status(server: Composition, method: str, path: str, key: str | None) -> int:
    """The status of a call, hung up on as soon as it is known: a stream would go on."""
    statuses: list[int] = []
    known = asyncio.Event()
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await known.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            known.set()

    headers = [(b"host", b"test")] + ([(b"authorization", f"Bearer {key}".encode())] if key else [])
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": headers}
    scope |= {"query_string": b"ids=wf_1", "root_path": "", "http_version": "1.1", "scheme": "http"}
    async with asyncio.timeout(60):
        await server.app(scope, receive, send)
    return statuses[0]


async def test_every_route_with_no_key_and_with_every_single_permission(server: Composition) -> None:
    routes = _routes(server)
    assert len(routes) > 30
    keys = {permission: await server.key_with(permission) for permission in sorted(PERMISSIONS)}
    for method, path, permission, or_else in routes:
        assert permission in PERMISSIONS | {PUBLIC, ANY_KEY}, path
        assert (await _status(server, method, path, None) == 401) is (permission != PUBLIC), (method, path)
        for held, key in keys.items():
            if held == or_else:
                continue  # its service decides by what is asked for
            includes_it = "operator" if permission in OF_THE_SERVER else "admin"
            may = permission in (PUBLIC, ANY_KEY, held) or held == includes_it
            if path == CALLBACK:
                may = False  # whoever asks: nobody began the consent
            if path.startswith("/scim/"):
                may = held == PROVISION  # nothing else does, not even an administrator
            assert (await _status(server, method, path, key) == 403) is (not may), (method, path, held)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Bearer sk_short",
        "Bearer sk_" + "a" * 40,
        "Bearer sk_" + "é" * 40,
        "Basic c2s6c2s=",
        "sk_" + "a" * 40,
    ],
)
async def test_what_is_no_good_key_is_401(server: Composition, header: str) -> None:
    anyone = server.client(None)
    response = await anyone.http.get("/v1/workflows", headers={b"Authorization": header.encode()})
    assert (response.status_code, response.json()["code"]) == (401, 401001)
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_scheme_is_read_without_regard_to_case(server: Composition) -> None:
    anyone = server.client(None)
    reply = await anyone.get("/v1/workflows", headers={"Authorization": f"bearer {server.owner_key}"})
    assert reply.status == 200


async def test_401_comes_before_the_body_is_looked_at(server: Composition) -> None:
    reply = await server.client(None).post("/v1/workflows", raw=b"{nonsense")
    assert reply.code == 401001
    reply = await (await server.client_with("workflow:read")).post("/v1/workflows", raw=b"{nonsense")
    assert reply.code == 403001


async def test_a_revoked_key_ends_at_once(server: Composition, owner: Client) -> None:
    made = (await owner.post("/v1/api-keys", {"name": "k", "scope": "read"})).data
    client = server.client(made["key"])
    assert (await client.get("/v1/workflows")).status == 200
    revoked = (await owner.delete(f"/v1/api-keys/{made['id']}")).data
    assert revoked["revokedAt"] is not None
    assert (await client.get("/v1/workflows")).code == 401001
    assert (await owner.delete(f"/v1/api-keys/{made['id']}")).data == revoked


async def test_a_revoked_key_stays_ended_under_load(server: Composition, owner: Client) -> None:
    made = (await owner.post("/v1/api-keys", {"name": "k", "scope": "read"})).data
    client = server.client(made["key"])

    async def ask() -> None:
        for _ in range(10):
            await client.get("/v1/workflows")

    await asyncio.gather(owner.delete(f"/v1/api-keys/{made['id']}"), *(ask() for _ in range(4)))
    assert (await client.get("/v1/workflows")).code == 401001


async def test_an_expired_key_ends(server: Composition, owner: Client) -> None:
    body = {"name": "k", "scope": "read", "expiresAt": "2999-01-01T00:00:00Z"}
    made = (await owner.post("/v1/api-keys", body)).data
    assert made["expiresAt"] == "2999-01-01T00:00:00.000Z"
    await server.execute(
        sa.update(api_keys).where(api_keys.c.id == made["id"]).values(expires_at=clock.now_ms() + 2_000)
    )
    client = server.client(made["key"])
    assert (await client.get("/v1/workflows")).status == 200
    await asyncio.sleep(2.05)
    assert (await client.get("/v1/workflows")).code == 401001


async def test_a_key_makes_none_that_is_stronger_or_lives_longer(server: Composition, owner: Client) -> None:
    body: dict[str, Any] = {
        "name": "maker",
        "permissions": ["key:write", "workflow:read"],
        "expiresAt": "2999-01-01T00:00:00Z",
    }
    maker = server.client((await owner.post("/v1/api-keys", body)).data["key"])
    path = "/v1/api-keys"
    assert (await maker.post(path, {"name": "k", "permissions": ["workflow:create"]})).code == 403001
    assert (await maker.post(path, {"name": "k", "permissions": ["admin"]})).code == 403001
    assert (await maker.post(path, {"name": "k", "scope": "read"})).code == 403001
    weak = {"name": "k", "permissions": ["workflow:read"]}
    assert (await maker.post(path, {**weak, "expiresAt": "2999-01-02T00:00:00Z"})).code == 403001
    assert (await maker.post(path, weak)).data["expiresAt"] == "2999-01-01T00:00:00.000Z"
    shorter = (await maker.post(path, {**weak, "expiresAt": "2998-12-31T23:00:00+01:00"})).data
    assert shorter["expiresAt"] == "2998-12-31T22:00:00.000Z"
