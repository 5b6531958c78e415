"""Asks the MCP server of a connector for its tools."""

from __future__ import annotations

from dataclasses import replace

from dustrun.errors import DustrunError, Permanent
from dustrun.sdk.context import HttpRequest, HttpResponse
from dustrun.sdk.mcp.session import session_with
from dustrun.sdk.mcp.tools import ListedTool
from dustrun.sdk.threads import run_sized
from dustrun.services.connectors.connections import Connections, OpenConnector
from dustrun.services.connectors.noted import NotedCommands


async def list_tools(connections: Connections, opened: OpenConnector) -> dict[str, ListedTool]:
    """The tools as the server describes them now; raises what a node would, without secrets."""
    http, mask = _Authorized(connections, opened), opened.mask
    commands = NotedCommands(connections.commands, opened)
    try:
        async with session_with(opened.connection.data, http, commands) as session:
            found = await session.list_tools()
    except DustrunError as error:
        raise type(error)(mask.text(error.message), code=error.code, retry_after_s=error.retry_after_s) from None
    if any(mask.text(name) != name for name in found):
        raise Permanent("The MCP server names a tool after a secret of the connector, which may be shown nowhere.")
    return found


class _Authorized:
    """The guarded client, with the connector's headers on each request. It masks answers as a run does, since tools are
    compared by what a run sees of them."""

    def __init__(self, connections: Connections, opened: OpenConnector) -> None:
        self._http = connections.http
        self._opened = opened

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends one request."""
        answer = await self._opened.send(self._http, replace(request, authorize=self._opened.authorize))
        return replace(answer, body=await run_sized(answer.body, self._opened.mask.bytes, answer.body))
