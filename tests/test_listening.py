"""Servers of tests close every connection, also one that comes as they close."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from testkit.listening import listening


async def test_a_connection_that_comes_at_the_end_is_closed() -> None:
    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async with listening(web.ServerRunner(web.Server(handle))) as origin:
        client = socket.create_connection(("127.0.0.1", int(origin.rpartition(":")[2])))
        for _ in range(2):  # the loop has taken it from the listener, and has made no transport yet
            await asyncio.sleep(0)
    client.setblocking(False)
    with client:
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), 10) == b""
