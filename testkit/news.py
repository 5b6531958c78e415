"""A source of news on loopback: a page whose content a test changes, with validators, counts and failures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass(slots=True)
class News:
    """What is served, to whom, and how often. `status` other than 200 is answered instead. `needs`: what the header
    Authorization must be; others get 401. `leads_to`: every request is redirected there."""

    url: str = ""
    content: Any = None
    status: int = 200
    needs: str | None = None
    leads_to: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    sent: list[tuple[str, str]] = field(default_factory=list)
    """The path with its query, and the body, of each request."""
    pages: dict[str, Any] = field(default_factory=dict)
    """What is served instead of `content`, by a text that the address or the body has."""
    unchanged: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        """Answers 304 if the content is the one that the caller knows."""
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        text = await request.text()
        self.sent.append((request.path_qs, text))
        if self.status != 200:
            return web.Response(status=self.status, headers=self.headers, text="not now")
        if self.needs is not None and request.headers.get("Authorization") != self.needs:
            return web.Response(status=401, text=f"not with {request.headers.get('Authorization')}")
        if self.leads_to is not None:
            return web.Response(status=307, headers={"Location": self.leads_to})
        content = next((one for name, one in self.pages.items() if name in request.path_qs + text), self.content)
        is_text = isinstance(content, str)
        body = content if is_text else json.dumps(content)
        tag = f'"{hashlib.sha256(body.encode()).hexdigest()[:12]}"'
        if request.headers.get("If-None-Match") == tag:
            self.unchanged += 1
            return web.Response(status=304, headers={"ETag": tag})
        kind = "application/xml" if is_text else "application/json"
        return web.Response(text=body, content_type=kind, headers={"ETag": tag, **self.headers})


@asynccontextmanager
async def serving() -> AsyncIterator[News]:
    """A source on a free port."""
    news = News()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", news.handle)
    async with TestServer(app) as server:
        news.url = str(server.make_url("/news"))
        yield news
