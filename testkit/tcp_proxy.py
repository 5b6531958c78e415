"""A TCP proxy on loopback whose connections can be cut: the network between two machines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TcpProxy:
    """Passes connections on to what `connect` opens."""

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        self.port = 0
        self._connect = connect
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._is_cut = False
        self._flows = asyncio.Event()
        self._flows.set()

    async def start(self) -> None:
        """Listens on a port of its own."""
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self, for_s: float) -> None:
        """Ends every connection, and takes no new one for so long."""
        self._is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(for_s)
        self._is_cut = False

    async def hold(self, for_s: float) -> None:
        """Passes nothing on for so long, and ends nothing: packets get lost."""
        self._flows.clear()
        await asyncio.sleep(for_s)
        self._flows.set()

    async def stop(self) -> None:
        """Ends it."""
        self._flows.set()
        if self._server is not None:
            self._server.close()
            await self.cut(0)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            behind_reader, behind = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, behind}
        await asyncio.gather(
            self._copy(reader, behind, is_from_client=True), self._copy(behind_reader, writer, is_from_client=False)
        )
        self._writers -= {writer, behind}

    def pass_on(self, chunk: bytes, *, is_from_client: bool) -> bytes | None:
        """What goes on of a chunk; None ends the connection."""
        return chunk

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_from_client: bool) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while chunk := await reader.read(65_536):
                await self._flows.wait()
                passed = self.pass_on(chunk, is_from_client=is_from_client)
                if passed is None:
                    break
                writer.write(passed)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()
