"""A disk in trouble: the store's commits fail as real ones do, nothing that was committed is lost, and it goes on."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from dustrun.errors import CommitUnknown, StoreUnavailable
from dustrun.storage.db.database import Database
from testkit.simulation.commits import FULL, TORN, UNKNOWN, WRITE, Commits, Store

_CODES = {FULL: {sqlite3.SQLITE_FULL}, WRITE: {sqlite3.SQLITE_IOERR}, TORN: {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}}


def _write(database: Database, number: int) -> None:
    tx = database.begin()
    try:
        tx.raw(f"INSERT INTO t VALUES ({number}, zeroblob(9000))")
    except sqlite3.Error:
        database.rollback()
        raise
    database.commit()


def _numbers(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found = [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n")]
    connection.close()
    return found


def _made(path: Path, commits: Commits) -> Database:
    database = Store(commits, f"sqlite:///{path}")
    database.begin().raw("CREATE TABLE t (n INTEGER, filling BLOB)")
    database.commit()
    _write(database, 1)
    return database


@pytest.mark.parametrize(("kind", "seed"), [(FULL, 0), (WRITE, 0), *((TORN, seed) for seed in range(4))])
def test_a_failed_commit_is_an_error_of_the_store_that_leaves_nothing(kind: str, seed: int, tmp_path: Path) -> None:
    path, commits = tmp_path / "dustrun.db", Commits(random.Random(seed), lambda _what: None)
    database = _made(path, commits)
    commits.kind = kind
    for number in (2, 3):
        with pytest.raises(sqlite3.OperationalError) as failed:
            _write(database, number)
        assert failed.value.sqlite_errorcode & 0xFF in _CODES[kind]
        assert isinstance(database.translate(failed.value), StoreUnavailable)
        database.mend_writer()
    assert _numbers(path) == [1]
    commits.kind = ""
    _write(database, 4)
    assert _numbers(path) == [1, 4]
    database.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_commit_in_doubt_is_seen_by_nobody_until_the_next_begins(seed: int, tmp_path: Path) -> None:
    path, commits = tmp_path / "dustrun.db", Commits(random.Random(seed), lambda _what: None)
    database = _made(path, commits)
    commits.kind = UNKNOWN
    with pytest.raises(CommitUnknown):
        _write(database, 2)
    database.mend_writer()
    assert _numbers(path) == [1]
    with pytest.raises(sqlite3.OperationalError, match="has not ended"):
        database.begin(waits=False)
    commits.kind = ""
    _write(database, 3)
    is_there = commits.counts["in doubt: COMMIT"] == 1
    assert _numbers(path) == ([1, 2, 3] if is_there else [1, 3])
    database.close()
