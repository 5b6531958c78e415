"""Drives each route of a server with what its path needs, through ASGI, so that no client works on the loop."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any

from testkit.composition import Composition

LIMIT = 1_048_576
_PLACE = re.compile(r"\{(\w+)\}")
_STREAM_S = 0.2


def body_of(document: Any) -> bytes:
    """The document as JSON without spaces."""
    return json.dumps(document, separators=(",", ":")).encode()


def worst_body(fields: list[str]) -> bytes:
    """A body of the largest size with a list of wrong items in each field, and as many unknown fields."""
    share = (LIMIT - 1000) // (len(fields) + 1)
    lists = {name: ["a"] * (share // 4 - 20) for name in fields}
    return body_of({**lists, **{f"k{number}": "a" for number in range(share // 13 - 20)}})


@dataclass(slots=True)
class Drivers:
    """`values`: by path or its beginning, what stands for each placeholder; the longest beginning counts."""

    server: Composition
    values: dict[str, dict[str, str]] = field(default_factory=dict)

    def path(self, template: str) -> str | None:
        """The path of a route with its placeholders filled; None when one of them is unknown."""
        known: dict[str, str] = {}
        for start in sorted(self.values, key=len):
            if template.startswith(start):
                known |= self.values[start]
        if not {*_PLACE.findall(template)} <= known.keys():
            return None
        return _PLACE.sub(lambda found: known[found[1]], template)

    async def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """The status and the body of the answer. The reader of a stream leaves after a moment."""
        bare, _, query = path.partition("?")
        headers = [(b"host", b"test"), (b"authorization", f"Bearer {self.server.owner_key}".encode())]
        headers += [(b"content-type", b"application/json")] if body is not None else []
        scope = {"type": "http", "method": method, "path": bare, "query_string": query.encode(), "headers": headers,
                 "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("test", 80),
                 "root_path": "", "raw_path": bare.encode(), "state": {}}  # fmt: skip
        asked = [{"type": "http.request", "body": body or b"", "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            if asked:
                return asked.pop()
            await asyncio.sleep(_STREAM_S)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.server.app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)
