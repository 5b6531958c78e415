"""The least of an MCP server: it shakes hands and lists tools, without a library, so that it takes no time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from testkit.listening import listening

Json = dict[str, Any]
_SCHEMA: Json = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


def listed(*names: str, description: str = "Looks something up.", schema: Json | None = None) -> list[Json]:
    """Tools as a server lists them."""
    hints = {"readOnlyHint": True}
    return [
        {"name": name, "description": description, "inputSchema": schema or _SCHEMA, "annotations": hints}
        for name in names
    ]


def answer_of(asked: Json, tools: list[Json], called: Callable[[], Any] | None = None) -> Json | None:
    """The answer to a message; None to a notification. `called`: what every tool answers."""
    if "id" not in asked:
        return None
    hello = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "plain"}}
    results: dict[str, Json] = {"initialize": hello, "tools/list": {"tools": tools}}
    if called is not None and asked["method"] == "tools/call":
        results["tools/call"] = {"content": [], "structuredContent": called()}
    return {"jsonrpc": "2.0", "id": asked["id"], "result": results[asked["method"]]}


@asynccontextmanager
async def plain_mcp(tools: list[Json], called: Callable[[], Any] | None = None) -> AsyncIterator[str]:
    """The server on loopback; gives its address. `called`: what every tool answers."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = answer_of(await request.json(), tools, called)
        return web.Response(status=202) if answer is None else web.json_response(answer)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    async with listening(runner) as origin:
        yield f"{origin}/mcp"


def connector(url: str, name: str = "tools") -> Json:
    """A connector to a server."""
    origin = url.rpartition("/")[0]
    return {"type": "mcp", "name": name, "data": {"url": url}, "allowedHosts": [origin]}
