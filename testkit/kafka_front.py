"""What stands before the tests' Kafka broker, which has neither: encryption, and logins by SASL.

It speaks what is said before a login (KIP-43, KIP-152), then passes bytes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct

from scramp import ScramException, ScramMechanism

from testkit.ports import free_port

_VERSIONS, _HANDSHAKE, _AUTHENTICATE = 18, 17, 36
_NO_ERROR, _UNSUPPORTED_MECHANISM, _FAILED = 0, 33, 58


class KafkaFront:
    """`user` and `password` log in by one of `mechanisms`; without one, nobody has to."""

    def __init__(self, user: str, password: str, mechanisms: list[str], tls: ssl.SSLContext | None = None) -> None:
        self.port, self.broker_port = free_port(), 0
        self.mechanisms, self.password, self.logins = mechanisms, password, list[str]()
        """`logins`: the mechanisms of those who have logged in."""
        self._user, self._tls = user, tls
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, broker_port: int) -> None:
        """Listens, before a broker that says that it is here."""
        self.broker_port = broker_port
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)

    def cut(self) -> None:
        """Ends every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        """Ends it."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        to_broker = None
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.broker_port)
            self._writers |= {writer, to_broker}
            if not self.mechanisms or await self._logs_in(reader, writer, from_broker, to_broker):
                await asyncio.gather(_pass_on(reader, to_broker), _pass_on(from_broker, writer))
        except (OSError, EOFError):  # who has connected is gone
            pass
        for one in [writer] if to_broker is None else [writer, to_broker]:
            one.close()
            with contextlib.suppress(OSError):
                await one.wait_closed()
        self._writers -= {writer, to_broker}

    async def _logs_in(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_broker: asyncio.StreamReader,
        to_broker: asyncio.StreamWriter,
    ) -> bool:
        mechanism, steps = "", None
        while True:
            frame = await _read(reader)
            api, version, number, length = struct.unpack_from(">hhih", frame)
            body = frame[10 + max(0, length) :]
            if api == _VERSIONS:
                assert version <= 2, "the newer header is not read here"
                _write(to_broker, frame)
                _write(writer, _with_logins(await _read(from_broker)))
            elif api == _HANDSHAKE:
                mechanism = body[2:].decode()
                steps = None if mechanism not in self.mechanisms else self._steps(mechanism)
                names = b"".join(_text(one) for one in self.mechanisms)
                error = _UNSUPPORTED_MECHANISM if steps is None else _NO_ERROR
                _write(writer, struct.pack(">ihi", number, error, len(self.mechanisms)) + names)
            elif api == _AUTHENTICATE and steps is not None:
                answer = steps.step(body[4:])
                if answer is None:
                    said = _text(f"Authentication failed: invalid credentials with SASL mechanism {mechanism}")
                    _write(writer, struct.pack(">ih", number, _FAILED) + said + struct.pack(">i", 0))
                    await writer.drain()
                    return False
                _write(writer, struct.pack(">ihhi", number, _NO_ERROR, -1, len(answer)) + answer)
                if steps.is_done:
                    self.logins.append(mechanism)
                    return True
            else:  # as brokers do with who has not logged in
                return False

    def _steps(self, mechanism: str) -> _Plain | _Scram:
        return (_Plain if mechanism == "PLAIN" else _Scram)(mechanism, self._user, self.password)


class _Plain:
    """A login by PLAIN (RFC 4616)."""

    def __init__(self, _: str, user: str, password: str) -> None:
        self._wants, self.is_done = [user, password], False

    def step(self, said: bytes) -> bytes | None:
        """The answer; None: refused."""
        self.is_done = said.decode().split("\0")[1:] == self._wants
        return b"" if self.is_done else None


class _Scram:
    """A login by SCRAM (RFC 5802)."""

    def __init__(self, mechanism: str, user: str, password: str) -> None:
        scram = ScramMechanism(mechanism)
        salt, stored, server, rounds = scram.make_auth_info(password, iteration_count=4096)
        known = {user: (salt, stored, server, rounds)}
        self._server, self._is_first, self.is_done = scram.make_server(lambda name: known[name]), True, False

    def step(self, said: bytes) -> bytes | None:
        """The answer; None: refused."""
        try:
            if self._is_first:
                self._is_first = False
                self._server.set_client_first(said.decode())
                return str(self._server.get_server_first()).encode()
            self._server.set_client_final(said.decode())
            self.is_done = True
            return str(self._server.get_server_final()).encode()
        except (ScramException, KeyError):
            return None


def _with_logins(answer: bytes) -> bytes:
    """What the broker says that it knows, and logins."""
    number, error, count = struct.unpack_from(">ihi", answer)
    known = {api: (least, most) for api, least, most in struct.iter_unpack(">hhh", answer[10 : 10 + 6 * count])}
    known |= {_HANDSHAKE: (1, 1), _AUTHENTICATE: (0, 0)}
    told = b"".join(struct.pack(">hhh", api, *versions) for api, versions in sorted(known.items()))
    return struct.pack(">ihi", number, error, len(known)) + told + answer[10 + 6 * count :]


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


async def _read(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _write(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()
    writer.close()
