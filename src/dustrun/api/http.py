"""uvicorn's HTTP protocol, plus our envelope for malformed requests and a limit on the size of a request's head."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dustrun import ids
from dustrun.api.envelope import failure_body
from dustrun.errors import Code, Invalid

_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD_LIMIT = 65_536
"""Maximum bytes of request line and headers, since the parser has no limit. The first chunk is not checked."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._messages = 0
        self._head: int | None = None

    def on_message_begin(self) -> None:
        """A request starts."""
        super().on_message_begin()
        self._messages += 1
        self._head = 0

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        self._head = None
        super().on_headers_complete()
        is_new = self.cycle is not None and self.cycle.transport is self.transport
        if is_new and self.cycle.scope["method"] != "HEAD":  # whose answer has no body that would take the head along
            self.cycle.transport = _Answering(self.transport)

    def data_received(self, data: bytes) -> None:
        """Counts received bytes towards the current head, unless they started another request."""
        before = self._messages
        super().data_received(data)
        if self._head is None or self._messages != before or self.transport.is_closing():
            return
        self._head += len(data)
        if self._head > HEAD_LIMIT:
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Answers a malformed request, and closes the connection."""
        request_id = ids.new_id("req")
        says = f"The request is not valid HTTP, or its head is larger than {HEAD_LIMIT} bytes."
        body = failure_body(Invalid(says, code=Code.REQUEST_UNREADABLE), request_id)
        head = (
            "HTTP/1.1 400 Bad Request",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            "connection: close",
        )
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        self.transport.close()


class _Answering(asyncio.Transport):
    """The connection as one answer writes to it: the head waits for the first piece of the body, so that one system
    call sends both. Measured: saves 5% of the run call's CPU time."""

    __slots__ = ("_has_begun", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._has_begun = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Writes a piece of the answer, or keeps the head until the next piece."""
        if self._has_begun or data == _GO_ON:
            self._transport.write(data)
        elif self._head is None:
            self._head = bytes(data)
        else:
            self._has_begun = True
            self._transport.write(self._head + data)

    def close(self) -> None:
        """Closes the connection; a head without a body is sent first."""
        if self._head is not None and not self._has_begun:
            self._has_begun = True
            self._transport.write(self._head)
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed or closing."""
        return self._transport.is_closing()
