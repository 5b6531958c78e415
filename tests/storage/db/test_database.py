"""A store in trouble is told from a defect, and its writer goes on when the trouble ends."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from dustrun.errors import Bug, Temporary
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer


def test_read_of_a_store_that_cannot_be_opened_is_temporary(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}")
    with pytest.raises(Temporary):
        database.read_now(lambda tx: tx.raw("SELECT 1"))
    database.close()


def test_close_closes_the_connection_of_the_writer_too(store_url: str) -> None:
    database = Database(store_url)
    tx = database.begin()
    database.rollback()
    database.close()
    with pytest.raises(database.dialect.loaded_dbapi.Error, match="closed"):
        tx.raw("SELECT 1")


def test_a_damaged_file_is_told_as_such_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
    connection.commit()
    connection.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 5)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(Bug, match=r"database file is damaged: .* restore the newest backup"):
        database.read_now(lambda tx: tx.raw("SELECT count(*) FROM t"))
    database.close()


async def test_writer_keeps_its_connection_over_a_lock_of_someone_else(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    writer = Writer(database)
    writer.start()

    def count(tx: Tx) -> int:
        tx.raw("PRAGMA busy_timeout=1")
        tx.raw("CREATE TABLE IF NOT EXISTS t (n)")
        tx.raw("INSERT INTO t VALUES (1)")
        return id(tx._cursor)

    first = await writer.write(count)
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Temporary):
        await writer.write(count)
    other.execute("ROLLBACK")
    assert await writer.write(count) == first
    assert other.execute("SELECT count(*) FROM t").fetchone() == (2,)
    other.close()
    await writer.stop()
    await asyncio.to_thread(database.close)
