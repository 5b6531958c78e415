"""What clients written for other platforms of this kind send and read: names, nulls, whole runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from testkit.composition import Client, Composition, composed

STOPS: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "children": ["end"]},
        "end": {"type": "stop", "payload": {"status": "failure", "message": "Too dear: {{$trigger.body.usd ?? 0}}."}},
    }
}
WAITS: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "children": ["hold"]},
        "hold": {"type": "wait", "payload": {"timeoutMs": 600_000}},
    }
}


async def _until(client: Client, run_id: str, *statuses: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            run: dict[str, Any] = (await client.get(f"/v1/runs/{run_id}")).data
            if run["status"] in statuses:
                return run
            await asyncio.sleep(0.01)


async def test_null_in_a_run_call_is_the_same_as_absent(owner: Client) -> None:
    flow = await owner.create_workflow()
    nulls = {"payload": None, "simulate": None, "dustTest": None, "propValues": None, "version": None, "runId": None}
    calls: list[tuple[str, dict[str, Any]]] = [
        (f"/v1/workflows/{flow['id']}/run", {}),
        ("/v1/runs", {"definition": {"nodes": flow["definition"]["nodes"]}}),
    ]
    for path, body in calls:
        plain, same = await owner.post(path, body), await owner.post(path, {**body, **nulls})
        shown = [await _until(owner, reply.data["runId"], "success") for reply in (plain, same)]
        facts = [(run["payload"], run["propValues"], run["mode"], run["workflowVersion"]) for run in shown]
        assert facts[0] == facts[1] == ({}, {}, "live", 1 if "workflows" in path else None)
    for field in ("payload", "simulate", "dustTest"):
        reply = await owner.post(f"/v1/workflows/{flow['id']}/run", {field: 1})
        assert (reply.code, reply.fields) == (400001, [field])
    both = await owner.post(f"/v1/workflows/{flow['id']}/run", {"simulate": True, "dustTest": None})
    assert (await _until(owner, both.data["runId"], "success"))["mode"] == "simulate"


async def test_a_run_shows_its_workflows_owner_and_the_message_that_ended_it(owner: Client) -> None:
    flow = await owner.create_workflow(STOPS)
    path = f"/v1/workflows/{flow['id']}/run"
    for body, summary in (({"payload": {"usd": 9}}, "Too dear: 9."), ({"simulate": True}, "Too dear: 0.")):
        run = await _until(owner, (await owner.post(path, body)).data["runId"], "failure")
        slim = (await owner.get(f"/v1/runs/{run['id']}?summary=true")).data
        listed = (await owner.get(f"/v1/runs?workflowId={flow['id']}&limit=1")).data["items"][0]
        assert [one["summary"] for one in (run, slim, listed)] == [summary] * 3
        assert run["workflowOwnerUserId"] == slim["workflowOwnerUserId"] == flow["owner"]
    inline = (await owner.post("/v1/runs", {"definition": {"nodes": flow["definition"]["nodes"]}})).data["runId"]
    run = await _until(owner, inline, "failure")
    assert (run["workflowOwnerUserId"], run["summary"]) == (None, "Too dear: 0.")
    plain = await owner.create_workflow()
    run_id = (await owner.post(f"/v1/workflows/{plain['id']}/run")).data["runId"]
    assert (await _until(owner, run_id, "success"))["summary"] is None


async def test_a_run_that_ends_after_a_restart_has_its_summary(tmp_path: Path, store_url: str) -> None:
    hold = {**WAITS["nodes"]["hold"], "children": ["end"]}
    definition = {"nodes": {**WAITS["nodes"], "hold": hold, "end": STOPS["nodes"]["end"]}}
    async with composed(tmp_path, database_url=store_url) as server:
        flow = await server.owner.create_workflow(definition)
        sent = {"payload": {"usd": 3}}
        run_id = (await server.owner.post(f"/v1/workflows/{flow['id']}/run", sent)).data["runId"]
        assert (await _until(server.owner, run_id, "waiting"))["summary"] is None
    async with composed(tmp_path, database_url=store_url) as server:
        await server.owner.post(f"/v1/runs/{run_id}/nodes/hold/resume", {"data": {}})
        assert (await _until(server.owner, run_id, "failure"))["summary"] == "Too dear: 3."


@pytest.mark.both_stores
async def test_retry_and_cancel_answer_with_the_whole_run(owner: Client) -> None:
    failed = await owner.create_workflow(STOPS)
    first = await _until(owner, (await owner.post(f"/v1/workflows/{failed['id']}/run")).data["runId"], "failure")
    key = {"Idempotency-Key": "once"}
    retried = await owner.post(f"/v1/runs/{first['id']}/retry", headers=key)
    assert (await owner.post(f"/v1/runs/{first['id']}/retry", headers=key)).response.content == retried.response.content
    run = retried.data
    assert (run["runId"], run["sourceRunId"], run["status"]) == (run["id"], first["id"], "running")
    assert {name: node["status"] for name, node in run["executionState"].items()} == {
        "root": "success",
        "end": "pending",
    }
    ended = await _until(owner, run["id"], "failure")
    assert set(run) - set(ended) == {"runId"}
    same = ("workflowDefinition", "payload", "workflowOwnerUserId", "rootRunId", "mode", "startedAt", "workflowName")
    assert [run[name] for name in same] == [ended[name] for name in same]

    waiting = await owner.create_workflow(WAITS)
    run_id = (await owner.post(f"/v1/workflows/{waiting['id']}/run")).data["runId"]
    before = await _until(owner, run_id, "waiting")
    key = {"Idempotency-Key": "cancel"}
    reply = await owner.post(f"/v1/runs/{run_id}/cancel", headers=key)
    cancelled = reply.data
    assert set(cancelled) == set(before)
    names = {*same, "id", *(["executionState"] if cancelled["status"] == "waiting" else [])}
    assert {name: cancelled[name] for name in names} == {name: before[name] for name in names}
    assert cancelled["cancelRequestedAt"] is not None
    await _until(owner, run_id, "cancelled")
    assert (await owner.post(f"/v1/runs/{run_id}/cancel", headers=key)).response.content == reply.response.content
    assert (await owner.post(f"/v1/runs/{run_id}/cancel")).code == 409002


@pytest.mark.both_stores
async def test_a_key_that_may_not_read_runs_steers_them_without_their_data(server: Composition, owner: Client) -> None:
    told = {"id", "workflowId", "workflowVersion", "status", "startedAt", "finishedAt", "hiddenWithout"}
    told |= {"mode", "isSimulation", "isDustTest", "sourceRunId", "cancelRequestedAt"}
    steering = await server.client_with("workflow:execute", "run:cancel")
    failed = await owner.create_workflow(STOPS)
    first = await _until(owner, (await owner.post(f"/v1/workflows/{failed['id']}/run")).data["runId"], "failure")
    key = {"Idempotency-Key": "retry"}
    retried = await steering.post(f"/v1/runs/{first['id']}/retry", headers=key)
    again = await steering.post(f"/v1/runs/{first['id']}/retry", headers=key)
    assert again.response.content == retried.response.content
    await _until(owner, retried.data["runId"], "failure")
    assert set(retried.data) == told | {"runId"}
    waiting = await owner.create_workflow(WAITS)
    run_id = (await owner.post(f"/v1/workflows/{waiting['id']}/run")).data["runId"]
    await _until(owner, run_id, "waiting")
    assert set((await steering.post(f"/v1/runs/{run_id}/cancel")).data) == told
    await _until(owner, run_id, "cancelled")


async def test_a_keys_requests_have_the_names_of_other_platforms_too(server: Composition) -> None:
    made = (await server.owner.post("/v1/api-keys", {"name": "k", "scope": "read"})).data
    await server.client(made["key"]).get("/v1/runs/run_none")
    await server.parts.access.usage.flush()
    (item,) = (await server.owner.get(f"/v1/api-keys/requests?apiKeyId={made['id']}")).data["items"]
    assert (item["apiKeyId"], item["routePattern"], item["statusCode"]) == (made["id"], "/v1/runs/{id}", 404)
    for name, same in {"apiKeyId": "keyId", "createdAt": "at", "routePattern": "route", "statusCode": "status"}.items():
        assert item[name] == item[same]


IGNORED_NODE = {"type": "manual", "blockContext": {"blockId": "b"}}
FOREIGN = {
    "nodes": {"root": IGNORED_NODE},
    "blockExpansions": {"b": {"nodes": ["root"]}},
    "sensitivePropKeys": None,
}
IN_DEFINITION = ["blockExpansions", "sensitivePropKeys", "nodes.root.blockContext"]
PLAIN = {"nodes": {"root": {"type": "manual"}}}


def _ignored(data: dict[str, Any]) -> list[str]:
    """The fields that an answer says were ignored."""
    warnings = data["warnings"]
    assert {(one["code"], one.get("nodeId")) for one in warnings} <= {
        ("field_ignored", None),
        ("field_ignored", "root"),
    }
    return [one["field"] for one in warnings]


async def test_fields_that_mean_nothing_here_are_accepted_named_and_not_stored(owner: Client) -> None:
    body = {"name": "a", "description": "", "conversationId": "c", "sessionId": "s", "templateId": None}
    key = {"Idempotency-Key": "create"}
    made = await owner.post("/v1/workflows", {**body, "definition": FOREIGN}, headers=key)
    assert _ignored(made.data) == ["conversationId", "sessionId", "templateId", *IN_DEFINITION]
    replayed = await owner.post("/v1/workflows", {**body, "definition": FOREIGN}, headers=key)
    assert replayed.response.content == made.response.content
    path = f"/v1/workflows/{made.data['id']}"
    read = (await owner.get(path)).data
    assert (read["definition"], "warnings" in read) == (PLAIN, False)
    plain = await owner.post("/v1/workflows", {"name": "b", "description": "", "definition": PLAIN})
    assert "warnings" not in plain.data

    saved = (await owner.put(path, {"skipAIGeneration": True, "definition": FOREIGN})).data
    assert (_ignored(saved), saved["version"]) == (["skipAIGeneration", *IN_DEFINITION], 1)
    checked = (await owner.post("/v1/workflows/validate", {"definition": FOREIGN})).data
    assert (checked["valid"], _ignored(checked)) == (True, IN_DEFINITION)
    funds = (await owner.post("/v1/workflows/analyze-funds", {"definition": FOREIGN})).data
    assert _ignored(funds) == IN_DEFINITION

    for route in ("/v1/runs", "/v1/runs/sync"):
        started = (await owner.post(route, {"definition": FOREIGN})).data
        run = await _until(owner, started["runId"], "success")
        assert (_ignored(started), run["workflowDefinition"]) == (IN_DEFINITION, PLAIN)
    text = json.dumps({"name": "c", "templateId": "t", "definition": FOREIGN})
    applied = (await owner.post("/v1/workflows/apply", {"files": [{"path": "c.json", "content": text}]})).data
    assert _ignored(applied) == [f"c.json: {field}" for field in ("templateId", *IN_DEFINITION)]
    exported = json.dumps({"dustrunWorkflow": 1, "name": "d", "definition": FOREIGN})
    imported = (await owner.post("/v1/workflows/import", {"content": exported})).data
    assert (_ignored(imported), imported["workflow"]["definition"]) == (IN_DEFINITION, PLAIN)


async def test_other_unknown_fields_and_those_of_other_routes_stay_refused(owner: Client) -> None:
    flow = await owner.create_workflow()
    path = f"/v1/workflows/{flow['id']}"
    new = {"name": "a", "description": "", "definition": PLAIN}
    node = {"nodes": {"root": {"type": "manual", "blockContexts": 1}}}
    refused: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", "/v1/workflows", {**new, "skipAIGeneration": True}, "skipAIGeneration"),
        ("POST", "/v1/workflows", {**new, "skipAiGeneration": True}, "skipAiGeneration"),
        ("POST", "/v1/workflows", {**new, "conversationID": "c"}, "conversationID"),
        ("PUT", path, {"templateId": "t"}, "templateId"),
        ("POST", f"{path}/run", {"sessionId": "s"}, "sessionId"),
        ("POST", "/v1/runs", {"definition": PLAIN, "conversationId": "c"}, "conversationId"),
        ("POST", "/v1/workflows", {**new, "definition": node}, "definition.nodes.root.blockContexts"),
        ("POST", "/v1/workflows", {**new, "definition": {**PLAIN, "blockContext": 1}}, "definition.blockContext"),
    ]
    for method, route, body, field in refused:
        reply = await owner.send(method, route, body)
        assert (reply.status, reply.fields) == (400, [field]), (route, body, reply.body)
