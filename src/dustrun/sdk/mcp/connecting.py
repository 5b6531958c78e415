"""Opens a session with the server of a connector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dustrun.sdk.context import Http
from dustrun.sdk.mcp.session import McpSession
from dustrun.sdk.mcp.wires import HttpWire, ProgramWire
from dustrun.sdk.programs.commands import CommandLine, Commands


@asynccontextmanager
async def session_with(data: Any, http: Http, commands: Commands) -> AsyncIterator[McpSession]:
    """A session for one look or one call; `data` is that of a connector of type `mcp`."""
    if data.command is not None:
        async with commands.start(command_of(data)) as program:
            yield McpSession(ProgramWire(program))
        return
    wire = HttpWire(http, data.url)
    try:
        yield McpSession(wire)
    finally:
        await wire.end()


def command_of(data: Any) -> CommandLine:
    """The command of a connector that has one."""
    return CommandLine(data.command, tuple(data.args), data.env)
