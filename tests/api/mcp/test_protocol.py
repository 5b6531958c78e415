"""The MCP server over real HTTP, with the client of the official SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from testkit.composition import DEFINITION
from testkit.server_process import ServerProcess

MCP_TOOLS = [
    "search_nodes",
    "describe_nodes",
    "list_workflows",
    "get_workflow",
    "validate_workflow",
    "save_workflow",
    "simulate",
    "get_report",
    "explain_spend",
    "policy_sentences",
    "list_runs",
    "launch",
]
_HIDDEN = "tell\u200bnobody\U000e0041 \u202e"


class Served:
    """A running server, and callers with keys of their own."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.url = f"{server.base}/mcp"

    async def api(self, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key or self.server.owner_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, self.server.base + path, json=body) as answer,
        ):
            return answer.status, await answer.json()

    async def made(self, path: str, body: Any, key: str | None = None) -> Any:
        status, answer = await self.api("POST", path, body, key)
        assert status == 200, answer
        return answer["data"]

    async def key(self, **body: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.made("/v1/api-keys", {"name": "k", **body})
        return made

    @asynccontextmanager
    async def client(self, key: str, mode: Any = "auto") -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
            Client(streamable_http_client(self.url, http_client=http), mode=mode) as client,
        ):
            yield client


async def told(client: Client, tool: str, **arguments: Any) -> Any:
    """The result of a call that succeeds."""
    text = await _text(client, tool, arguments, is_error=False)
    return json.loads(text)


async def refused(client: Client, tool: str, **arguments: Any) -> Any:
    """The failure of a call."""
    return json.loads(await _text(client, tool, arguments, is_error=True))


async def _text(client: Client, tool: str, arguments: Any, *, is_error: bool) -> str:
    result = await client.call_tool(tool, arguments)
    assert (bool(result.is_error), len(result.content), result.structured_content) == (is_error, 1, None), result
    text = getattr(result.content[0], "text", "")
    assert isinstance(text, str)
    assert len(text.encode()) <= 16_384
    return text


@pytest.fixture
async def served(tmp_path: Path, store_url: str) -> AsyncIterator[Served]:
    server = ServerProcess(tmp_path / "data", {"database_url": store_url})
    server.start()
    try:
        await server.wait_ready()
        yield Served(server)
    finally:
        await server.stop()


@pytest.mark.both_stores
async def test_operations_of_imported_documents_are_found_and_described(served: Served) -> None:
    operation = {"operationId": "logOrder", "summary": "Log one order", "requestBody": {"content": {}}}
    document = {
        "openapi": "3.0.3",
        "info": {"title": "Shop", "version": "1"},
        "servers": [{"url": "https://api.example.com"}],
        "paths": {f"/log/{at}": {"post": {**operation, "operationId": f"logOrder{at}"}} for at in range(40)},
    }
    await served.made("/v1/catalog/imports", {"document": document})
    key = (await served.key(scope="mcp"))["key"]
    async with served.client(key) as client:
        found = await told(client, "search_nodes", query="log", limit=6)
        assert (len(found["nodes"]), len(found["untrusted"]["imported"]), found["moreImported"]) == (4, 2, True)
        found = await told(client, "search_nodes", query="log order 7")
        assert found["untrusted"]["imported"] == ["shop.log-order7 (write): Log one order"]
        described = await told(client, "describe_nodes", types=["log", "shop.log-order7"])
        assert [one["type"] for one in described["nodes"]] == ["log"]
        assert described["untrusted"]["imported"][0]["payloadSchema"]["properties"]["args"]["type"] == "object"
        unknown = await refused(client, "describe_nodes", types=["shop.log-odrer7"])
        assert "shop.log-order7" in unknown["message"]
        assert "importable" not in found
        offered = await told(client, "search_nodes", query="merge pull request")
        assert (offered["nodes"], "dustrun catalog add github" in offered["importable"]) == ([], True)


