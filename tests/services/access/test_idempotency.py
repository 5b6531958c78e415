"""The claim of an Idempotency-Key and the work of its request: both on disk, or neither."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from dustrun.errors import Conflict
from dustrun.services.access import idempotency
from dustrun.services.access.idempotency import Answer, Duplicate, PendingKey
from dustrun.storage.access import organizations
from dustrun.storage.access.organizations import OrganizationRow
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import idempotency_keys
from dustrun.storage.db.writer import Writer


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[tuple[Database, Writer]]:
    """A fresh store and its writer."""
    database = Database(store_url, synchronous="NORMAL")
    migrate.upgrade(database)
    writer = Writer(database)
    writer.start()
    yield database, writer
    await writer.stop()
    database.close()


def _pending(request_hash: str = "h") -> PendingKey:
    shape = lambda row: Answer(200, row.id.encode(), row.id)  # noqa: E731
    return PendingKey("org_1", "key", request_hash, 1000_000, answer=shape)


def _unit(tx: Tx) -> OrganizationRow:
    row = OrganizationRow("org_new", "New", 1)
    organizations.insert(tx, row)
    return row


def _keys(tx: Tx) -> list[tuple[object, ...]]:
    return tx.all(Statement(sa.select(idempotency_keys.c.key, idempotency_keys.c.response)))


async def test_a_unit_commits_with_its_key(store: tuple[Database, Writer]) -> None:
    database, writer = store
    pending = _pending()
    await writer.write(idempotency.once(_unit, pending))
    assert await database.read(_keys) == [("key", "org_new")]
    assert pending.recorded == Answer(200, b"org_new", "org_new")
    stored = await idempotency.find(database, pending)
    assert stored is not None
    assert (stored.request_hash, stored.response, stored.resource_id) == ("h", "org_new", "org_new")


async def test_a_unit_that_fails_leaves_its_key_free(store: tuple[Database, Writer]) -> None:
    database, writer = store

    def refuse(_tx: Tx) -> OrganizationRow:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await writer.write(idempotency.once(refuse, _pending()))
    assert await database.read(_keys) == []


@pytest.mark.both_stores
async def test_a_second_unit_with_the_key_does_nothing(store: tuple[Database, Writer]) -> None:
    database, writer = store
    first = writer.write(idempotency.once(_unit, _pending()))
    second = writer.write(idempotency.once(lambda _: pytest.fail("ran twice"), _pending()))
    await first
    with pytest.raises(Duplicate):
        await second
    assert len(await database.read(_keys)) == 1


async def test_only_the_first_write_of_a_request_takes_the_key(store: tuple[Database, Writer]) -> None:
    _, writer = store
    token = idempotency.current.set(_pending())
    try:
        await idempotency.write(writer, _unit)
        assert await idempotency.write(writer, lambda _: "later") == "later"
    finally:
        idempotency.current.reset(token)
