"""A copy of a store is told from the store itself, on SQLite and on PostgreSQL; a restart, or another name, is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from dustrun.cli.http.failures import CliError
from dustrun.cli.main import commands
from dustrun.settings import Settings
from dustrun.storage.backup import copy_detection
from dustrun.storage.backup.backup import back_up
from dustrun.storage.backup.copy_detection import StoreLocation
from dustrun.storage.backup.restore import restore
from dustrun.storage.db import migrate, store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from testkit.postgres import Cluster

MARKS = (store_facts.RESTORED_AT, store_facts.RESTORED_FROM, store_facts.RESTORED_RUNS)


def start(url: str) -> bool:
    """What a server does first; answers whether it took the store for a copy."""
    database = Database(url)
    try:
        migrate.upgrade(database)
        return copy_detection.recognise(database)
    finally:
        database.close_writer()
        database.close()


def find(url: str) -> StoreLocation:
    """Where a store lies."""
    database = Database(url)
    try:
        return copy_detection.find(database)
    finally:
        database.close()


def marks(url: str) -> tuple[str | None, ...]:
    """Since when, from when and up to which run the store may have gone on elsewhere."""
    database = Database(url)
    try:
        return tuple(database.read_now(lambda tx: [store_facts.find(tx, name) for name in MARKS]))
    finally:
        database.close()


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'dustrun.db'}"


def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder, database_url=sqlite(folder))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The folder of a store on which a server was started once."""
    folder = tmp_path / "first"
    folder.mkdir()
    assert not start(sqlite(folder))
    return folder


@pytest.fixture
def second(first: Path, tmp_path: Path) -> Path:
    """A copy of it, with all that a file can take along."""
    return Path(shutil.copytree(first, tmp_path / "second"))


def test_a_restart_and_another_name_are_no_copy(first: Path, tmp_path: Path) -> None:
    assert not start(sqlite(first))
    moved = first.rename(tmp_path / "elsewhere")
    (moved / "dustrun.db").touch()
    assert not start(sqlite(moved))
    assert marks(sqlite(moved)) == (None, None, None)


def test_a_copied_file_is_marked_once_and_the_original_is_not(first: Path, second: Path) -> None:
    assert start(sqlite(second))
    at, taken, newest = marks(sqlite(second))
    assert (at is not None, taken, newest) == (True, None, "0")
    assert not start(sqlite(second))
    assert marks(sqlite(second)) == (at, None, "0")
    assert not start(sqlite(first))
    assert marks(sqlite(first)) == (None, None, None)


def test_a_copied_database_is_marked(cluster: Cluster) -> None:
    url = cluster.fresh()
    assert not start(url)
    copied = cluster.copy(url)
    assert start(copied)
    assert marks(copied)[0] is not None
    assert [start(url), start(copied)] == [False, False]
    cluster.drop(url)
    cluster.drop(copied)


def test_a_role_that_may_not_ask_for_the_cluster_notes_nothing(cluster: Cluster) -> None:
    url = cluster.fresh()
    assert find(url).marks.keys() == {"database"}
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE ROLE humble LOGIN"))
        connection.execute(sa.text("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"))
    assert find(url.replace("postgres@", "humble@")) == StoreLocation({})
    with engine.connect() as connection:
        connection.execute(sa.text("DROP ROLE humble"))
    engine.dispose()
    cluster.drop(url)


@pytest.fixture
def restored(first: Path, tmp_path: Path) -> Path:
    """A store that came out of a backup of the first, and has been served."""
    back_up(sqlite(first), tmp_path / "store.backup")
    folder = tmp_path / "restored"
    folder.mkdir()
    restore(sqlite(folder), folder, tmp_path / "store.backup")
    return folder


def test_a_restored_store_is_no_copy_besides(restored: Path) -> None:
    known = marks(sqlite(restored))
    assert None not in known
    assert not start(sqlite(restored))
    assert marks(sqlite(restored)) == known


def test_what_a_person_says_of_a_move_leaves_an_earlier_restore(restored: Path, tmp_path: Path) -> None:
    start(sqlite(restored))
    known = marks(sqlite(restored))
    for step in range(2):  # moved twice before anyone says so
        restored = Path(shutil.copytree(restored, tmp_path / f"moved{step}"))
        assert start(sqlite(restored))
        assert marks(sqlite(restored))[1] is None
    assert copy_detection.say_moved(settings(restored))
    assert marks(sqlite(restored)) == known
    assert not copy_detection.say_moved(settings(restored))


def test_a_move_can_be_told_before_the_first_start(second: Path) -> None:
    assert copy_detection.say_moved(settings(second))
    assert not start(sqlite(second))
    assert marks(sqlite(second)) == (None, None, None)


def test_the_command_tells_of_a_move_and_wants_the_store_alone(second: Path) -> None:
    start(sqlite(second))
    database = Database(sqlite(second))
    lock = ProcessLock(database, second)
    lock.take()
    command = ["moved", "--data-dir", str(second)]
    refused = CliRunner().invoke(commands(), [*command, "--yes"])
    assert (refused.exit_code != 0, marks(sqlite(second))[0] is not None) == (True, True)
    lock.release()
    database.close()
    assert CliRunner().invoke(commands(), command, input="n\n").exit_code != 0
    assert marks(sqlite(second))[0] is not None
    assert "was moved" in CliRunner().invoke(commands(), [*command, "--yes"]).stdout
    assert marks(sqlite(second)) == (None, None, None)
    assert "nothing to confirm" in CliRunner().invoke(commands(), [*command, "--yes"]).stdout


@pytest.mark.parametrize("command", [["moved", "--yes"], ["vault", "rotate"], ["vault", "reset"]], ids=" ".join)
def test_no_store_is_made_where_none_is(tmp_path: Path, command: list[str]) -> None:
    said = CliRunner().invoke(commands(), [*command, "--data-dir", str(tmp_path / "misspelt")])
    assert isinstance(said.exception, CliError)
    assert "There is no store" in said.exception.message
    assert not (tmp_path / "misspelt").exists()


@pytest.mark.parametrize(
    ("before", "here", "same"),
    [
        ({"born": "5", "inode": "7"}, {"born": "5", "inode": "8"}, True),  # another inode of a network's file system
        ({"born": "5", "inode": "7"}, {"born": "6", "inode": "7"}, False),
        ({"born": "5", "inode": "7"}, {"inode": "7"}, True),  # a system that does not tell when a file was born
        ({"inode": "7"}, {"born": "5", "inode": "8"}, False),
        ({"inode": "7"}, {}, True),
        ({"inode": "7"}, {"database": "1 2"}, True),
    ],
)
def test_the_surest_mark_that_both_know_decides(before: dict[str, str], here: dict[str, str], same: bool) -> None:
    assert StoreLocation(before).is_same(StoreLocation(here)) is same
