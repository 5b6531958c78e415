"""A server outside of Dustrun that takes its time, and counts how many ask it at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.test_utils import TestServer


class SlowServer:
    """A slow server, which counts how many ask it at once, and how often in all. The first wait until `gathers` are
    there together, however far apart a busy machine starts them."""

    def __init__(self, gathers: int = 1) -> None:
        self.now = self.most = self.all = 0
        self._gathers = gathers
        self.base = ""

    async def handle(self, _request: web.Request) -> web.Response:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.2)
            while self.most < self._gathers:
                await asyncio.sleep(0.01)
        finally:  # it is cancelled when who asked is gone
            self.now -= 1
        return web.json_response({})


@contextlib.asynccontextmanager
async def outside_of(gathers: int = 1) -> AsyncIterator[SlowServer]:
    """Such a server, on a free port."""
    found = SlowServer(gathers)
    app = web.Application()
    app.router.add_get("/", found.handle)
    async with TestServer(app) as server:
        found.base = str(server.make_url("")).rstrip("/")
        yield found
