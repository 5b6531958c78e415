"""The writer's groups: one commit for all, and a unit that fails takes nobody with it."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.core.run.state import RunStatus
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.group_commit import _LINGER_S, SLICE_S
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import run_counts, store_facts
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs.journal import Ending, note_end

_ADD = Statement(sa.insert(store_facts))
_NAMES = Statement(sa.select(store_facts.c.name).where(store_facts.c.value == "here").order_by(store_facts.c.name))


class Broken(Exception):
    """What a unit raises after it has written."""


class Unit:
    """Adds a row, and notes how often it is run and by which thread."""

    def __init__(self, name: str, *, breaks: bool = False, takes_s: float = 0.0) -> None:
        self.name = name
        self.breaks = breaks
        self.takes_s = takes_s
        self.ran = 0
        self.thread = 0

    def __call__(self, tx: Tx) -> str:
        self.ran += 1
        self.thread = threading.get_ident()
        time.sleep(self.takes_s)
        tx.run(_ADD, name=self.name, value="here")
        if self.breaks:
            raise Broken
        return self.name


class Store:
    """A store with its writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = Database(f"sqlite:///{path}")
        migrate.upgrade(self.database)
        self.writer = Writer(self.database)

    async def write_together(self, *units: Unit, repeatable: bool) -> list[str | BaseException]:
        """What became of units of one group: they are queued before the writer begins."""
        futures: list[asyncio.Future[str]] = []
        self.writer._loop = asyncio.get_running_loop()
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


@pytest.mark.parametrize("repeatable", [True, False])
async def test_what_a_group_counts_adds_up_without_the_unit_that_fails(store: Store, repeatable: bool) -> None:
    def counts(status: RunStatus, *, breaks: bool = False) -> Callable[[Tx], None]:
        def unit(tx: Tx) -> None:
            note_end(tx, 1, "org_a", "wf_a", Ending(status, 0, passed=True), "live")
            if breaks:
                raise Broken

        return unit

    def totals(tx: Tx) -> dict[str, int]:
        return dict(tx.all(Statement(sa.select(run_counts.c.status, run_counts.c.total))))

    good, bad = RunStatus.SUCCESS, RunStatus.FAILURE
    store.writer.start()
    for units in ([counts(good), counts(bad), counts(good)], [counts(good), counts(bad, breaks=True), counts(good)]):
        writes = [store.writer.write(unit, repeatable=repeatable) for unit in units]
        await asyncio.gather(*writes, return_exceptions=True)
    assert await store.database.read(totals) == {"success": 4, "failure": 1}
    assert store.writer.groups == 2


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


async def test_repeatable_units_run_on_the_event_loop_and_others_beside_it(store: Store) -> None:
    short, other = Unit("a"), Unit("b")
    store.writer.start()
    await store.writer.write(short, repeatable=True)
    await store.writer.write(other)
    here = threading.get_ident()
    assert (short.thread == here, other.thread == here) == (True, False)
    assert store.names() == ["a", "b"]


async def test_a_busy_store_does_not_hold_the_event_loop(store: Store) -> None:
    """Nobody but the event loop ends the other's transaction, so a loop that waited for it would never be through."""
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.writer.start()
    unit = Unit("a")
    written = store.writer.write(unit, repeatable=True)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not written.done()
    other.execute("ROLLBACK")
    other.close()
    assert await written == "a"
    assert (unit.ran, store.names()) == (1, ["a"])
    await store.writer.write(Unit("b"), repeatable=True)
    assert store.names() == ["a", "b"]


async def test_a_group_that_takes_long_is_continued_in_the_next(store: Store) -> None:
    units = [Unit(f"{number:02}", takes_s=SLICE_S / 8) for number in range(40)]
    names = [unit.name for unit in units]
    assert await store.write_together(*units, repeatable=True) == names
    assert (store.writer.groups, store.writer.units) == (3, 40)
    assert [unit.ran for unit in units] == [1] * 40
    assert store.names() == names


async def _groups_of(store: Store, *, last_waits: bool) -> int:
    """In how many groups three units are committed that come one soon after the other; the first two may wait."""
    before, futures = store.writer.groups, []
    for place in range(3):
        unit = Unit(f"{before}-{place}")
        futures.append(store.writer.write(unit, repeatable=True, may_wait=last_waits or place < 2))
        for _ in range(5):  # turns of the loop, in which a group would begin
            await asyncio.sleep(0)
    await asyncio.gather(*futures)
    return store.writer.groups - before


async def test_units_that_may_wait_and_come_fast_share_a_commit(store: Store) -> None:
    store.writer.start()
    # on a machine that is busy, what comes fast may come slowly: then the next three do
    assert any([await _groups_of(store, last_waits=True) == 1 for _ in range(20)])
    assert any([await _groups_of(store, last_waits=False) == 1 for _ in range(20)])


async def test_a_unit_that_may_not_wait_begins_at_once_with_those_that_do(store: Store) -> None:
    store.writer.start()
    for attempt in range(20):
        patient = [store.writer.write(Unit(f"a{n}-{attempt}"), repeatable=True, may_wait=True) for n in range(2)]
        await asyncio.sleep(0)
        hasty, begun = Unit(f"b-{attempt}"), asyncio.get_running_loop().time()
        await store.writer.write(hasty, repeatable=True)
        assert all(one.done() for one in patient), "they were before it"
        if asyncio.get_running_loop().time() - begun < _LINGER_S:
            return
    pytest.fail("it waited as long as those that may")


async def test_results_are_told_in_the_order_of_the_writes(store: Store) -> None:
    told: list[str] = []
    store.writer.start()
    units = [Unit(name) for name in "abcdef"]
    await asyncio.gather(
        *(store.writer.write(unit, told.append, repeatable=unit.name not in "ce") for unit in units),
    )
    assert told == ["a", "b", "c", "d", "e", "f"]


async def test_a_unit_does_not_see_the_context_of_who_writes(store: Store) -> None:
    caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")
    store.writer.start()
    caller.set("a caller")
    seen: list[str] = []
    await store.writer.write(lambda _: seen.append(caller.get()), repeatable=True)
    assert seen == ["nobody"]


async def test_a_callback_that_fails_does_not_keep_the_others_from_their_results(store: Store) -> None:
    store.writer.start()

    def breaks(_: str) -> None:
        raise Broken

    writes = [
        store.writer.write(Unit("a"), breaks, repeatable=True),
        store.writer.write(Unit("b"), repeatable=True),
    ]
    first, second = await asyncio.gather(*writes, return_exceptions=True)
    assert (type(first), second) == (Broken, "b")
    assert await store.writer.write(Unit("c"), repeatable=True) == "c"
    assert store.names() == ["a", "b", "c"]


async def test_stop_commits_what_is_queued(store: Store) -> None:
    store.writer.start()
    written = [store.writer.write(Unit(name), repeatable=name != "b") for name in "abc"]
    assert store.writer.backlog == 3
    await store.writer.stop()
    assert [one.result() for one in written] == ["a", "b", "c"]
    assert store.names() == ["a", "b", "c"]
