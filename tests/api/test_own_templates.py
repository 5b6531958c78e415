"""Templates that an organisation makes from its workflows: nothing of their author's goes along."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from testkit.composition import Client, Composition

WALLET, CONNECTOR = "wal_01k4w8qz3v6m2t9r5y7n0b1c2d", "conn_01k9w3x7q2c4v6b8n0m1a2s3d4"
KEPT_BACK = (WALLET, CONNECTOR, "hunter2", "s3cr3t-of-header", "eyJ-token-of-form", "Mara's salary", "4242-default")
FULL: dict[str, Any] = {
    "nodes": {
        "root": {
            "type": "manual",
            "payload": {
                "inputSchema": {
                    "type": "object",
                    "properties": {
                        "amount": {"type": "string", "default": "5"},
                        "apiKey": {"type": "string", "default": "eyJ-token-of-form"},
                    },
                }
            },
            "children": ["ask"],
        },
        "ask": {
            "type": "http-request",
            "connector": {"type": "http-bearer", "id": CONNECTOR},
            "payload": {
                "url": "https://anna:hunter2@shop.internal/pay",
                "method": "POST",
                "headers": {"Authorization": "s3cr3t-of-header"},
                "body": {"from": WALLET, "to": "{{$trigger.body.amount}}"},
            },
            "pinned": {"name": "Mara's salary"},
            "children": ["pay"],
        },
        "pay": {
            "type": "send-native",
            "connector": {"type": "wallet", "id": WALLET},
            "payload": {"chainId": 1, "to": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "amount": "1"},
        },
    },
    "triggerNodeIds": ["root"],
    "variableDefs": [
        {"name": "password", "default": "4242-default"},
        {"name": "rounds", "type": "number", "default": 3},
    ],
}
pytestmark = pytest.mark.both_stores


async def _made(client: Client, definition: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    workflow = await client.create_workflow(definition, name="Payroll")
    made: dict[str, Any] = (await client.post("/v1/templates", {"sourceWorkflowId": workflow["id"], **fields})).data
    return made


async def test_a_template_carries_no_secret_no_connector_no_wallet_and_no_result(server: Composition) -> None:
    made = await _made(server.owner, FULL, tags=["pay"])
    shown = [made]
    for path in ("", "/versions", "/versions/1"):
        shown.append((await server.owner.get(f"/v1/templates/{made['id']}{path}")).data)
    shown.append((await server.owner.get("/v1/templates?q=payroll")).data)
    shown.append((await server.owner.get("/v1/search?q=payroll&types=template")).data)
    used = (await server.owner.post(f"/v1/templates/{made['id']}/use", {"keepExamples": True})).data
    text = json.dumps([*shown, used])
    assert [secret for secret in KEPT_BACK if secret in text] == []
    nodes = made["definition"]["nodes"]
    assert [name for name, node in nodes.items() if {"connector", "pinned"} & node.keys()] == []
    assert made["definition"]["variableDefs"] == [
        {"name": "password"},
        {"name": "rounds", "type": "number", "default": 3},
    ]
    assert nodes["ask"]["payload"]["body"]["to"] == "{{$trigger.body.amount}}"
    asked = {one["name"]: one["kind"] for one in (await server.owner.get(f"/v1/templates/{made['id']}")).data["blanks"]}
    assert asked["ask.headers.Authorization"] == "text"
    assert (asked["wallet"], asked["apiKey"]) == ("wallet", "text")
    missing = await server.owner.post(f"/v1/templates/{made['id']}/use", {})
    assert (missing.code, "values.ask.headers.Authorization" in missing.fields) == (400001, True)


async def test_versions_of_a_template(server: Composition) -> None:
    owner = server.owner
    workflow = await owner.create_workflow(name="Payroll")
    made = (await owner.post("/v1/templates", {"sourceWorkflowId": workflow["id"], "name": "First"})).data
    path = f"/v1/templates/{made['id']}"
    assert (await owner.get(f"/v1/workflows/{workflow['id']}/template")).data["id"] == made["id"]
    second = (await owner.send("PATCH", path, {"name": "Second", "tags": ["pay"]})).data
    assert (second["name"], second["tags"], second["version"], second["currentVersion"]) == ("Second", ["pay"], 2, 2)
    assert second["definition"] == made["definition"]
    page = (await owner.get(f"{path}/versions")).data
    assert ([one["name"] for one in page["items"]], page["currentVersion"]) == (["Second", "First"], 2)
    back = (await owner.post(f"{path}/rollback", {"targetVersion": 1})).data
    assert (back["name"], back["currentVersion"], (await owner.get(path)).data["name"]) == ("First", 1, "First")
    third = (await owner.send("PATCH", path, {"description": "Pays."})).data
    assert (third["name"], third["version"], third["description"]) == ("First", 3, "Pays.")
    assert (await owner.get(f"{path}/versions/count")).data == {"total": 3}
    assert (await owner.post(f"{path}/rollback", {"targetVersion": 9})).code == 404002
    assert (await owner.send("DELETE", "/v1/templates/take-profit")).code == 404015
    used = (await owner.post(f"{path}/use", {})).data
    await owner.send("DELETE", path)
    assert (await owner.get(path)).code == 404015
    assert (await owner.get(f"/v1/workflows/{used['id']}")).data["description"] == "Pays."
    assert (await owner.get(f"/v1/workflows/{workflow['id']}/template")).data is None


async def test_a_workflow_that_names_itself_names_its_copy_in_the_copy(server: Composition) -> None:
    made = await _made(server.owner)
    assert made["id"].startswith("tpl_")
    own = await server.owner.create_workflow()
    nodes = {"root": {"type": "manual", "children": ["say"]}, "say": {"type": "log", "payload": {"message": own["id"]}}}
    path = f"/v1/workflows/{own['id']}"
    await server.owner.put(path, {"definition": {"nodes": nodes, "triggerNodeIds": ["root"]}})
    template = (await server.owner.post("/v1/templates", {"sourceWorkflowId": own["id"]})).data
    used = (await server.owner.post(f"/v1/templates/{template['id']}/use", {})).data
    assert used["definition"]["nodes"]["say"]["payload"]["message"] == used["id"]


async def test_stats_are_of_the_workflows_that_were_made(server: Composition) -> None:
    made = await _made(server.owner)
    path = f"/v1/templates/{made['id']}"
    assert (await server.owner.get(f"{path}/stats")).data["successRate"] is None
    used = [(await server.owner.post(f"{path}/use", {})).data["id"] for _ in range(2)]
    await server.owner.post(f"/v1/workflows/{used[0]}/publish", {})
    run = (await server.owner.post(f"/v1/workflows/{used[0]}/run", {})).data["runId"]
    async with asyncio.timeout(60):
        while (await server.owner.get(f"/v1/runs/{run}?summary=true")).data["finishedAt"] is None:
            await asyncio.sleep(0.01)
    stats = (await server.owner.get(f"{path}/stats")).data
    assert stats.pop("avgExecutionTimeMs") >= 0
    assert stats == {"totalDeployments": 2, "recentDeployments": 2, "activeWorkflows": 1, "successRate": 100}


async def test_who_may_see_a_template_and_who_may_change_it(server: Composition) -> None:
    owner = server.owner
    made = await _made(owner)
    path, other = f"/v1/templates/{made['id']}", await owner.create_workflow()

    async def limited(workflow_id: str) -> Client:
        body = {"name": "limited", "permissions": ["admin"], "workflowIds": [workflow_id]}
        return server.client((await owner.post("/v1/api-keys", body)).data["key"])

    own, beyond = await limited(made["sourceWorkflowId"]), await limited(other["id"])
    assert (await own.get(path)).data["id"] == made["id"]
    assert ((await own.send("DELETE", path)).code, (await own.post(f"{path}/use", {})).code) == (403001, 403001)
    for tail in ("", "/versions", "/versions/count", "/versions/1", "/stats"):
        assert (await beyond.get(f"{path}{tail}")).code == 404015, tail
    for listed in ("/v1/templates", "/v1/templates/recommended?limit=100", "/v1/search?q=payroll"):
        assert made["id"] not in json.dumps((await beyond.get(listed)).data), listed
    stranger = await server.other_owner()
    assert (await stranger.get(path)).code == (await stranger.send("DELETE", path)).code == 404015
    assert made["id"] not in json.dumps((await stranger.get("/v1/templates")).data)
    actions = [one["action"] for one in (await owner.get("/v1/audit")).data["items"]]
    assert "template.create" in actions


async def test_templates_like_the_workflows_that_there_are_come_first(owner: Client) -> None:
    made = await _made(owner, FULL)
    found = (await owner.get("/v1/templates/recommended?limit=3")).data
    assert (found[0]["id"], len(found)) == (made["id"], 3)
    assert (await owner.get("/v1/templates/recommended?category=watch&limit=1")).data[0]["category"] == "watch"
