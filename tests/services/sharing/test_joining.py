"""A process that does not fit to those that share its store is refused, and told why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dustrun.errors import Conflict, Temporary
from dustrun.services.sharing import presence
from dustrun.settings import Settings
from dustrun.storage.db import store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.master_key import MasterKeyFile
from dustrun.storage.sharing import processes
from dustrun.storage.sharing.processes import ProcessRow
from testkit.composition import composed
from testkit.postgres import Cluster


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    url = cluster.fresh()
    yield url
    cluster.drop(url)


def _settings(url: str, **more: Any) -> Settings:
    return Settings(database_url=url, temporal_address="127.0.0.1:7233", **more)


async def test_processes_agree_on_engine_and_version_while_others_live(url: str) -> None:
    database = Database(url, is_shared=True)
    writer = Writer(database)
    writer.start()
    try:
        await presence.check_in(database, writer, _settings(url))
        other = _settings(url, temporal_namespace="other")
        await presence.check_in(database, writer, other)  # nobody lives: the settings were changed
        await writer.write(lambda tx: processes.beat(tx, "one", "engine", "0.1.0", 60_000))
        with pytest.raises(Conflict, match=r'namespace "other".*set to work with Temporal, namespace "default"'):
            await presence.check_in(database, writer, _settings(url))
        with pytest.raises(Conflict, match="set to work without Temporal"):
            await presence.check_in(database, writer, Settings(database_url=url, shared=True))
        assert "other" in (await database.read(lambda tx: store_facts.find(tx, store_facts.ENGINE)) or "")
        await writer.write(lambda tx: processes.beat(tx, "two", "api", "7.0.0", 60_000))
        with pytest.raises(Conflict, match=r"version 7\.0\.0 use this store"):
            await presence.check_in(database, writer, other)
    finally:
        await writer.stop()
        database.close()


async def test_the_first_server_makes_the_master_key_and_one_with_another_does_not_start(
    url: str, tmp_path: Path
) -> None:
    key = tmp_path / "key" / "master.key"
    async with composed(tmp_path / "one", database_url=url, shared=True, master_key_file=key):
        assert key.stat().st_mode & 0o777 == 0o600
        other = tmp_path / "other" / "master.key"
        with pytest.raises(Temporary, match="Put back the file with the key mk_"):
            async with composed(tmp_path / "two", database_url=url, shared=True, master_key_file=other):
                pass
        MasterKeyFile(other).create()
        with pytest.raises(Temporary, match="does not belong to this store"):
            async with composed(tmp_path / "two", database_url=url, shared=True, master_key_file=other):
                pass


def test_clock_within_the_limit_is_taken_and_beyond_it_refused() -> None:
    presence.check_clock(2000, 2000)
    presence.check_clock(-2000, 2000)
    with pytest.raises(Conflict, match=r"2\.0 s ahead of the database's"):
        presence.check_clock(2001, 2000)
    with pytest.raises(Conflict, match=r"9\.0 s behind the database's"):
        presence.check_clock(-9000, 2000)


def test_versions_with_the_same_first_number_work_together() -> None:
    presence.check_versions([ProcessRow("a", frozenset({"api"}), "0.9.3")])
    with pytest.raises(Conflict, match=r"version 1\.0\.0"):
        presence.check_versions([ProcessRow("a", frozenset({"api"}), "1.0.0")])


def test_roles_and_temporal_need_a_store_that_can_be_shared(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="only some of the roles needs others"):
        Settings(data_dir=tmp_path, roles="api")
    with pytest.raises(ValidationError, match="needs PostgreSQL"):
        Settings(data_dir=tmp_path, temporal_address="127.0.0.1:7233")
    with pytest.raises(ValidationError, match="needs PostgreSQL"):
        Settings(database_url="sqlite:////tmp/a.db", temporal_address="127.0.0.1:7233")
    assert _settings("postgresql://h/d", roles="engine, triggers").roles == ("engine", "triggers")
