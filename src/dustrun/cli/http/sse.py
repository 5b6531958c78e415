"""Server-Sent Events: a parser, and a reader that reconnects and resumes."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dustrun.cli.http.client import Client
from dustrun.cli.http.failures import CliError, Exit
from dustrun.core.values import exact_json
from dustrun.records import dataclass

_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
_GIVE_UP_S = 300.0


@dataclass(frozen=True, slots=True)
class Message:
    """One event: its type, data and id."""

    event: str
    data: str
    id: str | None


def parse(lines: Iterable[bytes]) -> Iterator[Message]:
    """Parses lines into events; skips comments and unknown fields, drops an incomplete last event."""
    event, data, last_id = "message", list[str](), None
    for raw in lines:
        line = raw.decode("utf-8").rstrip("\r\n")
        if not line:
            if data:
                yield Message(event, "\n".join(data), last_id)
            event, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            last_id = value


class Stream:
    """The events of one URL; reconnects with `Last-Event-ID` when the connection breaks."""

    def __init__(self, client: Client, path: str, on_break: Callable[[str], None] | None = None) -> None:
        self._client = client
        self._path = path
        self._on_break = on_break or (lambda _: None)
        self._last_id: str | None = None
        self._response: http.client.HTTPResponse | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._is_over = False

    def open(self) -> None:
        """Connects; on a reconnect, resumes after the last event."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        self._response, self._connection = self._client.open("GET", self._path, headers=headers)
        if self._response.status == 204:
            self._is_over = True
        elif self._response.status != 200:
            self._client.raise_failure(self._response)

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields each event once, until the server ends the stream."""
        while not self._is_over:
            try:
                yield from self._messages()
            except (OSError, http.client.HTTPException) as error:
                self._on_break(str(error) or type(error).__name__)
            if not self._is_over:
                self._reconnect()

    def _messages(self) -> Iterator[dict[str, Any]]:
        if self._response is None:
            self.open()
        if self._is_over or self._response is None:
            return
        for message in parse(self._response):
            if message.event == "end":
                self._is_over = True
                return
            self._last_id = message.id if message.id is not None else self._last_id
            yield exact_json.loads_own(message.data)

    def _reconnect(self) -> None:
        self.close()
        wait_s, broken_at = _FIRST_WAIT_S, time.monotonic()
        while True:
            time.sleep(wait_s)
            try:
                return self.open()
            except CliError as error:
                if error.exit is not Exit.SERVER or time.monotonic() - broken_at > _GIVE_UP_S:
                    raise
                self._on_break(error.message)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
