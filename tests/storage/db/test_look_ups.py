"""Reads of one row: on the event loop on SQLite, and in a thread where they may have to wait."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from dustrun.errors import Temporary
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx


def _read(tx: Tx) -> tuple[int, int]:
    tx.raw("SELECT count(*) FROM t")
    return threading.get_ident(), tx.cursor.fetchone()[0]


async def test_look_ups_are_made_on_the_loop_and_see_what_is_committed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    tx = database.begin()
    tx.raw("CREATE TABLE t (x)")
    database.commit()
    me = threading.get_ident()
    first = await asyncio.gather(*(database.look_up(_read) for _ in range(50)))  # all find no connection yet
    database.begin().raw("INSERT INTO t VALUES (1)")
    before = await database.look_up(_read)
    database.commit()
    after = await database.look_up(_read)
    assert (first, before, after) == ([(me, 0)] * 50, (me, 0), (me, 1))
    database.close()


async def test_a_look_up_keeps_no_snapshot(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    database.begin().raw("CREATE TABLE t (x)")
    database.commit()
    for _ in range(2):
        database.begin().raw("INSERT INTO t VALUES (1)")
        database.commit()

    def peek(tx: Tx) -> int:
        tx.raw("SELECT x FROM t")
        return int(tx.cursor.fetchone()[0])  # another row is left

    assert await database.look_up(peek) == 1
    database.begin().raw("INSERT INTO t VALUES (1)")
    database.commit()
    with contextlib.closing(sqlite3.connect(f"{tmp_path}/a.db")) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0  # nothing is in its way
    database.close()


async def test_a_look_up_of_a_locked_store_waits_in_a_thread(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    database.begin().raw("CREATE TABLE t (x)")
    database.commit()
    me = threading.get_ident()
    assert await database.look_up(_read) == (me, 0)
    calls: list[int] = []

    def busy(tx: Tx) -> tuple[int, int]:
        calls.append(threading.get_ident())
        if len(calls) == 1:
            raise sqlite3.OperationalError("database is locked")
        return _read(tx)

    found = await database.look_up(busy)
    assert (calls[0], found) == (me, (calls[1], 0))
    assert calls[1] != me
    assert await database.look_up(_read) == (me, 0)
    database.close()


async def test_a_look_up_of_a_store_that_cannot_be_opened_is_temporary(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}")
    with pytest.raises(Temporary):
        await database.look_up(_read)
    database.close()
