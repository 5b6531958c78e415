"""Real servers on loopback and a resolver that answers as told: what the tests of outgoing HTTP run against."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from dustrun.outbound.client import OutboundClient
from dustrun.outbound.resolver import Resolver

Answer = Callable[["Seen"], web.StreamResponse | Awaitable[web.StreamResponse]]
Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    request: web.BaseRequest = field(repr=False, compare=False)


@dataclass(slots=True)
class Server:
    """A server that keeps what arrived."""

    host: str
    port: int
    seen: list[Seen]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """An aiohttp server that answers every request with `answer`."""
    seen: list[Seen] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen.append(Seen(request.method, request.path_qs, headers, await request.read(), request))
        found = answer(seen[-1])
        return found if isinstance(found, web.StreamResponse) else await found

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0, ssl_context=tls).start()
        yield Server(host, runner.addresses[0][1], seen)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving_raw(handle: Raw) -> AsyncIterator[str]:
    """A bare TCP server; yields its URL."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def read_head(reader: asyncio.StreamReader) -> None:
    """Reads the head of a request."""
    await reader.readuntil(b"\r\n\r\n")


def reset(writer: asyncio.StreamWriter) -> None:
    """Breaks a connection off without ceremony (TCP RST)."""
    writer.transport.abort()


@asynccontextmanager
async def client(
    allow: Sequence[str] = ("127.0.0.1",),
    max_bytes: int = 100_000,
    per_host: int = 10,
    resolver: Resolver | None = None,
) -> AsyncIterator[OutboundClient]:
    """A started client that may reach 127.0.0.1 (and no other loopback address)."""
    made = OutboundClient(allow, max_bytes, per_host, resolver=resolver)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


class ScriptedResolver:
    """Answers each look-up of any name with the next of its answers, and keeps to the last."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str) -> Sequence[str]:
        """The next answer."""
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class FailingResolver:
    """Knows no name."""

    async def resolve(self, host: str) -> Sequence[str]:
        """Never an answer."""
        raise OSError(-2, f"{host}: name or service not known")


def json_answer(value: Any, status: int = 200, **headers: str) -> web.Response:
    """A JSON answer of ready text or bytes."""
    return web.Response(body=value, status=status, content_type="application/json", headers=headers)
