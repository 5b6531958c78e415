"""Keys that reach only some workflows or wallets: to them the others are not there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.api import sse
from dustrun.errors import TooMany
from dustrun.services.access.api_keys import principal_of
from dustrun.services.access.rate_limits import WrongKeys
from dustrun.storage.access import keys as key_rows
from dustrun.storage.db.tables import runs
from testkit.composition import DEFINITION, Client, Composition, composed

# Bodies that are good, so that a call gets as far as the workflow or run; paths that are not here take none.
BODIES: dict[str, Any] = {
    "PUT /v1/workflows/{id}": {"name": "other"},
    "PATCH /v1/workflows/{id}/ui-metadata": {"uiMetadata": {}},
    "POST /v1/workflows/{id}/rollback": {"targetVersion": 1},
    "POST /v1/workflows/{id}/refill": {"remainRuns": 1},
    "PUT /v1/workflows/{id}/variables/{name}/value": {"value": 1},
    "POST /v1/workflows/{id}/variables/{name}/reset": {},
    "PUT /v1/workflows/{id}/variables/{name}": {"type": "number", "default": 0},
    "POST /v1/runs/{id}/nodes/{nodeId}/resolve": {"outcome": "happened"},
    "POST /v1/runs/{id}/nodes/{nodeId}/resume": {},
}


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, stream_wait_s=1, stream_heartbeat_s=0.1) as composition:
        yield composition


async def _limited(server: Composition, workflow_id: str, *permissions: str) -> Client:
    body = {"name": "limited", "permissions": list(permissions or ["admin"]), "workflowIds": [workflow_id]}
    made = (await server.owner.post("/v1/api-keys", body)).data
    assert made["workflowIds"] == [workflow_id]
    return server.client(made["key"])


async def _run(client: Client, workflow_id: str) -> str:
    run_id: str = (await client.post(f"/v1/workflows/{workflow_id}/run", {})).data["runId"]
    async with asyncio.timeout(60):
        while (await client.get(f"/v1/runs/{run_id}")).data["finishedAt"] is None:
            await asyncio.sleep(0.01)
    return run_id


def _calls(server: Composition, workflow_id: str, run_id: str) -> list[tuple[str, str, Any]]:
    """Every route of one workflow or run, with the ids of these."""
    found = []
    for route in server.app.routes:
        if not route.path.startswith(("/v1/workflows/{id}", "/v1/runs/{id}")) or route.path.endswith("/stream"):
            continue
        path = route.path.replace("{id}", workflow_id if "workflows" in route.path else run_id)
        path = path.replace("{otherId}", run_id).replace("{number}", "1")
        path = re.sub(r"\{\w+(:\w+)?\}", "say", path)
        found += [(m, path, BODIES.get(f"{m} {route.path}")) for m in sorted(route.methods - {"HEAD"})]
    return found


async def test_the_others_are_not_there_on_any_route(server: Composition) -> None:
    own, other = await server.owner.create_workflow(), await server.owner.create_workflow(name="other")
    hidden = await _run(server.owner, other["id"])
    limited, stranger = await _limited(server, own["id"]), await server.other_owner()
    calls = _calls(server, other["id"], hidden)
    assert len(calls) > 25
    unknown = 0
    for method, path, body in calls:
        replies = [await client.send(method, path, body) for client in (limited, stranger)]
        assert replies[0].status != 200, (method, path)
        assert replies[0].code == replies[1].code, (method, path, replies[0].body, replies[1].body)
        unknown += replies[0].status == 404
    assert unknown >= len(calls) - 6  # the rest is refused for its body or its permission to both
    assert (await server.owner.get(f"/v1/workflows/{other['id']}")).data["name"] == "other"


async def test_lists_and_counts_show_its_own(server: Composition) -> None:
    own, other = await server.owner.create_workflow(), await server.owner.create_workflow(name="other")
    limited = await _limited(server, own["id"])
    mine = await _run(limited, own["id"])
    await _run(server.owner, other["id"])
    inline = (await server.owner.post("/v1/runs", {"definition": {"nodes": DEFINITION["nodes"]}})).data["runId"]
    assert [item["id"] for item in (await limited.get("/v1/workflows")).data["items"]] == [own["id"]]
    assert (await limited.get("/v1/workflows/counts")).data["draft"] == 1
    assert [item["id"] for item in (await limited.get("/v1/runs")).data["items"]] == [mine]
    assert (await limited.get("/v1/runs/status-counts")).data["total"] == 1
    assert (await limited.get("/v1/runs/status-counts?mode=live")).data["total"] == 1
    counted = (await limited.get("/v1/runs/status-counts/by-workflow")).data
    assert [(item["workflowId"], item["total"]) for item in counted] == [(own["id"], 1)]
    assert len((await server.owner.get("/v1/runs/status-counts/by-workflow")).data) == 3
    span = "since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z"
    for name in ("runs-timeseries", "top-errors"):
        assert (await limited.get(f"/v1/metrics/{name}?{span}&workflowId={other['id']}")).code == 404001
    found = f"/v1/workflows?ids={own['id']},{other['id']}"
    assert [item["id"] for item in (await limited.get(found)).data["items"]] == [own["id"]]
    assert len((await server.owner.get(found)).data["items"]) == 2
    assert (await limited.get(f"/v1/runs/{inline}")).code == 404003
    assert (await limited.get(f"/v1/runs?workflowId={other['id']}")).code == 404001
    assert (await limited.get("/v1/approvals")).data["items"] == []
    audited = (await limited.get("/v1/audit?limit=100")).data["items"]
    assert {item["subject"] for item in audited}.isdisjoint({other["id"]})


async def test_it_makes_no_workflow_and_runs_none_that_is_not_saved(server: Composition) -> None:
    own = await server.owner.create_workflow()
    limited = await _limited(server, own["id"])
    body = {"name": "n", "description": "", "definition": DEFINITION}
    assert (await limited.post("/v1/workflows", body)).code == 403001
    assert (await limited.post("/v1/runs", {"definition": {"nodes": DEFINITION["nodes"]}})).code == 403001
    assert (await limited.post("/v1/organizations", {"name": "n"})).code == 403001


async def test_a_workflow_cannot_call_beyond_the_key_that_started_it(server: Composition) -> None:
    called = await server.owner.create_workflow()
    call = {"type": "call-workflow", "payload": {"workflowId": called["id"]}}
    calling = await server.owner.create_workflow(
        {"nodes": {"root": {"type": "manual", "children": ["call"]}, "call": call}, "triggerNodeIds": ["root"]}
    )
    limited = await _limited(server, calling["id"])
    run_id = await _run(limited, calling["id"])
    run = (await limited.get(f"/v1/runs/{run_id}")).data
    assert (run["status"], called["id"] in run["error"]["message"]) == ("failure", True)
    assert await server.rows(sa.select(runs.c.pk).where(runs.c.workflow_id == called["id"])) == []


async def _stream(client: Client, path: str) -> list[str]:
    """The types of the events that a stream has sent when it ends by itself."""
    return re.findall(r"^event: (\w+)", (await client.http.get(path)).text, re.MULTILINE)


async def test_streams_show_its_own(server: Composition) -> None:
    own, other = await server.owner.create_workflow(), await server.owner.create_workflow(name="other")
    limited = await _limited(server, own["id"])
    mine, hidden = await _run(limited, own["id"]), await _run(server.owner, other["id"])
    assert (await _stream(limited, f"/v1/runs/{mine}/stream"))[-1] == "end"
    assert await _stream(limited, f"/v1/runs/{hidden}/stream") == []
    token = (await limited.post("/v1/stream-tokens", {"stream": f"/v1/runs/{hidden}/stream"})).data["url"]
    assert await _stream(server.client(None), token) == []
    late = asyncio.create_task(_stream(limited, "/v1/runs/run_to-come/stream"))
    await asyncio.sleep(0.1)
    await server.owner.post(f"/v1/workflows/{other['id']}/run", {"runId": "run_to-come"})
    assert await late == []
    assert (await limited.get(f"/v1/workflows/{other['id']}/runs/stream")).code == 404001


async def _open(server: Composition) -> tuple[str, list[asyncio.Task[httpx.Response]]]:
    """The id of a fresh key, and streams of every kind that are being read with it; none ends by itself."""
    workflow = await server.owner.create_workflow()
    made = (await server.owner.post("/v1/api-keys", {"name": "k", "permissions": ["run:stream"]})).data
    client, browser = server.client(made["key"]), server.client(None)
    token = (await client.post("/v1/stream-tokens", {"stream": "/v1/activity/stream"})).data["url"]
    paths = [
        "/v1/activity/stream",
        f"/v1/workflows/{workflow['id']}/runs/stream",
        "/v1/runs/run_to-come/stream",
    ]
    reading = [asyncio.create_task(client.http.get(path)) for path in paths]
    reading.append(asyncio.create_task(browser.http.get(token)))
    _, open_ones = await asyncio.wait(reading, timeout=0.3)
    assert len(open_ones) == 4
    return made["id"], reading


async def test_streams_end_with_the_key_that_is_revoked(server: Composition) -> None:
    key_id, reading = await _open(server)
    assert (await server.owner.delete(f"/v1/api-keys/{key_id}")).status == 200
    await server.owner.post("/v1/runs", {"definition": DEFINITION, "runId": "run_to-come"})
    async with asyncio.timeout(60):
        assert ["event:" in (await stream).text for stream in reading] == [False] * 4


async def test_a_stream_ends_when_its_key_does(server: Composition) -> None:
    found = await server.parts.access.keys.find(server.owner_key)
    assert found is not None
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    ends_at = clock.now_ms() + 200
    async with asyncio.timeout(60):
        reader = replace(found, expires_at=ends_at)
        await sse.stream_activity(server.parts.streams, reader, None, None, receive, send)
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert clock.now_ms() >= ends_at


async def test_a_stream_of_everything_shows_its_own(server: Composition) -> None:
    own, other = await server.owner.create_workflow(), await server.owner.create_workflow(name="other")
    limited = await _limited(server, own["id"])
    paths = [
        "/v1/activity/stream?lastEventId=0",
        f"/v1/workflow-runs/stream?ids={own['id']},{other['id']}&lastEventId=0",
    ]
    await _run(server.owner, other["id"])
    mine = await _run(limited, own["id"])
    for path in paths:
        reading = asyncio.create_task(limited.http.get(path))
        await asyncio.sleep(0.2)
        server.parts.streams.stop()
        data = re.findall(r"^data: (.*)$", (await reading).text, re.MULTILINE)
        server.parts.streams.stopping = False
        assert {json.loads(line)["runId"] for line in data} == {mine}


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"workflowIds": []}, "workflowIds"),
        ({"workflowIds": ["wf_1"]}, "workflowIds[0]"),
        ({"workflowIds": ["wf_" + "0" * 26]}, "workflowIds[0]"),
        ({"workflowIds": "wf_1"}, "workflowIds"),
        ({"walletIds": ["wf_" + "0" * 26]}, "walletIds[0]"),
        ({"walletIds": [1]}, "walletIds[0]"),
        ({"walletIds": ["wal_" + "0" * 26]}, "walletIds[0]"),
    ],
)
async def test_limits_that_name_nothing_are_refused(server: Composition, limits: dict[str, Any], field: str) -> None:
    reply = await server.owner.post("/v1/api-keys", {"name": "k", "scope": "read", **limits})
    assert (reply.status, reply.fields) == (400, [field])


async def test_a_limited_key_passes_its_limits_on_and_gives_no_more(server: Composition) -> None:
    own, other = await server.owner.create_workflow(), await server.owner.create_workflow(name="other")
    watched = {"name": "w", "kind": "watch"}
    wallets = [(await server.owner.post("/v1/wallets", {**watched, "address": f"0x{n:040x}"})).data for n in (17, 18)]
    wallet, beyond_it = (made["id"] for made in wallets)
    body = {"name": "k", "permissions": ["admin"], "workflowIds": [own["id"]], "walletIds": [wallet]}
    maker = server.client((await server.owner.post("/v1/api-keys", body)).data["key"])
    made = (await maker.post("/v1/api-keys", {"name": "k", "scope": "read"})).data
    assert (made["workflowIds"], made["walletIds"]) == ([own["id"]], [wallet])
    for beyond in ({"workflowIds": [own["id"], other["id"]]}, {"walletIds": [beyond_it]}):
        assert (await maker.post("/v1/api-keys", {"name": "k", "scope": "read", **beyond})).code == 403001
    row = await server.parts.database.read(lambda tx: key_rows.find(tx, made["organizationId"], made["id"]))
    assert row is not None
    principal = principal_of(row)
    assert (principal.may_use_wallet(wallet), principal.may_use_wallet(beyond_it)) == (True, False)


async def test_the_last_key_that_administers_stays(server: Composition) -> None:
    keys = (await server.owner.get("/v1/api-keys")).data["items"]
    own = next(key["id"] for key in keys if key["name"] == "owner")
    flow = await server.owner.create_workflow()
    for weaker in (
        {"workflowIds": [flow["id"]]},
        {"expiresAt": "2999-01-01T00:00:00Z"},
        {"permissions": ["key:write", "key:read"]},
    ):
        await server.owner.post("/v1/api-keys", {"name": "w", "permissions": ["admin"], **weaker})
    reply = await server.owner.delete(f"/v1/api-keys/{own}")
    assert (reply.code, "Create another one first" in reply.body["message"]) == (409020, True)
    second = (await server.owner.post("/v1/api-keys", {"name": "second", "permissions": ["admin"]})).data
    assert (await server.owner.delete(f"/v1/api-keys/{own}")).code == 409020, "the second one was made by it"
    assert (await server.owner.delete(f"/v1/api-keys/{own}?keepMade=true")).data["revokedAt"] is not None
    assert (await server.client(second["key"]).delete(f"/v1/api-keys/{second['id']}")).code == 409020


@pytest.mark.both_stores
async def test_a_key_is_revoked_with_those_that_it_made(server: Composition) -> None:
    async def made_by(maker: Client, *permissions: str, **more: Any) -> tuple[str, Client]:
        body = {"name": "k", "permissions": list(permissions), **more}
        made = (await maker.post("/v1/api-keys", body)).data
        return made["id"], server.client(made["key"])

    top_id, top = await made_by(server.owner, "admin")
    middle_id, middle = await made_by(top, "key:write", "key:read", "workflow:read")
    _, low = await made_by(middle, "workflow:read")
    beside_id, beside = await made_by(server.owner, "workflow:read")
    for client in (top, middle, low, beside):
        assert (await client.get("/v1/workflows")).status == 200
    reply = await middle.delete(f"/v1/api-keys/{top_id}")
    assert (reply.code, '"admin"' in reply.body["message"]) == (403001, True), "it has more permissions"
    assert (await middle.delete(f"/v1/api-keys/{beside_id}?keepMade=true")).code == 403001
    assert (await server.owner.delete(f"/v1/api-keys/{top_id}")).status == 200
    assert [(await client.get("/v1/workflows")).status for client in (top, middle, low, beside)] == [401, 401, 401, 200]
    audited = (await server.owner.get("/v1/audit?limit=3")).data["items"]
    assert {item["action"] for item in audited} == {"key.revoke"}
    assert sorted(item["subject"] for item in audited if item["detail"] == {"madeBy": top_id}) != []
    assert middle_id in {item["subject"] for item in audited}
    kept_id, kept = await made_by(server.owner, "admin")
    _, child = await made_by(kept, "workflow:read")
    assert (await server.owner.delete(f"/v1/api-keys/{kept_id}?keepMade=true")).status == 200
    assert [(await client.get("/v1/workflows")).status for client in (kept, child)] == [401, 200]
    assert (await server.owner.delete(f"/v1/api-keys/{kept_id}")).status == 200
    assert (await child.get("/v1/workflows")).status == 401, "asked again without keepMade"


async def test_a_limited_key_neither_sees_nor_touches_a_wider_one(server: Composition) -> None:
    own, other = await server.owner.create_workflow(), await server.owner.create_workflow(name="other")
    limited = await _limited(server, own["id"], "key:read", "key:write", "workflow:read")
    me = next(k["id"] for k in (await server.owner.get("/v1/api-keys")).data["items"] if k["name"] == "limited")
    limits: list[dict[str, Any]] = [
        {"permissions": ["workflow:read"]},
        {"permissions": ["workflow:read"], "workflowIds": [own["id"], other["id"]]},
        {"permissions": ["workflow:execute"], "workflowIds": [own["id"]]},
    ]
    wider = [(await server.owner.post("/v1/api-keys", {"name": "w", **body})).data["id"] for body in limits]
    narrow = {"name": "n", "permissions": ["workflow:read"], "workflowIds": [own["id"]]}
    within = (await server.owner.post("/v1/api-keys", narrow)).data["id"]
    assert [key["id"] for key in (await limited.get("/v1/api-keys")).data["items"]] == [within, me]
    assert [key["id"] for key in (await limited.get("/v1/api-keys?limit=1&offset=1")).data["items"]] == [me]
    for key_id in wider:
        for method in ("GET", "DELETE"):
            assert (await limited.send(method, f"/v1/api-keys/{key_id}")).code == 404011
        assert (await limited.get(f"/v1/api-keys/requests?apiKeyId={key_id}")).data["items"] == []
        assert (await limited.get(f"/v1/audit?apiKeyId={key_id}")).data["items"] == []
    await server.parts.access.usage.flush()
    assert {item["keyId"] for item in (await limited.get("/v1/api-keys/requests?limit=100")).data["items"]} == {me}
    assert (await limited.delete(f"/v1/api-keys/{within}")).status == 200
    assert (await server.owner.get(f"/v1/api-keys/{wider[0]}")).data["revokedAt"] is None


async def test_what_is_of_the_whole_server_needs_its_operator(server: Composition) -> None:
    admin = await server.client_with("admin")
    stranger = await server.other_owner()
    for client in (admin, stranger):
        assert (await client.get("/metrics")).code == 403001
        assert (await client.post("/v1/organizations", {"name": "n"})).code == 403001
        for permission in ("operator", "metrics:read"):
            assert (await client.post("/v1/api-keys", {"name": "k", "permissions": [permission]})).code == 403001
    operator = await server.client_with("operator")
    assert (await operator.http.get("/metrics")).status_code == 200
    assert (await operator.post("/v1/organizations", {"name": "n"})).status == 200
    assert (await operator.get("/v1/workflows")).code == 403001


async def test_wrong_tokens_of_streams_are_slowed_down_and_good_ones_and_keys_are_not(tmp_path: Path) -> None:
    async with composed(tmp_path, wrong_keys_per_second=1) as server:
        run = (await server.owner.post("/v1/runs", {"definition": DEFINITION})).data["runId"]
        chat = (await server.owner.post("/v1/conversations")).data["id"]
        good = (await server.owner.post("/v1/stream-tokens", {"stream": f"/v1/runs/{run}/stream"})).data["url"]
        nobody = server.client(None).http
        assert (await nobody.get(f"{good}&lastEventId=9000")).status_code == 204
        for stream in (f"/v1/runs/{run}/stream", f"/v1/conversations/{chat}/stream"):
            told = [(await nobody.get(f"{stream}?token=st_{number}")).status_code for number in range(60)]
            assert (set(told) <= {401, 429}, told.count(429) > 30) == (True, True)
        assert (await nobody.get(f"{good}&lastEventId=9000")).status_code == 204
        fresh = await server.client_with("workflow:read")
        assert (await fresh.get("/v1/workflows")).status == 200


async def test_wrong_keys_of_an_address_are_slowed_down_and_good_ones_are_not(tmp_path: Path) -> None:
    async with composed(tmp_path, wrong_keys_per_second=1) as server:
        fresh = server.client((await server.owner.post("/v1/api-keys", {"name": "k", "scope": "read"})).data["key"])
        assert (await server.owner.get("/v1/workflows")).status == 200
        wrong = [await server.client(f"sk_{number:040d}").get("/v1/workflows") for number in range(30)]
        statuses = [reply.status for reply in wrong]
        assert statuses == sorted(statuses)
        assert 20 <= statuses.count(401) <= 25
        assert {reply.code for reply in wrong[25:]} == {429001}
        server.parts.access.keys._cache.clear()
        assert (await server.owner.get("/v1/workflows")).status == 200, "it was good before"
        assert (await fresh.get("/v1/workflows")).status == 429, "nobody knows it yet"
        assert (await server.client(None).get("/v1/workflows")).status == 401


async def test_many_who_send_a_new_key_at_once_are_not_taken_for_guessers(tmp_path: Path) -> None:
    async with composed(tmp_path, wrong_keys_per_second=1) as server:
        key = (await server.owner.post("/v1/api-keys", {"name": "k", "scope": "read"})).data["key"]
        for given, expected in ((key, {200}), (f"sk_{7:040d}", {401, 429})):
            client = server.client(given)
            replies = await asyncio.gather(*(client.get("/v1/workflows") for _ in range(60)))
            assert {reply.status for reply in replies} == expected


def test_an_address_counts_by_its_network() -> None:
    found = WrongKeys(1)
    for number in range(20):
        found.check(f"2001:db8::{number:x}", "hash")
    for address in ("2001:db8::ffff", "2001:db8::1%eth0"):
        with pytest.raises(TooMany):
            found.check(address, "hash")
    found.check("2001:db8:0:1::1", "hash")
    found.check("192.0.2.1", "hash")
    for _ in range(50):
        found.was_good("192.0.2.2", "good")
        found.check("192.0.2.2", "good")
    found.was_wrong("good")
    for number in range(20_500):
        found.check(f"10.0.{number // 256}.{number % 256}", "hash")
    assert len(found._limiter._buckets) <= 10_001


@pytest.mark.both_stores
async def test_connectors_and_tables_that_others_use_are_not_there(server: Composition) -> None:
    async def connector(name: str) -> str:
        data = {
            "type": "http-bearer",
            "name": name,
            "data": {"token": "tok_0123456789"},
            "allowedHosts": ["api.example.com"],
        }
        return str((await server.owner.post("/v1/connectors", data)).data["id"])

    async def table(name: str) -> str:
        schema = {"primaryKey": "id", "columns": [{"name": "id", "type": "text"}]}
        made = await server.owner.post("/v1/tables", {"name": name, **schema})
        assert made.status == 200, made.body
        return str(made.data["id"])

    def using(connector_id: str, *tables: str) -> dict[str, Any]:
        call = {"type": "http-request", "payload": {"url": "https://api.example.com/"},
                "connector": {"id": connector_id, "type": "http-bearer"}}  # fmt: skip
        reads = {f"read{n}": {"type": "read-table", "payload": {"table": name}} for n, name in enumerate(tables)}
        nodes = {"root": {"type": "manual", "children": ["call", *reads]}, "call": call, **reads}
        return {"nodes": nodes, "triggerNodeIds": ["root"]}

    shared, mine, spare = [await connector(name) for name in ("shared", "mine", "spare")]
    orders, by_id, notes = await table("orders"), await table("by-id"), await table("notes")
    own = await server.owner.create_workflow(using(mine, "notes"))
    other = await server.owner.create_workflow(using(shared, "orders", by_id), name="other")
    limited = await _limited(server, own["id"])
    seen = [item["id"] for item in (await limited.get("/v1/connectors")).data["items"]]
    assert seen == [spare, mine]
    assert [item["id"] for item in (await limited.get("/v1/tables")).data["items"]] == [notes]
    assert len((await server.owner.get("/v1/tables")).data["items"]) == 3
    change = {"name": "taken over"}
    for method, path, body in (
        ("GET", f"/v1/connectors/{shared}", None),
        ("PUT", f"/v1/connectors/{shared}", change),
        ("DELETE", f"/v1/connectors/{shared}?force=true", None),
        ("POST", f"/v1/connectors/{shared}/test", {}),
    ):
        assert (await limited.send(method, path, body)).code == 404030, (method, path)
    for wanted in ("orders", orders, "by-id", by_id):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/rows"), ("GET", "/export?format=csv")):
            reply = await limited.send(method, f"/v1/tables/{wanted}{path}", None)
            assert reply.status == 404, (method, path, reply.body)
    assert (await limited.send("PUT", f"/v1/connectors/{mine}", change)).status == 200
    assert (await limited.get("/v1/tables/notes")).status == 200
    taken = await limited.send("PUT", f"/v1/workflows/{own['id']}", {"definition": using(shared, "orders", "notes")})
    assert (taken.status, taken.fields) == (
        400,
        ["definition.nodes.call.connector.id", "definition.nodes.read0.payload.table"],
    )
    both = {"definition": using(spare, "notes")}
    assert (await limited.send("PUT", f"/v1/workflows/{own['id']}", both)).status == 200
    given = {"definition": using(shared, "orders")}
    assert (await server.owner.send("PUT", f"/v1/workflows/{own['id']}", given)).status == 200
    kept = {"definition": using(shared, "orders", "notes")}
    assert (await limited.send("PUT", f"/v1/workflows/{own['id']}", kept)).status == 200, "it was there before"
    assert (await limited.get(f"/v1/connectors/{shared}")).code == 404030
    assert (await server.owner.delete(f"/v1/workflows/{other['id']}")).status == 200
    assert (await limited.get(f"/v1/connectors/{shared}")).status == 200, "nobody uses it any more"


async def test_a_limited_key_publishes_no_call_beyond_its_limits(server: Composition) -> None:
    called = await server.owner.create_workflow()

    def calling(workflow_id: str) -> dict[str, Any]:
        call = {"type": "call-workflow", "payload": {"workflowId": workflow_id}}
        return {"nodes": {"root": {"type": "manual", "children": ["call"]}, "call": call}, "triggerNodeIds": ["root"]}

    flow = await server.owner.create_workflow(calling(called["id"]))
    limited = await _limited(server, flow["id"])
    reply = await limited.post(f"/v1/workflows/{flow['id']}/publish", {})
    assert (reply.code, '"call"' in reply.body["message"], called["id"] in reply.body["message"]) == (
        403001,
        True,
        True,
    )
    body = {"name": "k", "permissions": ["admin"], "workflowIds": [flow["id"], called["id"]]}
    both = server.client((await server.owner.post("/v1/api-keys", body)).data["key"])
    unknown = {"definition": calling("{{$trigger.body.id}}")}
    assert (await both.post(f"/v1/workflows/{flow['id']}/publish", {})).status == 200
    assert (await both.send("PUT", f"/v1/workflows/{flow['id']}", unknown)).status == 200
    assert (await both.post(f"/v1/workflows/{flow['id']}/publish", {})).code == 403001, "only the run will name it"
    assert (await server.owner.post(f"/v1/workflows/{flow['id']}/publish", {})).status == 200


async def _scoped(server: Composition, scope: list[str], permissions: list[str] | None = None) -> tuple[str, Client]:
    body = {"name": "scoped", "permissions": permissions or ["admin"], "workflowScope": scope}
    made = (await server.owner.post("/v1/api-keys", body)).data
    assert made["workflowScope"] == sorted(scope)
    return made["id"], server.client(made["key"])


async def _place(client: Client, workflow: dict[str, Any], **place: Any) -> int:
    return (await client.put(f"/v1/workflows/{workflow['id']}", place)).status


@pytest.mark.both_stores
async def test_a_key_of_a_folder_follows_what_is_moved(server: Composition) -> None:
    first, second = await server.owner.create_workflow(), await server.owner.create_workflow()
    key_id, scoped = await _scoped(server, ["folder:payroll", "tag:money"])

    async def seen() -> set[str]:
        listed = {one["id"] for one in (await scoped.get("/v1/workflows")).data["items"]}
        known = (await server.owner.get(f"/v1/api-keys/{key_id}")).data["workflowIds"]
        assert set(known) == listed
        return listed

    assert await seen() == set()
    assert await _place(server.owner, first, folder="payroll/europe") == 200
    assert await _place(server.owner, second, tags=["money"]) == 200
    assert await seen() == {first["id"], second["id"]}
    assert await _place(server.owner, first, folder="elsewhere") == 200
    assert await seen() == {second["id"]}
    assert (await scoped.get(f"/v1/workflows/{first['id']}")).code == 404001
    body = {"name": "new", "description": "", "definition": DEFINITION, "folder": "payroll"}
    made = (await server.owner.post("/v1/workflows", body)).data
    assert await seen() == {second["id"], made["id"]}


async def test_a_stream_ends_when_its_key_no_longer_reaches_the_workflow(server: Composition) -> None:
    workflow = await server.owner.create_workflow()
    assert await _place(server.owner, workflow, folder="payroll") == 200
    _, scoped = await _scoped(server, ["folder:payroll"])
    reading = asyncio.create_task(scoped.http.get(f"/v1/workflows/{workflow['id']}/runs/stream"))
    _, still_open = await asyncio.wait([reading], timeout=0.3)
    assert still_open
    assert await _place(server.owner, workflow, folder=None) == 200
    async with asyncio.timeout(60):
        await reading
    assert (await scoped.get(f"/v1/workflows/{workflow['id']}/runs/stream")).code == 404001


async def test_nobody_gains_by_moving_workflows(server: Composition) -> None:
    workflow = await server.owner.create_workflow()
    key_id, scoped = await _scoped(server, ["folder:payroll"])
    await _scoped(server, ["folder:open"], ["workflow:read"])
    builder = server.client(await server.key_with("workflow:read", "workflow:update"))
    refused = await builder.put(f"/v1/workflows/{workflow['id']}", {"folder": "payroll"})
    assert (refused.code, key_id in refused.body["message"]) == (403001, True)
    assert (await server.owner.get(f"/v1/workflows/{workflow['id']}")).data["folder"] is None
    assert await _place(builder, workflow, folder="open") == 200
    assert await _place(server.owner, workflow, folder="payroll") == 200
    assert await _place(scoped, workflow, folder="open") == 403
    assert await _place(scoped, workflow, folder="payroll", name="renamed") == 200


async def test_a_key_of_a_folder_makes_keys_of_it_alone(server: Composition) -> None:
    own, other = await server.owner.create_workflow(), await server.owner.create_workflow()
    assert await _place(server.owner, own, folder="payroll/europe") == 200
    _, scoped = await _scoped(server, ["folder:payroll"])

    async def made(**limits: Any) -> Any:
        body = {"name": "child", "permissions": ["workflow:read"], **limits}
        answer = await scoped.post("/v1/api-keys", body)
        return (answer.data["workflowIds"], answer.data["workflowScope"]) if answer.status == 200 else answer.status

    assert await made() == ([own["id"]], ["folder:payroll"])
    assert await made(workflowScope=["folder:payroll/europe"]) == ([own["id"]], ["folder:payroll/europe"])
    assert await made(workflowIds=[own["id"]]) == ([own["id"]], None)
    assert await made(workflowScope=["folder:payroll2"]) == 403
    assert await made(workflowScope=["tag:money"]) == 403
    assert await made(workflowIds=[other["id"]]) == 403


async def test_a_person_of_a_folder_keeps_it_with_other_permissions(server: Composition) -> None:
    workflow = await server.owner.create_workflow()
    body = {"name": "Ada", "email": "ada@example.com", "role": "viewer", "workflowScope": ["folder:payroll"]}
    person = (await server.owner.post("/v1/people", body)).data
    assert (person["workflowIds"], person["workflowScope"]) == ([], ["folder:payroll"])
    assert (await server.owner.send("PATCH", f"/v1/people/{person['id']}", {"state": "deactivated"})).status == 200
    assert await _place(server.owner, workflow, folder="payroll") == 200
    back = (await server.owner.send("PATCH", f"/v1/people/{person['id']}", {"state": "active", "role": "builder"})).data
    assert (back["workflowIds"], back["workflowScope"]) == ([workflow["id"]], ["folder:payroll"])
