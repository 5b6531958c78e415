"""A network in memory: hosts by name, and on the way to each what goes wrong on real ones.

The server's own HTTP client runs over it unchanged, to the byte. `Host.answer` gets whole requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from aiohttp import connector

from testkit.simulation.loop import OUTSIDE, Loop

FAULTS: Final = ("refused", "lost", "reset", "cut", "silent", "drip", "twice")
"""No connection; broken before the request arrived; after it was answered; in the middle of the answer; no answer ever;
an answer in small parts; the request arrives twice, as an impatient proxy sends it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as a host reads it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    is_again: bool = False
    """The network delivers it a second time."""


@dataclass(slots=True)
class Host:
    """`answer` gives status and body. `faults`: by name, how many of a thousand exchanges each hits. `latency_s`: the
    longest way of one message. `away`: from when until when the host cannot be reached."""

    name: str
    answer: Callable[[Request], tuple[int, bytes]]
    faults: dict[str, int] = field(default_factory=dict)
    latency_s: float = 0.05
    away: tuple[float, float] = (0.0, 0.0)


class Network:
    """All hosts; `chance` decides what goes wrong, and `counts` says how often it did."""

    def __init__(self, loop: Loop, chance: random.Random) -> None:
        self.loop = loop
        self.chance = chance
        self.counts: Counter[str] = Counter()
        self._hosts: dict[str, Host] = {}
        self._goes_to: dict[int, Host] = {}
        loop.resolve, loop.connect, loop.open = self._resolve, self._connect, self._open

    def add(self, host: Host) -> Host:
        """A host by its name; each has an address of its own."""
        self._hosts[host.name] = host
        return host

    def _resolve(self, name: str) -> str:
        if name not in self._hosts:
            raise OSError(f"no such name in the simulation: {name}")
        return f"93.184.216.{list(self._hosts).index(name) + 1}"

    def fate(self, host: Host) -> str:
        """What happens to one exchange: a fault's name, or nothing."""
        if host.away[0] <= self.loop.now < host.away[1]:
            self.counts["away"] += 1
            return "silent"
        drawn = self.chance.randrange(1000)
        for name, share in host.faults.items():
            drawn -= share
            if drawn < 0:
                self.counts[name] += 1
                self.loop.say(f"a message to {host.name} is hit by: {name}")
                return name
        return ""

    def way_s(self, host: Host) -> float:
        """How long one message takes."""
        return self.chance.random() * host.latency_s

    async def _connect(self, sock: Any, address: tuple[str, int]) -> None:
        host = list(self._hosts.values())[int(address[0].rpartition(".")[2]) - 1]
        await asyncio.sleep(self.way_s(host))
        if self.chance.randrange(1000) < host.faults.get("refused", 0):
            self.counts["refused"] += 1
            raise ConnectionRefusedError(111, "Connection refused")
        self._goes_to[sock.fileno()] = host

    def _open(self, protocol_factory: Callable[[], Any], sock: Any) -> tuple[Any, Any]:
        host, protocol = self._goes_to.pop(sock.fileno()), protocol_factory()
        sock.close()
        transport = _Stream(self, host, protocol)
        protocol.connection_made(transport)
        return transport, protocol


@contextlib.contextmanager
def virtual_cache_of_names(loop: Loop) -> Iterator[None]:
    """Context manager: aiohttp's cache of resolved names, and what it knows of idle connections, which read
    the machine's clock, read the loop's."""
    clocks: Any = connector
    before, clocks.monotonic = clocks.monotonic, loop.time
    try:
        yield
    finally:
        clocks.monotonic = before


@lru_cache(1000)
def _read(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path and headers of a request."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    method, path, _ = first.split(" ")
    return method, path, headers


class _Stream(asyncio.Transport):
    """One connection of the server to a host, on which requests follow each other."""

    def __init__(self, network: Network, host: Host, protocol: Any) -> None:
        super().__init__()
        self._network = network
        self._host = host
        self._protocol = protocol
        self._sent = b""
        self._is_closed = False
        self._life = network.loop.life()

    def write(self, data: Any) -> None:
        """Bytes of a request; once it is whole, it is on its way."""
        self._sent += bytes(data)
        request = self._taken()
        if request is not None and not self._is_closed:
            fate = self._network.fate(self._host)
            self._later(self._network.way_s(self._host), lambda: self._arrive(request, fate))

    def _taken(self) -> Request | None:
        head, mark, body = self._sent.partition(b"\r\n\r\n")
        if not mark:
            return None
        method, path, headers = _read(head)
        size = int(headers.get("content-length", 0))
        if len(body) < size:
            return None
        self._sent = body[size:]
        return Request(method, path, headers, body[:size])

    def _later(self, after_s: float, step: Callable[[], Any]) -> None:
        """A step of the outside, which the server's death does not end."""
        self._network.loop.call_later(after_s, step, context=OUTSIDE)

    def _arrive(self, request: Request, fate: str) -> None:
        network, host = self._network, self._host
        network.loop.point(host.name, life=self._life)
        if fate == "silent":
            return
        if fate == "lost":
            return self._break()
        network.loop.say(f"{host.name} gets {request.method} {request.path}")
        status, body = host.answer(request)
        if fate == "twice":
            host.answer(replace(request, is_again=True))
        network.loop.point(host.name, life=self._life)
        self._later(network.way_s(host), lambda: self._reply(status, body, fate))

    def _reply(self, status: int, body: bytes, fate: str) -> None:
        if fate == "reset":
            return self._break()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if 300 <= status < 400:
            headers["Location"] = body.decode()  # a redirect says where to, and nothing else
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        answer = f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body
        if fate == "cut":
            self._give(answer[: len(answer) // 2])
            return self._break()
        if fate == "drip":
            return self._drip(answer)
        self._give(answer)

    def _drip(self, answer: bytes) -> None:
        self._give(answer[:40])
        if len(answer) > 40:
            self._later(0.2, lambda: self._drip(answer[40:]))

    def _give(self, data: bytes) -> None:
        self._soon(lambda: self._is_closed or self._protocol.data_received(data))

    def _break(self) -> None:
        def broken() -> None:
            if not self._is_closed:
                self._is_closed = True
                self._protocol.connection_lost(ConnectionResetError(104, "Connection reset by peer"))

        self._soon(broken)

    def _soon(self, step: Callable[[], Any]) -> None:
        """A step of the server: it happens only if the server still lives."""
        loop = self._network.loop
        if loop.is_alive(self._life):
            loop.call_soon(step, context=loop.context_of(self._life))

    def close(self) -> None:
        """The server closes it."""
        if not self._is_closed:
            self._is_closed = True
            self._soon(lambda: self._protocol.connection_lost(None))

    abort = close

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._is_closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Nothing is known about it."""
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """It takes all."""

    def get_write_buffer_size(self) -> int:
        """It takes all at once."""
        return 0

    def pause_reading(self) -> None:
        """Answers are small."""

    def resume_reading(self) -> None:
        """Answers are small."""

    def is_reading(self) -> bool:
        """Always."""
        return True
