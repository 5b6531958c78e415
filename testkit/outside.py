"""A server outside of Dustrun that counts what asks it, and holds its first answer until it is told to go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.test_utils import TestServer

_WITHIN_S = 60.0


class Outside:
    """Answers each request with its number. `holds`: the path whose first request waits; None: the first of all."""

    def __init__(self, holds: str | None = None) -> None:
        self.asked: list[str] = []
        """The paths, in order."""
        self.go_on = asyncio.Event()
        self.base = ""
        self._holds = holds

    async def handle(self, request: web.Request) -> web.Response:
        """One request."""
        self.asked.append(request.path)
        number = len(self.asked)
        held = self._holds or self.asked[0]
        if request.path == held and self.asked.count(held) == 1:
            await self.go_on.wait()
        return web.json_response({"number": number})

    async def until(self, count: int, path: str | None = None) -> None:
        """Waits until it was asked so often, in all or for a path."""
        async with asyncio.timeout(_WITHIN_S):
            while (len(self.asked) if path is None else self.asked.count(path)) < count:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def outside_server(holds: str | None = None) -> AsyncIterator[Outside]:
    """Runs one on a free port."""
    found = Outside(holds)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    async with TestServer(app) as server:
        found.base = str(server.make_url("")).rstrip("/")
        try:
            yield found
        finally:
            found.go_on.set()  # the server waits for what it still answers
