"""Looking API keys up: once for all requests that wait, and never from before a revocation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from dustrun.services.access.api_keys import Keys, make_key
from dustrun.services.access.principal import PERMISSIONS
from dustrun.storage.access import keys as rows
from dustrun.storage.access import organizations
from dustrun.storage.access.organizations import OrganizationRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from testkit.distance import Distance, at_a_distance
from testkit.postgres import Cluster

T = TypeVar("T")


class LateDatabase(Database):
    """A store whose answers to look-ups can be held back."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.lets_go, self.has_read = asyncio.Event(), asyncio.Event()
        self.lets_go.set()

    async def look_up(self, query: Callable[[Tx], T]) -> T:
        """The answer, once it may go."""
        found = await super().look_up(query)
        if not self.lets_go.is_set():
            self.has_read.set()
        await self.lets_go.wait()
        return found


class Far:
    """Keys of a store 20 ms away, one of them an administrator's."""

    def __init__(self, database: LateDatabase, keys: Keys, distance: Distance) -> None:
        self.database = database
        self.keys = keys
        self.distance = distance
        self.admin = make_key("org", "admin", sorted(PERMISSIONS))
        self.other = make_key("org", "other", ["run:read"])


@pytest.fixture
async def far(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Far]:
    """Such a store."""
    url = cluster.fresh()
    with at_a_distance(url, 0.01) as (away, distance):
        database = LateDatabase(away)
        ProcessLock(database, tmp_path).take()
        writer = Writer(database)
        writer.start()
        found = Far(database, Keys(database, writer), distance)
        await writer.write(lambda tx: organizations.insert(tx, OrganizationRow("org", "org", 1)))
        for key in (found.admin, found.other):
            await writer.write(lambda tx, key=key: rows.insert(tx, key.row))  # type: ignore[misc]
        yield found
        await writer.stop()
        database.close()
    cluster.drop(url)


async def test_requests_wait_for_one_look_up_of_their_key(far: Far) -> None:
    await far.keys.find(far.admin.secret)  # opens a connection
    before = far.distance.round_trips
    asked = [asyncio.create_task(far.keys.find(far.other.secret)) for _ in range(100)]
    await asyncio.sleep(0)
    asked[0].cancel()  # a client that has gone takes nobody with it
    found = await asyncio.gather(*asked[1:])
    assert {principal.key_id for principal in found if principal is not None} == {far.other.row.id}
    assert far.distance.round_trips - before == 1
    assert far.keys.find_cached(far.other.secret) is not None


async def test_nobody_waits_for_a_look_up_from_before_a_revocation(far: Far) -> None:
    admin = await far.keys.find(far.admin.secret)
    assert admin is not None
    far.database.lets_go.clear()
    before = asyncio.create_task(far.keys.find(far.other.secret))
    await far.database.has_read.wait()
    await far.keys.revoke(admin, far.other.row.id)
    after = asyncio.create_task(far.keys.find(far.other.secret))
    await asyncio.sleep(0)
    far.database.lets_go.set()
    assert (await before) is not None  # it was asked while the key was good
    assert await after is None
    assert far.keys.find_cached(far.other.secret) is None
