"""Sessions of clients of the handshake revisions that can be asked something: the answer to a question arrives as a
request of its own, and has to find the call that waits for it. Every other request is answered by itself.

A session is no right: each of its requests is authenticated, and does what its own key may. Imported with the SDK.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from mcp.server.lowlevel.server import Server
from mcp.server.runner import serve_loop
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER, StreamableHTTPServerTransport
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from dustrun import ids
from dustrun.errors import TooMany
from dustrun.services.access.protocol_sessions import ProtocolSessions

IDLE_S: Final = 1_800
_UNKNOWN: Final = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "There is no such session."}}
CanBeAsked = Callable[[dict[str, Any]], bool]
"""Whether a client with these capabilities gets a session."""


def header(scope: Scope, name: str) -> str | None:
    """A header's value."""
    wanted = name.lower().encode()
    return next((value.decode("latin-1").strip() for key, value in scope["headers"] if key == wanted), None)


def session_of(scope: Scope) -> str | None:
    """The session that a request names; a request of a later revision has none."""
    revision = header(scope, MCP_PROTOCOL_VERSION_HEADER)
    if revision is not None and revision not in HANDSHAKE_PROTOCOL_VERSIONS:
        return None
    return header(scope, MCP_SESSION_ID_HEADER)


def opens(scope: Scope, body: bytes, can_be_asked: CanBeAsked) -> bool:
    """Whether a request is the handshake of a client that can be asked, and reads streams."""
    if b'"initialize"' not in body or "text/event-stream" not in (header(scope, "accept") or ""):
        return False
    try:
        message = json.loads(body)
        is_handshake = isinstance(message, dict) and message.get("method") == "initialize"
        return is_handshake and can_be_asked(message["params"]["capabilities"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False  # what is wrong with it, the protocol tells


async def serve_session(
    book: ProtocolSessions, key_id: str, session_id: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answers a request in its session; 404 if there is none, after which a client begins anew."""
    found = book.find(session_id, key_id)
    if found is None:
        await JSONResponse(_UNKNOWN, 404)(scope, receive, send)
        return
    transport: StreamableHTTPServerTransport = found.carrier
    await transport.handle_request(scope, receive, send)
    if transport.is_terminated:
        book.forget(session_id)


async def open_session(
    book: ProtocolSessions, key_id: str, server: Server[Any], scope: Scope, receive: Receive, send: Send
) -> None:
    """Answers the handshake, and keeps a session for what follows; raises `TooMany`."""
    session_id = ids.new_secret("ses")
    transport = StreamableHTTPServerTransport(mcp_session_id=session_id, idle_timeout=IDLE_S)
    began = asyncio.Event()
    task = asyncio.create_task(_carry(book, session_id, transport, server, began))
    try:
        book.add(session_id, key_id, transport, task.cancel)
    except TooMany:
        task.cancel()
        raise
    await began.wait()
    status: list[int] = []

    async def watched(message: Any) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
        await send(message)

    try:
        await transport.handle_request(scope, receive, watched)
    finally:
        if not status or status[0] >= 400:  # nothing was agreed
            task.cancel()


async def _carry(
    book: ProtocolSessions,
    session_id: str,
    transport: StreamableHTTPServerTransport,
    server: Server[Any],
    began: asyncio.Event,
) -> None:
    """Carries a session until it is idle for long, or ended."""
    try:
        async with server.lifespan(server) as state, transport.connect() as (reading, writing):
            began.set()
            assert transport.idle_scope is not None
            with transport.idle_scope:
                await serve_loop(server, reading, writing, lifespan_state=state, session_id=session_id)
    finally:
        began.set()
        book.forget(session_id)
        if not transport.is_terminated:
            await asyncio.shield(transport.terminate())
