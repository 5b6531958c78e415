"""Runs the action as the engine does: through the catalogue's contract, with a real client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from dustrun.actions.http.http_request import http_request
from dustrun.sdk import Script
from dustrun.sdk.context import Http
from outbound.loopback import client

NOW_MS = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
KEY = "dustrun-0123"


@dataclass(slots=True)
class FakeContext:
    """A `ctx` with a real way out, that keeps what the action says."""

    http: Http
    idempotency_key: str = KEY
    now_ms: int = NOW_MS
    said: list[str] = field(default_factory=list)

    @property
    def script(self) -> Script:
        """Not for this action."""
        raise AssertionError

    def log(self, message: str, *, level: str = "info", data: Any = None) -> None:
        """Kept."""
        self.said.append(f"{level}: {message}")

    def progress(self, message: str, *, percent: int | None = None) -> None:
        """Kept."""
        self.said.append(message)


@dataclass(slots=True)
class Caller:
    """Runs the action with payloads."""

    ctx: FakeContext

    async def __call__(self, **payload: Any) -> dict[str, Any]:
        """The result as the engine stores it."""
        output = await http_request.run(http_request.input.model_validate(payload), self.ctx)
        result: dict[str, Any] = output.model_dump(by_alias=True)
        return result


@asynccontextmanager
async def calling(max_bytes: int = 100_000) -> AsyncIterator[Caller]:
    """A caller whose client may reach 127.0.0.1."""
    async with client(max_bytes=max_bytes) as http:
        yield Caller(FakeContext(http))
