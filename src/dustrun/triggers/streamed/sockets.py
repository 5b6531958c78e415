"""Connections of clients that are no part of asyncio: to an address that the guard has allowed, in threads of their
own, and waited for on the event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

T = TypeVar("T")
_BLOCKING: Final = ThreadPoolExecutor(max_workers=16, thread_name_prefix="stream-client")
"""Threads that wait for a peer for some seconds: connecting must not keep others from looking up names."""


class NamedTls(ssl.SSLContext):
    """Checks a server's certificate for a name, whatever address is connected to."""

    name: str

    @classmethod
    def of(cls, name: str) -> NamedTls:
        """The context for a host name; the machine's certificates are trusted."""
        made = cls(ssl.PROTOCOL_TLS_CLIENT)
        made.load_default_certs()
        made.name = name
        return made

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Encrypts a connection to the name. The handshake is part of it, which closes the connection if it fails; a
        client that does it later may leave it open."""
        return super().wrap_socket(
            sock, *args, **{**options, "server_hostname": self.name, "do_handshake_on_connect": True}
        )

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        """The same for asyncio, which reads and writes by itself."""
        return super().wrap_bio(incoming, outgoing, *args, **{**options, "server_hostname": self.name})


async def blocking(work: Callable[..., T], *arguments: Any) -> T:
    """The result of a call that waits for a peer, for some seconds at most."""
    return await asyncio.get_running_loop().run_in_executor(_BLOCKING, work, *arguments)


async def until_readable(sock: socket.socket, timeout_s: float) -> bool:
    """Waits until a socket has something to read; False if the time is up."""
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock.fileno(), lambda: None if ready.done() else ready.set_result(None))
    try:
        async with asyncio.timeout(timeout_s):
            await ready
        return True
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(sock.fileno())