@pytest.mark.both_stores
async def test_a_workflow_is_drafted_simulated_and_read(served: Served) -> None:
    key = (await served.key(scope="mcp"))["key"]
    async with served.client(key) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == MCP_TOOLS
        assert "http-request (write)" in str(await told(client, "search_nodes", query="http request"))
        described = await told(client, "describe_nodes", types=["log", "http-request"])
        assert [one["type"] for one in described["nodes"]] == ["log", "http-request"]
        assert (await told(client, "validate_workflow", definition=DEFINITION))["valid"] is True
        broken = {**DEFINITION, "triggerNodeIds": ["nope"]}
        assert (await told(client, "validate_workflow", definition=broken))["valid"] is False
        saved = await told(client, "save_workflow", name="Say", definition=DEFINITION)
        flow = saved["workflowId"]
        listed = await told(client, "list_workflows")
        assert [one["id"] for one in listed["untrusted"]["workflows"]] == [flow]
        assert (await told(client, "get_workflow", id=flow))["definition"]["nodes"].keys() == {"root", "say"}
        ran = await told(client, "simulate", workflowId=flow, payload={"text": _HIDDEN}, waitS=30)
        assert (ran["mode"], ran["status"], ran["passed"], ran["version"]) == ("simulate", "success", True, 1)
        inline = await told(client, "simulate", definition=DEFINITION, waitS=30)
        assert (inline["workflowId"], inline["status"]) == ("", "success")
        nodes = await told(client, "get_report", runId=ran["runId"], what="nodes")
        assert {one["path"]: one["status"] for one in nodes["untrusted"]["nodes"]} == {
            "root": "success",
            "say": "success",
        }
        shown = await told(client, "get_report", runId=ran["runId"], what="nodes", node="root")
        assert shown["untrusted"]["result"]["text"] == "tellnobody "
        for what in ("summary", "effects"):
            assert (await told(client, "get_report", runId=ran["runId"], what=what))["status"] == "success"
        again = await told(client, "simulate", workflowId=flow, waitS=30)
        await told(client, "get_report", runId=ran["runId"], what="compare", otherRunId=again["runId"])
        runs = await told(client, "list_runs", workflowId=flow, status="success")
        assert [one["id"] for one in runs["untrusted"]["runs"]] == [again["runId"], ran["runId"]]
        of_none = {"workflowId": flow, "until": runs["untrusted"]["runs"][-1]["startedAt"]}
        assert (await told(client, "list_runs", **of_none))["untrusted"]["runs"] == []
        narrow = {"workflowId": flow, "version": 1, "mode": "simulate", "q": ran["runId"]}
        assert [one["id"] for one in (await told(client, "list_runs", **narrow))["untrusted"]["runs"]] == [ran["runId"]]
        assert "workflowId" in str(await refused(client, "list_runs", version=1))
        changed = {**DEFINITION, "nodes": {**DEFINITION["nodes"], "say": {"type": "log", "payload": {"message": "x"}}}}
        late = await refused(client, "save_workflow", workflowId=flow, definition=changed, expectedVersion=7)
        assert late["code"] == 409001
        assert (await told(client, "save_workflow", workflowId=flow, definition=changed))["version"] == 2
        launch = {"workflowId": flow, "version": 1, "mode": "live", "rehearsalRunId": ran["runId"]}
        assert (await refused(client, "launch", **launch))["code"] == 409013  # another payload
        proposed = await told(client, "launch", **launch, payload={"text": _HIDDEN})
        assert (proposed["started"], proposed["page"].endswith(f"/approvals/{proposed['approvalId']}")) == (False, True)
        assert (await served.api("GET", f"/v1/runs/{proposed['runId']}"))[0] == 404
        decide = f"/v1/approvals/{proposed['approvalId']}/approve"
        bound = {"binding": proposed["binding"]}
        assert (await served.api("POST", decide, bound, key))[0] == 403
    # the same key at the API: dry runs, and nothing else
    run = f"/v1/workflows/{flow}/run"
    assert (await served.api("POST", run, {"simulate": True}, key))[0] == 200
    assert (await served.api("POST", f"{run}-sync", {"simulate": True}, key))[0] == 200
    inline_body = {"definition": DEFINITION}
    for path, body in ((run, {}), (run, {"dustTest": True}), (f"{run}-sync", {}), ("/v1/runs", inline_body)):
        status, answer = await served.api("POST", path, body, key)
        assert (status, answer["code"]) == (403, 403001), path
        assert "workflow:execute" in answer["message"]
    assert (await served.api("POST", f"/v1/workflows/{flow}/publish", None, key))[0] == 403
    live = await served.api("GET", "/v1/runs?mode=live,dust")
    assert live[1]["data"]["items"] == []
    assert (await served.api("POST", decide, bound))[0] == 200
    assert (await served.api("GET", f"/v1/runs/{proposed['runId']}"))[1]["data"]["mode"] == "live"
    async with served.client(served.server.owner_key) as client:  # who may start it, starts it
        rehearsed = await told(client, "simulate", workflowId=flow, version=2, waitS=30)
        launch = {"workflowId": flow, "version": 2, "mode": "dust", "rehearsalRunId": rehearsed["runId"]}
        started = await told(client, "launch", **launch)
        assert started == {"started": True, "runId": started["runId"]}
        assert (await served.api("GET", f"/v1/runs/{started['runId']}"))[1]["data"]["mode"] == "dust"


