"""What becomes of writes and reads when PostgreSQL, or the connection to it, dies."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun import clock, log
from dustrun.errors import Conflict, StoreUnavailable, Temporary, Uncertain
from dustrun.storage.access import organizations
from dustrun.storage.access.organizations import OrganizationRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import organizations as table
from dustrun.storage.db.writer import Writer
from testkit.postgres import Cluster


@pytest.fixture
async def parts(cluster: Cluster, tmp_path: Path) -> AsyncIterator[tuple[str, Database, Writer]]:
    """The URL of a fresh store, and the parts that hold it as a server does."""
    url = cluster.fresh()
    database = Database(url)
    ProcessLock(database, tmp_path).take()
    writer = Writer(database)
    writer.start()
    yield url, database, writer
    await writer.stop()
    database.close()
    cluster.drop(url)


def _add(name: str) -> Callable[[Tx], None]:
    return lambda tx: organizations.insert(tx, OrganizationRow(name, name, 1))


def _ids(tx: Tx) -> list[str]:
    return [row[0] for row in tx.all(Statement(sa.select(table.c.id).order_by(table.c.id)))]


@pytest.mark.parametrize("is_separate", [True, False])
@pytest.mark.parametrize("keeping", [True, False])
async def test_a_connection_that_dies_in_a_commit_leaves_the_outcome_unknown(
    cluster: Cluster, parts: tuple[str, Database, Writer], keeping: bool, is_separate: bool
) -> None:
    url, database, writer = parts
    told: list[str] = []
    writer.on_doubt.append(lambda: told.append("doubt"))
    writer.on_settled.append(lambda: told.append("settled"))
    with cluster.commits_that_die(url, "organizations", keeping=keeping) as die:
        written = writer.write(_add("a"), repeatable=is_separate, is_separate=is_separate)
        await asyncio.to_thread(die)
        with pytest.raises(Uncertain) as caught:
            await written
    assert (caught.value.code, told) == (503002, ["doubt"])
    await writer.write(_add("b"), lambda _: told.append("b"))
    assert told == ["doubt", "settled", "b"]
    assert await database.read(_ids) == (["a", "b"] if keeping else ["b"])


@pytest.mark.parametrize("is_separate", [True, False])
async def test_a_connection_that_died_before_is_replaced(
    cluster: Cluster, parts: tuple[str, Database, Writer], is_separate: bool
) -> None:
    url, database, writer = parts
    await writer.write(_add("a"))
    assert await database.read(_ids) == ["a"]
    cluster.kill_connections(url)
    assert await database.read(_ids) == ["a"]
    again = [writer.write(_add(name), repeatable=is_separate, is_separate=is_separate) for name in ("b", "a", "c")]
    done = await asyncio.gather(*again, return_exceptions=True)
    assert [type(one).__name__ for one in done] == ["NoneType", "UniqueViolation", "NoneType"]
    assert await database.read(_ids) == ["a", "b", "c"]


async def test_a_server_that_is_down_is_unavailable_until_it_is_back(
    cluster: Cluster, parts: tuple[str, Database, Writer]
) -> None:
    _, database, writer = parts
    await writer.write(_add("a"))
    cluster.stop()
    try:
        for answer in (writer.write(_add("b")), writer.write(_add("c")), database.read(_ids)):
            with pytest.raises(Temporary) as caught:
                await answer
            assert (caught.value.code, caught.value.retry_after_s) == (503001, 2)
    finally:
        cluster.start()
    await writer.write(_add("d"))
    assert await database.read(_ids) == ["a", "d"]


async def test_however_much_fails_the_log_says_once_that_the_store_is_away_and_once_that_it_is_back(
    cluster: Cluster, parts: tuple[str, Database, Writer]
) -> None:
    _, database, writer = parts
    written, now_s = io.StringIO(), 0.0
    with contextlib.redirect_stderr(written), clock.virtual(lambda: now_s, 0):
        log.set_up(as_json=True)
        try:
            cluster.stop()
            for _ in range(10):
                asked = (writer.write(_add("a")), database.read(_ids))
                failed = await asyncio.gather(*asked, return_exceptions=True)
                assert [type(error) for error in failed] == [StoreUnavailable] * 2
            cluster.start()
            now_s = 30.0
            await writer.write(_add("b"))
            assert await database.read(_ids) == ["b"]
        finally:
            log.set_up(as_json=True, level="error")
    told = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(one["event"], one.get("failures")) for one in told] == [
        ("the store is unavailable", None),
        ("the store is unavailable: over", 20),
    ]


async def test_the_lock_is_the_writers(cluster: Cluster, parts: tuple[str, Database, Writer], tmp_path: Path) -> None:
    url, _, writer = parts
    other = Database(url)
    with pytest.raises(Conflict, match="Another server"):
        ProcessLock(other, tmp_path).take()
    cluster.kill_connections(url)
    ProcessLock(other, tmp_path).take()
    with pytest.raises(Temporary, match="Another session holds the store"):
        await writer.write(_add("a"))
    other.close_writer()
    async with asyncio.timeout(60):
        while True:  # the server notices the end of a session a moment later
            try:
                await writer.write(_add("a"))
                break
            except Temporary:
                await asyncio.sleep(0.05)
    other.close()


async def test_a_lost_session_of_our_own_is_ended_before_the_next_begins(
    parts: tuple[str, Database, Writer],
) -> None:
    _, database, writer = parts
    lost, database._connection = database._connection, None
    await writer.write(_add("a"))
    assert await database.read(_ids) == ["a"]
    lost.invalidate()


async def test_one_unit_that_breaks_costs_the_others_nothing(parts: tuple[str, Database, Writer]) -> None:
    _, database, writer = parts
    answers = [writer.write(_add(name)) for name in ("a", "b", "a", "x" * 9000, "c\x00", "d")]
    done = await asyncio.gather(*answers, return_exceptions=True)
    assert [done[index] for index in (0, 1, 4, 5)] == [None] * 4
    assert type(done[2]).__name__ == "UniqueViolation"
    assert (await database.read(_ids))[:4] == ["a", "b", "c\ufffd", "d"]
