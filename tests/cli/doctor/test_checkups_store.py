"""Troubles of a store, really made, and what the doctor says of them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.cli.doctor import checkups_store
from dustrun.cli.doctor.finding import Finding
from dustrun.settings import Settings
from dustrun.storage.backup.backup import back_up
from dustrun.storage.backup.restore import restore
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.secrets import data_keys
from dustrun.storage.secrets.vault import Vault
from served import served
from testkit.composition import composed
from testkit.postgres import Cluster

DELAYED = {
    "nodes": {
        "root": {"type": "manual", "children": ["hold"]},
        "hold": {"type": "delay", "payload": {"delayMs": 3_600_000}},
    },
    "triggerNodeIds": ["root"],
}


def _settings(folder: Path, **given: Any) -> Settings:
    return Settings(data_dir=folder, **{"port": 9, "master_key_file": folder / "master.key", **given})


def _found(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in checkups_store.store(settings)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a store of this version."""
    database = Database(f"sqlite:///{tmp_path / 'dustrun.db'}")
    migrate.upgrade(database)
    database.close()
    return tmp_path


def _change(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "dustrun.db")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_a_sound_store_is_well_and_none_is_made(data: Path, tmp_path: Path) -> None:
    assert {finding.state for finding in checkups_store.store(_settings(data))} == {"ok"}
    empty = tmp_path / "empty"
    empty.mkdir()
    assert [finding.state for finding in checkups_store.store(_settings(empty))] == ["ok"]
    assert list(empty.iterdir()) == []


def test_a_newer_or_an_older_schema_is_found(data: Path) -> None:
    _change(data, "UPDATE alembic_version SET version_num = '9999'")
    usable = checkups_store.store(_settings(data))[0]
    assert (usable.state, "which can use it" in usable.says) == ("warning", True)
    _change(data, "UPDATE oldest_revision SET revision = '9998'")
    (newer,) = checkups_store.store(_settings(data))
    assert (newer.state, '"9999", newer than' in newer.says) == ("bad", True)
    _change(data, "UPDATE alembic_version SET version_num = '0000'")
    older = _found(_settings(data))["store"]
    assert (older.state, "backup first" in (older.mend or "")) == ("warning", True)


def test_what_is_no_database_is_found(tmp_path: Path) -> None:
    (tmp_path / "dustrun.db").write_text("a letter" * 1000)
    (found,) = checkups_store.store(_settings(tmp_path))
    assert (found.state, "not a Dustrun store" in found.says) == ("bad", True)


