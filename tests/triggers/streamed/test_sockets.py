"""A certificate is checked for the name that the connector gives, although an address is connected to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from dustrun.triggers.streamed.sockets import NamedTls, blocking, until_readable
from testkit.certificates import self_signed


async def test_a_certificate_is_checked_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    served, certificate = self_signed(tmp_path, "mqtt.example.com")

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=served) as server:
        port = server.sockets[0].getsockname()[1]

        def context_of(name: str, *, trusts: bool) -> ssl.SSLContext:
            context = NamedTls.of(name)
            if trusts:
                context.load_verify_locations(certificate)
            return context

        def connect(name: str, *, trusts: bool) -> ssl.SSLSocket:
            context = context_of(name, trusts=trusts)
            return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5), server_hostname="127.0.0.1")

        opened = await blocking(lambda: connect("mqtt.example.com", trusts=True))
        assert await until_readable(opened, 5)
        assert opened.recv(10) == b"hello"
        opened.close()
        for name, trusts in (("other.example.com", True), ("mqtt.example.com", False)):
            with pytest.raises(ssl.SSLCertVerificationError):
                await blocking(lambda name=name, trusts=trusts: connect(name, trusts=trusts))
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("127.0.0.1", port, ssl=context_of(name, trusts=trusts))
        context = context_of("mqtt.example.com", trusts=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert await reader.read(10) == b"hello"
        writer.close()


async def test_waiting_for_a_silent_socket_ends() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not await until_readable(one, 0.01)
        other.send(b"x")
        assert await until_readable(one, 5)
