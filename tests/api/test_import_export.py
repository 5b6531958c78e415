"""`/v1/workflows/{id}/export` and `/v1/workflows/import`."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.core.values import exact_json, exact_yaml
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import workflow_versions
from testkit.composition import BROKEN_DEFINITION, DEFINITION, Client, Composition

CONNECTOR, WALLET = "conn_01k9w3x7q2c4v6b8n0m1a2s3d4", "wal_01k9w3x7q2c4v6b8n0m1a2s3d4"
TOKEN = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"


async def _make(client: Client, **fields: Any) -> tuple[dict[str, Any], str]:
    """A workflow that calls two others, and the id of the second of them."""
    one, two = [(await client.create_workflow(name=name))["id"] for name in ("one", "two")]
    return await client.create_workflow(_definition(one, two), **fields), two


def _definition(own_id: str, other_id: str) -> dict[str, Any]:
    return {
        "nodes": {
            "root": {"type": "manual", "children": ["ask"]},
            "ask": {
                "type": "http-request",
                "connector": {"type": "slack", "id": CONNECTOR},
                "payload": {
                    "url": "https://example.com/?api_key=abcdef",
                    "headers": {"Authorization": "Bearer abcdefgh12345", "X-Request": "1", "X-Key": "{{$env.KEY}}"},
                    "body": {"token": TOKEN, "password": "hunter2", "from": WALLET, "same": CONNECTOR},
                },
                "children": ["again", "other"],
            },
            "again": {"type": "call-workflow", "payload": {"workflowId": own_id}},
            "other": {"type": "call-workflow", "payload": {"workflowId": other_id}},
        },
        "triggerNodeIds": ["root"],
    }


async def _export(client: Client, workflow_id: str, **query: str) -> str:
    search = "&".join(f"{name}={value}" for name, value in query.items())
    content: str = (await client.get(f"/v1/workflows/{workflow_id}/export?{search}")).data["content"]
    return content


async def test_an_export_holds_no_secret_and_no_id(owner: Client) -> None:
    made, other = await _make(owner)
    path = f"/v1/workflows/{made['id']}"
    await owner.put(path, {"definition": _definition(made["id"], other)})
    found = (await owner.get(f"{path}/export?format=yaml")).data
    assert (found["format"], found["fileName"]) == ("yaml", "flow.yaml")
    for hidden in ("conn_", "wal_", "wf_", "abcdef", "hunter2"):
        assert hidden not in found["content"]
    document = exact_yaml.loads(found["content"])
    assert document == exact_json.loads(await _export(owner, made["id"], format="json"))
    payload = document["definition"]["nodes"]["ask"]["payload"]
    assert payload["headers"] == {
        "Authorization": "unbound:secret-2",
        "X-Request": "1",
        "X-Key": "{{$env.KEY}}",
    }
    assert payload["body"]["token"] == TOKEN
    assert document["definition"]["nodes"]["again"]["payload"]["workflowId"] == "unbound:self"
    assert [(one["name"], one["kind"], one.get("type")) for one in document["references"]] == [
        ("connector-1", "connector", "slack"),
        ("secret-1", "secret", None),
        ("secret-2", "secret", None),
        ("secret-3", "secret", None),
        ("wallet-1", "wallet", None),
        ("self", "self", None),
        ("workflow-1", "workflow", None),
    ]


@pytest.mark.both_stores
async def test_an_import_makes_a_draft_and_says_what_is_left_to_bind(server: Composition, owner: Client) -> None:
    made, _ = await _make(owner, maxRuns=7, uiMetadata={"zoom": 2})
    other = await server.other_owner()
    content = await _export(owner, made["id"], format="yaml")
    body = {"content": content, "bindings": {"wallet-1": "wal_mine"}}
    refused = await other.post("/v1/workflows/import", body)
    assert (refused.code, refused.fields) == (400001, ["references[5].target", "references[6].target"])
    assert '"workflow-2" means the workflow "two", but there is none' in refused.body["details"][1]["message"]
    found = (await other.post("/v1/workflows/import", {**body, "leaveUnbound": ["workflow-1", "workflow-2"]})).data
    workflow = found["workflow"]
    assert (workflow["name"], workflow["status"], workflow["maxRuns"]) == ("flow", "draft", 7)
    assert workflow["uiMetadata"] == {"zoom": 2}
    assert workflow["id"] != made["id"]
    nodes = workflow["definition"]["nodes"]
    assert nodes["ask"]["payload"]["body"]["from"] == "wal_mine"
    assert [one["name"] for one in found["toBind"]] == [
        "connector-1", "secret-1", "secret-2", "secret-3", "workflow-1", "workflow-2",
    ]  # fmt: skip
    assert len([item for item in found["problems"] if item["code"] == "unbound"]) == 7
    for action in ("publish", "run"):
        refused = await other.post(f"/v1/workflows/{workflow['id']}/{action}")
        assert refused.code == 400228
        assert "nodes.ask.connector.id" in refused.fields
    assert (await other.get("/v1/runs")).data["items"] == []


async def test_self_stands_for_the_imported_workflow(owner: Client) -> None:
    made = await owner.create_workflow()
    definition = copy.deepcopy(DEFINITION)
    definition["nodes"]["root"]["children"].append("again")
    definition["nodes"]["again"] = {"type": "call-workflow", "payload": {"workflowId": made["id"]}}
    await owner.put(f"/v1/workflows/{made['id']}", {"definition": definition})
    found = (await owner.post("/v1/workflows/import", {"content": await _export(owner, made["id"])})).data
    nodes = found["workflow"]["definition"]["nodes"]
    assert nodes["again"]["payload"]["workflowId"] == found["workflow"]["id"]
    assert (found["toBind"], [one for one in found["problems"] if one["code"] == "unbound"]) == ([], [])


@pytest.mark.parametrize("format_", ["json", "yaml"])
async def test_an_import_of_an_export_exports_the_same(owner: Client, format_: str) -> None:
    made, _ = await _make(owner, description="of\ntwo lines", cooldownMs=5000)
    content = await _export(owner, made["id"], format=format_)
    again = (await owner.post("/v1/workflows/import", {"content": content})).data["workflow"]
    assert await _export(owner, again["id"], format=format_) == content


async def test_unknown_actions_are_problems_of_a_draft(owner: Client) -> None:
    made = await owner.create_workflow(BROKEN_DEFINITION)
    found = (await owner.post("/v1/workflows/import", {"content": await _export(owner, made["id"]), "name": "x"})).data
    assert [item["code"] for item in found["problems"]] == ["unknown_type"]
    assert (found["workflow"]["name"], found["workflow"]["status"]) == ("x", "draft")
    assert (await owner.post(f"/v1/workflows/{found['workflow']['id']}/run")).code == 400228


async def test_a_version_can_be_exported(owner: Client) -> None:
    made = await owner.create_workflow()
    changed = copy.deepcopy(DEFINITION)
    changed["nodes"]["say"]["payload"]["message"] = "new"
    await owner.put(f"/v1/workflows/{made['id']}", {"definition": changed})
    assert "new" in await _export(owner, made["id"])
    assert "hello" in await _export(owner, made["id"], version="1")
    assert (await owner.get(f"/v1/workflows/{made['id']}/export?version=9")).code == 404002
    assert (await owner.get(f"/v1/workflows/{made['id']}/export?format=xml")).fields == ["format"]
    assert (await owner.get("/v1/workflows/wf_none/export")).code == 404001


async def test_a_chain_of_pinned_calls_may_be_longer_than_what_python_calls(server: Composition) -> None:
    """Each version of a workflow calls the one before; another workflow calls the last one by its content."""
    owner, most = server.owner, 1_500
    called = (await owner.create_workflow(name="called"))["id"]
    (first,) = await server.rows(sa.select(workflow_versions).where(workflow_versions.c.workflow_id == called))
    names = [column.name for column in workflow_versions.columns]

    def calling(version: int) -> dict[str, Any]:
        call = {"type": "call-workflow", "payload": {"workflowId": called, "version": version}}
        return {"nodes": {"root": {"type": "manual", "children": ["call"]}, "call": call}, "triggerNodeIds": ["root"]}

    insert = Statement(sa.insert(workflow_versions).values({name: sa.bindparam(name) for name in names}))

    def store(tx: Tx) -> None:
        for version in range(2, most + 1):
            row = dict(zip(names, first, strict=True))
            tx.do(insert, **{**row, "version": version, "definition": json.dumps(calling(version - 1))})

    await server.parts.writer.write(store)
    made = await owner.create_workflow(calling(most), name="calls")
    (reference,) = exact_json.loads(await _export(owner, made["id"]))["references"]
    assert (reference["kind"], list(map(type, reference["versions"]))) == ("workflow", [dict]), reference


@pytest.mark.parametrize(
    ("content", "code", "field"),
    [
        ("", 400001, "content"),
        ("{", 400001, "content"),
        ("a: *b", 400001, "content"),
        ("[1]", 400001, "content"),
        ("name: x", 400001, "content"),
        ("dustrunWorkflow: 2\nname: x\ndefinition: {}", 400001, "content"),
        ("dustrunWorkflow: 1\nname: x", 400228, "definition"),
        ("dustrunWorkflow: 1\nname: x\ndefinition: {nodes: {a: {}}}", 400228, "nodes.a.type"),
        ("dustrunWorkflow: 1\ndefinition: {nodes: {root: {type: manual}}}", 400001, "name"),
        ("dustrunWorkflow: 1\nname: x\nodd: 1\ndefinition: {nodes: {root: {type: manual}}}", 400001, "odd"),
        ("dustrunWorkflow: 1\nname: x\nreferences: [1]\ndefinition: {nodes: {root: {type: manual}}}", 400001, "[0]"),
    ],
)
async def test_what_cannot_be_imported(owner: Client, content: str, code: int, field: str) -> None:
    reply = await owner.post("/v1/workflows/import", {"content": content})
    assert (reply.code, reply.fields) == (code, [field])
    assert (await owner.get("/v1/workflows")).data["items"] == []


async def test_a_binding_must_fit(owner: Client) -> None:
    made = await owner.create_workflow()
    body = {"content": await _export(owner, made["id"]), "bindings": {"wallet-1": "wal_x"}}
    reply = await owner.post("/v1/workflows/import", body)
    assert (reply.code, reply.fields) == (400001, ["bindings.wallet-1"])


async def test_an_import_binds_by_the_names_that_the_export_tells(server: Composition, owner: Client) -> None:
    made, two = await _make(owner)
    content = await _export(owner, made["id"])
    told = {one["name"]: one.get("target") for one in exact_json.loads(content)["references"]}
    assert (told["workflow-1"], told["workflow-2"], told["connector-1"]) == ("one", "two", None)
    limited = await owner.post(
        "/v1/api-keys", {"name": "limited", "permissions": ["workflow:read"], "workflowIds": [made["id"]]}
    )
    seen = await _export(server.client(limited.data["key"]), made["id"])
    assert [one.get("target") for one in exact_json.loads(seen)["references"]] == [None] * 7

    other = await server.other_owner()
    theirs = [(await other.create_workflow(name=name))["id"] for name in ("one", "two")]
    nodes = (await other.post("/v1/workflows/import", {"content": content})).data["workflow"]["definition"]["nodes"]
    assert [nodes[name]["payload"]["workflowId"] for name in ("again", "other")] == theirs
    await owner.create_workflow(name="Two")
    refused = await owner.post("/v1/workflows/import", {"content": content})
    assert (refused.code, refused.fields) == (400001, ["references[6].target"])
    assert two in refused.body["details"][0]["message"]
    bound = (await owner.post("/v1/workflows/import", {"content": content, "bindings": {"workflow-2": two}})).data
    assert bound["workflow"]["definition"]["nodes"]["other"]["payload"]["workflowId"] == two


def _saying(message: str, **more: Any) -> dict[str, Any]:
    say = {"type": "log", "payload": {"message": message}, **more}
    return {"nodes": {"root": {"type": "manual", "children": ["say"]}, "say": say}}


def _pinning(**versions: tuple[str, int]) -> dict[str, Any]:
    """A definition that calls versions of workflows, by node."""
    calls = {
        name: {"type": "call-workflow", "payload": {"workflowId": workflow, "version": version}}
        for name, (workflow, version) in versions.items()
    }
    return {"nodes": {"root": {"type": "manual", "children": [*calls]}, **calls}}


async def _versions(client: Client, workflow: str, *messages: str) -> None:
    for message in messages:
        reply = await client.put(f"/v1/workflows/{workflow}", {"definition": _saying(message)})
        assert reply.status == 200, reply.body


async def _pins(client: Client, workflow: str) -> dict[str, int]:
    nodes = (await client.get(f"/v1/workflows/{workflow}")).data["definition"]["nodes"]
    return {name: node["payload"]["version"] for name, node in nodes.items() if node["type"] == "call-workflow"}


@pytest.mark.both_stores
async def test_a_version_that_a_call_names_travels_by_its_content(server: Composition, owner: Client) -> None:
    """The other organisation has the same contents under other numbers, and its middle workflow names one, too."""
    leaf = (await owner.create_workflow(_saying("one"), name="leaf"))["id"]
    await _versions(owner, leaf, "two", "three")
    middle = (await owner.create_workflow(_pinning(call=(leaf, 2)), name="middle"))["id"]
    top = (await owner.create_workflow(_pinning(low=(leaf, 1), mid=(middle, 1), high=(leaf, 3)), name="top"))["id"]
    files = {
        name: (await owner.get(f"/v1/workflows/{one}/export")).data["content"]
        for name, one in (("middle", middle), ("top", top))
    }
    listed = {one["target"]: one["versions"] for one in exact_json.loads(files["top"])["references"]}
    assert {name: [one["number"] for one in versions] for name, versions in listed.items()} == {
        "leaf": [1, 3],
        "middle": [1],
    }

    other = await server.other_owner()
    for name in ("leaf", "middle"):
        await other.create_workflow(_saying("nothing of it"), name=name)
    theirs = {one["name"]: one["id"] for one in (await other.get("/v1/workflows")).data["items"]}
    await _versions(other, theirs["leaf"], "three", "one")
    refused = await other.post("/v1/workflows/import", {"content": files["middle"], "name": "copy"})
    assert (refused.status, refused.fields) == (400, ["references[0].versions[0]"])
    assert refused.body["details"][0]["message"] == (
        f'"leaf" ({theirs["leaf"]}) has no version with the content of version 2 of the export; import that version '
        "first, or call it without a version"
    )
    await _versions(other, theirs["leaf"], "two")
    refused = await other.post("/v1/workflows/import", {"content": files["top"]})
    assert (refused.status, refused.fields) == (400, ["references[1].versions[0]"])
    made = await other.put(f"/v1/workflows/{theirs['middle']}", {"definition": _pinning(call=(theirs["leaf"], 3))})
    refused = await other.post("/v1/workflows/import", {"content": files["top"]})
    assert (refused.status, refused.fields) == (400, ["references[1].versions[0]"]), "it calls another content"
    made = await other.put(f"/v1/workflows/{theirs['middle']}", {"definition": _pinning(call=(theirs["leaf"], 4))})
    assert made.data["version"] == 3
    made = await other.post("/v1/workflows/import", {"content": files["top"]})
    assert (made.status, made.data["problems"], made.data["toBind"]) == (200, [], [])
    assert await _pins(other, made.data["workflow"]["id"]) == {"low": 3, "mid": 3, "high": 2}
    again = (await other.get(f"/v1/workflows/{made.data['workflow']['id']}/export")).data["content"]
    hashes = [
        {one["target"]: sorted(pin["hash"] for pin in one["versions"]) for one in exact_json.loads(text)["references"]}
        for text in (files["top"], again)
    ]
    assert hashes[0] == hashes[1]

    third = await server.other_owner()
    file = {"path": "leaf.json", "content": (await owner.get(f"/v1/workflows/{leaf}/export")).data["content"]}
    pinned = await owner.create_workflow(_pinning(call=(leaf, 3)), name="pinned")
    call = {
        "path": "a.json",
        "content": (await owner.get(f"/v1/workflows/{pinned['id']}/export")).data["content"],
    }
    done = await third.post("/v1/workflows/apply", {"files": [call, file]})
    assert [(one["path"], one["action"]) for one in done.data["changes"]] == [
        ("a.json", "create"),
        ("leaf.json", "create"),
    ]
    assert await _pins(third, done.data["changes"][0]["workflowId"]) == {"call": 1}
    file["content"] = file["content"].replace("three", "four")
    refused = await third.post("/v1/workflows/apply", {"files": [file]})
    assert refused.status == 200
    done = await third.post("/v1/workflows/apply", {"files": [call, file]})
    assert [one["action"] for one in done.data["changes"]] == ["unchanged", "unchanged"], "version 1 is kept"
