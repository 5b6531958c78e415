"""Keys, people and service accounts that reach only some connectors: to them the others are not there, on any road."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.errors import Code
from dustrun.services.access.api_keys import principal_of
from dustrun.services.triggers.subscriptions import principal_text, recorded_principal
from dustrun.storage.access import keys as key_rows
from dustrun.storage.db.tables import connectors, runs
from dustrun.storage.triggers import subscriptions as subscription_rows
from testkit.composition import Client, Composition, composed
from testkit.model_server import Reply, serving_model
from testkit.routes.table import call_tool

Json = dict[str, Any]
_URL = "https://api.example.com/orders"
_UNSEEN = "definition.nodes.call.connector.id"

pytestmark = pytest.mark.both_stores


@dataclass
class Scene:
    """A server with two connectors, and an administrator who reaches one of them."""

    server: Composition
    own: str
    other: str
    limited: Client

    @property
    def owner(self) -> Client:
        return self.server.owner


@pytest.fixture
async def scene(tmp_path: Path, store_url: str) -> AsyncIterator[Scene]:
    async with composed(tmp_path, database_url=store_url, outbound_allow=("127.0.0.1",)) as server:
        own, other = [await _connector(server.owner, name) for name in ("own", "other")]
        yield Scene(server, own, other, await _limited(server, [own]))


async def _connector(owner: Client, name: str) -> str:
    data = {"token": "tok_0123456789", "testUrl": _URL}
    body = {"type": "http-bearer", "name": name, "data": data, "allowedHosts": ["api.example.com"]}
    return str((await owner.post("/v1/connectors", body)).data["id"])


async def _limited(server: Composition, connector_ids: list[str], *permissions: str) -> Client:
    body = {"name": "limited", "permissions": list(permissions or ["admin"]), "connectorIds": connector_ids}
    made = (await server.owner.post("/v1/api-keys", body)).data
    assert made["connectorIds"] == sorted(connector_ids)
    return server.client(made["key"])


def _call(connector_id: str, **payload: Any) -> Json:
    reference = {"type": "http-bearer", "id": connector_id}
    return {"type": "http-request", "payload": {"url": _URL, **payload}, "connector": reference}


def _using(connector_id: str, root: Json | None = None, **payload: Any) -> Json:
    root = {**(root or {"type": "manual"}), "children": ["call"]}
    return {"nodes": {"root": root, "call": _call(connector_id, **payload)}, "triggerNodeIds": ["root"]}


async def _ended(client: Client, run_id: str) -> Json:
    async with asyncio.timeout(60):
        while True:
            found: Json = (await client.get(f"/v1/runs/{run_id}")).data
            if found["finishedAt"] is not None:
                return found
            await asyncio.sleep(0.01)


async def test_the_others_are_not_there_on_any_route_of_connectors(scene: Scene) -> None:
    routes = [route for route in scene.server.app.routes if route.path.startswith("/v1/connectors/{id}")]
    assert len(routes) >= 3
    for route in routes:
        path = re.sub(r"\{id\}", scene.other, route.path)
        for method in sorted(route.methods - {"HEAD"}):
            reply = await scene.limited.send(method, path, {} if method in ("POST", "PUT") else None)
            assert reply.code == Code.CONNECTOR_UNKNOWN, (method, path, reply.body)
    assert [one["id"] for one in (await scene.limited.get("/v1/connectors")).data["items"]] == [scene.own]
    assert [one["id"] for one in (await scene.limited.get("/v1/connectors?type=http-bearer")).data["items"]] == [
        scene.own
    ]
    assert (await scene.limited.get(f"/v1/connectors/{scene.own}")).data["name"] == "own"
    assert (await scene.limited.put(f"/v1/connectors/{scene.own}", {"name": "mine"})).status == 200
    assert len((await scene.owner.get("/v1/connectors")).data["items"]) == 2
    new = {"type": "http-bearer", "name": "n", "data": {"token": "tok_0123456789"}, "allowedHosts": ["example.com"]}
    refused = await scene.limited.post("/v1/connectors", new)
    assert (refused.code, "connectorIds" in refused.body["message"]) == (Code.PERMISSION_MISSING, True)
    assert (await scene.limited.get("/v1/me")).data["connectorIds"] == [scene.own]


async def test_no_version_is_written_that_names_another(scene: Scene) -> None:
    limited, own, other = scene.limited, _using(scene.own), _using(scene.other)
    mine = await limited.create_workflow(own)
    path = f"/v1/workflows/{mine['id']}"
    made = await limited.post("/v1/workflows", {"name": "n", "description": "", "definition": other})
    assert (made.code, made.fields) == (Code.BODY_INVALID, [_UNSEEN])
    changed = await limited.put(path, {"definition": other})
    assert (changed.code, changed.fields) == (Code.BODY_INVALID, [_UNSEEN])
    tool = {"type": "llm", "payload": {"prompt": "?", "tools": [{"name": "ask", **_call(scene.other)}]}}
    nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": tool}
    with_tool = await limited.put(path, {"definition": {"nodes": nodes, "triggerNodeIds": ["root"]}})
    assert with_tool.fields == ["definition.nodes.ask.payload.tools[0].connector.id"]
    found = (await limited.post("/v1/workflows/validate", {"definition": other})).data
    assert [one["code"] for one in found["errors"]] == ["unknown_connector"]
    theirs = await scene.owner.create_workflow(other)
    assert (await limited.put(f"/v1/workflows/{theirs['id']}", {"name": "renamed"})).status == 200
    around = await limited.put(f"/v1/workflows/{theirs['id']}", {"definition": _using(scene.other, method="POST")})
    assert around.fields == [_UNSEEN], "who writes around it uses it"
    await scene.owner.put(f"/v1/workflows/{theirs['id']}", {"definition": own})
    back = await limited.post(f"/v1/workflows/{theirs['id']}/rollback", {"targetVersion": 1})
    assert back.fields == [_UNSEEN]


async def test_files_bind_to_none_of_the_others(scene: Scene) -> None:
    flow = await scene.owner.create_workflow(_using(scene.other))
    exported = (await scene.owner.get(f"/v1/workflows/{flow['id']}/export")).data["content"]
    unnamed = (await scene.limited.get(f"/v1/workflows/{flow['id']}/export")).data["content"]
    assert [_targets(text) for text in (exported, unnamed)] == [["other"], [None]]
    applied = await scene.limited.post("/v1/workflows/apply", {"files": [{"path": "a.json", "content": exported}]})
    assert (applied.code, len(applied.fields)) == (Code.BODY_INVALID, 1)
    bound = {"content": exported, "bindings": {"connector-1": scene.other}}
    assert (await scene.limited.post("/v1/workflows/import", bound)).fields == [_UNSEEN]
    assert (await scene.limited.post("/v1/workflows/import", bound | {"bindings": {"connector-1": scene.own}})).data
    assert (await scene.owner.post("/v1/workflows/import", bound)).status == 200


def _targets(content: str) -> list[str | None]:
    return [one.get("target") for one in json.loads(content)["references"]]


async def test_no_run_uses_another(scene: Scene) -> None:
    limited, flow = scene.limited, await scene.owner.create_workflow(_using(scene.other))
    for extra in ({}, {"simulate": True}):
        refused = await limited.post(f"/v1/workflows/{flow['id']}/run", extra)
        assert (refused.code, scene.other in refused.body["message"]) == (Code.PERMISSION_MISSING, True)
        inline = {"definition": {"nodes": _using(scene.other)["nodes"]}, **extra}
        assert (await limited.post("/v1/runs", inline)).code in (Code.PERMISSION_MISSING, Code.DEFINITION_INVALID)
    for way in ("run", "test"):
        body = {"inputs": {"url": _URL}, "connectorId": scene.other}
        refused = await limited.post(f"/v1/actions/http-request/{way}", body)
        assert (refused.code, refused.fields) == (Code.ACTION_INPUT_INVALID, ["connectorId"])
    assert await scene.server.rows(sa.select(runs.c.pk)) == []
    mine = await limited.create_workflow(_using(scene.own))
    started = (await limited.post(f"/v1/workflows/{mine['id']}/run", {"simulate": True})).data["runId"]
    await _ended(limited, started)


async def test_no_retry_and_no_called_run_uses_another(scene: Scene) -> None:
    called = await scene.owner.create_workflow(_using(scene.other))
    call = {"type": "call-workflow", "payload": {"workflowId": called["id"]}}
    nodes = {"root": {"type": "manual", "children": ["call"]}, "call": call}
    calling = await scene.limited.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]})
    for body in ({}, {"simulate": True}):
        run_id = (await scene.limited.post(f"/v1/workflows/{calling['id']}/run", body)).data["runId"]
        ended = await _ended(scene.limited, run_id)
        assert (ended["status"], scene.other in ended["error"]["message"]) == ("failure", True)
    assert await scene.server.rows(sa.select(runs.c.pk).where(runs.c.workflow_id == called["id"])) == []
    failed = (await scene.owner.post(f"/v1/workflows/{called['id']}/run", {"simulate": True})).data["runId"]
    await _ended(scene.owner, failed)
    await scene.server.execute(sa.update(runs).where(runs.c.id == failed).values(status="failure"))
    assert (await scene.limited.post(f"/v1/runs/{failed}/retry", {})).code == Code.PERMISSION_MISSING


async def test_no_trigger_fires_in_its_name_with_another(scene: Scene) -> None:
    limited = scene.limited
    flow = await scene.owner.create_workflow(_using(scene.other, {"type": "webhook", "payload": {}}))
    path = f"/v1/workflows/{flow['id']}"
    published = await limited.post(f"{path}/publish", {})
    assert (published.code, published.fields) == (Code.DEFINITION_INVALID, ["nodes.call.connector.id"])
    assert (await scene.owner.post(f"{path}/publish", {})).status == 200
    assert (await limited.post(f"{path}/pause", {})).status == 200
    assert (await limited.post(f"{path}/resume", {})).fields == [_UNSEEN]
    assert (await scene.owner.post(f"{path}/resume", {})).status == 200
    mine = await limited.create_workflow(_using(scene.own, {"type": "webhook", "payload": {}}))
    assert (await limited.post(f"/v1/workflows/{mine['id']}/publish", {})).status == 200
    armed = await scene.server.parts.database.read(lambda tx: subscription_rows.list_of(tx, mine["id"]))
    principal = recorded_principal(armed[0])
    assert principal.connector_ids == frozenset({scene.own})
    older = json.loads(principal_text(principal))
    del older["connectorIds"]
    assert recorded_principal(_recorded(armed[0], json.dumps(older))).connector_ids is None
    trial = {"config": {"url": _URL}, "connectorId": scene.other}
    tried = await limited.post("/v1/triggers/http-poll/test", trial)
    assert (tried.status, "There is no connector" in str(tried.body)) == (400, True)


def _recorded(row: Any, principal: str) -> Any:
    return replace(row, principal=principal)


async def test_a_tool_of_an_assistant_reaches_no_further(scene: Scene) -> None:
    said = await _tool(scene.limited, "save_workflow", name="n", definition=_using(scene.other))
    assert ("there is no connector" in said, scene.other in said) == (True, True)
    flow = await scene.owner.create_workflow(_using(scene.other))
    said = await _tool(scene.limited, "simulate", workflowId=flow["id"])
    assert "connectorIds" in said
    assert await scene.server.rows(sa.select(runs.c.pk)) == []


async def _tool(client: Client, tool: str, **arguments: Any) -> str:
    message = call_tool(tool)
    message["params"]["arguments"] = arguments
    answer = await client.http.post("/mcp", json=message, headers={"Accept": "application/json, text/event-stream"})
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_a_turn_asks_no_other_model(scene: Scene) -> None:
    async with serving_model(Reply("Hello.")) as models:
        other = (await scene.owner.post("/v1/connectors", models.connector())).data["id"]
        body = models.connector("llm-anthropic", model="large")
        own = (await scene.owner.post("/v1/connectors", body)).data["id"]
        limited = await _limited(scene.server, [own])
        chat = (await limited.post("/v1/conversations", {"title": "Plan"})).data["id"]
        asked = await limited.post(f"/v1/conversations/{chat}/turns", {"text": "Hi", "connectorId": other})
        assert (asked.code, asked.fields) == (Code.BODY_INVALID, ["connectorId"])
        nobody = await scene.limited.post("/v1/conversations", {"title": "Plan"})
        none = await scene.limited.post(f"/v1/conversations/{nobody.data['id']}/turns", {"text": "Hi"})
        assert "There is no connector for models yet" in none.body["message"]
        begun = await limited.post(f"/v1/conversations/{chat}/turns", {"text": "Hi"})  # one is all that it has
        assert begun.data["messageId"]


async def test_what_fails_is_told_to_those_who_reach_it(scene: Scene) -> None:
    failure = json.dumps({"what": "refused", "message": "401"})
    await scene.server.execute(sa.update(connectors).values(failing_since=1, failure=failure))
    assert await _failing(scene.limited) == [scene.own]
    assert await _failing(scene.owner) == sorted([scene.own, scene.other])


async def _failing(client: Client) -> list[str]:
    shown = (await client.get("/v1/overview?since=2026-01-01T00:00:00Z")).data["attention"]
    return sorted(one["id"] for one in shown if one["kind"].startswith("connector"))


async def test_limits_are_passed_on_and_nobody_gets_more(scene: Scene) -> None:
    limited = scene.limited
    made = (await limited.post("/v1/api-keys", {"name": "k", "scope": "read"})).data
    assert made["connectorIds"] == [scene.own]
    wider = {"name": "k", "scope": "read", "connectorIds": [scene.own, scene.other]}
    assert (await limited.post("/v1/api-keys", wider)).code == Code.PERMISSION_MISSING
    unknown = await scene.owner.post("/v1/api-keys", {**wider, "connectorIds": ["conn_" + "0" * 26]})
    assert unknown.fields == ["connectorIds[0]"]
    seen = {one["id"] for one in (await limited.get("/v1/api-keys?limit=100")).data["items"]}
    assert made["id"] in seen
    assert all(one["connectorIds"] for one in (await limited.get("/v1/api-keys?limit=100")).data["items"])
    for path, body in (
        ("/v1/people", {"name": "A", "email": "a@example.com", "role": "viewer"}),
        ("/v1/service-accounts", {"name": "a", "permissions": ["run:read"]}),
        ("/v1/hooks", {"name": "h", "url": "https://example.com/", "subscribedEventTypes": ["run.*"]}),
        ("/v1/organizations", {"name": "n"}),
    ):
        assert (await limited.post(path, body)).code == Code.PERMISSION_MISSING, path
    row = await scene.server.parts.database.read(lambda tx: key_rows.find(tx, made["organizationId"], made["id"]))
    assert row is not None
    principal = principal_of(row)
    assert (principal.may_use_connector(scene.own), principal.may_use_connector(scene.other)) == (True, False)


async def test_people_and_service_accounts_keep_their_limit(scene: Scene) -> None:
    invite = {"name": "Ada", "email": "ada@example.com", "role": "builder", "connectorIds": [scene.own]}
    person = (await scene.owner.post("/v1/people", invite)).data
    assert person["connectorIds"] == [scene.own]
    changed = (await scene.owner.send("PATCH", f"/v1/people/{person['id']}", {"role": "viewer"})).data
    assert (changed["connectorIds"], changed["keyId"] == person["keyId"]) == ([scene.own], False)
    owner = {"ownerId": person["id"], "connectorIds": [scene.own]}
    account = (await scene.owner.post("/v1/service-accounts", {"name": "shop", "scope": "read-write", **owner})).data
    assert account["connectorIds"] == [scene.own]
    key = (await scene.owner.post("/v1/api-keys", {"name": "k", "serviceAccountId": account["id"]})).data
    assert key["connectorIds"] == [scene.own]
    rotated = (await scene.owner.post(f"/v1/api-keys/{key['id']}/rotate", {})).data
    assert rotated["connectorIds"] == [scene.own]
    program = scene.server.client(rotated["key"])
    assert [one["id"] for one in (await program.get("/v1/connectors")).data["items"]] == [scene.own]
    both = {"name": "k", "serviceAccountId": account["id"], "connectorIds": [scene.own]}
    assert (await scene.owner.post("/v1/api-keys", both)).code == Code.BODY_INVALID
