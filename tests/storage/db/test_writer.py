"""The writer's groups: one commit for all, and a unit that fails takes nobody with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import store_facts
from dustrun.storage.db.writer import Writer

_ADD = Statement(sa.insert(store_facts))
_NAMES = Statement(sa.select(store_facts.c.name).where(store_facts.c.value == "here").order_by(store_facts.c.name))


class Broken(Exception):
    """What a unit raises after it has written."""


class Unit:
    """Adds a row, and counts how often it is run."""

    def __init__(self, name: str, *, breaks: bool = False) -> None:
        self.name = name
        self.breaks = breaks
        self.ran = 0

    def __call__(self, tx: Tx) -> str:
        self.ran += 1
        tx.run(_ADD, name=self.name, value="here")
        if self.breaks:
            raise Broken
        return self.name


class Store:
    """A store with its writer."""

    def __init__(self, path: Path) -> None:
        self.database = Database(f"sqlite:///{path}")
        migrate.upgrade(self.database)
        self.writer = Writer(self.database)

    async def write_together(self, *units: Unit, repeatable: bool) -> list[str | BaseException]:
        """What became of units of one group: they are queued before the writer begins."""
        futures: list[asyncio.Future[str]] = []
        loop = asyncio.get_running_loop()
        self.writer._loop = loop
        futures = [self.writer.write(unit, repeatable=repeatable) for unit in units]
        self.writer.start()
        return await asyncio.gather(*futures, return_exceptions=True)

    def names(self) -> list[str]:
        """The rows that stayed."""
        return [row[0] for row in self.database.read_now(lambda tx: tx.all(_NAMES))]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty one; what a test starts is stopped."""
    made = Store(tmp_path / "store.db")
    yield made
    await made.writer.stop()
    made.database.close()


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_unit_that_fails_in_a_group_fails_alone(store: Store, repeatable: bool) -> None:
    units = [Unit("a"), Unit("b", breaks=True), Unit("c")]
    first, second, third = await store.write_together(*units, repeatable=repeatable)
    assert (first, type(second), third) == ("a", Broken, "c")
    assert store.names() == ["a", "c"]
    assert store.writer.groups == 1


async def test_units_that_may_not_be_repeated_run_once(store: Store) -> None:
    units = [Unit("a"), Unit("b", breaks=True), Unit("c")]
    await store.write_together(*units, repeatable=False)
    assert [unit.ran for unit in units] == [1, 1, 1]


async def test_a_group_without_a_failure_runs_once(store: Store) -> None:
    units = [Unit("a"), Unit("b")]
    assert await store.write_together(*units, repeatable=True) == ["a", "b"]
    assert [unit.ran for unit in units] == [1, 1]
    assert store.names() == ["a", "b"]


async def test_a_lone_unit_that_fails_leaves_nothing_and_the_next_one_is_written(store: Store) -> None:
    (failed,) = await store.write_together(Unit("a", breaks=True), repeatable=False)
    assert isinstance(failed, Broken)
    assert await store.writer.write(Unit("b")) == "b"
    assert store.names() == ["b"]
