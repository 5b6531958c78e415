"""Polled triggers while the server is killed: each item that the source showed starts one run."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench import soak_polls
from testkit.news import News, serving
from testkit.server_process import ServerProcess

_SETTINGS = {"outbound_allow": "127.0.0.1", "min_trigger_interval_ms": "100"}
_PORTION = 45
_KILLS = 1


class Caller:
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

    async def all(self, path: str) -> list[dict[str, Any]]:
        """All items of a list."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.call("GET", f"{path}{'&' if '?' in path else '?'}limit=100&offset={len(found)}")
            found += page["items"]
            if not page["hasMore"]:
                return found


async def publish(caller: Caller, news: News) -> str:
    watch = {"url": news.url, "items": "body", "itemKey": "item", "pollMs": 100}
    say = {"type": "log", "payload": {"message": "{{$trigger.body.item}}"}}
    nodes = {"root": {"type": "http-poll", "payload": watch, "children": ["say"]}, "say": say}
    made = await caller.call(
        "POST", "/v1/workflows", {"name": "news", "description": "", "definition": {"nodes": nodes}}
    )
    await caller.call("POST", f"/v1/workflows/{made['id']}/publish")
    while not news.asked:
        await asyncio.sleep(0.02)
    return str(made["id"])


async def test_each_item_runs_once_although_the_server_is_killed(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", _SETTINGS)
    async with serving() as news, aiohttp.ClientSession() as session:
        news.content = ["before"]
        caller = Caller(server, session)
        try:
            server.start()
            await server.wait_ready()
            workflow_id = await publish(caller, news)
            wanted: list[str] = []
            for life in range(_KILLS):
                portion = [f"{life}-{number}" for number in range(_PORTION)]
                wanted += portion
                news.content = portion  # what the portion before had is not shown any more
                while not await is_taken(caller, life):
                    await asyncio.sleep(0.01)
                server.kill()
                server.start()
                await server.wait_ready()
            async with asyncio.timeout(60):
                while len(await caller.all("/v1/trigger-events")) < len(wanted):
                    await asyncio.sleep(0.1)
            events = await caller.all("/v1/trigger-events")
            runs = await caller.all(f"/v1/workflows/{workflow_id}/runs")
        finally:
            await server.stop()
    assert Counter(event["body"]["item"] for event in events) == Counter(wanted)
    assert {event["outcome"] for event in events} == {"started"}
    assert Counter(event["runId"] for event in events) == Counter(run["id"] for run in runs)


@pytest.mark.long
@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_each_crossing_of_a_level_runs_once_although_the_server_is_killed(store: str) -> None:
    found = soak_polls.run(2, 3, kills="2", stores=store)
    assert found["failures"] == []
    for kind in ("balance-level", "evm-call-level"):
        assert found[store][kind]["runs"] == found[store][kind]["crossings"] >= 2


async def is_taken(caller: Caller, life: int) -> bool:
    """Whether something of the portion was taken; it is killed then, most of it being left."""
    events = await caller.call("GET", "/v1/trigger-events?limit=1")
    return bool(events["items"]) and events["items"][0]["body"]["item"].startswith(f"{life}-")
