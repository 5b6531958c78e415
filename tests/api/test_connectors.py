"""`/v1/connectors`: what goes in, what comes out, and what never does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

from dustrun.errors import Code
from dustrun.storage.db.tables import idempotency_keys
from outbound.loopback import serving
from testkit.composition import Client, Composition, composed

SECRET = "canary-5f1c-token"
BEARER: dict[str, Any] = {
    "type": "http-bearer",
    "name": "Orders",
    "data": {"token": SECRET},
    "allowedHosts": ["api.example.com"],
}


async def create(owner: Client, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = (await owner.post("/v1/connectors", BEARER | changes)).data
    return made


@pytest.mark.both_stores
async def test_secret_goes_in_and_never_out(owner: Client) -> None:
    made = await create(owner)
    assert made["maskedData"] == {"token": "•••"}
    assert made["allowedHosts"] == ["api.example.com"]
    assert (made["version"], made["movesMoney"]) == (1, False)
    path = f"/v1/connectors/{made['id']}"
    assert (await owner.get(path)).data == made
    assert (await owner.get("/v1/connectors")).data["items"] == [made]
    assert (await owner.get("/v1/connectors?type=http-basic")).data["items"] == []
    assert (await owner.delete(path)).data == made
    assert (await owner.get(path)).code == Code.CONNECTOR_UNKNOWN


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "http-bearr"}, "type"),
        ({"data": {}}, "data.token"),
        ({"data": {"token": "two words"}}, "data.token"),
        ({"data": {"token": SECRET, "tokne": "x"}}, "data.tokne"),
        ({"data": {"token": SECRET, "testUrl": "https://elsewhere.example.com/"}}, "data.testUrl"),
        ({"data": {"token": SECRET, "testUrl": "http://api.example.com/"}}, "data.testUrl"),
        ({"allowedHosts": []}, "allowedHosts"),
        ({"allowedHosts": ["api.example.com", "https://x.com/path"]}, "allowedHosts[1]"),
        ({"type": "apprise", "data": {"url": "slack://a/b/c"}}, "allowedHosts"),
        ({"type": "apprise", "data": {"url": "exec://rm"}, "allowedHosts": []}, "data.url"),
        ({"type": "http-basic", "data": {"username": "a:b", "password": SECRET}}, "data.username"),
        ({"type": "http-header", "data": {"name": "Host", "value": SECRET}}, "data.name"),
        ({"type": "http-header", "data": {"name": "X", "value": "a\r\nb"}}, "data.value"),
        ({"data": {"token": "12345"}}, "data.token"),
        ({"type": "http-basic", "data": {"username": "me", "password": "•••"}}, "data.password"),
        ({"name": ""}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_input_names_its_field_and_no_secret(owner: Client, changes: dict[str, Any], field: str) -> None:
    reply = await owner.post("/v1/connectors", BEARER | changes)
    assert (reply.status, reply.code) == (400, Code.BODY_INVALID)
    assert field in reply.fields
    assert SECRET not in reply.response.text


async def test_update_keeps_the_secret_that_is_left_out(server: Composition, owner: Client) -> None:
    made = await create(owner)
    path = f"/v1/connectors/{made['id']}"
    changed = (await owner.put(path, {"name": "Renamed", "movesMoney": True, "expectedVersion": 1})).data
    assert (changed["name"], changed["movesMoney"], changed["version"]) == ("Renamed", True, 2)
    data = {"token": "•••", "testUrl": "https://api.example.com/me"}
    changed = (await owner.put(path, {"data": data})).data
    assert changed["maskedData"] == data
    row = await server.parts.data.connectors.get(await principal(server), made["id"])
    assert (await server.parts.data.connectors._open_data(row)).model_dump()["token"] == SECRET
    assert (await owner.put(path, {"name": "Late", "expectedVersion": 1})).code == Code.VERSION_MOVED


async def test_secret_that_could_not_be_masked_is_refused_by_an_update_too(server: Composition, owner: Client) -> None:
    path = f"/v1/connectors/{(await create(owner))['id']}"
    refused = await owner.put(path, {"data": {"token": "12345"}})
    assert (refused.status, refused.fields) == (400, ["data.token"])
    assert "at least 6 characters" in refused.body["details"][0]["message"]
    assert (await owner.put(path, {"data": {"token": "123456"}})).status == 200


async def principal(server: Composition) -> Any:
    found = await server.parts.access.keys.find(server.owner_key)
    assert found is not None
    return found


OAUTH: dict[str, Any] = {
    "type": "oauth2-client-credentials",
    "data": {"tokenUrl": "https://auth.example.com/token", "clientId": "me", "clientSecret": SECRET},
}


@pytest.mark.parametrize(
    ("made", "change", "field"),
    [
        ({}, {"allowedHosts": ["api.example.com", "evil.example.com"]}, "data.token"),
        ({}, {"allowedHosts": ["http://api.example.com"]}, "data.token"),
        ({}, {"allowedHosts": ["*.example.com"], "data": {"token": "•••"}}, "data.token"),
        (OAUTH, {"data": {"tokenUrl": "https://evil.example.com/token", "clientId": "me"}}, "data.clientSecret"),
    ],
)
async def test_secret_goes_to_no_new_place_without_being_known(
    owner: Client, made: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    path = f"/v1/connectors/{(await create(owner, **made))['id']}"
    refused = await owner.put(path, change)
    assert (refused.status, refused.fields) == (400, [field])
    name = field.partition(".")[2]
    data = (made or BEARER)["data"] | change.get("data", {}) | {name: SECRET}
    assert (await owner.put(path, change | {"data": data})).status == 200


async def test_fewer_hosts_need_no_secret(owner: Client) -> None:
    made = await create(owner, allowedHosts=["a.example.com", "b.example.com"])
    changed = (await owner.put(f"/v1/connectors/{made['id']}", {"allowedHosts": ["B.example.com"]})).data
    assert changed["allowedHosts"] == ["b.example.com"]


def using(connector: dict[str, Any]) -> dict[str, Any]:
    node = {"type": "http-request", "payload": {"url": "https://api.example.com/"}}
    node["connector"] = {"type": connector["type"], "id": connector["id"]}
    return {"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": node}, "triggerNodeIds": ["root"]}


async def test_deleting_one_in_use_names_the_workflows(owner: Client) -> None:
    made = await create(owner)
    path = f"/v1/connectors/{made['id']}"
    first = await owner.create_workflow(using(made), name="first")
    gone = await owner.create_workflow(using(made), name="gone")
    await owner.delete(f"/v1/workflows/{gone['id']}")
    refused = await owner.delete(path)
    assert (refused.status, refused.code) == (409, Code.CONNECTOR_IN_USE)
    assert [detail["workflowId"] for detail in refused.body["details"]] == [first["id"]]
    assert (await owner.delete(f"{path}?force=true")).status == 200


async def test_replaying_a_key_makes_no_second_connector(server: Composition, owner: Client) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await owner.post("/v1/connectors", BEARER, headers=headers)
    again = await owner.post("/v1/connectors", BEARER, headers=headers)
    assert again.data == first.data
    other = await owner.post("/v1/connectors", BEARER | {"data": {"token": "another-token"}}, headers=headers)
    assert other.code == Code.IDEMPOTENCY_KEY_REUSED


async def test_hash_of_a_secret_body_cannot_be_guessed(server: Composition, owner: Client) -> None:
    await owner.post("/v1/connectors", BEARER, headers={"Idempotency-Key": "same"})
    strong = await server.client_with("connector:write")
    reused = await strong.post("/v1/connectors", BEARER, headers={"Idempotency-Key": "same"})
    # to another key the same request is another one: what is stored depends on a secret that is not
    assert reused.code == Code.IDEMPOTENCY_KEY_REUSED
    rows = await server.rows(sa.select(idempotency_keys.c.response, idempotency_keys.c.request_hash))
    assert not any(SECRET in str(row) for row in rows)


async def test_without_a_usable_master_key_nothing_is_stored(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url, master_key_file=tmp_path / "file" / "key") as server:
        (tmp_path / "file").write_text("in the way of the folder")
        refused = await server.owner.post("/v1/connectors", BEARER)
        assert (refused.status, refused.code) == (503, Code.VAULT_LOCKED)
        assert str(tmp_path) not in refused.response.text
        assert (await server.owner.get("/v1/connectors")).data["items"] == []


async def test_other_organisation_sees_nothing(server: Composition, owner: Client) -> None:
    path = f"/v1/connectors/{(await create(owner))['id']}"
    other = await server.other_owner()
    for reply in (
        await other.get(path),
        await other.put(path, {"name": "x"}),
        await other.delete(path),
        await other.post(f"{path}/test"),
    ):
        assert (reply.status, reply.code) == (404, Code.CONNECTOR_UNKNOWN)
    assert (await other.get("/v1/connectors")).data["items"] == []


async def test_every_change_is_audited_without_the_secret(owner: Client) -> None:
    made = await create(owner)
    await owner.put(f"/v1/connectors/{made['id']}", {"data": {"token": "canary-another"}})
    await owner.delete(f"/v1/connectors/{made['id']}")
    reply = await owner.get("/v1/api-keys/audit")
    if reply.status == 404:
        reply = await owner.get("/v1/audit")
    actions = [item["action"] for item in reply.data["items"] if item["subject"] == made["id"]]
    assert actions == ["connector.delete", "connector.update", "connector.create"]
    assert "canary" not in reply.response.text


async def test_private_address_is_refused_by_the_guard(owner: Client) -> None:
    data = {"token": SECRET, "testUrl": "http://127.0.0.1:9/"}
    made = await create(owner, data=data, allowedHosts=["http://127.0.0.1:9"])
    tested = (await owner.post(f"/v1/connectors/{made['id']}/test")).data
    assert tested["ok"] is False
    assert "loopback address" in tested["message"]
    assert "outbound_allow" in tested["message"]


async def test_test_call_asks_only_its_own_hosts(owner: Client) -> None:
    path = f"/v1/connectors/{(await create(owner))['id']}/test"
    tested = (await owner.post(path, {"url": "https://elsewhere.example.org/"})).data
    assert tested["ok"] is False
    assert "allowedHosts are api.example.com" in tested["message"]
    assert (await owner.post(path)).fields == ["url"]


@pytest.mark.parametrize("location", ["http://[::x/", "http://127.0.0.2/", "/again"])
async def test_test_call_tells_of_a_redirect_that_leads_nowhere(tmp_path: Path, store_url: str, location: str) -> None:
    headers = {"Location": location}
    tested = await _tested(tmp_path, store_url, lambda _: web.Response(status=302, headers=headers))
    assert (tested["ok"], tested["status"]) == (False, None)


async def test_test_call_reads_no_more_than_it_needs(tmp_path: Path, store_url: str) -> None:
    tested = await _tested(tmp_path, store_url, lambda _: web.Response(body=b"x" * 1_000_000))
    assert (tested["ok"], tested["status"]) == (True, 200)


async def _tested(folder: Path, store_url: str, answer: Any) -> Any:
    """What a test call says of a server that answers so."""
    settings: Any = {"database_url": store_url, "outbound_allow": ("127.0.0.1",)}
    async with serving(answer) as outside, composed(folder, **settings) as server:
        made = await create(server.owner, allowedHosts=[outside.url])
        tested = await server.owner.post(f"/v1/connectors/{made['id']}/test", {"url": outside.url})
    assert tested.status == 200, tested.body
    return tested.data


async def test_workflow_that_names_a_connector_wrongly_cannot_be_published(owner: Client) -> None:
    made = await create(owner)
    definition = using(made)
    validated = (await owner.post("/v1/workflows/validate", {"definition": definition})).data
    assert (validated["valid"], validated["errors"]) == (True, [])
    other = await create(owner, type="http-basic", data={"username": "me", "password": SECRET})
    for reference, field, word in (
        ({"type": "http-bearer", "id": "conn_none"}, "nodes.ask.connector.id", "no connector"),
        ({"type": "http-bearer", "id": other["id"]}, "nodes.ask.connector.type", 'of type "http-basic"'),
        ({"type": "apprise", "id": made["id"]}, "nodes.ask.connector.type", 'takes no connector of type "apprise"'),
    ):
        definition["nodes"]["ask"]["connector"] = reference
        problems = (await owner.post("/v1/workflows/validate", {"definition": definition})).data["errors"]
        assert any(problem["field"] == field and word in problem["message"] for problem in problems)
        workflow = await owner.create_workflow(definition)
        refused = await owner.post(f"/v1/workflows/{workflow['id']}/publish")
        assert (refused.status, refused.code) == (400, Code.DEFINITION_INVALID)
        assert field in refused.fields
