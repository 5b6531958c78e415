"""Readers that do not read: they slow nobody, cost the server little, and still get everything when they go on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp

from testkit.e2e.clients import places
from testkit.e2e.flows import loop
from testkit.e2e.server import Server

LARGE = "x" * 60_000  # near the most that an event carries of a result
READERS = 200


def _request(server: Server, run: str) -> bytes:
    head = f"GET /v1/runs/{run}/stream HTTP/1.0\r\nAuthorization: Bearer {server.key}\r\n\r\n"
    return head.encode()


@contextlib.contextmanager
def _stalled(server: Server, run: str, count: int) -> Iterator[list[socket.socket]]:
    """Connections that ask for a stream and then read nothing."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(count):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(_request(server, run))
            sockets.append(reader)
        yield sockets


def _cost(server: Server, workflow: str) -> float:
    """Processor time of the server while one reader follows a run to its end."""
    started = server.processor_s
    assert server.events_of(server.start_run(workflow))[-1]["status"] == "success"
    return server.processor_s - started


def _until_idle(server: Server) -> None:
    """Waits until the connections have been given what they take, which is longer on a busy machine."""
    until = time.monotonic() + 120
    used = server.processor_s
    while True:
        time.sleep(0.3)
        before, used = used, server.processor_s
        if used - before < 0.02:
            return
        assert time.monotonic() < until, "the server does not come to rest beside readers that do not read"


def _read_on(reader: socket.socket) -> list[int]:
    """The places of everything that is left on a connection."""
    reader.settimeout(60)
    parts = []
    while part := reader.recv(1 << 20):
        parts.append(part)
    return [int(line[4:]) for line in b"".join(parts).split(b"\n") if line.startswith(b"id: ")]


def test_readers_that_do_not_read_cost_little_memory_and_lose_nothing(server: Server) -> None:
    workflow = server.create_workflow(loop(150, LARGE, pause_ms=500))
    _cost(server, workflow)  # the run itself takes memory too
    before = server.rss_mib
    run = server.start_run(workflow)
    with _stalled(server, run, 20) as early:
        expected = places(server.events_of(run))
        with _stalled(server, run, 20) as late:
            small = server.create_workflow(loop(50))
            for _ in range(3):
                _cost(server, small)
            assert server.rss_mib - before < 100  # 40 readers of 18 MB each
            assert _read_on(early[0]) == expected
            assert _read_on(late[0]) == expected


def test_readers_that_do_not_read_do_not_slow_other_runs(server: Server) -> None:
    workflow = server.create_workflow(loop(300))
    alone = min(_cost(server, workflow) for _ in range(3))
    followed = server.start_run(server.create_workflow(loop(300, LARGE[:4000])))
    with _stalled(server, followed, 100):
        assert len(server.events_of(followed)) > 900
        _until_idle(server)
        beside = min(_cost(server, workflow) for _ in range(3))
    assert beside < alone * 3 + 0.2


async def test_two_hundred_streams_at_once_all_see_everything(server: Server) -> None:
    workflow = server.create_workflow(loop(100, pause_ms=1500))
    run = server.start_run(workflow)
    async with _readers(server) as session:
        followed = await asyncio.gather(*(_follow(session, server, run) for _ in range(READERS)))
    expected = list(range(1, len(server.events_of(run)) + 1))
    assert len(expected) > 300
    assert [places == expected for places in followed] == [True] * READERS


@contextlib.asynccontextmanager
async def _readers(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {server.key}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield session


async def _follow(session: aiohttp.ClientSession, server: Server, run: str) -> list[int]:
    async with session.get(f"{server.url}/v1/runs/{run}/stream") as response:
        return [int(line[4:]) async for line in response.content if line.startswith(b"id: ")]
