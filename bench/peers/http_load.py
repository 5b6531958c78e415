"""Calls that answer when the workflow has ended, over keep-alive connections: how fast, 50 in flight and alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.peers import IN_FLIGHT, Unavailable, figures

_WITHIN_S = 240


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
            raise RuntimeError(f"{path} was answered {answer[:200]!r}")
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


async def _rate(port: int, path: str, body: bytes, runs: int) -> float:
    numbers = iter(range(runs))
    begun = time.perf_counter()

    async def work() -> None:
        line = _Line(port)
        for _ in numbers:
            await line.post(path, body)
        line.close()

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return runs / (time.perf_counter() - begun)


async def _alone(port: int, path: str, body: bytes, count: int) -> list[float]:
    line, times = _Line(port), []
    for _ in range(count):
        begun = time.perf_counter()
        await line.post(path, body)
        times.append(time.perf_counter() - begun)
    line.close()
    return times[count // 10 :]


async def _measure(port: int, three: str, forty: str, runs: int, body: bytes) -> dict[str, Any]:
    await _rate(port, three, body, max(IN_FLIGHT, runs // 10))
    rates = [await _rate(port, three, body, runs) for _ in range(3)]
    few = max(20, min(100, runs))
    return figures(rates, await _alone(port, three, body, few), await _alone(port, forty, body, max(5, few // 5)))


def measure(port: int, three: str, forty: str, runs: int, body: bytes = b"1") -> dict[str, Any]:
    """`three` and `forty` are the paths of the workflows with 3 and with 40 steps."""

    async def bounded() -> dict[str, Any]:
        async with asyncio.timeout(_WITHIN_S):
            return await _measure(port, three, forty, runs, body)

    try:
        return asyncio.run(bounded())
    except TimeoutError:
        raise Unavailable(f"it did not answer all calls within {_WITHIN_S} s") from None
