"""The run call: every field and every refusal of its table, and that a refusal changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import events, executions, runs
from testkit.composition import BROKEN_DEFINITION, Composition, composed

SCHEMA = {"type": "object", "properties": {"usd": {"type": "number", "minimum": 1}}, "required": ["usd"]}


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as composition:
        yield composition


def definition(**trigger: Any) -> dict[str, Any]:
    say = "{{root.result.usd ?? 'none'}} {{$props.who ?? 'nobody'}}"
    return {
        "nodes": {
            "root": {"type": "manual", "payload": trigger, "children": ["say"]},
            "say": {"type": "log", "payload": {"message": say}},
        }
    }


async def ended(server: Composition, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            run: dict[str, Any] = (await server.owner.get(f"/v1/runs/{run_id}")).data
            if run["finishedAt"]:
                return run
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("raw", [None, b"", b"null", b"{}", b" \n"])
async def test_body_may_be_absent(server: Composition, raw: bytes | None) -> None:
    flow = await server.owner.create_workflow(definition())
    headers = {"Content-Type": "application/json"} if raw is not None else {}
    reply = await server.owner.post(f"/v1/workflows/{flow['id']}/run", raw=raw, headers=headers)
    assert set(reply.data) == {"runId"}
    assert (await ended(server, reply.data["runId"]))["status"] == "success"


async def test_a_key_that_stands_twice_is_refused(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    raw = b'{"payload": {"usd": 5, "usd": 5000}}'
    reply = await server.owner.post(
        f"/v1/workflows/{flow['id']}/run", raw=raw, headers={"Content-Type": "application/json"}
    )
    assert (reply.status, reply.code) == (400, 400001)
    assert "'usd' twice" in reply.body["message"]


async def test_every_field_reaches_the_run(server: Composition) -> None:
    conversation = (await server.owner.post("/v1/conversations", {"title": "t"})).data
    path = f"/v1/conversations/{conversation['id']}/messages"
    message = (await server.owner.post(path, {"role": "assistant", "content": "run it"})).data
    flow = await server.owner.create_workflow(definition(inputSchema=SCHEMA))
    body = {
        "payload": {"usd": 5},
        "version": 1,
        "runId": "run_mine-1",
        "simulate": True,
        "chatMessageId": message["id"],
        "triggerNodeId": "root",
        "propValues": {"who": "ann"},
    }
    reply = await server.owner.post(f"/v1/workflows/{flow['id']}/run", body)
    assert reply.data == {"runId": "run_mine-1"}
    run = await ended(server, "run_mine-1")
    assert run["executionState"]["say"]["result"]["message"] == "5 ann"
    assert run["executionState"]["root"]["result"]["body"] == {"usd": 5}
    assert (run["workflowVersion"], run["mode"], run["chatMessageId"]) == (1, "simulate", message["id"])
    shown = (await server.owner.get(f"{path}/{message['id']}")).data
    assert shown["runIds"] == ["run_mine-1"]


async def test_without_a_version_the_draft_runs_else_the_live_one(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    path = f"/v1/workflows/{flow['id']}"
    await server.owner.post(f"{path}/publish", {})
    assert (await ended(server, (await server.owner.post(f"{path}/run")).data["runId"]))["workflowVersion"] == 1
    changed = definition()
    changed["nodes"]["say"]["payload"]["message"] = "changed"
    await server.owner.put(path, {"definition": changed})
    assert (await ended(server, (await server.owner.post(f"{path}/run")).data["runId"]))["workflowVersion"] == 2
    pinned = await server.owner.post(f"{path}/run", {"version": 1})
    assert (await ended(server, pinned.data["runId"]))["workflowVersion"] == 1


REFUSED: list[tuple[Any, int, int, str | None]] = [
    ({"nope": 1}, 400, 400001, "nope"),
    ({"payload": []}, 400, 400001, "payload"),
    ({"version": 0}, 400, 400001, "version"),
    ({"version": "1"}, 400, 400001, "version"),
    ({"version": 1.5}, 400, 400001, "version"),
    ({"simulate": "true"}, 400, 400001, "simulate"),
    ({"runId": 7}, 400, 400001, "runId"),
    ([], 400, 400001, None),
    ({"simulate": True, "dustTest": True}, 400, 400077, "dustTest"),
    ({"runId": "mine"}, 400, 400078, "runId"),
    ({"runId": "run_"}, 400, 400078, "runId"),
    ({"runId": "run_" + "x" * 65}, 400, 400078, "runId"),
    ({"runId": "run_ä"}, 400, 400078, "runId"),
    ({"runId": "run_a\n"}, 400, 400078, "runId"),
    ({"runId": "run_taken"}, 400, 400079, "runId"),
    ({"payload": {"usd": 0}}, 400, 400081, "payload.usd"),
    ({"payload": {}}, 400, 400081, "payload"),
    ({"payload": None}, 400, 400081, "payload"),
    ({"chatMessageId": "msg_unknown"}, 400, 400082, "chatMessageId"),
    ({"triggerNodeId": "say"}, 400, 400083, "triggerNodeId"),
    ({"version": 2}, 404, 404002, None),
]


async def _rows(server: Composition) -> list[int]:
    counts = []
    for table in (runs, events, executions):
        counts.append((await server.rows(sa.select(sa.func.count()).select_from(table)))[0][0])
    return counts


async def test_every_refusal_has_its_code_and_changes_nothing(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition(inputSchema=SCHEMA))
    path = f"/v1/workflows/{flow['id']}/run"
    await server.owner.post(path, {"payload": {"usd": 1}, "runId": "run_taken"})
    await ended(server, "run_taken")
    before = await _rows(server)
    for body, status, code, field in REFUSED:
        sent = body
        if isinstance(body, dict) and code not in (400081,) and "payload" not in body:
            sent = {"payload": {"usd": 1}, **body}
        reply = await server.owner.post(path, sent)
        assert (reply.status, reply.body["code"]) == (status, code), (body, reply.body)
        if field is not None:
            assert field in reply.fields, (body, reply.body)
    assert await _rows(server) == before


async def test_refusals_of_workflow_key_and_definition(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    path = f"/v1/workflows/{flow['id']}/run"
    other = await server.other_owner()
    assert (await other.post(path)).body["code"] == 404001
    assert (await server.owner.post("/v1/workflows/wf_nope/run")).body["code"] == 404001
    assert (await server.client(None).post(path)).body["code"] == 401001
    assert (await (await server.client_with("run:read")).post(path)).body["code"] == 403001
    broken = await server.owner.create_workflow(BROKEN_DEFINITION)
    reply = await server.owner.post(f"/v1/workflows/{broken['id']}/run")
    assert (reply.status, reply.body["code"], reply.fields) == (400, 400228, ["nodes.say.type"])
    await server.owner.delete(f"/v1/workflows/{flow['id']}")
    assert (await server.owner.post(path)).body["code"] == 400080
    assert await _rows(server) == [0, 0, 0]


@pytest.mark.parametrize(
    ("raw", "headers", "code"),
    [
        (b'{"payload": ', {"Content-Type": "application/json"}, 400001),
        (b'{"payload": {"x": NaN}}', {"Content-Type": "application/json"}, 400001),
        (b'{"payload": {"x": "\\ud800"}}', {"Content-Type": "application/json"}, 400001),
        (b"[" * 5000, {"Content-Type": "application/json"}, 400001),
        (b"{}", {"Content-Type": "text/plain"}, 415001),
        (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415001),
        (b'{"payload": {"x": "' + b"y" * 1_048_576 + b'"}}', {"Content-Type": "application/json"}, 413001),
    ],
)
async def test_bodies_that_are_no_json_of_ours(
    server: Composition, raw: bytes, headers: dict[str, str], code: int
) -> None:
    flow = await server.owner.create_workflow(definition())
    reply = await server.owner.post(f"/v1/workflows/{flow['id']}/run", raw=raw, headers=headers)
    assert reply.body["code"] == code
    assert await _rows(server) == [0, 0, 0]


async def test_the_body_limit_is_exact(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    path = f"/v1/workflows/{flow['id']}/run"
    empty = len(b'{"payload": {"x": ""}}')
    headers = {"Content-Type": "application/json"}
    fits = b'{"payload": {"x": "' + b"y" * (1_048_576 - empty) + b'"}}'
    assert len(fits) == 1_048_576
    assert (await server.owner.post(path, raw=fits, headers=headers)).status == 200
    assert (await server.owner.post(path, raw=fits + b" ", headers=headers)).status == 413


async def test_the_same_run_id_in_another_organisation_is_free(server: Composition) -> None:
    other = await server.other_owner()
    for caller in (server.owner, other):
        flow = await caller.create_workflow(definition())
        reply = await caller.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_same"})
        assert reply.data == {"runId": "run_same"}
    assert (await other.get("/v1/runs/run_same")).data["organizationId"] != (
        await server.owner.get("/v1/runs/run_same")
    ).data["organizationId"]


@pytest.mark.both_stores
async def test_a_run_id_is_won_by_one_of_many(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    path = f"/v1/workflows/{flow['id']}/run"
    replies = await asyncio.gather(*(server.owner.post(path, {"runId": "run_race"}) for _ in range(20)))
    assert sorted(reply.body["code"] for reply in replies) == [200] + [400079] * 19


@pytest.mark.both_stores
async def test_idempotency_key_makes_one_run_of_many_calls(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    path = f"/v1/workflows/{flow['id']}/run"
    headers = {"Idempotency-Key": "once"}
    replies = await asyncio.gather(*(server.owner.post(path, {}, headers=headers) for _ in range(10)))
    assert len({reply.data["runId"] for reply in replies}) == 1
    assert (await server.owner.post(path, {"payload": {"x": 1}}, headers=headers)).body["code"] == 409007
    assert (await _rows(server))[0] == 1


async def test_the_first_event_is_on_disk_before_the_answer(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    for _ in range(20):
        run_id = (await server.owner.post(f"/v1/workflows/{flow['id']}/run")).data["runId"]
        query = sa.select(events.c.type).join(runs, runs.c.pk == events.c.run_pk)
        found = await server.rows(query.where(runs.c.id == run_id, events.c.seq == 1))
        assert [tuple(row) for row in found] == [("run_started",)]


async def test_inline_and_sync_runs(server: Composition) -> None:
    inline = await server.owner.post("/v1/runs", {"definition": definition(), "payload": {"usd": 2}})
    run = await ended(server, inline.data["runId"])
    assert (run["workflowId"], run["workflowVersion"], run["status"]) == ("", None, "success")
    sync = await server.owner.post("/v1/runs/sync", {"definition": definition(), "payload": {"usd": 2}})
    assert (sync.data["status"], sync.data["executionState"]["say"]["result"]["message"]) == ("success", "2 nobody")
    starts = await server.client_with("run:inline")
    unread = await starts.post("/v1/runs/sync", {"definition": definition(), "payload": {"usd": 2}})
    assert (set(unread.data), unread.data["status"]) == ({"runId", "status", "durationMs"}, "success")
    wrong = definition()
    wrong["nodes"]["start"] = wrong["nodes"].pop("root")
    wrong["triggerNodeIds"] = ["start"]
    assert (await server.owner.post("/v1/runs", {"definition": wrong})).body["code"] == 400229
    large = {"nodes": {"root": {"type": "manual"}, **{f"n{i}": {"type": "log"} for i in range(20)}}}
    assert (await server.owner.post("/v1/runs/sync", {"definition": large})).body["code"] == 400085


@pytest.mark.both_stores
async def test_lists_and_counts(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    path = f"/v1/workflows/{flow['id']}"
    for number in range(5):
        reply = await server.owner.post(f"{path}/run", {"simulate": number % 2 == 0})
        await ended(server, reply.data["runId"])
    page = (await server.owner.get(f"{path}/runs?limit=2&offset=1")).data
    assert (len(page["items"]), page["limit"], page["offset"], page["hasMore"]) == (2, 2, 1, True)
    assert len((await server.owner.get("/v1/runs?mode=simulate")).data["items"]) == 3
    assert (await server.owner.get(f"{path}/runs/count")).data["success"] == 5
    assert (await server.owner.get("/v1/runs/status-counts?mode=live")).data["total"] == 2
    for query in ("version=1", "version=2", "until=2020-01-01T00:00:00Z", "until=2100-01-01T00:00:00Z&mode=live"):
        listed = (await server.owner.get(f"{path}/runs?{query}")).data["items"]
        assert (await server.owner.get(f"{path}/runs/count?{query}")).data["total"] == len(listed)
    assert (await server.owner.get(f"{path}/runs/count?version=1")).data["total"] == 5
    assert (await server.owner.get("/v1/runs/status-counts?version=1")).fields == ["version"]
    assert (await server.owner.get("/v1/runs?status=nope")).body["code"] == 400002
    every = [item["id"] for item in (await server.owner.get("/v1/runs")).data["items"]]
    first = (await server.owner.get("/v1/runs?limit=2")).data
    rest = (await server.owner.get(f"/v1/runs?cursor={first['nextCursor']}")).data
    assert [item["id"] for item in first["items"] + rest["items"]] == every
    assert (len(first["items"]), first["hasMore"], rest["hasMore"], rest["nextCursor"]) == (2, True, False, None)
    at = quote(rest["items"][0]["startedAt"])
    parts = [(await server.owner.get(f"/v1/runs?{end}={at}")).data["items"] for end in ("since", "until")]
    assert [item["id"] for part in parts for item in part] == every
    assert [item["id"] for item in (await server.owner.get(f"/v1/runs?q={every[2][4:]}")).data["items"]] == [every[2]]
    own = f"/v1/runs?workflowId={flow['id']}&version"
    assert [len((await server.owner.get(f"{own}={number}")).data["items"]) for number in (1, 2)] == [5, 0]
    assert len((await server.owner.get(f"{path}/runs?version=1&status=success&mode=live")).data["items"]) == 2
    for query, field in (
        ("version=1", "version"),
        ("cursor=5&offset=5", "offset"),
        ("q=x&offset=5", "offset"),
        ("cursor=x", "cursor"),
        ("until=now", "until"),
    ):
        assert (refused := await server.owner.get(f"/v1/runs?{query}")).code == 400002
        assert refused.fields == [field]
    slim = (await server.owner.get(f"/v1/runs/{page['items'][0]['id']}?summary=true")).data
    assert "executionState" not in slim
    limited = (await server.owner.get(f"/v1/runs/{page['items'][0]['id']}?nodeIds=say")).data
    assert set(limited["executionState"]) == {"say"}


def _nested() -> dict[str, Any]:
    loop = {"type": "for-each", "payload": {"array": [1, 2]}}
    nodes = {
        "root": {"type": "manual", "children": ["a_b", "axb"]},
        "a_b": {**loop, "loopBody": ["inner"], "children": ["after"]},
        "inner": {**loop, "loopBody": ["say"]},
        "say": {"type": "format", "payload": {"template": "item {{$item}}"}},
        "axb": {**loop, "loopBody": ["other"]},
        "other": {"type": "log", "payload": {"message": "x"}},
        "after": {"type": "log", "payload": {"message": "y"}},
    }
    return {"nodes": nodes}


@pytest.mark.both_stores
async def test_a_run_limited_to_some_nodes_shows_them_as_the_whole_run_does(server: Composition) -> None:
    run_id = (await server.owner.post("/v1/runs", {"definition": _nested()})).data["runId"]
    whole = (await ended(server, run_id))["executionState"]
    assert len(whole["a_b"]["iterations"]) == 2
    for node_ids in (["a_b"], ["after", "axb"], ["say", "root"], ["-"], [*whole, *(f"n{i}" for i in range(30))]):
        limited = (await server.owner.get(f"/v1/runs/{run_id}?nodeIds={','.join(node_ids)}")).data["executionState"]
        assert limited == {name: shown for name, shown in whole.items() if name in node_ids}


@pytest.mark.both_stores
async def test_stream_replays_continues_and_ends(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    await server.owner.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_s"})
    await ended(server, "run_s")
    http = server.owner.http
    text = (await http.get("/v1/runs/run_s/stream")).text
    frames = [frame for frame in text.split("\n\n") if frame.startswith("id:")]
    assert [int(frame.split("\n")[0][4:]) for frame in frames] == list(range(1, len(frames) + 1))
    assert json.loads(frames[0].split("data: ")[1])["type"] == "run_started"
    last = len(frames)
    rest = (await http.get(f"/v1/runs/run_s/stream?lastEventId={last - 1}")).text
    assert [frame for frame in rest.split("\n\n") if frame.startswith("id:")] == frames[-1:]
    gone = await http.get("/v1/runs/run_s/stream", headers={"Last-Event-ID": str(last)})
    assert gone.status_code == 204
    assert (await http.get("/v1/runs/run_s/stream?lastEventId=x")).status_code == 400


async def test_stream_of_a_foreign_run_waits_like_an_unknown_one(server: Composition) -> None:
    flow = await server.owner.create_workflow(definition())
    await server.owner.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_foreign"})
    other = (await server.other_owner()).http
    for run_id in ("run_foreign", "run_unknown"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await other.get(f"/v1/runs/{run_id}/stream")


@pytest.mark.both_stores
async def test_nul_in_a_body_is_no_trouble_for_any_store(server: Composition) -> None:
    owner = server.owner
    nodes = {"root": {"type": "manual", "children": ["a"]}, "a": {"type": "a\x00", "branch": "b\x00"}}
    made = await owner.create_workflow({"nodes": nodes})
    assert (await owner.post(f"/v1/workflows/{made['id']}/run")).code == 400228
    flow = await owner.create_workflow(definition())
    payload = {"text": "a\x00b"}
    run_id = (await owner.post(f"/v1/workflows/{flow['id']}/run", {"payload": payload})).data["runId"]
    assert (await owner.get(f"/v1/runs/{run_id}")).data["id"] == run_id
