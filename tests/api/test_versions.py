"""`/v1/workflows/{id}/versions`."""

from __future__ import annotations

import copy
from typing import Any

from dustrun.operations.declaration.answers import model_of
from dustrun.operations.shapes.workflows import VersionAnswer
from testkit.composition import DEFINITION, Client


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
