"""What a request of a route consists of."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from testkit.routes.drivers import body_of
from testkit.routes.stored import Stored

Prepare = Callable[[Stored], Awaitable[Mapping[str, str]]]
Body = Callable[[Stored], Any]
_PLACE = re.compile(r"\{(\w+)\}")
_RUN = re.compile(rb'"(?:runId|id)":"(run_\w+)"')


@dataclass(frozen=True, slots=True)
class Drive:
    """One request of a route. `values`: what its placeholders are, or the names under which it is stored. `before` runs
    before each repetition, unwatched, and may give further values. `runs`: the run that the request begins or steers,
    whose end is awaited."""

    values: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    body: Body | None = None
    before: Prepare | None = None
    runs: bool = False
    is_refused: bool = False
    """Whether it cannot succeed here: it asks somebody outside."""


def get(query: str = "", before: Prepare | None = None, **values: str) -> Drive:
    """Reads something large."""
    return Drive(values, query, before=before)


def send(body: Any = None, before: Prepare | None = None, *, runs: bool = False, **values: str) -> Drive:
    """Sends a document, which may depend on what is stored."""
    made = body if callable(body) or body is None else lambda _: body
    return Drive(values, "", made, before, runs)


def first(method: str, path: str) -> Prepare:
    """Makes a request before, whatever it answers: what it does may be done already."""

    async def prepare(stored: Stored) -> Mapping[str, str]:
        status, answer = await stored.drivers.call(method, path.format_map(stored.known))
        assert status in (200, 409), (path, answer[:300])
        return {}

    return prepare


async def mcp_session(stored: Stored) -> Mapping[str, str]:
    """Opens a session of the MCP server, which the next request names."""
    drivers, about = stored.drivers, {"name": "test", "version": "1"}
    hello = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {"url": {}}}, "clientInfo": about}
    drivers.next_headers = [(b"accept", b"application/json, text/event-stream")]
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    status, answer = await drivers.call("POST", "/mcp", body_of(message))
    assert status == 200, answer[:300]
    drivers.next_headers = [(b"mcp-session-id", drivers.answered[b"mcp-session-id"])]
    return {}


@dataclass(slots=True)
class Prepared:
    """A request of one route, ready to be sent again and again."""

    stored: Stored
    method: str
    template: str
    drive: Drive
    name: str
    size: int = 0
    _values: Mapping[str, str] = field(default_factory=dict)
    _path: str = ""
    _body: bytes | None = None

    async def prepare(self) -> None:
        """Makes what the request uses up, and its body."""
        drive, stored = self.drive, self.stored
        found = await drive.before(stored) if drive.before is not None else {}
        named = {name: stored.known.get(value, value) for name, value in drive.values.items()}
        self._values = {**named, **found}
        self._path = _PLACE.sub(lambda place: self._values[place[1]], self.template + drive.query)
        self._body = None if drive.body is None else body_of(drive.body(stored))
        self.size = len(self._body or b"")

    async def send(self) -> None:
        """Sends it; it must succeed. The end of its run is awaited."""
        status, answer = await self.stored.drivers.call(self.method, self._path, self._body)
        good = (403,) if self.drive.is_refused else (200, 201, 202, 204)
        assert status in good, (self.method, self._path, answer[:500])
        self.size = max(self.size, len(answer))
        if self.drive.runs:
            run_id = self._values["run"] if "run" in self._values else _RUN.search(answer)[1].decode()  # type: ignore[index]
            await self.stored.until(run_id)
