"""Runs the action as the engine does: through the catalogue's contract, with a real client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from dustrun.actions.http.http_request import http_request
from dustrun.sdk import Connection, testing
from dustrun.sdk.context import Http
from outbound.loopback import client

NOW_MS = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
KEY = "dustrun-0123"


class FakeContext(testing.FakeContext):
    """A `ctx` with a real way out."""

    def __init__(
        self, http: Http, *, idempotency_key: str = KEY, now_ms: int = NOW_MS, connection: Connection | None = None
    ) -> None:
        super().__init__(connection=connection)
        self.idempotency_key = idempotency_key
        self.now_ms = now_ms
        self._real = http

    @property
    def http(self) -> Http:  # type: ignore[override]
        """The real way out."""
        return self._real

    @property
    def said(self) -> list[str]:
        """What the action told, as text."""
        return [f"{line.level}: {line.message}" for line in self.logs] + [report.message for report in self.reports]


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
