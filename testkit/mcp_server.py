"""A real MCP server, made with the official SDK: on loopback, or as a program that speaks through its pipes.

    python -m testkit.mcp_server RECORD

It writes each call of a tool as a line of the file RECORD.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

ROOT = Path(__file__).parent.parent


class Calls:
    """What was called, in a file, since another process may write it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.touch()

    def note(self, what: str) -> None:
        """Adds a call."""
        with self._file.open("a") as lines:
            lines.write(f"{what}\n")

    def seen(self) -> list[str]:
        """All calls so far."""
        return self._file.read_text().splitlines()


def tools(calls: Calls, *, is_changed: bool = False) -> MCPServer:
    """A server with tools that read, write, fail, hang, answer too much, and answer what somebody else wrote."""
    server = MCPServer("small")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True), description="Other" if is_changed else "Looks up")
    def look_up(word: str) -> dict[str, str]:
        calls.note(f"look_up {word}")
        return {"found": word.upper()}

    @server.tool()
    def store(text: str) -> str:
        calls.note(f"store {text}")
        return f"stored {text}"

    @server.tool()
    def fail(text: str) -> str:
        raise ToolError(f"no {text}")

    @server.tool()
    async def hang(text: str) -> str:
        calls.note(f"hang {text}")
        await asyncio.sleep(600)
        return text

    @server.tool()
    def flood(megabytes: int) -> str:
        calls.note(f"flood {megabytes}")
        return "x" * (megabytes * 1_000_000)

    @server.tool()
    def environment() -> dict[str, str]:
        return dict(os.environ)

    return server


@asynccontextmanager
async def serving(server: MCPServer, port: int = 0) -> AsyncIterator[int]:
    """The server on loopback; gives its port."""
    import uvicorn  # slow import, which the program does without

    listener = socket.create_server(("127.0.0.1", port))
    found: int = listener.getsockname()[1]
    app = server.streamable_http_app()
    running = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    task = asyncio.create_task(running.serve([listener]))
    try:
        yield found
    finally:
        running.should_exit = True
        await task
        listener.close()


def command(record: Path) -> list[str]:
    """The command line of the server as a program; `testkit/mcp_program.py` is one that starts at once."""
    return [sys.executable, "-P", str(ROOT / "testkit" / "mcp_server.py"), str(record)]


if __name__ == "__main__":
    asyncio.run(tools(Calls(Path(sys.argv[1]))).run_stdio_async())
