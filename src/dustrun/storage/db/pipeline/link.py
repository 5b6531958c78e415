"""The writer's connection in libpq's pipeline mode: several statements, one round trip, from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from dustrun.storage.db.pipeline.call import Answer, Call

_MOST_PREPARED = 300
_GOOD = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


class Link:
    """Drives a connection that `psycopg` has opened, and that stays the property of who opened it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._transformer = Transformer(connection)
        self._prepared: dict[Any, bytes] = {}
        self._seen: set[Any] = set()
        self._named = 0
        self._pgconn.enter_pipeline_mode()

    @property
    def is_closed(self) -> bool:
        """Whether the connection is dead."""
        return self._connection.closed

    def close(self) -> None:
        """Leaves pipeline mode."""
        self._pgconn.exit_pipeline_mode()

    async def send(self, calls: Sequence[Call]) -> list[Answer]:
        """Executes statements; raises the first error of them, and those after it were not executed."""
        packed = [self._pack(call) for call in calls]
        prepared = [self._send(call, *values) for call, values in zip(calls, packed, strict=True)]
        self._pgconn.pipeline_sync()
        results = iter(await self._results())
        answers = []
        for key, name in prepared:
            if key is not None:
                _check(next(results))
                self._prepared[key] = name
            answers.append(self._answer(next(results)))
        return answers

    def _pack(self, call: Call) -> tuple[Sequence[Any], Sequence[int], Sequence[int]]:
        """The values, types and formats of a statement's parameters."""
        packed = self._transformer.dump_sequence(call.values, [PyFormat.AUTO] * len(call.values))
        return packed, self._transformer.types or (), self._transformer.formats or ()

    def _send(
        self, call: Call, values: Sequence[Any], types: Sequence[int], formats: Sequence[int]
    ) -> tuple[Any, bytes]:
        """Queues a statement; returns under which key and name it is prepared now, if it is."""
        key = (call.sql, types)
        name = self._prepared.get(key)
        if name is not None:
            self._pgconn.send_query_prepared(name, values, formats)
        elif self._is_worth_preparing(call, key):
            self._named += 1
            name = b"d%d" % self._named
            self._pgconn.send_prepare(name, call.sql, types)
            self._pgconn.send_query_prepared(name, values, formats)
            return key, name
        else:
            self._pgconn.send_query_params(call.sql, values, types, formats)
        return None, b""

    def _is_worth_preparing(self, call: Call, key: Any) -> bool:
        """From the second time on, while there are not too many: some statements are made for one occasion."""
        if not call.is_prepared or len(self._seen) > _MOST_PREPARED:
            return False
        if key in self._seen:
            return True
        self._seen.add(key)
        return False

    async def _results(self) -> list[PGresult]:
        """Waits for the results of everything queued."""
        await self._flush()
        results: list[PGresult] = []
        while True:
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    continue  # the end of one statement's results
                if result.status == ExecStatus.PIPELINE_SYNC:
                    return results
                results.append(result)
            await self._wait()
            self._pgconn.consume_input()

    async def _flush(self) -> None:
        while self._pgconn.flush():
            await self._wait(writes=True)
            self._pgconn.consume_input()

    async def _wait(self, *, writes: bool = False) -> None:
        """Waits until the connection can be read, or also until it can be written."""
        loop, socket = asyncio.get_running_loop(), self._pgconn.socket
        ready: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(socket, wake)
        if writes:
            loop.add_writer(socket, wake)
        try:
            await ready
        finally:
            loop.remove_reader(socket)
            if writes:
                loop.remove_writer(socket)

    def _answer(self, result: PGresult) -> Answer:
        _check(result)
        status = (result.command_status or b"").decode()
        if result.status == ExecStatus.COMMAND_OK:
            return Answer((), result.command_tuples or 0, status)
        self._transformer.set_pgresult(result)
        rows = self._transformer.load_rows(0, result.ntuples, tuple)
        return Answer(rows, result.command_tuples or 0, status)


def _check(result: PGresult) -> None:
    if result.status not in _GOOD:
        raise error_from_result(result)