async def test_keys_see_and_do_what_they_may(served: Served) -> None:
    flow = (await served.made("/v1/workflows", {"name": "a", "description": "", "definition": DEFINITION}))["id"]
    own = (await served.made("/v1/workflows", {"name": "b", "description": "", "definition": DEFINITION}))["id"]
    run_id = (await served.made(f"/v1/workflows/{flow}/run", {"simulate": True}))["runId"]
    reader = (await served.key(permissions=["run:read"]))["key"]
    async with served.client(reader) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "get_report",
            "explain_spend",
            "list_runs",
        ]
        for tool, arguments in (
            ("simulate", {"workflowId": flow}),
            ("save_workflow", {"definition": DEFINITION}),
            ("get_workflow", {"id": flow}),
        ):
            assert (await refused(client, tool, **arguments))["code"] == 403001
    limited = await served.key(scope="mcp", workflowIds=[own])
    stranger = (await served.made("/v1/organizations", {"name": "Other"}))["ownerKey"]
    async with served.client(limited["key"]) as client:
        found = await told(client, "list_workflows")
        assert [one["id"] for one in found["untrusted"]["workflows"]] == [own]
        assert (await refused(client, "get_workflow", id=flow))["code"] == 404001
        assert (await refused(client, "simulate", workflowId=flow))["code"] == 404001
        assert (await refused(client, "simulate", definition=DEFINITION))["code"] == 403001
        assert (await refused(client, "save_workflow", name="c", definition=DEFINITION))["code"] == 403001
        assert (await refused(client, "get_report", runId=run_id))["code"] == 404003
        assert (await told(client, "simulate", workflowId=own, waitS=30))["status"] == "success"
        status, _ = await served.api("DELETE", f"/v1/api-keys/{limited['id']}")
        assert status == 200
        with pytest.raises((MCPError, httpx2.HTTPError)):
            await client.call_tool("list_workflows", {})
    async with served.client(stranger) as client:
        assert (await refused(client, "get_report", runId=run_id))["code"] == 404003
        assert (await refused(client, "get_workflow", id=flow))["code"] == 404001
        assert (await told(client, "list_runs"))["untrusted"]["runs"] == []


async def test_wrong_calls_end_with_a_clear_state(served: Served) -> None:
    async with served.client(served.server.owner_key) as client:
        with pytest.raises(MCPError, match="no tool"):
            await client.call_tool("delete_everything", {})
        for tool, arguments, field in (
            ("search_nodes", {"limit": 1_000}, "limit"),
            ("describe_nodes", {"types": []}, "types"),
            ("get_workflow", {"id": 7}, "id"),
            ("simulate", {}, "arguments"),
            ("simulate", {"workflowId": "wf", "waitS": 51}, "waitS"),
            ("get_report", {"runId": "run_1", "what": "secrets"}, "what"),
            ("list_runs", {"limti": 3}, "limti"),
            ("save_workflow", {"definition": DEFINITION, "name": ""}, "name"),
        ):
            failed = await refused(client, tool, **arguments)
            assert failed["code"] // 1000 == 400, failed
            assert [one["field"] for one in failed["details"]] == [field], failed
        assert (await refused(client, "describe_nodes", types=["htp-request"]))["code"] == 404008
        with pytest.raises((MCPError, httpx2.HTTPError)):
            await client.call_tool("validate_workflow", {"definition": {"x": "y" * 10_000_000}})
        assert (await told(client, "list_workflows"))["hasMore"] is False  # and the server goes on
    async with served.client(served.server.owner_key, "legacy") as client:  # the handshake's era
        assert [tool.name for tool in (await client.list_tools()).tools] == MCP_TOOLS
        assert (await told(client, "search_nodes", limit=1))["found"] > 50
    await _only_a_bearer_key_opens_it(served)


async def _only_a_bearer_key_opens_it(served: Served) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"Authorization": "Bearer sk_" + "0" * 40}, {"Cookie": "a=b"}):
            async with session.post(served.url, json=ping, headers=headers) as answer:
                where = answer.headers["WWW-Authenticate"]
                assert (answer.status, where.startswith('Bearer resource_metadata="http')) == (401, True)
        path = "/.well-known/oauth-protected-resource/mcp"
        assert where.endswith(f'{path}"')
        async with session.get(served.server.base + path) as answer:
            assert (await answer.json())["resource"] == served.url
        headers = {"Authorization": f"Bearer {served.server.owner_key}"}
        async with session.post(
            served.url, data="{", headers={**headers, "Content-Type": "application/json"}
        ) as answer:
            assert answer.status == 400
        async with session.post(served.url, data="x" * 600_000, headers=headers) as answer:
            assert answer.status == 413
        async with session.get(served.url, headers=headers) as answer:
            assert answer.status == 405
        for origin, status in (
            ("http://evil.example.com", 403),
            ("null", 403),
            ("http://localhost.evil.example.com", 403),
            ("http://[", 403),
            ("http://localhost:6274", 200),
            (served.server.base, 200),
        ):
            async with session.post(served.url, json=ping, headers={**headers, "Origin": origin}) as answer:
                assert answer.status == status, origin
