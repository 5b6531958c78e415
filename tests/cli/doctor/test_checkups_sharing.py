"""`dustrun doctor` on a store that several processes share: who lives, in which version, and Temporal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.cli.doctor import checkups_sharing
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from testkit.composition import composed
from testkit.ports import free_port
from testkit.postgres import Cluster
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
        findings = await asyncio.to_thread(checkups_sharing.sharing, chosen, database)
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


async def test_a_store_for_one_process_has_none_of_it(tmp_path: Path) -> None:
    async with composed(tmp_path):
        assert await _found(tmp_path, f"sqlite:///{tmp_path / 'dustrun.db'}") == {}
