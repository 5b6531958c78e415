"""`dustrun doctor` on a store that several processes share: who lives, in which version, and Temporal."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.cli.doctor import checkups_store
from dustrun.errors import Conflict
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from testkit.composition import composed
from testkit.ports import free_port
from testkit.postgres import Cluster
from testkit.skewed_clock import set_ahead
from testkit.temporal import TemporalServer


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    url = cluster.fresh()
    yield url
    cluster.drop(url)


async def _found(folder: Path, url: str, **settings: Any) -> dict[str, tuple[str, str]]:
    """State and text of each finding, by its name."""
    chosen = Settings(data_dir=folder, database_url=url, **settings)
    database = Database(url)
    try:
        findings = await asyncio.to_thread(checkups_store.sharing, chosen, database)
    finally:
        database.close()
    return {one.name: (one.state, one.says) for one in findings}


async def test_what_is_missing_among_the_processes_is_told(tmp_path: Path, url: str, temporal: TemporalServer) -> None:
    alone = {"shared": True, "roles": ("api",)}
    async with composed(tmp_path, database_url=url, **alone) as server:
        found = await _found(tmp_path, url, shared=True)
        assert {name: state for name, (state, _) in found.items()} == {
            "processes": "bad",
            "versions": "ok",
            "engine": "ok",
            "clocks": "ok",
        }
        assert "nobody has the role engine, triggers" in found["processes"][1]
        other = await _found(tmp_path, url, temporal_address=temporal.address)
        assert (other["engine"][0], other["temporal"][0]) == ("bad", "ok")
        away = await _found(tmp_path, url, temporal_address=f"127.0.0.1:{free_port()}")
        assert (away["temporal"][0], "cannot be reached" in away["temporal"][1]) == ("bad", True)
        theirs = await _found(tmp_path, url, temporal_address=temporal.address, temporal_namespace="theirs")
        assert (theirs["temporal"][0], 'no namespace "theirs"' in theirs["temporal"][1]) == ("bad", True)
        async with composed(tmp_path, database_url=url, shared=True, roles=("engine", "triggers")):
            assert (await _found(tmp_path, url, shared=True))["processes"][0] == "ok"
            for version, state in (("0.0.9", "warning"), ("9.0.0", "bad")):
                one = sa.text("UPDATE processes SET version = :v WHERE roles NOT LIKE '%api%'").bindparams(v=version)
                await server.execute(one)
                assert (await _found(tmp_path, url, shared=True))["versions"][0] == state


async def test_a_clock_beyond_the_limit_is_named_and_its_server_refused(tmp_path: Path, url: str) -> None:
    set_ahead(url, 0)
    async with composed(tmp_path, database_url=url, shared=True) as server:
        assert (await _found(tmp_path, url, shared=True))["clocks"][0] == "ok"
        set_ahead(url, 9_000)  # it goes wrong while the process lives
        async with asyncio.timeout(60):
            while (said := (await _found(tmp_path, url, shared=True))["clocks"])[0] == "ok":
                await asyncio.sleep(0.2)
        ((name,),) = await server.rows(sa.text("SELECT name FROM processes"))
        assert said[0] == "bad"
        assert re.fullmatch(
            rf"{re.escape(name)} is [89]\.\d s behind the database's; at most 2\.0 s are allowed", said[1]
        )
    with pytest.raises(Conflict, match=r"clock of this machine is [89]\.\d s behind the database's.*max_clock_skew_ms"):
        async with composed(tmp_path, database_url=url, shared=True):
            pass
    database = Database(url)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"shared": True}, "bad"),
        ({}, "warning"),
        ({"shared": True, "max_clock_skew_ms": 10_000}, "ok"),
    ]
    for more, state in cases:
        settings = Settings(data_dir=tmp_path, database_url=url, **more)
        found = await asyncio.to_thread(checkups_store.clock_of, database, settings)
        assert (found.state, found.name) == (state, "database clock")
    database.close()


async def test_a_store_for_one_process_has_none_of_it(tmp_path: Path) -> None:
    async with composed(tmp_path):
        assert await _found(tmp_path, f"sqlite:///{tmp_path / 'dustrun.db'}") == {}
