"""One HTTP exchange; classifies failures as certainly not sent or outcome unknown.

Imports aiohttp, so it is imported itself only when the first request is sent.
"""

from __future__ import annotations

import io
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, cast

import aiohttp
from aiohttp.abc import AbstractResolver

from dustrun.errors import DustrunError, Permanent
from dustrun.outbound.progress import Progress
from dustrun.outbound.resolver import GuardedResolver, Target

_USER_AGENT: Final = "dustrun"
# Below the 5 s after which common servers close idle connections, which would break a request sent just then.
_KEEPALIVE_S: Final = 4.0
_LARGE_BODY: Final = 65_536
_UNLIMITED: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None)


class _Broken(Exception):
    """The connection broke during a request. Not an aiohttp error, since aiohttp would retry the request."""


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Broken from error


async def _mark_sent(_session: Any, context: SimpleNamespace, _event: Any) -> None:
    context.trace_request_ctx.left()


def make_session(
    resolver: GuardedResolver, *, reuse: bool, instead: Sequence[aiohttp.ClientMiddlewareType] = ()
) -> aiohttp.ClientSession:
    """A session without cookies, proxies and redirects; `reuse` keeps connections open for later requests. `instead`
    sees each answer where no `Progress` comes with the requests."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_mark_sent)  # called right before the first byte is written
    kept_s = _KEEPALIVE_S if reuse else None
    names = cast(AbstractResolver, resolver)  # it does not inherit from it, so that a start need not import aiohttp
    connector = aiohttp.TCPConnector(resolver=names, limit=0, force_close=not reuse, keepalive_timeout=kept_s)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        timeout=_UNLIMITED,
        headers={"User-Agent": _USER_AGENT},
        skip_auto_headers=("Content-Type",),
        trace_configs=[] if instead else [trace],
        middlewares=instead or (_send_once,),
    )


@asynccontextmanager
async def exchange(
    session: aiohttp.ClientSession,
    target: Target,
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    progress: Progress,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Sends one request; inside the context, status and headers are available and the body can be read."""
    try:
        async with session.request(
            method,
            target.url,
            headers=headers,
            data=_payload(body),
            allow_redirects=False,
            trace_request_ctx=progress,
        ) as response:
            yield response
    except (aiohttp.ClientError, _Broken, OSError) as error:
        raise _translate(error, progress) from error


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """Wraps a large body so that it is written in parts, which keeps the event loop responsive."""
    return body if body is None or len(body) < _LARGE_BODY else io.BytesIO(body)


def _translate(error: Exception, progress: Progress) -> DustrunError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return Permanent(f'The certificate of "{progress.host}" is not valid: {error}.')
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return progress.failure("the name cannot be resolved")
    if isinstance(error, aiohttp.ClientSSLError):
        return progress.failure("no secure connection could be made")
    if isinstance(error, aiohttp.ClientConnectorError):
        return progress.failure(f"no connection could be made{_reason(error)}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return progress.failure("the response was cut off or cannot be decoded")
    if isinstance(error, aiohttp.ClientResponseError):
        return progress.failure("the response is not valid HTTP")
    return progress.failure("the connection broke before the response was complete")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """The system's error text only: aiohttp's message would reveal the resolved address."""
    return f" ({os.strerror(error.errno)})" if error.errno else ""


async def read_body(
    response: aiohttp.ClientResponse,
    limit: int,
    host: str,
    *,
    cuts: bool = False,
    heard: Callable[[bytes], None] | None = None,
) -> bytes:
    """The decoded body; stops reading once it exceeds `limit` bytes, and raises `Permanent` unless it `cuts`. `heard`
    is called with the pieces of an event stream."""
    body = bytearray()
    tell = heard if response.status == 200 and response.content_type == "text/event-stream" else None
    async for chunk in response.content.iter_any():
        body += chunk
        if tell is not None:
            tell(chunk)
        if len(body) > limit:
            response.close()
            if cuts:
                return bytes(body[:limit])
            raise Permanent(f'The answer of "{host}" is larger than {limit} bytes (maxBytes, outbound_max_bytes).')
    return bytes(body)
