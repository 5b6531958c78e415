"""Connections that stay open: event streams over HTTP, and WebSockets.

Imports aiohttp, so it is imported itself only when the first one is opened. A reader is asked for one piece at a time;
what is not asked for stays with the sender, since aiohttp stops reading from the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

import aiohttp

from dustrun.errors import Permanent, Temporary
from dustrun.outbound.resolver import Target
from dustrun.sdk.context import NoConnection, TooLarge

_CLOSE_S: Final = 5.0
T = TypeVar("T")


class _Pieces(Generic[T]):
    """Reads one piece after another; a wait that is given up loses none."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._pending: asyncio.Future[T] | None = None

    async def next(self, within_s: float) -> T | None:
        """The next piece; None if none comes in time."""
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._read())
        done, _ = await asyncio.wait({self._pending}, timeout=within_s)
        if not done:
            return None
        piece, self._pending = self._pending, None
        return await piece

    async def stop(self) -> None:
        """Gives up what is being waited for."""
        if self._pending is not None:
            self._pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._pending


class Incoming:
    """The answer to a request whose body is read as it comes."""

    def __init__(self, response: aiohttp.ClientResponse, headers: Mapping[str, str]) -> None:
        self.status = response.status
        self.headers = headers
        self._pieces = _Pieces(response.content.readany)

    async def read(self, within_s: float) -> bytes | None:
        """The next bytes; empty at the end, None if nothing comes in time. Raises `Temporary` if it breaks."""
        try:
            return await self._pieces.next(within_s)
        except (aiohttp.ClientError, OSError):
            raise Temporary("The connection broke.") from None

    async def stop(self) -> None:
        """Reads nothing more."""
        await self._pieces.stop()


class Socket:
    """An open WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[Any], max_bytes: int) -> None:
        self._socket = socket
        self._max_bytes = max_bytes
        self._pieces = _Pieces(socket.receive)

    async def send(self, text: str) -> None:
        """Sends a text message; raises `Temporary` if it is closed."""
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError, RuntimeError):
            raise Temporary("The connection broke.") from None

    async def receive(self, within_s: float) -> str | bytes | None:
        """The next message; None if none comes in time. Raises `Temporary` once it is closed, which says why:
        `TooLarge` if a message is."""
        message = await self._pieces.next(within_s)
        if message is None:
            return None
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            found: str | bytes = message.data
            return found
        if message.type is aiohttp.WSMsgType.ERROR:
            if getattr(message.data, "code", None) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                raise TooLarge(f"A message is larger than {self._max_bytes} bytes.")
            raise Temporary("The connection broke.")
        reason = message.extra if isinstance(message.extra, str) and message.extra else ""
        raise Temporary(f"The source closed the connection (code {self._socket.close_code}){_told(reason)}.")

    async def stop(self) -> None:
        """Receives nothing more."""
        await self._pieces.stop()


def _told(reason: str) -> str:
    return f": {reason[:200]}" if reason else ""


async def refuse_redirect(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Fails where a WebSocket is redirected: aiohttp would follow, past the guard and with the credential."""
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise _Redirected(response.status)
    return response


class _Redirected(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@asynccontextmanager
async def open_socket(
    session: aiohttp.ClientSession,
    target: Target,
    headers: Mapping[str, str],
    *,
    protocols: tuple[str, ...],
    max_bytes: int,
    heartbeat_s: float | None,
) -> AsyncIterator[Socket]:
    """Opens a WebSocket; raises `Temporary`, or `Permanent` where the server will never take it."""
    try:
        socket = await session.ws_connect(
            target.url,
            headers=headers,
            protocols=protocols,
            max_msg_size=max_bytes,
            heartbeat=heartbeat_s,
            timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
        )
    except _Redirected as error:
        raise Permanent(
            f'"{target.host}" redirects the connection (status {error.status}); name where it leads to.'
        ) from None
    except aiohttp.WSServerHandshakeError as error:
        message = f'"{target.host}" answers with status {error.status} instead of a WebSocket.'
        raise NoConnection(message, error.status) from None
    except aiohttp.ClientConnectorCertificateError:
        raise Permanent(f'The certificate of "{target.host}" is not valid.') from None
    except (aiohttp.ClientError, OSError) as error:
        raise NoConnection(f'No connection to "{target.host}" could be made.') from error
    found = Socket(socket, max_bytes)
    try:
        yield found
    finally:
        await found.stop()
        with contextlib.suppress(Exception):
            await socket.close()
