"""uvicorn's reading of HTTP, with our envelope for what it cannot read and a limit on how much head it keeps."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dustrun import ids
from dustrun.api.envelope import failure_body
from dustrun.errors import Code, Invalid

_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD_LIMIT = 65_536
"""Bytes of address and headers; the parser alone would keep any number. What comes with the first piece is let pass."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._messages = 0
        self._head: int | None = None

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._messages += 1
        self._head = 0

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._head = None
        super().on_headers_complete()
        is_new = self.cycle is not None and self.cycle.transport is self.transport
        if is_new and self.cycle.scope["method"] != "HEAD":  # whose answer has no body that would take the head along
            self.cycle.transport = _Answering(self.transport)

    def data_received(self, data: bytes) -> None:
        """Some bytes came: of this head, unless another one began in them."""
        before = self._messages
        super().data_received(data)
        if self._head is None or self._messages != before or self.transport.is_closing():
            return
        self._head += len(data)
        if self._head > HEAD_LIMIT:
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Answers what cannot be read, and hangs up."""
        request_id = ids.new_id("req")
        says = f"The request is no HTTP that the server reads, or its head is larger than {HEAD_LIMIT} bytes."
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
    """The connection as one answer writes to it: the head waits for the first piece of the body, as ASGI wants it, so
    that both leave in one call of the system. Measured: a twentieth of the run call's processor time."""

    __slots__ = ("_has_begun", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._has_begun = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Writes a piece of the answer, or keeps its head for the piece that follows."""
        if self._has_begun or data == _GO_ON:
            self._transport.write(data)
        elif self._head is None:
            self._head = bytes(data)
        else:
            self._has_begun = True
            self._transport.write(self._head + data)

    def close(self) -> None:
        """Hangs up; a head without a body goes out first."""
        if self._head is not None and not self._has_begun:
            self._has_begun = True
            self._transport.write(self._head)
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._transport.is_closing()