def test_a_damaged_file_is_found(data: Path) -> None:
    rows = ",".join(f"('org_{i:06}', '{'x' * 200}', 1)" for i in range(2000))
    _change(data, f"INSERT INTO organizations (id, name, created_at) VALUES {rows}", "PRAGMA user_version = 0")
    with (data / "dustrun.db").open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(size * 3 // 4 // 4096 * 4096)
        file.write(os.urandom(4096 * 4))
    found = _found(_settings(data))["database file"]
    assert (found.state, "damaged" in found.says) == ("bad", True)


def test_a_log_that_a_reader_holds_up_is_found(data: Path) -> None:
    reader = sqlite3.connect(data / "dustrun.db", isolation_level=None)
    reader.execute("PRAGMA journal_mode=WAL")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM organizations").fetchall()
    writer = sqlite3.connect(data / "dustrun.db")
    writer.execute("PRAGMA synchronous=OFF")
    for number in range(9):
        writer.execute(
            "INSERT INTO organizations (id, name, created_at) VALUES (?, ?, 1)", (f"o{number}", "x" * 8_000_000)
        )
        writer.commit()
    found = _found(_settings(data))["write-ahead log"]
    assert (found.state, "cannot be checkpointed" in found.says) == ("warning", True)
    reader.close()
    writer.close()


def test_a_store_that_may_forget_is_found(data: Path) -> None:
    assert "durability" not in _found(_settings(data))
    assert _found(_settings(data, sqlite_synchronous="NORMAL"))["durability"].state == "warning"


def test_a_lock_whose_holder_does_not_answer_is_found(data: Path) -> None:
    settings = _settings(data)
    database = Database(settings.store_url())
    held = ProcessLock(database, data)
    held.take()
    found = _found(settings)["lock"]
    assert (found.state, f"process {os.getpid()} holds" in found.says) == ("warning", True)
    held.release()
    assert _found(settings)["lock"].state == "ok"
    database.close()


def test_the_lock_of_a_server_that_answers_is_well(tmp_path: Path) -> None:
    with served(tmp_path / "data", master_key_file=str(tmp_path / "master.key")) as server:
        port = int(server.url.rpartition(":")[2])
        settings = _settings(tmp_path / "data", port=port, master_key_file=tmp_path / "master.key")
        found = _found(settings)
    assert (found["lock"].state, "held by the server" in found["lock"].says) == ("ok", True)


async def _seal(folder: Path) -> None:
    """Seals something, as the first wallet or connector does."""
    async with composed(folder, master_key_file=folder / "master.key") as server:
        vault = Vault(folder / "master.key")
        await vault.prepare()
        org = (await server.owner.get("/v1/organizations")).data["items"][0]["id"]
        await server.parts.writer.write(lambda tx: vault.seal(tx, org, "connector", "conn_1", b"secret"))
        assert await server.parts.database.read(data_keys.list_all)


async def test_a_master_key_that_is_missing_or_wrong_is_found(tmp_path: Path) -> None:
    await _seal(tmp_path)
    key = tmp_path / "master.key"
    assert _found(_settings(tmp_path))["secrets"].state == "ok"
    key.rename(tmp_path / "away.key")
    missing = _found(_settings(tmp_path))["secrets"]
    assert (missing.state, "is missing" in missing.says) == ("bad", True)
    other = tmp_path / "other"
    other.mkdir()
    await _seal(other)
    wrong = _found(_settings(tmp_path, master_key_file=other / "master.key"))["secrets"]
    assert (wrong.state, "does not belong to this store" in wrong.says) == ("bad", True)


async def test_runs_past_their_time_are_found(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        flow = await server.owner.create_workflow(DELAYED)
        run_id = (await server.owner.post(f"/v1/workflows/{flow['id']}/run", {})).data["runId"]
        while (await server.owner.get(f"/v1/runs/{run_id}")).data["status"] != "waiting":
            pass
    waiting = _found(_settings(tmp_path))["waiting runs"]
    assert (waiting.state, "1 runs are unfinished" in waiting.says) == ("warning", True)
    _change(tmp_path, f"UPDATE runs SET wake_at = {clock.now_ms() - 120_000}")
    late = _found(_settings(tmp_path))["waiting runs"]
    assert (late.state, "1 waiting runs are overdue" in late.says) == ("warning", True)


def test_a_restored_store_says_so(data: Path, tmp_path: Path) -> None:
    back_up(f"sqlite:///{data / 'dustrun.db'}", tmp_path / "store.backup")
    folder = tmp_path / "restored"
    folder.mkdir(mode=0o700)
    restore(f"sqlite:///{folder / 'dustrun.db'}", folder, tmp_path / "store.backup")
    assert _found(_settings(folder))["backup"].state == "warning"


async def test_a_copied_store_says_so_before_and_after_its_first_start(tmp_path: Path) -> None:
    async with composed(tmp_path):
        pass
    assert "store location" not in _found(_settings(tmp_path))
    folder = tmp_path / "copied"
    folder.mkdir(mode=0o700)
    shutil.copy(tmp_path / "dustrun.db", folder / "dustrun.db")
    found = _found(_settings(folder))["store location"]
    assert (found.state, "dustrun moved" in (found.mend or "")) == ("warning", True)
    shutil.copy(tmp_path / "owner.key", folder / "owner.key")
    async with composed(folder):
        pass
    copied = _found(_settings(folder))
    assert "store location" not in copied
    assert (copied["backup"].state, "copy" in copied["backup"].says) == ("warning", True)


# --- PostgreSQL ---


def test_a_database_that_cannot_be_reached_is_found(tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:9/none?connect_timeout=2"
    (found,) = checkups_store.store(_settings(tmp_path, database_url=url))
    assert (found.state, "DUSTRUN_DATABASE_URL" in (found.mend or "")) == ("bad", True)


def test_a_database_whose_clock_is_wrong_or_that_may_forget_is_found(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.fresh()
    settings = _settings(tmp_path, database_url=url)
    well = _found(settings)
    assert (well["store"].state, well["database clock"].state, well["lock"].state) == ("ok", "ok", "ok")
    assert well["durability"].state == "bad"  # the cluster of the tests runs without fsync
    name = sa.make_url(url).database
    database = Database(url)
    with database.engine.connect() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS"
            " $$ SELECT pg_catalog.clock_timestamp() - interval '90 seconds' $$"
        )
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    held = ProcessLock(database, tmp_path)
    held.take()
    found = _found(settings)
    assert (found["database clock"].state, "by 90 s" in found["database clock"].says) == ("warning", True)
    assert (found["lock"].state, "database session" in found["lock"].says) == ("warning", True)
    held.release()
    database.close()
    cluster.drop(url)
