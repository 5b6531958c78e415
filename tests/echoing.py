"""An outside system that repeats whatever it is sent, in every spelling, and an OAuth 2 provider beside it."""

from __future__ import annotations

import asyncio
import base64
import html
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote

from aiohttp import web


@dataclass(slots=True)
class Echo:
    """The running system: what it was sent, and what its provider does."""

    host: str = "127.0.0.1"
    port: int = 0
    seen: list[web.Request] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    """The forms of the requests for a token, with the header Authorization as `auth`."""
    good_tokens: set[str] | None = None
    """Which bearer tokens are accepted by `/guarded`."""
    token_prefix: str = "access"
    refresh_prefix: str | None = None
    expires_in: Any = 3600
    slow_s: float = 0.0
    token_error: str | None = None
    """With which error the provider refuses to give a token."""
    tells_token: bool = False
    """Whether the provider repeats the token as its type."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def credentials(self) -> list[str | None]:
        """The headers Authorization of all requests but those for a token."""
        return [request.headers.get("Authorization") for request in self.seen]

    # --- the handlers ---

    async def echo(self, request: web.Request) -> web.Response:
        """200 with everything in every spelling."""
        self.seen.append(request)
        sent = await _sent(request)
        raw = sent.encode()
        shown = {
            "text": sent,
            "json": json.dumps(sent),
            "percent": quote(sent, safe=""),
            "base64": [base64.b64encode(b"x" * shift + raw).decode() for shift in range(3)],
            "urlsafe": base64.urlsafe_b64encode(raw).decode(),
            "hex": raw.hex(),
            "html": html.escape(sent),
            "headers": dict(request.headers),
            "names": dict.fromkeys(sent.split(), 1),
        }
        return web.json_response(shown, headers={"X-Echo": sent.replace("\n", " ")[:4000]})

    async def fail(self, request: web.Request) -> web.Response:
        """500 with everything, so placed that a piece of 300 characters cuts through a secret."""
        self.seen.append(request)
        sent = await _sent(request)
        cut = int(request.query.get("cut", "0"))
        return web.Response(status=500, text="." * cut + sent)

    async def binary(self, request: web.Request) -> web.Response:
        """200 with bytes that are no text."""
        self.seen.append(request)
        body = b"\xff\xfe" + (await _sent(request)).encode()
        return web.Response(body=body, content_type="application/octet-stream")

    async def hang(self, request: web.Request) -> web.Response:
        """Nothing, for long."""
        self.seen.append(request)
        await asyncio.sleep(60)
        return web.Response()

    async def guarded(self, request: web.Request) -> web.Response:
        """401 unless the token is a good one."""
        self.seen.append(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        is_good = self.good_tokens is None or token in self.good_tokens
        return web.json_response({"said": token}, status=200 if is_good else 401)

    async def redirect(self, request: web.Request) -> web.Response:
        """Somewhere else, as the query says, with the whole request in the address."""
        self.seen.append(request)
        to = request.query["to"]
        return web.Response(status=int(request.query.get("status", "302")), headers={"Location": to})

    async def token(self, request: web.Request) -> web.Response:
        """A token (RFC 6749 §5.1)."""
        form = {name: values[0] for name, values in parse_qs(await request.text()).items()}
        self.asked.append({**form, "auth": request.headers.get("Authorization", "")})
        await asyncio.sleep(self.slow_s)
        if self.token_error is not None:
            return web.json_response({"error": self.token_error}, status=400)
        number = len(self.asked)
        token = f"{self.token_prefix}-{number}"
        answer: dict[str, Any] = {"access_token": token, "token_type": token if self.tells_token else "Bearer"}
        if self.expires_in is not None:
            answer["expires_in"] = self.expires_in
        if self.refresh_prefix is not None:
            answer["refresh_token"] = f"{self.refresh_prefix}-{number}"
        return web.json_response(answer)

    async def no_token(self, request: web.Request) -> web.Response:
        """400 that repeats the request."""
        text = await request.text()
        said = f"{'.' * 280}{text} {request.headers.get('Authorization', '')}"
        return web.json_response({"error": "invalid_client", "error_description": said}, status=400)


async def _sent(request: web.Request) -> str:
    headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    return f"{request.method} {request.raw_path}\n{headers}\n\n{await request.text()}"


@asynccontextmanager
async def echoing(host: str = "127.0.0.1") -> AsyncIterator[Echo]:
    """The system, on a free port."""
    echo = Echo(host)
    app = web.Application()
    for name in ("echo", "fail", "binary", "hang", "guarded", "redirect", "token", "no_token"):
        app.router.add_route("*", f"/{name}", getattr(echo, name))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    echo.port = runner.addresses[0][1]
    try:
        yield echo
    finally:
        await runner.cleanup()
