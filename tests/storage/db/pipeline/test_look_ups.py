"""Look-ups on a PostgreSQL that is far away: without a thread, and many callers share the round trips."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.errors import Bug, NotFound, StoreUnavailable
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.pipeline.look_ups import PipelinedLookUps
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import store_facts
from dustrun.storage.db.writer import Writer
from testkit.distance import Distance, at_a_distance
from testkit.postgres import Cluster

_ADD = Statement(sa.insert(store_facts))
_READ = Statement(sa.select(store_facts.c.value).where(store_facts.c.name == b("of")))
_ALL = Statement(sa.select(store_facts.c.name).order_by(store_facts.c.name))
_PID = Statement(sa.text("SELECT pg_backend_pid()"))
_MOMENT = Statement(sa.text("SELECT now()::text, pg_sleep(0.01)::text"))
_DIE = Statement(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
_WRONG = Statement(sa.text("SELECT 1/0"))


class Store:
    """A store with rows, 10 ms away."""

    def __init__(self, database: Database, writer: Writer, distance: Distance) -> None:
        self.database = database
        self.writer = writer
        self.distance = distance

    async def look_up(self, *queries: Any) -> list[Any]:
        """What became of queries that began at once."""
        return await asyncio.gather(*(self.database.look_up(query) for query in queries), return_exceptions=True)

    async def pids(self) -> set[int]:
        """The sessions that look-ups use."""
        return {row[0] for row in await self.look_up(*(lambda tx: tx.one(_PID) for _ in range(20)))}


@pytest.fixture
async def store(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Store]:
    url = cluster.fresh()
    with at_a_distance(url, 0.01) as (far, distance):
        database = Database(far)
        ProcessLock(database, tmp_path).take()
        writer = Writer(database)
        writer.start()
        rows = [{"name": f"{number:03}", "value": str(number)} for number in range(200)]
        await writer.write(lambda tx: tx.many(_ADD, rows))
        yield Store(database, writer, distance)
        await writer.stop()
        database.close()
    cluster.drop(url)


def _value_of(name: str) -> Any:
    return lambda tx: (tx.one(_READ, of=name), threading.get_ident())


async def test_look_ups_at_the_same_time_share_their_round_trips(store: Store) -> None:
    queries = [_value_of(f"{number:03}") for number in range(200)]
    await store.look_up(*queries)
    before, me = store.distance.round_trips, threading.get_ident()
    found = await store.look_up(*queries)
    assert found == [((str(number),), me) for number in range(200)]
    assert store.distance.round_trips - before <= 4


async def test_what_is_asked_before_a_wait_takes_one_round_trip_and_sees_one_moment(store: Store) -> None:
    def query(tx: Tx) -> list[Any]:
        asked = [tx.soon(_MOMENT), tx.soon_all(_ALL), tx.soon(_MOMENT), tx.soon(_READ, of="nobody")]
        tx.wait()
        return [one.value for one in asked]

    await store.pids()
    before = store.distance.round_trips
    ((first, every, second, nobody),) = await store.look_up(query)
    assert store.distance.round_trips - before == 1
    assert (first, len(every), nobody) == (second, 200, None)


async def test_look_ups_see_what_is_committed(store: Store) -> None:
    for number in range(5):
        await store.writer.write(lambda tx, name=f"new {number}": tx.do(_ADD, name=name, value="x"))  # type: ignore[misc]
        assert await store.database.look_up(lambda tx, name=f"new {number}": tx.one(_READ, of=name)) == ("x",)  # type: ignore[misc]


async def test_a_query_that_raises_fails_alone(store: Store) -> None:
    def missing(tx: Tx) -> None:
        tx.one(_READ, of="000")
        raise NotFound("there is none")

    first, second, third = await store.look_up(_value_of("001"), missing, _value_of("002"))
    assert (first[0], type(second), third[0]) == (("1",), NotFound, ("2",))


async def test_a_query_that_the_database_refuses_fails_alone(store: Store) -> None:
    found = await store.look_up(_value_of("001"), lambda tx: tx.one(_WRONG), lambda tx: tx.one(_READ, of="\ud800"))
    assert (found[0][0], type(found[1]), type(found[2])) == (("1",), Bug, UnicodeEncodeError)
    assert (await store.look_up(_value_of("002")))[0][0] == ("2",)


async def test_a_connection_that_has_died_is_replaced(store: Store) -> None:
    before = await store.pids()

    def end_them(tx: Tx) -> None:
        for pid in before:
            tx.raw(f"SELECT pg_terminate_backend({pid}, 1000)")

    await store.writer.write(end_them)
    assert [found[0] for found in await store.look_up(_value_of("001"), _value_of("002"))] == [("1",), ("2",)]
    assert not before & await store.pids()
    assert type((await store.look_up(lambda tx: tx.one(_DIE)))[0]) is StoreUnavailable
    assert (await store.look_up(_value_of("003")))[0][0] == ("3",)


async def test_a_caller_that_gives_up_disturbs_nobody(store: Store) -> None:
    given_up = asyncio.create_task(store.database.look_up(_value_of("001")))
    kept = asyncio.create_task(store.database.look_up(_value_of("002")))
    await asyncio.sleep(0.005)
    given_up.cancel()
    assert (await kept)[0] == ("2",)
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert len(await store.pids()) >= 1


async def test_without_a_writer_look_ups_are_made_in_threads(store: Store) -> None:
    await store.writer.stop()
    ((value, thread),) = await store.look_up(_value_of("001"))
    assert (value, thread != threading.get_ident()) == (("1",), True)


async def test_closing_ends_also_when_a_look_up_has_ended_in_the_same_moment(store: Store) -> None:
    look_ups = PipelinedLookUps(store.database)
    for number in range(20):
        asked = asyncio.create_task(look_ups.run(lambda tx: tx.one(_READ, of=f"{number:03}")))  # noqa: B023
        while not any(task.done() for task in look_ups._tasks):
            await asyncio.sleep(0)
            if asked.done():  # this time the loop has forgotten it already
                break
        await asyncio.wait_for(look_ups.close(), 5)
        assert await asked == (str(number),)
