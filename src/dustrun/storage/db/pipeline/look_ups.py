"""Reads of a few rows by their keys on PostgreSQL, without a thread: those of many callers share their round trips."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import psycopg

from dustrun import clock
from dustrun.storage.db.database import Database
from dustrun.storage.db.group_commit import Waiter
from dustrun.storage.db.pipeline.call import fixed
from dustrun.storage.db.pipeline.link import Link
from dustrun.storage.db.pipeline.unit_run import UnitRun
from dustrun.storage.db.pipeline.wave import Request, Wave
from dustrun.storage.db.statement import Tx

T = TypeVar("T")
_CONNECTIONS = 4
"""Connections: while one waits for its answers, the others take what comes."""
_MOST = 100
_SLICE_S = 0.01  # how long queries may hold the event loop
_AS_ONE = (fixed("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"), fixed("COMMIT"))


class ReadConnection:
    """One connection, and the queries that use it now."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: psycopg.Connection[Any] | None = None
        self._link: Link | None = None
        self._wave = Wave(database.dialect)

    async def run(self, waiters: Sequence[Waiter]) -> None:
        """Runs queries together. Those that have neither a result nor an error afterwards could not be run so."""
        runs: list[UnitRun] = []
        is_clean = False
        try:
            link = await self._open()
            await self._take_turns(link, waiters, runs)
            is_clean = True
        finally:
            for run in runs:
                run.abandon()
            if not is_clean:
                self.close()

    async def _take_turns(self, link: Link, waiters: Sequence[Waiter], runs: list[UnitRun]) -> None:
        dialect = self._database.dialect
        self._wave = Wave(dialect)
        for number, waiter in enumerate(waiters):
            runs.append(UnitRun(number, waiter, dialect, partial(self._add, number)))
        going = list(runs)
        while going:
            until = clock.monotonic_s() + _SLICE_S
            for run in going:
                run.go_on()
                if run.asked is None:
                    _tell(run)
                if clock.monotonic_s() > until:
                    await asyncio.sleep(0)
                    until = clock.monotonic_s() + _SLICE_S
            going = [run for run in going if run.asked is not None]
            if going:
                for run in going:
                    assert run.asked is not None
                    self._add(run.number, run.asked)
                wave, self._wave = self._wave, Wave(dialect)
                await self._send(link, wave)

    def _add(self, number: int, request: Request) -> None:
        self._wave.add(number, request)

    async def _send(self, link: Link, wave: Wave) -> None:
        """Sends what was asked, and waits for the answers; they are of one moment."""
        calls = wave.calls()
        if len(calls) == 1:
            wave.resolve(await link.send([link.pack(calls[0])]))
            return
        begin, commit = _AS_ONE
        answers = await link.send([link.pack(call) for call in (begin, *calls, commit)])
        wave.resolve(answers[1:-1])

    async def _open(self) -> Link:
        if self._link is None:
            self._connection = await asyncio.to_thread(self._connect)
            self._link = Link(self._connection)
        return self._link

    def _connect(self) -> psycopg.Connection[Any]:
        proxied = self._database.engine.raw_connection()
        connection: Any = proxied.driver_connection
        proxied.detach()  # readers need all that the pool has
        return cast("psycopg.Connection[Any]", connection)

    def close(self) -> None:
        """Closes the connection; it can be opened again."""
        connection, self._connection, self._link = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be dead
                connection.close()


class PipelinedLookUps:
    """Queues queries, each of which may be run again from its beginning."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: deque[Waiter] = deque()
        self._idle = [ReadConnection(database) for _ in range(_CONNECTIONS)]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, query: Callable[[Tx], T]) -> T:
        """Runs a query. Statements that it executes before it needs the answer of one see the same moment."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append(Waiter(query, future, None, repeatable=True))
        if self._idle:
            task = loop.create_task(self._work(self._idle.pop()), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _work(self, connection: ReadConnection) -> None:
        try:
            while self._queue:
                group = [self._queue.popleft() for _ in range(min(_MOST, len(self._queue)))]
                with contextlib.suppress(Exception):  # met again, by each query on its own
                    await connection.run(group)
                await asyncio.gather(*(self._run_alone(waiter) for waiter in group if not waiter.future.done()))
        finally:
            self._idle.append(connection)

    async def _run_alone(self, waiter: Waiter) -> None:
        """Runs a query in a reader's thread, which waits for the store and translates its errors."""
        try:
            result = await self._database.read(waiter.unit)
        except Exception as error:
            if not waiter.future.done():
                waiter.future.set_exception(error)
        else:
            if not waiter.future.done():
                waiter.future.set_result(result)

    async def close(self) -> None:
        """Waits for the queries, and closes the connections."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)  # tasks that have ended are not waited for: the event loop forgets them on its turn
        for connection in self._idle:
            connection.close()


def _tell(run: UnitRun) -> None:
    future = run.waiter.future
    if future.done():
        return  # nobody waits for it any more
    if run.error is None:
        future.set_result(run.waiter.result)
    else:
        future.set_exception(run.error)
