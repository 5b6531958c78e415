"""Clients that open pages are shown that of a launch, in both eras; a session is bound to its key, and is no right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitRequestURLParams, ElicitResult

from api.mcp.test_protocol import Served, told
from testkit.composition import DEFINITION
from testkit.server_process import ServerProcess

_CAN: dict[str, Any] = {"elicitation": {"url": {}}}
_BOTH = "application/json, text/event-stream"


class Person:
    """Opens pages, or declines; on a page it may decide at once."""

    def __init__(self, served: Served, action: str, *, decides: bool = False) -> None:
        self.opened: list[ElicitRequestURLParams] = []
        self._served = served
        self._action = action
        self._decides = decides

    async def __call__(self, _context: Any, asked: Any) -> ElicitResult:
        assert isinstance(asked, ElicitRequestURLParams)
        self.opened.append(asked)
        if self._decides:
            approval = asked.url.rpartition("/")[2]
            shown = (await self._served.api("GET", f"/v1/approvals/{approval}"))[1]["data"]
            body = {"binding": shown["binding"]}
            assert (await self._served.api("POST", f"/v1/approvals/{approval}/approve", body))[0] == 200
        return ElicitResult.model_validate({"action": self._action})


async def _launched(served: Served, key: str, era: Any, person: Person) -> Any:
    """What a client is told of a launch."""
    headers = {"Authorization": f"Bearer {key}"}
    callback: Any = person
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(served.url, http_client=http), mode=era, elicitation_callback=callback) as client,
    ):
        saved = await told(client, "save_workflow", name="Say", definition=DEFINITION)
        ran = await told(client, "simulate", workflowId=saved["workflowId"], waitS=30)
        launch = {"workflowId": saved["workflowId"], "version": 1, "mode": "live", "rehearsalRunId": ran["runId"]}
        found = await told(client, "launch", **launch)
        assert len((await client.list_tools()).tools) == 12  # the session goes on
    return found


async def test_pages_of_launches_and_sessions(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", {})
    server.start()
    try:
        await server.wait_ready()
        served = Served(server)
        key = (await served.key(scope="mcp"))["key"]
        for era in ("legacy", "2026-07-28"):
            await _shown(served, key, era)
        await _sessions(served)
    finally:
        await server.stop()


async def _shown(served: Served, key: str, era: str) -> None:
    for action in ("accept", "decline", "cancel"):
        person = Person(served, action)
        found = await _launched(served, key, era, person)
        assert [one.url for one in person.opened] == [found["page"]]
        assert (found["started"], found["pageOpened"]) == (False, action == "accept")
        assert found["page"].endswith(f"/approvals/{found['approvalId']}")
        assert (await served.api("GET", f"/v1/runs/{found['runId']}"))[0] == 404  # what a client says starts nothing
    found = await _launched(served, key, era, Person(served, "accept", decides=True))
    assert (await served.api("GET", f"/v1/runs/{found['runId']}"))[1]["data"]["mode"] == "live"
    if era != "legacy":
        assert found["started"] is True  # its retry tells what was decided meanwhile


def _message(method: str, number: int = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def _hello(**capabilities: Any) -> dict[str, Any]:
    about = {"name": "test", "version": "1"}
    return _message("initialize", protocolVersion="2025-11-25", capabilities=capabilities, clientInfo=about)


class Raw:
    """Requests as they are."""

    def __init__(self, served: Served, http: aiohttp.ClientSession, key: str) -> None:
        self._url, self._http, self._key = served.url, http, key

    async def send(
        self, message: Any, session: str | None = None, *, method: str = "POST", key: str | None = None, **more: str
    ) -> tuple[int, str | None, str]:
        """Status, session, and body of the answer."""
        headers = {"Authorization": f"Bearer {key or self._key}", "Accept": _BOTH, **more}
        if session is not None:
            headers["Mcp-Session-Id"] = session
        async with self._http.request(method, self._url, json=message, headers=headers) as answer:
            return answer.status, answer.headers.get("mcp-session-id"), await answer.text()


async def _sessions(served: Served) -> None:
    made = await served.key(scope="mcp")
    other = (await served.key(scope="mcp"))["key"]
    tools = _message("tools/list", 2)
    async with aiohttp.ClientSession() as http:
        raw = Raw(served, http, made["key"])
        fewer: list[dict[str, Any]] = [{}, {"elicitation": {}}, {"elicitation": {"form": {}}}, {"sampling": {}}]
        for capabilities in fewer:
            status, session, text = await raw.send(_hello(**capabilities))
            assert (status, session) == (200, None), capabilities
            assert json.loads(text)["result"]["serverInfo"]["name"] == "dustrun"
        assert (await raw.send(_hello(**_CAN), Accept="application/json"))[:2] == (200, None)  # it reads no stream
        status, session, text = await raw.send(_hello(**_CAN))
        assert (status, text.startswith("event: message")) == (200, True)
        assert session is not None
        assert session.startswith("ses_")
        assert (await raw.send(tools))[0] == 200  # and who names none is answered by itself
        assert (await raw.send({"jsonrpc": "2.0", "method": "notifications/initialized"}, session))[0] == 202
        status, _, text = await raw.send(tools, session)
        assert (status, '"launch"' in text) == (200, True)
        assert (await raw.send(tools, session, key=other))[0] == 404
        assert (await raw.send(tools, session, key="sk_wrong"))[0] == 401
        assert (await raw.send(tools, "ses_unknown"))[0] == 404
        assert (await raw.send(None, session, method="GET"))[0] == 405
        second = (await raw.send(_hello(**_CAN)))[1]
        assert second not in (None, session)
        assert (await raw.send(None, second, method="DELETE", key=other))[0] == 404
        assert (await raw.send(None, second, method="DELETE"))[0] == 200
        assert (await raw.send(tools, second))[0] == 404
        assert (await raw.send(tools, session))[0] == 200
        broken = await raw.send({**_hello(**_CAN), "params": {"capabilities": _CAN}})
        assert (broken[0], broken[1]) != (200, None)
        assert (await served.api("DELETE", f"/v1/api-keys/{made['id']}"))[0] == 200
        assert (await raw.send(tools, session))[0] == 401
