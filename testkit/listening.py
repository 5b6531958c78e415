"""Servers of aiohttp on loopback, for tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def listening(runner: web.BaseRunner) -> AsyncIterator[str]:
    """Serves on a free port until the end; gives the origin, such as `http://127.0.0.1:4321`.

    It stops accepting one turn of the loop before it closes: asyncio accepts in one turn and makes the transport in the
    next, which fails, and leaves the socket open, if the server was closed between the two.
    """
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    try:
        await web.SockSite(runner, listener).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        asyncio.get_running_loop().remove_reader(listener)
        await asyncio.sleep(0)
        await runner.cleanup()
