"""`/v1/workflows/{id}/versions`."""

from __future__ import annotations

import copy
from typing import Any

from dustrun.operations.declaration.answers import model_of
from dustrun.operations.shapes.workflows import VersionAnswer
from testkit.composition import DEFINITION, Client, Composition


async def test_versions_are_listed_newest_first(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}"
    await owner.post(f"{path}/publish")
    changed = copy.deepcopy(DEFINITION)
    changed["nodes"]["say"]["payload"] = {"message": "new"}
    await owner.put(path, {"definition": changed})
    page = (await owner.get(f"{path}/versions")).data
    items: list[Any] = [model_of(VersionAnswer).model_validate(item) for item in page["items"]]
    assert [(item.version, item.is_draft, item.is_live) for item in items] == [(2, True, False), (1, False, True)]
    assert (page["currentVersion"], page["hasMore"]) == (2, False)
    assert (await owner.get(f"{path}/versions/1")).data == page["items"][1]
    assert (await owner.get(f"{path}/versions/count")).data == {"count": 2, "total": 2}
    assert (await owner.get(f"{path}/versions?limit=1")).data["hasMore"] is True


async def test_diff_tells_nodes_and_paths(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}"
    changed = copy.deepcopy(DEFINITION)
    changed["nodes"]["say"]["payload"] = {"message": "new", "level": 1}
    changed["nodes"]["root"]["children"] = ["say", "more"]
    changed["nodes"]["more"] = {"type": "log"}
    changed["variableDefs"] = []
    await owner.put(path, {"definition": changed})
    assert (await owner.get(f"{path}/versions/2/diff")).data == {
        "from": 1,
        "to": 2,
        "equal": False,
        "nodesAdded": ["more"],
        "nodesRemoved": [],
        "nodesChanged": [
            {"nodeId": "root", "changes": [{"path": "children", "before": ["say"], "after": ["say", "more"]}]},
            {
                "nodeId": "say",
                "changes": [
                    {"path": "payload.message", "before": "hello", "after": "new"},
                    {"path": "payload.level", "after": 1},
                ],
            },
        ],
        "otherChanges": [{"path": "variableDefs", "after": []}],
    }
    assert (await owner.get(f"{path}/versions/1/diff?against=2")).data["nodesRemoved"] == ["more"]
    assert (await owner.get(f"{path}/versions/2/diff?against=2")).data["equal"] is True
    assert (await owner.get(f"{path}/versions/2/diff?against=7")).code == 404002


async def test_unknown_and_malformed_versions(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}/versions"
    assert (await owner.get(f"{path}/2")).code == 404002
    for number in ("0", "x", "-1", "99999999999999999999"):
        reply = await owner.get(f"{path}/{number}")
        assert (reply.code, reply.fields) == (400002, ["number"])
    assert (await owner.get("/v1/workflows/wf_none/versions")).code == 404001


async def test_versions_that_were_published_are_the_history_of_releases(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}"
    await owner.post(f"{path}/publish", {})
    for name in ("two", "three"):
        changed = copy.deepcopy(DEFINITION)
        changed["nodes"]["say"]["payload"] = {"message": name}
        await owner.put(path, {"definition": changed})
    await owner.post(f"{path}/publish", {})
    found = (await owner.get(f"{path}/versions?published=true")).data["items"]
    assert [one["version"] for one in found] == [3, 1]
    back = (await owner.post(f"{path}/rollback", {"targetVersion": 1})).data
    assert (back["liveVersion"], back["draftVersion"]) == (3, 4)  # nothing goes live by going back


async def test_incoming_links_are_the_workflows_that_call_one(server: Composition) -> None:
    owner = server.owner
    called, other = await owner.create_workflow(), await owner.create_workflow()
    nodes = {
        "root": {"type": "manual", "children": ["call"]},
        "call": {"type": "call-workflow", "payload": {"workflowId": called["id"], "input": {"of": other["id"]}}},
    }
    caller = await owner.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]})
    links = f"/v1/workflows/{called['id']}/incoming-links"
    assert (await owner.get(links)).data == {"ids": [caller["id"]]}
    assert (await owner.get(f"/v1/workflows/{other['id']}/incoming-links")).data == {"ids": []}
    body = {"name": "limited", "permissions": ["workflow:read"], "workflowIds": [called["id"]]}
    limited = server.client((await owner.post("/v1/api-keys", body)).data["key"])
    assert (await limited.get(links)).data == {"ids": []}
    await owner.send("DELETE", f"/v1/workflows/{caller['id']}")
    assert (await owner.get(links)).data == {"ids": []}
