"""`/v1/workflows`: making, changing, reading, and the life of a workflow."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.operations.declaration.answers import model_of
from dustrun.operations.shapes.workflows import WorkflowAnswer, WorkflowListItem
from dustrun.storage.db.tables import audit, runs, workflows
from testkit.composition import BROKEN_DEFINITION, DEFINITION, Client, Composition


def _changed(message: str) -> dict[str, Any]:
    definition = copy.deepcopy(DEFINITION)
    definition["nodes"]["say"]["payload"]["message"] = message
    return definition


async def _publish(owner: Client, workflow_id: str) -> None:
    assert (await owner.post(f"/v1/workflows/{workflow_id}/publish")).status == 200


async def test_create_makes_a_draft_with_version_1(owner: Client) -> None:
    made = await owner.create_workflow(maxRuns=5, cooldownMs=1000, uiMetadata={"zoom": 1})
    model_of(WorkflowAnswer).model_validate(made)
    assert made["id"].startswith("wf_")
    expected = {
        "status": "draft",
        "version": 1,
        "definition": DEFINITION,
        "maxRuns": 5,
        "remainRuns": 5,
        "cooldownMs": 1000,
        "requireRehearsal": "none",
        "uiMetadata": {"zoom": 1},
        "concurrency": None,
        "enforceRehearsal": None,
        "acceptances": 0,
        "pausedReason": None,
        "hasDraft": True,
        "hasLiveVersion": False,
        "draftVersion": 1,
        "liveVersion": None,
        "ladder": {"simulate": None, "dust": None, "live": None},
        "type": "manual",
        "nodeCount": 2,
    }
    assert {name: made[name] for name in expected} == expected
    assert (await owner.get(f"/v1/workflows/{made['id']}")).data == made


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"description": "x" * 2001}, "description"),
        ({"description": None}, "description"),
        ({"maxRuns": 0}, "maxRuns"),
        ({"maxRuns": 100_000}, "maxRuns"),
        ({"maxRuns": "5"}, "maxRuns"),
        ({"maxRuns": True}, "maxRuns"),
        ({"maxRuns": 1.5}, "maxRuns"),
        ({"cooldownMs": 999}, "cooldownMs"),
        ({"requireRehearsal": "often"}, "requireRehearsal"),
        ({"uiMetadata": []}, "uiMetadata"),
        ({"concurrency": {"max": 0}}, "concurrency.max"),
        ({"enforceRehearsal": {"tolerancePercent": -1}}, "enforceRehearsal.tolerancePercent"),
        ({"enforceRehearsal": {"maxAgeMs": 1}}, "enforceRehearsal.maxAgeMs"),
        ({"unknown": 1}, "unknown"),
        ({"definition": {"nodes": {}}}, "definition.nodes"),
        ({"definition": {"nodes": {"root": {}}}}, "definition.nodes.root.type"),
        ({"definition": {"nodes": {"root": {"type": "manual", "children": [1]}}}}, "definition.nodes.root.children[0]"),
        ({"definition": {"nodes": {"root": {"type": "manual", "kids": 1}}}}, "definition.nodes.root.kids"),
        ({"definition": {"nodes": {"a b": {"type": "manual"}}}}, "definition.nodes['a b']"),
        ({"definition": "x"}, "definition"),
    ],
)
async def test_create_refuses_a_bad_field_by_its_path(owner: Client, change: dict[str, Any], field: str) -> None:
    body = {"name": "flow", "description": "", "definition": DEFINITION, **change}
    reply = await owner.post("/v1/workflows", body)
    assert (reply.status, reply.code, reply.fields) == (400, 400001, [field])


async def test_create_names_every_missing_field(owner: Client) -> None:
    reply = await owner.post("/v1/workflows", {})
    assert (reply.code, sorted(reply.fields)) == (400001, ["definition", "description", "name"])


async def test_a_definition_keeps_its_numbers_and_the_order_of_its_keys(owner: Client) -> None:
    raw = (
        b'{"name":"n","description":"","definition":{"nodes":{"root":{"type":"manual","children":["z"]},'
        b'"z":{"type":"log","payload":{"b":0.10000000000000000000001,"a":123456789012345678901234567890,"c":null}}}}}'
    )
    made = await owner.post("/v1/workflows", raw=raw)
    payload = b'"payload":{"b":0.10000000000000000000001,"a":"123456789012345678901234567890","c":null}'
    assert payload in made.response.content


async def test_update_with_equal_content_makes_no_version(owner: Client) -> None:
    made = await owner.create_workflow()
    reordered = {"triggerNodeIds": ["root"], "nodes": dict(reversed(DEFINITION["nodes"].items()))}
    updated = (await owner.put(f"/v1/workflows/{made['id']}", {"definition": reordered})).data
    assert (updated["version"], updated["updatedAt"]) == (1, made["updatedAt"])


async def test_update_with_changed_content_makes_a_draft_beside_live(owner: Client) -> None:
    made = await owner.create_workflow()
    await _publish(owner, made["id"])
    updated = (await owner.put(f"/v1/workflows/{made['id']}", {"definition": _changed("new")})).data
    assert (updated["version"], updated["draftVersion"], updated["liveVersion"]) == (2, 2, 1)
    assert updated["status"] == "active"
    live = (await owner.get(f"/v1/workflows/{made['id']}/live")).data
    draft = (await owner.get(f"/v1/workflows/{made['id']}/draft")).data
    assert (live["definition"], draft["definition"]) == (DEFINITION, _changed("new"))
    assert (await owner.get(f"/v1/workflows/{made['id']}")).data == draft


async def test_update_without_a_definition_changes_only_what_is_given(owner: Client) -> None:
    made = await owner.create_workflow(maxRuns=5, cooldownMs=2000)
    path = f"/v1/workflows/{made['id']}"
    updated = (await owner.put(path, {"name": "new", "maxRuns": 8, "cooldownMs": None})).data
    assert (updated["name"], updated["version"], updated["maxRuns"], updated["remainRuns"]) == ("new", 1, 8, 8)
    assert (updated["cooldownMs"], updated["description"]) == (None, "")
    cleared = (await owner.put(path, {"maxRuns": None})).data
    assert (cleared["maxRuns"], cleared["remainRuns"]) == (None, None)


@pytest.mark.parametrize("body", [{"name": None}, {"definition": None}, {"requireRehearsal": None}])
async def test_update_refuses_null_where_a_value_must_be(owner: Client, body: dict[str, Any]) -> None:
    made = await owner.create_workflow()
    reply = await owner.put(f"/v1/workflows/{made['id']}", body)
    assert (reply.status, reply.code, reply.fields) == (400, 400001, list(body))


async def test_update_at_another_version_conflicts(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}"
    first = await owner.put(path, {"definition": _changed("a"), "expectedCurrentVersion": 1})
    second = await owner.put(path, {"definition": _changed("b"), "expectedCurrentVersion": 1})
    assert (first.data["version"], second.status, second.code) == (2, 409, 409001)


async def test_concurrent_updates_with_one_expectation_let_one_through(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}"
    replies = await asyncio.gather(
        *(owner.put(path, {"definition": _changed(str(n)), "expectedCurrentVersion": 1}) for n in range(8))
    )
    assert sorted(reply.status for reply in replies) == [200] + [409] * 7
    assert (await owner.get(f"{path}/versions/count")).data == {"count": 2, "total": 2}


async def test_publish_makes_the_draft_live(owner: Client) -> None:
    made = await owner.create_workflow()
    reply = await owner.post(f"/v1/workflows/{made['id']}/publish", {"expectedVersion": 1})
    published = reply.data
    assert (published["status"], published["liveVersion"], published["draftVersion"]) == ("active", 1, None)
    draft = await owner.get(f"/v1/workflows/{made['id']}/draft")
    assert (draft.status, draft.code) == (404, 404009)


@pytest.mark.parametrize("raw", [None, b"", b"  ", b"null", b"{}"])
async def test_publish_takes_an_absent_body(owner: Client, raw: bytes | None) -> None:
    made = await owner.create_workflow()
    assert (await owner.post(f"/v1/workflows/{made['id']}/publish", raw=raw)).status == 200


async def test_publish_refuses_a_broken_definition_with_every_problem(owner: Client) -> None:
    made = await owner.create_workflow(BROKEN_DEFINITION)
    reply = await owner.post(f"/v1/workflows/{made['id']}/publish")
    assert (reply.status, reply.code, reply.fields) == (400, 400228, ["nodes.say.type"])
    assert reply.body["details"][0]["nodeId"] == "say"
    assert (await owner.get(f"/v1/workflows/{made['id']}")).data == made


async def test_publish_without_a_draft_or_at_another_version_conflicts(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}/publish"
    assert (await owner.post(path, {"expectedVersion": 2})).code == 409001
    assert (await owner.post(path)).status == 200
    assert (await owner.post(path)).code == 409006


async def test_publish_needs_the_rehearsal_of_exactly_that_version(server: Composition, owner: Client) -> None:
    made = await owner.create_workflow(requireRehearsal="simulate")
    path = f"/v1/workflows/{made['id']}"
    assert (await owner.post(f"{path}/publish")).code == 409010
    row = {
        "org_id": made["organizationId"],
        "workflow_id": made["id"],
        "workflow_name": "flow",
        "status": "success",
        "trigger_node_id": "root",
        "trigger_source": "api",
        "triggered_by": "key",
        "payload": "{}",
        "prop_values": "{}",
        "root_run_id": "run_a",
        "started_at": 1,
    }
    await server.execute(sa.insert(runs).values(id="run_a", version=1, mode="dust", passed=1, **row))
    await server.execute(sa.insert(runs).values(id="run_b", version=2, mode="simulate", passed=1, **row))
    await server.execute(sa.insert(runs).values(id="run_c", version=1, mode="simulate", passed=0, **row))
    assert (await owner.post(f"{path}/publish")).code == 409010
    await server.execute(sa.insert(runs).values(id="run_d", version=1, mode="simulate", passed=1, **row))
    published = (await owner.post(f"{path}/publish")).data
    assert published["ladder"] == {"simulate": "run_d", "dust": "run_a", "live": None}


async def test_pause_and_resume(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}"
    assert (await owner.post(f"{path}/pause")).code == 409006
    await _publish(owner, made["id"])
    assert (await owner.post(f"{path}/resume")).code == 409006
    assert (await owner.post(f"{path}/pause")).data["status"] == "paused"
    assert (await owner.post(f"{path}/pause")).code == 409006
    assert (await owner.post(f"{path}/resume")).data["status"] == "active"


async def test_discard_draft_needs_a_live_version(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}"
    assert (await owner.delete(f"{path}/draft")).code == 409005
    await _publish(owner, made["id"])
    assert (await owner.delete(f"{path}/draft")).code == 404009
    await owner.put(path, {"definition": _changed("new")})
    discarded = (await owner.delete(f"{path}/draft")).data
    assert (discarded["version"], discarded["hasDraft"], discarded["definition"]) == (1, False, DEFINITION)
    again = (await owner.put(path, {"definition": _changed("newer")})).data
    assert again["version"] == 3


async def test_rollback_copies_an_old_version_into_a_new_draft(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}"
    await owner.put(path, {"definition": _changed("new")})
    moved = await owner.post(f"{path}/rollback", {"targetVersion": 1, "expectedCurrentVersion": 1})
    assert moved.code == 409001
    rolled = (await owner.post(f"{path}/rollback", {"targetVersion": 1, "expectedCurrentVersion": 2})).data
    assert (rolled["version"], rolled["draftVersion"], rolled["definition"]) == (3, 3, DEFINITION)
    assert (await owner.post(f"{path}/rollback", {"targetVersion": 9})).code == 404002
    assert (await owner.post(f"{path}/rollback", {"targetVersion": 1})).data["version"] == 3


async def test_archive_and_unarchive(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}"
    await _publish(owner, made["id"])
    assert (await owner.post(f"{path}/unarchive")).code == 409006
    archived = (await owner.delete(path)).data
    assert (archived["status"], archived["hasLiveVersion"]) == ("archived", False)
    assert (await owner.delete(path)).data == archived
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/publish", None),
        ("POST", "/pause", None),
        ("POST", "/resume", None),
        ("DELETE", "/draft", None),
        ("POST", "/refill", {"remainRuns": 1}),
        ("POST", "/rollback", {"targetVersion": 1}),
        ("PUT", "", {"name": "x"}),
        ("PATCH", "/ui-metadata", {"uiMetadata": {}}),
    ]
    for method, verb, body in calls:
        assert (await owner.send(method, path + verb, body)).code == 409006, verb
    back = (await owner.post(f"{path}/unarchive")).data
    assert (back["status"], back["version"], back["draftVersion"]) == ("draft", 1, 1)
    await _publish(owner, made["id"])


async def test_refill_wakes_an_exhausted_workflow(server: Composition, owner: Client) -> None:
    made = await owner.create_workflow(maxRuns=3)
    path = f"/v1/workflows/{made['id']}"
    await _publish(owner, made["id"])
    exhausted = {"status": "paused", "paused_reason": "max_runs_exhausted", "remain_runs": 0}
    await server.execute(sa.update(workflows).values(**exhausted))
    assert (await owner.post(f"{path}/resume")).code == 409006
    filled = (await owner.post(f"{path}/refill", {"remainRuns": 7})).data
    assert (filled["status"], filled["remainRuns"], filled["pausedReason"]) == ("active", 7, None)
    assert (await owner.post(f"{path}/refill", {"remainRuns": 0})).fields == ["remainRuns"]
    unlimited = await owner.create_workflow()
    assert (await owner.post(f"/v1/workflows/{unlimited['id']}/refill", {"remainRuns": 1})).code == 409006


async def test_publishing_does_not_reset_the_remaining_runs(server: Composition, owner: Client) -> None:
    made = await owner.create_workflow(maxRuns=3)
    await server.execute(sa.update(workflows).values(remain_runs=1))
    await _publish(owner, made["id"])
    assert (await owner.get(f"/v1/workflows/{made['id']}")).data["remainRuns"] == 1


async def test_ui_metadata_is_set_without_a_version(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}/ui-metadata"
    stale = await owner.send("PATCH", path, {"uiMetadata": {"a": 1}, "expectedCurrentVersion": 4})
    assert stale.code == 409001
    saved = (await owner.send("PATCH", path, {"uiMetadata": {"a": 1}})).data
    assert (saved["uiMetadata"], saved["version"]) == ({"a": 1}, 1)


@pytest.mark.both_stores
async def test_of_two_layouts_saved_at_once_none_is_lost(owner: Client) -> None:
    made = await owner.create_workflow()
    path = f"/v1/workflows/{made['id']}/ui-metadata"
    seen = {"expectedUiRevision": made["uiRevision"]}
    both = [owner.send("PATCH", path, {"uiMetadata": {"by": name}, **seen}) for name in "ab"]
    first, second = sorted(await asyncio.gather(*both), key=lambda answer: answer.status)
    assert (first.status, second.code, second.fields) == (200, 409001, ["expectedUiRevision"])
    now = (await owner.get(f"/v1/workflows/{made['id']}")).data
    assert (now["uiMetadata"], now["uiRevision"]) == (first.data["uiMetadata"], first.data["uiRevision"])
    assert first.data["uiRevision"] != made["uiRevision"]
    again = {"uiMetadata": {"by": "both"}, "expectedUiRevision": now["uiRevision"]}
    assert (await owner.send("PATCH", path, again)).data["version"] == 1


async def test_list_filters_sorts_and_pages(owner: Client) -> None:
    loud = {"nodes": {"root": {"type": "manual", "children": ["x"]}, "x": {"type": "set_fields"}}}
    wired = copy.deepcopy(DEFINITION)
    wired["nodes"]["say"]["connector"] = {"type": "slack", "id": "conn_1"}
    for name, definition in (("Alpha", DEFINITION), ("beta 100%", loud), ("gamma", wired)):
        await owner.create_workflow(definition, name=name)

    async def names(query: str) -> list[str]:
        page = (await owner.get(f"/v1/workflows?{query}")).data
        for item in page["items"]:
            model_of(WorkflowListItem).model_validate(item)
            assert "definition" not in item
        return [item["name"] for item in page["items"]]

    assert await names("sort=name:asc") == ["Alpha", "beta 100%", "gamma"]
    assert await names("sort=createdAt:desc") == ["gamma", "beta 100%", "Alpha"]
    assert len(await names("sort=runs:desc")) == 3
    assert await names("q=ALP") == ["Alpha"]
    assert await names("q=%25") == ["beta 100%"]
    assert await names("q=_") == []
    assert await names("actions=log&sort=name:asc") == ["Alpha", "gamma"]
    assert await names("actions=log,set_fields&sort=name:asc") == ["Alpha", "beta 100%", "gamma"]
    assert await names("actions=lo_") == []
    assert await names("connectors=slack") == ["gamma"]
    assert await names("type=manual&limit=1&offset=1&sort=name:asc") == ["beta 100%"]
    assert await names("type=cron") == []
    assert await names("status=active") == []
    assert len(await names("owner=yours")) == 3
    assert await names("owner=public") == []
    page = (await owner.get("/v1/workflows?limit=2")).data
    assert (page["limit"], page["offset"], page["hasMore"]) == (2, 0, True)
    assert (await owner.get("/v1/workflows?limit=2&offset=2")).data["hasMore"] is False


@pytest.mark.both_stores
async def test_list_adds_what_is_asked_for_of_the_runs(server: Composition, owner: Client) -> None:
    never, often = await owner.create_workflow(), await owner.create_workflow()
    path = f"/v1/workflows/{often['id']}"
    for number, body in enumerate(({"simulate": True}, {"simulate": True}, {})):
        assert (await owner.post(f"{path}/run", {**body, "runId": f"run_{number}"})).status == 200
        while (await owner.get(f"/v1/runs/run_{number}?summary=true")).data["finishedAt"] is None:
            await asyncio.sleep(0.01)

    async def shown(query: str, client: Client = owner) -> dict[str, dict[str, Any]]:
        items = (await client.get(f"/v1/workflows?{query}")).data["items"]
        for item in items:
            model_of(WorkflowListItem).model_validate(item)
        return {item["id"]: {name: item[name] for name in ("lastRun", "ladder") if name in item} for item in items}

    last = (await owner.get("/v1/runs/run_2")).data
    last_run = {name: last[name] for name in ("id", "status", "mode", "workflowVersion", "startedAt", "finishedAt")}
    ladder = {"simulate": "run_1", "dust": None, "live": "run_2"}
    nothing = {"simulate": None, "dust": None, "live": None}
    assert await shown("") == {never["id"]: {}, often["id"]: {}}
    assert await shown("include=lastRun") == {never["id"]: {"lastRun": None}, often["id"]: {"lastRun": last_run}}
    assert await shown("include=ladder") == {never["id"]: {"ladder": nothing}, often["id"]: {"ladder": ladder}}
    both = {"lastRun": last_run, "ladder": ladder}
    assert (await shown("include=lastRun,ladder"))[often["id"]] == both
    assert (await owner.get("/v1/workflows?include=lastRun&include=ladder&limit=1&offset=5")).data["items"] == []

    # a new version has passed nothing; the last run is of any version
    await owner.put(path, {"definition": _changed("other")})
    assert (await shown("include=lastRun,ladder"))[often["id"]] == {"lastRun": last_run, "ladder": nothing}
    assert last_run["workflowVersion"] == 1

    reader = await server.client_with("workflow:read")
    assert (await shown("include=ladder", reader))[often["id"]] == {"ladder": nothing}
    assert (await reader.get("/v1/workflows?include=lastRun")).code == 403001
    only = {"name": "one", "permissions": ["workflow:read", "run:read"], "workflowIds": [never["id"]]}
    limited = server.client((await owner.post("/v1/api-keys", only)).data["key"])
    assert await shown("include=lastRun", limited) == {never["id"]: {"lastRun": None}}


async def test_list_leaves_out_archived_ones_and_counts_follow(owner: Client) -> None:
    kept, gone = await owner.create_workflow(), await owner.create_workflow()
    await owner.delete(f"/v1/workflows/{gone['id']}")
    assert [item["id"] for item in (await owner.get("/v1/workflows")).data["items"]] == [kept["id"]]
    archived = (await owner.get("/v1/workflows?status=archived")).data["items"]
    assert [item["id"] for item in archived] == [gone["id"]]
    assert (await owner.get("/v1/workflows/counts")).data == {
        "draft": 1,
        "active": 0,
        "paused": 0,
        "archived": 1,
        "total": 1,
        "availableTypes": ["manual"],
        "availableConnectors": [],
        "availableFolders": [],
        "availableTags": [],
    }


async def test_list_is_filtered_by_folder_and_tags(owner: Client) -> None:
    async def made(name: str, **place: Any) -> str:
        body = {"name": name, "description": "", "definition": DEFINITION, **place}
        return str((await owner.post("/v1/workflows", body)).data["id"])

    async def listed(query: str) -> list[str]:
        return [one["name"] for one in (await owner.get(f"/v1/workflows?sort=name:asc&{query}")).data["items"]]

    moved = await made("a", folder="payroll/europe", tags=["money", "eu"])
    await made("b", folder="payroll_x", tags=["eu"])
    await made("c")
    found = [await listed(query) for query in ("folder=payroll", "folder=payroll_x", "tags=money,none", "tags=eu")]
    assert found == [["a"], ["b"], ["a"], ["a", "b"]]
    counts = (await owner.get("/v1/workflows/counts?tags=eu")).data
    assert (counts["total"], counts["availableFolders"]) == (2, ["payroll/europe", "payroll_x"])
    assert counts["availableTags"] == ["eu", "money"]
    changed = (await owner.put(f"/v1/workflows/{moved}", {"folder": None, "tags": []})).data
    assert (changed["folder"], changed["tags"], changed["version"]) == (None, [], 1)
    assert await listed("folder=payroll") == []
    for body, field in (({"folder": "a//b"}, "folder"), ({"tags": ["Not This"]}, "tags[0]"), ({"tags": None}, "tags")):
        refused = await owner.put(f"/v1/workflows/{moved}", body)
        assert (refused.status, refused.body["details"][0]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("offset=-1", "offset"),
        ("offset=99999999999999999999", "offset"),
        ("status=odd", "status"),
        ("sort=odd", "sort"),
        ("owner=odd", "owner"),
        ("include=runs", "include[0]"),
        ("q=" + "x" * 257, "q"),
        ("actions=" + ",".join("abcdefghijklmnopqrstuvwxyz" * 2), "actions"),
    ],
)
async def test_list_refuses_bad_parameters(owner: Client, query: str, field: str) -> None:
    reply = await owner.get(f"/v1/workflows?{query}")
    assert (reply.status, reply.code, reply.fields) == (400, 400002, [field])


async def test_validate_tells_problems_as_a_success(owner: Client) -> None:
    path = "/v1/workflows/validate"
    assert (await owner.post(path, {"definition": DEFINITION})).data == {"valid": True, "errors": [], "warnings": []}
    broken = (await owner.post(path, {"definition": BROKEN_DEFINITION})).data
    assert [(found["nodeId"], found["field"], found["type"]) for found in broken["errors"]] == [
        ("say", "nodes.say.type", "nodes")
    ]
    shapeless = (await owner.post(path, {"definition": {"nodes": {"root": {"type": 5}}}, "name": ""})).data
    assert [found["field"] for found in shapeless["errors"]] == ["name", "nodes.root.type"]
    assert (await owner.post(path, {})).fields == ["definition"]


async def test_an_unknown_chain_or_token_is_told_before_it_is_published(owner: Client) -> None:
    def paying(**payload: Any) -> dict[str, Any]:
        pay = {"type": "send-erc20-token", "payload": {"recipient": f"0x{'11' * 20}", "amount": "1", **payload}}
        return {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay}}

    made = await owner.create_workflow(paying(chainId=8454, token="USDC"))
    refused = await owner.post(f"/v1/workflows/{made['id']}/publish")
    assert (refused.code, refused.fields) == (400228, ["nodes.pay.payload.chainId"])
    assert "8453 (Base)" in refused.body["details"][0]["message"]
    await owner.put(f"/v1/workflows/{made['id']}", {"definition": paying(chainId=8453, token="USDX")})
    checked = (await owner.post("/v1/workflows/validate", {"definition": paying(chainId=8453, token="USDX")})).data
    assert [(one["code"], one["field"]) for one in checked["errors"]] == [("unknown_token", "nodes.pay.payload.token")]
    computed = paying(chainId="{{$trigger.body.chain}}", token="USDX")
    assert (await owner.put(f"/v1/workflows/{made['id']}", {"definition": computed})).status == 200
    assert (await owner.post(f"/v1/workflows/{made['id']}/publish")).status == 200


async def test_triggers_whose_spends_are_never_rehearsed_are_warned_of(owner: Client) -> None:
    pay = {"type": "send-native", "payload": {"chainId": 8453, "recipient": f"0x{'11' * 20}", "amount": "1"}}

    def fires(step: dict[str, Any], **trigger: Any) -> dict[str, Any]:
        root = {"type": "cronjob", "payload": {"schedule": "0 9 * * *", **trigger}, "children": ["do"]}
        return {"nodes": {"root": root, "do": step}}

    async def codes(definition: dict[str, Any], workflow: dict[str, Any]) -> list[tuple[str, str]]:
        body = {"definition": definition, "workflowId": workflow["id"]}
        found = (await owner.post("/v1/workflows/validate", body)).data
        assert found["errors"] == []
        return [(one["code"], one["field"]) for one in found["warnings"]]

    guard = {"tolerancePercent": "1", "maxAgeMs": 3_600_000}
    guarded = await owner.create_workflow(fires(pay), enforceRehearsal=guard)
    free, payer = await owner.create_workflow(fires(pay)), await owner.create_workflow(fires(pay), name="payer")
    told = [("spends_never_rehearsed", "nodes.root.type")]
    assert await codes(fires(pay), guarded) == told
    assert await codes(fires({"type": "call-workflow", "payload": {"workflowId": payer["id"]}}), guarded) == told
    assert await codes(fires(pay), free) == []
    assert await codes(fires(pay, mode="simulate"), guarded) == []
    assert await codes(fires({"type": "log", "payload": {"message": "x"}}), guarded) == []
    by_hand = {"nodes": {"root": {"type": "manual", "children": ["do"]}, "do": pay}}
    assert await codes(by_hand, guarded) == []


async def test_publishing_answers_what_validation_warns_of(server: Composition, owner: Client) -> None:
    pay: Any = {"type": "send-native", "payload": {"chainId": 8453, "recipient": f"0x{'11' * 20}", "amount": "1"}}
    root = {"type": "cronjob", "payload": {"schedule": "0 9 * * *"}, "children": ["pay"]}
    guard = {"tolerancePercent": "1", "maxAgeMs": 3_600_000}
    definition = {"nodes": {"root": root, "pay": pay}}
    made = await owner.create_workflow(definition, enforceRehearsal=guard)
    path, once = f"/v1/workflows/{made['id']}/publish", {"Idempotency-Key": "once"}
    first, again = [await owner.post(path, {}, headers=once) for _ in range(2)]
    assert [(one["code"], one["field"]) for one in first.data["warnings"]] == [
        ("spends_never_rehearsed", "nodes.root.type")
    ]
    assert again.data == first.data
    assert "warnings" not in (await owner.get(f"/v1/workflows/{made['id']}")).data
    pay["payload"]["amount"] = "2"
    await owner.put(f"/v1/workflows/{made['id']}", {"definition": definition})
    publisher = await server.client_with("workflow:publish", "wallet:spend")
    hidden = await publisher.post(path)
    assert (hidden.status, hidden.data["hiddenWithout"]) == (200, "workflow:read")
    assert "warnings" not in hidden.data


@pytest.mark.both_stores
async def test_a_circle_of_calls_is_named_before_it_is_published(server: Composition, owner: Client) -> None:
    first, second, third = [await owner.create_workflow(name=name) for name in ("first", "second", "third")]
    path = f"/v1/workflows/{second['id']}"
    for caller, called in ((first, second), (third, first)):
        await owner.put(f"/v1/workflows/{caller['id']}", {"definition": _calling({"workflowId": called["id"]})})
        assert (await owner.post(f"/v1/workflows/{caller['id']}/publish")).status == 200
    closing = _calling({"workflowId": "{{$trigger.body.x}}"}, {"workflowId": third["id"]})
    names = [f'"{one["name"]}" ({one["id"]})' for one in (second, third, first, second)]
    expected = f"The workflows would call each other in a circle: {' → '.join(names)}. Remove one of these calls."
    body = {"definition": closing, "workflowId": second["id"]}
    (told,) = (await owner.post("/v1/workflows/validate", body)).data["errors"]
    assert (told["code"], told["field"], told["message"]) == ("call_circle", "nodes.c1.payload.workflowId", expected)
    assert (await owner.put(path, {"definition": closing})).status == 200, "a draft may be unfinished"
    refused = await owner.post(f"{path}/publish")
    assert (refused.code, refused.body["details"][0]["message"]) == (400228, expected)
    # of others' circles, too, and of oneself
    (told,) = (await owner.post("/v1/workflows/validate", {"definition": _calling({"workflowId": first["id"]})})).data[
        "errors"
    ]
    assert [one["name"] in told["message"] for one in (first, second, third)] == [True] * 3
    await owner.put(path, {"definition": _calling({"workflowId": second["id"], "version": 1})})
    assert (await owner.post(f"{path}/publish")).fields == ["nodes.c0.payload.workflowId"]
    # a key is told no name that it may not read
    limited = await server.owner.post(
        "/v1/api-keys",
        {"name": "l", "permissions": ["workflow:read", "workflow:create"], "workflowIds": [second["id"], third["id"]]},
    )
    await owner.put(path, {"definition": closing})
    (told,) = (await server.client(limited.data["key"]).post("/v1/workflows/validate", body)).data["errors"]
    assert first["id"] not in told["message"]
    assert "another workflow" in told["message"]
    # without the call it is published
    await owner.put(path, {"definition": _calling({"workflowId": "{{$trigger.body.x}}"})})
    assert (await owner.post(f"{path}/publish")).status == 200


async def test_another_organisation_sees_nothing(server: Composition, owner: Client) -> None:
    made = await owner.create_workflow()
    other = await server.other_owner()
    assert (await other.get("/v1/workflows")).data["items"] == []
    for method, path in [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/publish"), ("GET", "/versions")]:
        body = {"name": "x"} if method == "PUT" else None
        reply = await other.send(method, f"/v1/workflows/{made['id']}{path}", body)
        assert (reply.status, reply.code) == (404, 404001), (method, path)


async def test_every_change_is_audited(server: Composition, owner: Client) -> None:
    made = await owner.create_workflow()
    await owner.put(f"/v1/workflows/{made['id']}", {"name": "new"})
    await _publish(owner, made["id"])
    found = await server.rows(sa.select(audit.c.action).where(audit.c.subject == made["id"]).order_by(audit.c.id))
    assert [row[0] for row in found] == ["workflow.create", "workflow.update", "workflow.publish"]


@pytest.mark.both_stores
async def test_a_name_is_taken_once_by_those_who_ask(server: Composition, owner: Client) -> None:
    body = {"name": "Pay 50%_", "description": "", "definition": DEFINITION, "uniqueName": True}
    replies = await asyncio.gather(*(owner.post("/v1/workflows", body) for _ in range(4)))
    assert sorted(reply.code for reply in replies) == [200, 409012, 409012, 409012]
    (made,) = [reply.data for reply in replies if reply.status == 200]
    content = (await owner.get(f"/v1/workflows/{made['id']}/export")).data["content"]
    refused = await owner.post("/v1/workflows/import", {"content": content, "name": "pAY 50%_", "uniqueName": True})
    assert (refused.code, refused.fields) == (409012, ["name"])
    assert (await owner.post("/v1/workflows", {**body, "name": "Pay 50%%"})).status == 200
    assert (await (await server.other_owner()).post("/v1/workflows", body)).status == 200
    assert (await owner.post("/v1/workflows", {**body, "uniqueName": False})).status == 200
    for item in (await owner.get("/v1/workflows")).data["items"]:
        await owner.delete(f"/v1/workflows/{item['id']}")
    assert (await owner.post("/v1/workflows", body)).status == 200, "an archived workflow holds no name"


def _calling(*payloads: dict[str, Any]) -> dict[str, Any]:
    nodes = {f"c{number}": {"type": "call-workflow", "payload": one} for number, one in enumerate(payloads)}
    return {"nodes": {"root": {"type": "manual", "children": list(nodes)}, **nodes}, "triggerNodeIds": ["root"]}


@pytest.mark.both_stores
async def test_a_call_is_checked_when_it_is_saved(server: Composition, owner: Client) -> None:
    child, gone = [(await owner.create_workflow(name=name))["id"] for name in ("child", "gone")]
    foreign = (await (await server.other_owner()).create_workflow())["id"]
    await owner.delete(f"/v1/workflows/{gone}")
    good = _calling({"workflowId": child}, {"workflowId": child, "version": 1}, {"workflowId": "{{$trigger.which}}"})
    bad = _calling(
        {"workflowId": child},
        {"workflowId": "wf_none"},
        {"workflowId": foreign},
        {"workflowId": gone},
        {"workflowId": child, "version": 2},
    )
    made = await owner.create_workflow(good)
    path = f"/v1/workflows/{made['id']}"
    fields = [f"nodes.c{number}.payload.{name}" for number, name in enumerate(["workflowId"] * 4 + ["version"])][1:]
    for reply in (
        await owner.post("/v1/workflows", {"name": "flow", "description": "", "definition": bad}),
        await owner.put(path, {"definition": bad}),
    ):
        assert (reply.code, reply.fields) == (400228, fields)
    checked = (await owner.post("/v1/workflows/validate", {"definition": bad})).data
    codes = ["unknown_workflow", "unknown_workflow", "archived_workflow", "unknown_version"]
    assert [(one["code"], one["field"]) for one in checked["errors"]] == list(zip(codes, fields, strict=True))
    assert sorted(one["id"] for one in (await owner.get("/v1/workflows")).data["items"]) == sorted([child, made["id"]])
    assert (await owner.get(path)).data == made

    own = _calling({"workflowId": made["id"], "version": 2})  # the version that the save makes
    assert (await owner.put(path, {"definition": own})).data["version"] == 2
    await owner.delete(f"/v1/workflows/{child}")
    refused = await owner.post(f"{path}/rollback", {"targetVersion": 1})
    assert (refused.code, refused.fields) == (400228, ["nodes.c0.payload.workflowId", "nodes.c1.payload.workflowId"])
    assert (await owner.get(path)).data["version"] == 2
