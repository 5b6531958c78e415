"""`/v1/workflows/apply`: a folder of files and the workflows that it makes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dustrun.core.values import exact_json
from testkit.composition import DEFINITION, Client, Composition, Reply


def _file(path: str, document: Any) -> dict[str, str]:
    return {"path": path, "content": exact_json.dumps_text(document)}


def _calling(target: str) -> dict[str, Any]:
    call = {"type": "call-workflow", "payload": {"workflowId": "unbound:child"}}
    return {
        "definition": {
            "nodes": {"root": {"type": "manual", "children": ["call"]}, "call": call},
            "triggerNodeIds": ["root"],
        },
        "references": [{"name": "child", "kind": "workflow", "target": target}],
    }


async def _apply(client: Client, *files: dict[str, str], **more: Any) -> Reply:
    return await client.post("/v1/workflows/apply", {"files": list(files), **more})


def _told(reply: Reply) -> list[tuple[Any, ...]]:
    assert reply.status == 200, reply.body
    return [(one["path"], one["name"], one["action"]) for one in reply.data["changes"]]


async def _names(client: Client) -> list[str]:
    return sorted(one["name"] for one in (await client.get("/v1/workflows")).data["items"])


@pytest.mark.both_stores
async def test_a_folder_is_applied_whole_and_once(owner: Client) -> None:
    kept = await owner.create_workflow(name="by hand")
    folder = [
        _file("a/even.json", _calling("ODD")),  # each calls the other, and neither exists yet
        _file("odd.yaml", _calling("even")),
        {
            "path": "plain.yaml",
            "content": "description: says hello\nmaxRuns: 5\ndefinition:\n  nodes: {root: {type: manual}}",
        },
        _file("bare.json", DEFINITION),
    ]
    created = [
        ("a/even.json", "even", "create"),
        ("odd.yaml", "odd", "create"),
        ("plain.yaml", "plain", "create"),
        ("bare.json", "bare", "create"),
    ]
    dry = await _apply(owner, *folder, dryRun=True)
    assert (_told(dry), await _names(owner)) == (created, ["by hand"])
    assert [one["workflowId"] for one in dry.data["changes"]] == [None] * 4
    done = await _apply(owner, *folder, expectedDigest=dry.data["digest"])
    assert (_told(done), done.data["digest"]) == (created, dry.data["digest"])
    ids = {one["name"]: one["workflowId"] for one in done.data["changes"]}
    for name, called in (("even", "odd"), ("odd", "even")):
        found = (await owner.get(f"/v1/workflows/{ids[name]}")).data
        assert found["definition"]["nodes"]["call"]["payload"]["workflowId"] == ids[called]
        assert (found["version"], found["status"]) == (1, "draft")
    again = await _apply(owner, *folder)
    assert [one["action"] for one in again.data["changes"]] == ["unchanged"] * 4
    assert {one["name"]: one["workflowId"] for one in again.data["changes"]} == ids

    louder = copy.deepcopy(DEFINITION)
    louder["nodes"]["say"]["payload"]["message"] = "HELLO"
    changed = [*folder[:2], _file("renamed.json", {"name": "Bare", "cooldownMs": 5000, "definition": louder})]
    dry = await _apply(owner, *changed, prune=True, dryRun=True)
    assert _told(dry)[2:] == [
        ("renamed.json", "bare", "update"),
        (None, "by hand", "archive"),
        (None, "plain", "archive"),
    ]
    item = dry.data["changes"][2]
    assert (item["workflowId"], item["settings"]) == (
        ids["bare"],
        [{"path": "cooldownMs", "before": None, "after": 5000}],
    )
    (node,) = item["definition"]["nodesChanged"]
    assert node["changes"] == [{"path": "payload.message", "before": "hello", "after": "HELLO"}]
    await owner.put(
        f"/v1/workflows/{ids['bare']}", {"definition": _calling("x")["definition"] | DEFINITION, "maxRuns": 3}
    )
    moved = await _apply(owner, *changed, prune=True, expectedDigest=dry.data["digest"])
    assert (moved.code, moved.fields) == (409001, ["expectedDigest"])
    assert await _names(owner) == ["bare", "by hand", "even", "odd", "plain"]
    assert _told(await _apply(owner, *changed, prune=True))[2][2] == "update"
    assert await _names(owner) == ["bare", "even", "odd"]
    found = (await owner.get(f"/v1/workflows/{ids['bare']}")).data
    assert (found["definition"], found["cooldownMs"], found["maxRuns"], found["version"]) == (louder, 5000, None, 2)
    assert (await owner.get(f"/v1/workflows/{kept['id']}")).data["status"] == "archived"


async def test_what_cannot_be_applied_changes_nothing(server: Composition, owner: Client) -> None:
    called = (await owner.create_workflow(name="called"))["id"]
    good = _file("good.json", DEFINITION)
    secret = {"name": "s", "definition": {"nodes": {"root": {"type": "manual", "payload": {"a": "unbound:secret-1"}}}}}
    by_id = copy.deepcopy(_calling("x"))
    by_id["references"] = []
    by_id["definition"]["nodes"]["call"]["payload"]["workflowId"] = called
    cases: list[tuple[dict[str, str], dict[str, Any], int, str]] = [
        (_file("b.json", {"nodes": {"a": {}}}), {}, 400001, "b.json: definition.nodes.a.type"),
        (_file("b.json", {"definition": DEFINITION, "odd": 1}), {}, 400001, "b.json: odd"),
        ({"path": "b.yaml", "content": "a: *b"}, {}, 400001, "b.yaml: content"),
        (_file("b.json", {"name": "GOOD", "definition": DEFINITION}), {}, 400001, "b.json: name"),
        (_file("b.json", _calling("nobody")), {}, 400001, "b.json: references[0].target"),
        (_file("b.json", secret), {}, 400001, "b.json: secret-1"),
        (_file("b.json", by_id), {"prune": True}, 400228, "b.json: nodes.call.payload.workflowId"),
    ]
    for file, more, code, field in cases:
        for dry_run in (True, False):
            reply = await _apply(owner, good, file, dryRun=dry_run, **more)
            assert (reply.code, reply.fields) == (code, [field])
    await owner.create_workflow(name="Called")
    reply = await _apply(owner, good, _file("called.json", DEFINITION))
    assert (reply.code, reply.fields) == (409006, ["called.json: name"])
    assert await _names(owner) == ["Called", "called"]

    maker = await server.client_with("workflow:create", "workflow:read")
    assert (await _apply(maker, good)).code == 403001
    changer = await server.client_with("workflow:create", "workflow:read", "workflow:update")
    assert (await _apply(changer, good, prune=True)).code == 403001
    guarded = _file("good.json", {"definition": DEFINITION, "requireRehearsal": "dust"})
    assert _told(await _apply(changer, guarded)) == [("good.json", "good", "create")]
    loosened = await _apply(changer, good)
    assert (loosened.code, "requireRehearsal" in loosened.body["message"]) == (403001, True)
    assert await _names(owner) == ["Called", "called", "good"]


async def test_connectors_and_wallets_are_meant_by_their_names(server: Composition, owner: Client) -> None:
    async def connector(type_: str, data: dict[str, str]) -> str:
        body = {"type": type_, "name": "Orders", "data": data, "allowedHosts": ["api.example.com"]}
        return str((await owner.post("/v1/connectors", body)).data["id"])

    bearer = await connector("http-bearer", {"token": "t0ken-of-orders"})
    await connector("http-basic", {"username": "u", "password": "p4ssword-of-orders"})
    names = ("the default", "hot", "hot")
    _, old, hot = [(await owner.post("/v1/wallets", {"name": name})).data["id"] for name in names]
    ask = {
        "type": "http-request",
        "connector": {"type": "http-bearer", "id": bearer},
        "payload": {"url": "https://api.example.com", "body": {"wallet": hot}},
    }
    watch = {"type": "http-poll", "connector": ask["connector"], "payload": {"url": "https://api.example.com/news"}}
    made = await owner.create_workflow({"nodes": {"root": {**watch, "children": ["ask"]}, "ask": ask}})
    path = f"/v1/workflows/{made['id']}"
    content = (await owner.get(f"{path}/export?format=yaml")).data["content"]
    for hidden in (bearer, hot, "t0ken"):
        assert hidden not in content
    file = {"path": "flow.yaml", "content": content}
    twice = await _apply(owner, file)
    assert (twice.code, twice.fields) == (400001, ["flow.yaml: references[1].target"])
    assert all(one in twice.body["details"][0]["message"] for one in (old, hot))
    assert (await owner.delete(f"/v1/wallets/{old}")).status == 200
    assert _told(await _apply(owner, file)) == [("flow.yaml", "flow", "unchanged")]
    assert (await owner.get(path)).data["version"] == 1

    reader = await server.client_with("workflow:read")
    assert "target" not in (await reader.get(f"{path}/export")).data["content"]
    permissions = ["workflow:create", "workflow:update", "workflow:read", "wallet:read", "connector:read"]
    third = (await owner.post("/v1/wallets", {"name": "third"})).data["id"]
    body = {"name": "one wallet", "permissions": permissions, "walletIds": [third]}
    limited = server.client((await owner.post("/v1/api-keys", body)).data["key"])
    unseen = await _apply(limited, file)
    assert (unseen.code, unseen.fields) == (400001, ["flow.yaml: references[1].target"])
    assert "there is none" in unseen.body["details"][0]["message"]
    shown = (await limited.get(f"{path}/export")).data["content"]
    assert ("Orders" in shown, '"hot"' in shown) == (True, False)
    body = {"name": "one workflow", "permissions": ["admin"], "workflowIds": [made["id"]]}
    limited = server.client((await owner.post("/v1/api-keys", body)).data["key"])
    shown = (await limited.get(f"{path}/export")).data["content"]
    assert ("Orders" in shown, '"hot"' in shown) == (False, True)
    assert (await _apply(limited, file)).code == 403001
