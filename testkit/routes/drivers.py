"""Drives each route of a server with what its path needs, through ASGI, so that no client works on the loop."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from testkit.composition import Composition

_STREAM_S = 0.2


def body_of(document: Any) -> bytes:
    """The document as JSON without spaces."""
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass(slots=True)
class Drivers:
    """Calls the routes of a server with its owner's key."""

    server: Composition
    next_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Further headers of the next request."""
    next_key: str | None = None
    """Another key than the owner's, of the next request."""
    answered: dict[bytes, bytes] = field(default_factory=dict)
    """The headers of the last answer."""

    async def call(
        self, method: str, path: str, body: bytes | None = None, *, key: str | None = None
    ) -> tuple[int, bytes]:
        """The status and the body of the answer. The reader of a stream leaves when nothing came for a moment."""
        bare, _, query = path.partition("?")
        headers = [
            (b"host", b"localhost"),
            (b"authorization", f"Bearer {key or self.next_key or self.server.owner_key}".encode()),
        ]
        headers += [(b"content-type", b"application/json")] if body is not None else []
        headers, self.next_headers, self.next_key = headers + self.next_headers, [], None
        scope = {"type": "http", "method": method, "path": bare, "query_string": query.encode(), "headers": headers,
                 "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("test", 80),
                 "root_path": "", "raw_path": bare.encode(), "state": {}}  # fmt: skip
        asked = [{"type": "http.request", "body": body or b"", "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            if asked:
                return asked.pop()
            seen = -1
            while seen != len(sent):
                seen = len(sent)
                await asyncio.sleep(_STREAM_S)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.server.app(scope, receive, send)
        self.answered = dict(sent[0]["headers"])
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)
