"""A power failure while a commit is synced: that commit may be lost or torn, and nothing else ever."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from testkit.simulation import disk


@pytest.mark.parametrize("unsynced", [0, 1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_only_commits_that_are_not_synced_may_be_lost(seed: int, unsynced: int, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    writer = sqlite3.connect(data / "dustrun.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE t (n INTEGER, text TEXT)")
    for number in range(20):
        writer.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 3000))
    disk.move_on(data, tmp_path / "dead")
    fate = disk.fail_power(data, random.Random(seed), unsynced)
    after = sqlite3.connect(data / "dustrun.db")
    assert after.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    left = [row[0] for row in after.execute("SELECT n FROM t")]
    most_lost = {disk.KEPT: [20], disk.LOST: [20 - unsynced], disk.TORN: range(20 - unsynced, 20)}
    assert left == list(range(len(left)))
    assert len(left) in most_lost[fate]
    after.close()
    writer.close()


def test_only_a_commit_that_adds_to_the_log_changes_its_mark(tmp_path: Path) -> None:
    assert disk.mark(tmp_path) == b""
    writer = sqlite3.connect(tmp_path / "dustrun.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE t (n INTEGER)")
    before = disk.mark(tmp_path)
    for statement in ("BEGIN IMMEDIATE", "UPDATE t SET n = 1", "COMMIT"):
        writer.execute(statement)
    assert disk.mark(tmp_path) == before
    writer.execute("INSERT INTO t VALUES (1)")
    assert disk.mark(tmp_path) != before
    writer.close()
