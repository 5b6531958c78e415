"""Calls that answer when the workflow has ended, over keep-alive connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from bench.peers import WITHIN_S, Stuck, measuring
from bench.peers.processes import Running


class _Line:
    """One keep-alive connection, with as little work on our side as can be."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes) -> None:
        """One request; raises unless it is answered 2xx."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        assert self._reader is not None
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if answer[9:10] != b"2":
            raise Stuck(f"{path} was answered {answer[:200]!r}")
        await self._skip(answer.lower())

    async def _skip(self, head: bytes) -> None:
        assert self._reader is not None
        if b"content-length:" in head:
            await self._reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
            return
        while (size := int((await self._reader.readline()).split(b";")[0], 16)) >= 0:
            await self._reader.readexactly(size + 2)
            if size == 0:
                return

    def close(self) -> None:
        """Closes it."""
        if self._writer is not None:
            self._writer.close()


class _Lines:
    """As many connections as there are calls at once."""

    def __init__(self, port: int, body: bytes) -> None:
        self._port, self._body = port, body
        self._all: list[_Line] = []
        self._idle: list[_Line] = []

    def workflow(self, path: str) -> measuring.Workflow:
        """The workflow that a POST to `path` runs."""

        async def call(number: int) -> None:
            del number
            line = self._idle.pop() if self._idle else self._open()
            try:
                await line.post(path, self._body)
            except (OSError, EOFError) as error:  # it has died, or closes what it should answer
                raise Stuck(f"{path} was not answered: {error!r}") from error
            self._idle.append(line)

        return call

    def _open(self) -> _Line:
        line = _Line(self._port)
        self._all.append(line)
        return line

    def close(self) -> None:
        """Closes all of them, also those that wait for an answer."""
        for line in self._all:
            line.close()


def measure(
    port: int,
    three: str,
    forty: str,
    runs: int,
    peers: Sequence[Running],
    *,
    body: bytes = b"1",
    states: Callable[[], str] = str,
    ends_within_s: float = measuring.ENDS_WITHIN_S,
) -> dict[str, Any]:
    """`three` and `forty` are the paths of the workflows with 3 and with 40 steps; `peers` the processes whose
    processor time counts. If calls stay unanswered, `incomplete` says so, with `states` (what the peer says of its
    workflows) and the ends of the logs; the figures found before stand."""
    found: dict[str, Any] = {}

    async def bounded() -> None:
        lines = _Lines(port, body)
        figures = measuring.measure(
            lines.workflow(three),
            lines.workflow(forty),
            runs,
            lambda: sum(peer.cpu_s() for peer in peers),
            within_s=ends_within_s,
        )
        try:
            async with asyncio.timeout(WITHIN_S):
                await measuring.collect(found, figures)
        except TimeoutError:
            found["incomplete"] = f"it did not answer all calls within {WITHIN_S} s"
        finally:
            lines.close()

    asyncio.run(bounded())
    if "incomplete" in found:
        found["incomplete"] = "; ".join(filter(None, [found["incomplete"], states(), *(one.said() for one in peers)]))
    return found
