"""What a call of a tool takes over MCP: by the official client, in both eras, and by `dustrun mcp`.

    scripts/bench mcp_calls [--scale 300]

`scale` is the number of calls of each tool. A median above 10 ms fails; through the pipes of `dustrun mcp`, which opens
a connection for each message, it is shown beside.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from testkit.composition import DEFINITION
from testkit.server_process import ServerProcess

Json = dict[str, Any]
DEFAULT_SCALE: Final = 300
_MOST_MS: Final = 10.0
_WARM: Final = 20


@asynccontextmanager
async def _client(url: str, key: str, era: Any) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=era) as client,
    ):
        yield client


async def _made(server: ServerProcess, path: str, body: Json) -> Any:
    headers = {"Authorization": f"Bearer {server.owner_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(server.base + path, json=body) as answer,
    ):
        return (await answer.json())["data"]


async def _times(client: Client, calls: dict[str, Json], scale: int) -> Json:
    found: Json = {}
    for tool, arguments in calls.items():
        taken = []
        for number in range(_WARM + scale):
            begun = time.perf_counter()
            result = await client.call_tool(tool, arguments)
            if number >= _WARM:
                taken.append((time.perf_counter() - begun) * 1000)
            if result.is_error:
                raise RuntimeError(f"{tool} failed: {result.content}")
        ordered = sorted(taken)
        found[tool] = {
            "medianMs": round(statistics.median(taken), 2),
            "p99Ms": round(ordered[int(len(ordered) * 0.99)], 2),
        }
    return found


async def _measure(scale: int) -> Json:
    with tempfile.TemporaryDirectory(prefix="dustrun-bench-") as folder:
        server = ServerProcess(Path(folder) / "data", {})
        server.start()
        try:
            await server.wait_ready()
            key = (await _made(server, "/v1/api-keys", {"name": "bench", "scope": "mcp"}))["key"]
            flow = await _made(server, "/v1/workflows", {"name": "a", "description": "", "definition": DEFINITION})
            url = f"{server.base}/mcp"
            async with _client(url, key, "auto") as client:
                run = await client.call_tool("simulate", {"workflowId": flow["id"], "waitS": 30})
                run_id = getattr(run.content[0], "text", "").partition('"runId":"')[2].partition('"')[0]
                calls: dict[str, Json] = {
                    "search_nodes": {"query": "send"},
                    "list_workflows": {},
                    "get_workflow": {"id": flow["id"]},
                    "validate_workflow": {"definition": DEFINITION},
                    "get_report": {"runId": run_id},
                    "simulate": {"workflowId": flow["id"], "waitS": 30},
                }
                found: Json = {"2026-07-28": await _times(client, calls, scale)}
            async with _client(url, key, "legacy") as client:
                found["2025-11-25"] = await _times(client, calls, scale)
            environment = {**os.environ, "DUSTRUN_API_KEY": key, "DUSTRUN_SERVER": server.base}
            program = StdioServerParameters(command=sys.executable, args=["-m", "dustrun", "mcp"], env=environment)
            async with Client(stdio_client(program)) as client:
                found["dustrun mcp"] = await _times(client, {"list_workflows": {}}, scale)
            return found
        finally:
            await server.stop()


def run(scale: int | None = None, seed: int = 1) -> Json:
    """Milliseconds a call, by era and tool."""
    del seed
    found = asyncio.run(_measure(scale or DEFAULT_SCALE))
    failures = [
        f"{tool} ({era}): {taken['medianMs']} ms"
        for era, tools in found.items()
        if era != "dustrun mcp"
        for tool, taken in tools.items()
        if taken["medianMs"] > _MOST_MS
    ]
    return {**found, "failures": failures}
