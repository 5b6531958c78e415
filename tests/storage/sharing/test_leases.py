"""Writers of a shared store take turns, and leases live as long as their process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from dustrun.errors import Temporary
from dustrun.services.sharing.election import Election, Leases
from dustrun.storage.db import store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.sharing import leases, processes
from testkit.postgres import Cluster

_UNITS = 40


@pytest.fixture
async def two(cluster: Cluster) -> AsyncIterator[list[tuple[Database, Writer]]]:
    url = cluster.fresh()
    found = []
    for database in (Database(url, is_shared=True) for _ in range(2)):
        writer = Writer(database)
        writer.start()
        found.append((database, writer))
    yield found
    for database, writer in found:
        await writer.stop()
        database.close()
    cluster.drop(url)


async def test_what_a_unit_has_read_no_other_server_changes(two: list[tuple[Database, Writer]]) -> None:
    def count(tx: Tx) -> None:
        before = int(store_facts.find(tx, "count") or 0)
        store_facts.put(tx, "count", str(before + 1))

    # one after the other, so that each is a transaction
    async def many(writer: Writer) -> None:
        for _ in range(_UNITS):
            await writer.write(count, repeatable=True)

    await asyncio.gather(*(many(writer) for _, writer in two))
    assert two[0][0].read_now(lambda tx: store_facts.find(tx, "count")) == str(2 * _UNITS)


@pytest.mark.long
async def test_server_that_stops_inside_a_transaction_loses_its_turn(two: list[tuple[Database, Writer]]) -> None:
    (frozen, _), (_, writer) = two
    tx = frozen.begin()
    store_facts.put(tx, "count", "1")
    async with asyncio.timeout(60):
        await writer.write(lambda tx: store_facts.put(tx, "count", "2"))
    with pytest.raises(frozen.dialect.loaded_dbapi.Error):
        tx.one(Statement(sa.text("SELECT 1")))
    assert frozen.read_now(lambda tx: store_facts.find(tx, "count")) == "2"


async def test_lease_of_a_dead_process_is_taken_and_its_fence_tells(two: list[tuple[Database, Writer]]) -> None:
    (_, writer), (_, other) = two

    def live(name: str, keep_ms: int) -> None:
        other.write(lambda tx: processes.beat(tx, name, "engine", "0", keep_ms))

    live("a", 60_000)
    live("b", 60_000)
    first, second = Leases(writer, "a"), Leases(other, "b")
    fence = await first.take("wallet")
    assert (fence, await first.take("wallet"), await second.take("wallet")) == (1, 1, None)
    live("a", 0)  # it has said nothing for long
    assert await second.take("wallet") == 2
    with pytest.raises(leases.LeaseLost):
        await writer.write(lambda tx: leases.check(tx, "wallet", "a", 1))
    await other.write(lambda tx: leases.check(tx, "wallet", "b", 2))
    await second.release("wallet")
    assert await first.take("wallet") == 3
    assert issubclass(leases.LeaseLost, Temporary)


async def test_what_could_not_begin_is_ended_and_begins_at_the_next_look(two: list[tuple[Database, Writer]]) -> None:
    """Else half of it would go on in a process that may lose the lease before it begins."""
    (_, writer), _ = two
    await writer.write(lambda tx: processes.beat(tx, "a", "triggers", "0", 60_000))
    seen: list[str] = []

    async def begin() -> None:
        seen.append("begin")
        if len(seen) == 1:
            raise Temporary("The store is away.")

    async def end() -> None:
        seen.append("end")

    election = Election(Leases(writer, "a"), "triggers", begin, end)
    with pytest.raises(Temporary):
        await election.start()
    assert not election.is_elected
    await election.start()
    assert election.is_elected
    await election.stop()
    assert seen == ["begin", "end", "begin", "end"]
