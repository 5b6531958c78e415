"""`/mcp`: the MCP server for assistants, and where its clients learn how to authenticate.

The OpenAPI document leaves both out: what is said there is another protocol, which describes itself by `tools/list`.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from dustrun.api.auth import admit_outside, bearer_of
from dustrun.api.envelope import failure, request_id
from dustrun.api.limits import check_content_type, read_body
from dustrun.api.routing import ForeignRoute
from dustrun.errors import Forbidden, Unauthenticated
from dustrun.operations.declaration.operation import ANY_KEY, PUBLIC
from dustrun.operations.declaration.parts import Parts, parts_of

# Which web pages may speak to `/mcp`: those of this server, and of programs on the browser's own machine.
#
# A page elsewhere could reach a server on the visitor's machine by a name that leads there (DNS rebinding). It has no
# key; the specification asks servers to refuse it all the same. Programs send no `Origin`.


_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def check_origin(scope: Scope, base_url: str) -> None:
    """Raises `Forbidden` for a request of a page that is neither of this server nor local."""
    for name, value in scope["headers"]:
        if name == b"origin" and not _is_ours(value.decode("latin-1"), base_url):
            raise Forbidden("A page of another origin may not use MCP here.")


def _is_ours(origin: str, base_url: str) -> bool:
    try:
        found, own = urlsplit(origin.strip()), urlsplit(base_url)
        same = (found.scheme, found.hostname, found.port) == (own.scheme, own.hostname, own.port)
    except ValueError:
        return False
    return same or (found.scheme in ("http", "https") and found.hostname in _LOCAL)


MOST_BODY_BYTES: Final = 524_288
_METADATA: Final = "/.well-known/oauth-protected-resource/mcp"


async def call_mcp(scope: Scope, receive: Receive, send: Send) -> None:
    """Call the MCP server.

    One JSON-RPC message of the Model Context Protocol, over its transport Streamable HTTP. The tools are
    those that the key may use; see the guide on MCP. A body has at most 512 KiB."""
    await _answer(scope, receive, send)


async def end_mcp_session(scope: Scope, receive: Receive, send: Send) -> None:
    """End a session of the MCP server.

    Names it in `Mcp-Session-Id`; only clients that open pages have one."""
    await _answer(scope, receive, send)


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    parts = parts_of(scope)
    try:
        if bearer_of(scope) is None:  # a browser's session is no client of this
            raise Unauthenticated("Send your API key as `Authorization: Bearer <key>`.")
        check_origin(scope, parts.settings.base_url())
        principal = await admit_outside(parts, scope)
    except Unauthenticated as error:
        wrong = ', error="invalid_token"' if bearer_of(scope) is not None else ""
        where = f'Bearer resource_metadata="{parts.settings.base_url()}{_METADATA}"{wrong}'
        await failure(error, request_id(scope), {"WWW-Authenticate": where})(scope, receive, send)
        return
    body = await read_body(scope, receive, min(MOST_BODY_BYTES, parts.settings.max_body_bytes))
    if scope["method"] == "POST":
        check_content_type(scope)
    protocol = await _protocol()
    await protocol.serve(parts, principal, body, scope, receive, send)


async def _protocol() -> Any:
    """The module that speaks it, imported beside the event loop by the first request."""
    return await asyncio.to_thread(importlib.import_module, "dustrun.api.mcp.protocol")  # slow import: the SDK


async def get_mcp_resource(scope: Scope, receive: Receive, send: Send) -> None:
    """Get how clients of `/mcp` authenticate.

    The metadata of a protected resource (RFC 9728): API keys in the header, and the issuer of tokens if any."""
    await JSONResponse(_metadata(parts_of(scope)))(scope, receive, send)


def _metadata(parts: Parts) -> dict[str, Any]:
    return {
        "resource": f"{parts.settings.base_url()}/mcp",
        "resource_name": "Dustrun",
        "bearer_methods_supported": ["header"],
        **({"authorization_servers": [issuer]} if (issuer := parts.settings.oauth_issuer) else {}),
    }


raw_routes = [
    ForeignRoute("/mcp", call_mcp, method="POST", permission=ANY_KEY),
    ForeignRoute("/mcp", end_mcp_session, method="DELETE", permission=ANY_KEY),
    ForeignRoute(_METADATA, get_mcp_resource, permission=PUBLIC),
]
