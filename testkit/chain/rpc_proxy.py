"""Endpoints that misbehave: small HTTP servers before a real node that pass on, lie, lag, limit or answer rubbish."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from testkit.listening import listening

Call = dict[str, Any]
Answer = dict[str, Any]


@dataclass
class Proxy:
    """A server in front of the node at `upstream`. `twist` may change an answer of a call, `reply` answers a whole
    request by itself, `delay_s` is how far away it is. `methods` are the calls that came through, `answered` the
    bytes that went back."""

    upstream: str
    twist: Callable[[Call, Answer], Answer] | None = None
    reply: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None
    delay_s: float = 0.0
    url: str = ""
    methods: list[str] = field(default_factory=list)
    requests: int = 0
    answered: int = 0
    _session: aiohttp.ClientSession | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One HTTP request."""
        self.requests += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.reply is not None:
            answer = await self.reply(request)
            if answer is not None:
                return answer
        body = await request.read()
        asked = json.loads(body)
        self.methods += [call["method"] for call in (asked if isinstance(asked, list) else [asked])]
        assert self._session is not None
        async with self._session.post(self.upstream, data=body, headers={"content-type": "application/json"}) as got:
            said = await got.json(content_type=None)
        if self.twist is not None:
            said = self._twisted(asked, said)
        text = json.dumps(said)
        self.answered += len(text)
        return web.json_response(text=text)

    def _twisted(self, asked: Any, said: Any) -> Any:
        assert self.twist is not None
        if isinstance(asked, dict):
            return self.twist(asked, said)
        by_id = {answer["id"]: answer for answer in said}
        return [self.twist(call, by_id[call["id"]]) for call in asked]


@asynccontextmanager
async def proxy(upstream: str, **options: Any) -> AsyncIterator[Proxy]:
    """Serves a proxy on 127.0.0.1 until the end."""
    served = Proxy(upstream, **options)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/{tail:.*}", served.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    async with aiohttp.ClientSession() as session, listening(runner) as served.url:
        served._session = session
        yield served
