"""A TCP proxy that makes a PostgreSQL of the same machine as slow to reach as one that is far away."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

_WRITES = b"SAVEPOINT unit"


@dataclass(slots=True)
class _Talk:
    """One connection: who was heard last, and whether it is the writer's."""

    last: str = ""
    is_of_writer: bool = False


class Distance:
    """Passes bytes on after `delay_s`, each way; counts the round trips of all connections."""

    def __init__(self, socket: Path, delay_s: float) -> None:
        self._socket = socket
        self.delay_s = delay_s
        self.port = 0
        self.round_trips = 0
        """How often a client spoke after it had heard the server: each time is one wait for an answer. What a busy
        machine tears is one message still, as long as its parts are not further apart than an answer takes."""
        self.writer_round_trips = 0
        """Those of the connection that writes."""

    async def serve(self) -> asyncio.Server:
        """Listens on a free port of the loopback address."""
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        database_reader, database_writer = await asyncio.open_unix_connection(str(self._socket))
        talk = _Talk()
        ways = (
            self._one_way(reader, database_writer, "client", talk),
            self._one_way(database_reader, writer, "server", talk),
        )
        try:
            await asyncio.gather(*ways)
        finally:
            writer.close()
            database_writer.close()

    async def _one_way(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, talk: _Talk
    ) -> None:
        loop = asyncio.get_running_loop()
        sent: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(sent, writer, name, talk))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(262_144):
                talk.is_of_writer = talk.is_of_writer or _WRITES in data
                if name == "client" and talk.last != "client":
                    self.round_trips += 1
                    self.writer_round_trips += talk.is_of_writer
                    talk.last = name
                sent.put_nowait((loop.time() + self.delay_s, data))
        sent.put_nowait((loop.time() + self.delay_s, b""))
        await delivering

    async def _deliver(
        self, sent: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, name: str, talk: _Talk
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while True:
                due, data = await sent.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    break
                writer.write(data)
                if name == "server":
                    talk.last = name
        writer.close()


@contextmanager
def at_a_distance(url: str, delay_s: float) -> Iterator[tuple[str, Distance]]:
    """The URL of a database of `testkit.postgres` through such a proxy, which runs in a thread of its own."""
    parsed = sa.make_url(url)
    distance = Distance(Path(str(parsed.query["host"])) / ".s.PGSQL.5432", delay_s)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="distance", daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(distance.serve(), loop).result()
    far = parsed.set(host="127.0.0.1", port=distance.port).difference_update_query(["host"])
    try:
        yield far.render_as_string(hide_password=False), distance
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
