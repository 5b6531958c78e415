"""A receiver of hooks on loopback that verifies every signature with the library of Standard Webhooks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from testkit.listening import listening

Answer = Callable[["Received"], web.StreamResponse]


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in. `message` is its body, if its signature is right."""

    path: str
    headers: dict[str, str]
    raw: bytes
    message: dict[str, Any] | None
    status: int = 0

    @property
    def type(self) -> str:
        """The event's type."""
        return str(json.loads(self.raw)["type"])

    @property
    def data(self) -> dict[str, Any]:
        """What it tells of the event."""
        found: dict[str, Any] = json.loads(self.raw)["data"]
        return found


@dataclass(slots=True)
class Receiver:
    """What came in, and how to answer it: `answer` decides, after `delay_s`."""

    url: str = ""
    secrets: list[str] = field(default_factory=list)
    got: list[Received] = field(default_factory=list)
    answer: Answer = lambda _: web.Response(text="thanks")
    delay_s: float = 0.0
    now_inside: int = 0
    most_inside: int = 0

    @property
    def taken(self) -> list[Received]:
        """What was answered with a 2xx."""
        return [one for one in self.got if 200 <= one.status < 300]

    def types(self) -> list[str]:
        """The types of what was taken, in order."""
        return [one.type for one in self.taken]

    async def until(self, count: int, within_s: float = 60.0) -> list[Received]:
        """What was taken, once that is so much."""
        async with asyncio.timeout(within_s):
            while len(self.taken) < count:
                await asyncio.sleep(0.01)
        return self.taken

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Verifies, waits, answers, and then records."""
        self.now_inside += 1
        self.most_inside = max(self.most_inside, self.now_inside)
        try:
            raw = await request.read()
            headers = {name.lower(): value for name, value in request.headers.items()}
            read = Received(request.path, headers, raw, self._verified(raw, headers))
            await asyncio.sleep(self.delay_s)
            answer = self.answer(read)
            self.got.append(Received(read.path, headers, raw, read.message, answer.status))
            return answer
        finally:
            self.now_inside -= 1

    def _verified(self, raw: bytes, headers: dict[str, str]) -> dict[str, Any] | None:
        for secret in self.secrets:
            try:
                found: dict[str, Any] = Webhook(secret).verify(raw, headers)
            except WebhookVerificationError:
                continue
            return found
        return None


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None)
    async with listening(runner) as receiver.url:
        yield receiver
