"""A server that joins others hears all that they tell from the moment it answers calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import __version__
from dustrun.services.sharing.bus import Bus
from dustrun.services.streaming.broadcaster import ActivityNotice
from dustrun.storage.db.database import Database
from dustrun.storage.db.ledger_tables import processes
from testkit.composition import composed
from testkit.postgres import Cluster
from testkit.sharing import until


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    url = cluster.fresh()
    yield url
    cluster.drop(url)


async def test_a_server_that_has_just_joined_hears_what_the_first_one_tells(tmp_path: Path, url: str) -> None:
    """A notice is in no table: told too early, nobody would ever hear it."""
    shares: dict[str, Any] = {"database_url": url, "shared": True}
    async with composed(tmp_path, **shares) as first:
        for number in range(5):
            async with composed(tmp_path, **shares) as second:
                subscription = second.parts.streams.hub.watch_activity("org_1")
                notice = ActivityNotice("trigger_skipped", number, None, "{}")
                first.parts.streams.hub.announce("org_1", notice)

                async def is_heard(subscription: Any = subscription) -> bool:
                    return bool(subscription.entries)

                await until(is_heard, 20)
                assert subscription.take() == [notice]


async def test_a_server_tells_one_that_it_has_only_just_heard_of(tmp_path: Path, url: str) -> None:
    """It need not have found the newcomer in the table: it may be long until it can write there."""
    newcomer = Database(url, is_shared=True)
    bus, heard = Bus(newcomer), []
    bus.on("heard", lambda *who: heard.append(("heard", *who)))
    bus.on("notice", lambda org_id, kind, *_: heard.append((org_id, kind)))
    async with composed(tmp_path, database_url=url, shared=True) as first:
        await bus.start()
        others = sa.create_engine(url)
        with others.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(1685418869)"))  # the turn to write
            bus.tell("came")
            bus.tell("listens", "newcomer")

            async def is_answered() -> bool:
                return bool(heard)

            await until(is_answered, 20)
            first.parts.streams.hub.announce("org_1", ActivityNotice("trigger_skipped", 1, None, "{}"))

            async def is_told() -> bool:
                return len(heard) > 1

            await until(is_told, 20)
        others.dispose()
        await bus.stop()
    newcomer.close()
    assert heard == [("heard", "newcomer", first.parts.database.name), ("org_1", "trigger_skipped")]


async def test_a_server_starts_beside_one_that_does_not_answer(tmp_path: Path, url: str) -> None:
    engine = sa.create_engine(url)
    row = {"id": "frozen", "roles": "api", "version": __version__, "started_at": 0, "alive_until": 2**52}
    with engine.begin() as connection:
        connection.execute(sa.insert(processes).values(row))
    engine.dispose()
    async with asyncio.timeout(60), composed(tmp_path, database_url=url, shared=True) as server:
        assert (await server.owner.get("/v1/runs")).status == 200
