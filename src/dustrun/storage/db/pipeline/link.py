"""The writer's connection in libpq's pipeline mode: several statements, one round trip, from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from dustrun.records import dataclass
from dustrun.storage.db.pipeline.call import StatementAnswer, StatementCall

_MOST_PREPARED = 300
_GOOD = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


@dataclass(frozen=True, slots=True)
class PackedStatement:
    """A statement with its values as the database gets them."""

    call: StatementCall
    values: Sequence[Any]
    types: Sequence[int]
    formats: Sequence[int]


@dataclass(frozen=True, slots=True)
class PostedStatements:
    """Statements on their way: of each under which key and name it is prepared by the way, if it is."""

    prepared: Sequence[tuple[Any, bytes]]


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

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction has begun, failed or not, and the connection lives."""
        return self._pgconn.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    def close(self) -> None:
        """Leaves pipeline mode."""
        self._pgconn.exit_pipeline_mode()

    def pack(self, call: StatementCall) -> PackedStatement:
        """Encodes a statement's values; raises what the driver raises for values that PostgreSQL cannot have."""
        values = self._transformer.dump_sequence(call.values, [PyFormat.AUTO] * len(call.values))
        return PackedStatement(call, values, self._transformer.types or (), self._transformer.formats or ())

    async def send(self, packed: Sequence[PackedStatement]) -> list[StatementAnswer]:
        """Executes statements; raises the first error of them, and those after it were not executed."""
        return await self.receive(self.post(packed))

    def post(self, packed: Sequence[PackedStatement]) -> PostedStatements:
        """Queues statements, which are on their way once something is received. They are executed whatever becomes of
        those posted before."""
        posted = PostedStatements([self._send(one) for one in packed])
        self._pgconn.pipeline_sync()
        return posted

    async def receive(self, posted: PostedStatements) -> list[StatementAnswer]:
        """Waits for the answers to what was posted, in the order of posting; raises the first error of them."""
        results = iter(await self._results())
        answers = []
        for key, name in posted.prepared:
            if key is not None:
                _check(next(results))
                self._prepared[key] = name
            answers.append(self._answer(next(results)))
        return answers

    async def ignore(self) -> None:
        """Waits for the answers to what was posted next, whatever they are."""
        await self._results()

    def _send(self, packed: PackedStatement) -> tuple[Any, bytes]:
        """Queues a statement; returns under which key and name it is prepared now, if it is."""
        sql, values, formats = packed.call.sql, packed.values, packed.formats
        key = (sql, packed.types)
        name = self._prepared.get(key)
        if name is not None:
            self._pgconn.send_query_prepared(name, values, formats)
        elif self._is_worth_preparing(packed.call, key):
            self._named += 1
            name = b"d%d" % self._named
            self._pgconn.send_prepare(name, sql, packed.types)
            self._pgconn.send_query_prepared(name, values, formats)
            return key, name
        else:
            self._pgconn.send_query_params(sql, values, packed.types, formats)
        return None, b""

    def _is_worth_preparing(self, call: StatementCall, key: Any) -> bool:
        """From the second time on, while there are not too many: some statements are made for one occasion."""
        if not call.is_prepared or len(self._seen) > _MOST_PREPARED:
            return False
        if key in self._seen:
            return True
        self._seen.add(key)
        return False

    async def _results(self) -> list[PGresult]:
        """Waits for the results of what was posted at once, in the order of posting."""
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

    def _answer(self, result: PGresult) -> StatementAnswer:
        _check(result)
        status = (result.command_status or b"").decode()
        if result.status == ExecStatus.COMMAND_OK:
            return StatementAnswer((), result.command_tuples or 0, status)
        self._transformer.set_pgresult(result)
        rows = self._transformer.load_rows(0, result.ntuples, tuple)
        return StatementAnswer(rows, result.command_tuples or 0, status)


def _check(result: PGresult) -> None:
    if result.status not in _GOOD:
        raise error_from_result(result)
