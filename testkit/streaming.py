"""A source of streams on loopback: numbered messages over server-sent events and WebSockets, kept and sent again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer


@dataclass(slots=True)
class Source:
    """Messages `{"n": 1}`, `{"n": 2}` …; who resumes gets those after a number. `keeps`: the newest that are sent
    again; `numbers`: whether events have ids; `ends`: each event stream ends as soon as it is open. `status` other than
    200 is answered instead. `needs`: what the header Authorization must be. `leads_to`: every request is redirected
    there."""

    url: str = ""
    keeps: int = 1_000_000
    numbers: bool = True
    ends: bool = False
    padding: int = 0
    status: int = 200
    needs: str | None = None
    leads_to: str | None = None
    last: int = 0
    leaves_out: frozenset[int] = frozenset()
    heard: list[str] = field(default_factory=list)
    resumed: list[str | None] = field(default_factory=list)
    sent: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: dict[int, web.Request] = field(default_factory=dict)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def emit(self, count: int = 1) -> None:
        """So many more messages."""
        self.last += count
        self._changed.set()

    @property
    def _more(self) -> str:
        return f', "padding": "{"x" * self.padding}"' if self.padding else ""

    def cut(self) -> None:
        """Breaks every connection."""
        for one in list(self._connections.values()):
            if one.transport is not None:
                one.transport.abort()

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.leads_to is not None:
            return web.Response(status=307, headers={"Location": self.leads_to})
        if self.status != 200:
            return web.Response(status=self.status, text="not now")
        if self.needs is not None and request.headers.get("Authorization") != self.needs:
            return web.Response(status=401, text="who are you?")
        return None

    async def _from(self, after: int) -> AsyncIterator[int]:
        """The numbers after one, as they come."""
        at = max(after, self.last - self.keeps)
        while True:
            while at < self.last:
                at += 1
                if at not in self.leaves_out:
                    yield at
            self._changed.clear()
            await self._changed.wait()

    async def sse(self, request: web.Request) -> web.StreamResponse:
        """An event stream."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        given = request.headers.get("Last-Event-ID")
        self.resumed.append(given)
        after = int(given) if given else self.last  # whoever waits for the reader may emit from here on
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": hello\n\n")
        if self.ends:
            return response
        self._connections[id(request)] = request
        with suppress(ConnectionError):
            try:
                async for n in self._from(after):
                    id_line = f"id: {n}\r\n" if self.numbers else ""
                    name = "even" if n % 2 == 0 else "odd"
                    await response.write(f'event: {name}\n{id_line}data: {{\ndata: "n": {n}{self._more}}}\n\n'.encode())
                    self.sent += 1
            finally:
                self._connections.pop(id(request), None)
        return response

    async def ws(self, request: web.Request) -> web.StreamResponse:
        """A WebSocket: waits for `{"op": "subscribe"}`, with `since` or without."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._connections[id(request)] = request
        sender: asyncio.Task[None] | None = None
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self.heard.append(message.data)
                    asked = json.loads(message.data)
                    if asked.get("op") == "subscribe":
                        since = asked.get("since")
                        self.resumed.append(since)
                        sender = asyncio.ensure_future(self._send(socket, self.last if since is None else since))
        finally:
            self._connections.pop(id(request), None)
            if sender is not None:
                sender.cancel()
        return socket

    async def _send(self, socket: web.WebSocketResponse, since: int) -> None:
        await socket.send_str('{"type": "welcome"}')
        async for n in self._from(since):
            await socket.send_str(f'{{"type": "tick", "n": {n}{self._more}}}')
            self.sent += 1


@asynccontextmanager
async def streaming() -> AsyncIterator[Source]:
    """A source on a free port."""
    source = Source()
    app = web.Application()
    app.router.add_get("/sse", source.sse)
    app.router.add_get("/ws", source.ws)
    async with TestServer(app) as server:
        source.url = str(server.make_url("")).rstrip("/")
        try:
            yield source
        finally:
            source.cut()
