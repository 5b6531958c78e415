"""A server that is killed between sending a refresh token and storing the answer never sends it again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

from echoing import Echo, echoing
from testkit.server_process import ServerProcess


class _Owner:
    """Calls of the server's API, by the owner."""

    def __init__(self, server: ServerProcess, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """A call that must succeed; its data."""
        headers = {"Authorization": f"Bearer {self._server.owner_key}"}
        async with self._session.request(method, self._server.base + path, json=body, headers=headers) as answer:
            told = await answer.json()
            assert answer.status == 200, told
            return told["data"]

    async def connect(self, echo: Echo) -> dict[str, Any]:
        """A connector that somebody has consented to."""
        data = {"authorizeUrl": f"{echo.url}/authorize", "tokenUrl": f"{echo.url}/token", "clientId": "me"}
        body = {"type": "oauth2-authorization-code", "name": "Books", "data": data, "allowedHosts": [echo.url]}
        made: dict[str, Any] = await self.call("POST", "/v1/connectors", body)
        url = (await self.call("POST", f"/v1/connectors/{made['id']}/consent"))["url"]
        state = parse_qs(urlsplit(url).query)["state"][0]
        callback = f"{self._server.base}/v1/oauth/callback?state={state}&code=c"
        async with self._session.post(callback) as answer:
            assert answer.status == 200, await answer.text()
        return made

    async def ask(self, made: dict[str, Any], url: str) -> str:
        """Starts a run that uses the connector."""
        reference = {"type": made["type"], "id": made["id"]}
        ask = {"type": "http-request", "connector": reference, "payload": {"url": url}}
        nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}
        found: str = (await self.call("POST", "/v1/runs", {"definition": {"nodes": nodes}}))["runId"]
        return found

    async def end_of(self, run_id: str) -> dict[str, Any]:
        """The run, once it has ended."""
        async with asyncio.timeout(60):
            while (run := await self.call("GET", f"/v1/runs/{run_id}"))["finishedAt"] is None:
                await asyncio.sleep(0.05)
        return dict(run)


async def test_refresh_token_on_its_way_at_a_kill_is_not_sent_again(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", {"outbound_allow": "127.0.0.1"})
    async with echoing() as echo, aiohttp.ClientSession() as session:
        echo.refresh_prefix, echo.expires_in = "refresh", "0"
        owner = _Owner(server, session)
        try:
            server.start()
            await server.wait_ready()
            made = await owner.connect(echo)
            echo.slow_s = 60
            await owner.ask(made, f"{echo.url}/guarded")
            async with asyncio.timeout(60):
                while len(echo.asked) < 2:
                    await asyncio.sleep(0.01)
            server.kill()
            echo.slow_s = 0
            server.start()
            await server.wait_ready()
            run = await owner.end_of(await owner.ask(made, f"{echo.url}/guarded"))
            assert "needs reconnecting" in run["error"]["message"]
            shown = await owner.call("GET", f"/v1/connectors/{made['id']}")
            assert (shown["consent"], shown["failure"]["what"]) == ("needsReconnecting", "reconnect")
            assert [form.get("refresh_token") for form in echo.asked] == [None, "refresh-1"]
        finally:
            server.kill()
