"""A group of units begins behind the commit of the one before, and is begun again if that commit fails."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.errors import RaiseException, UniqueViolation
from sqlalchemy import bindparam as b

from dustrun.errors import CommitUnknown, DustrunError
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import store_facts
from dustrun.storage.db.writer import Writer
from testkit.distance import Distance, at_a_distance
from testkit.postgres import Cluster

_ADD = Statement(sa.insert(store_facts))
_FIND = Statement(sa.select(store_facts.c.value).where(store_facts.c.name == b("of")))
_ALL = Statement(sa.select(store_facts.c.name).order_by(store_facts.c.name))
# refuses, at the commit, rows of this name
_REFUSE = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.name LIKE 'refused%' THEN RAISE EXCEPTION 'no'; END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER refusing AFTER INSERT ON store_facts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse();
"""

Unit = Callable[[Tx], Any]


class Store:
    """A store at a distance, with its writer, and what was told in which order."""

    def __init__(self, url: str, database: Database, writer: Writer, distance: Distance) -> None:
        self.url = url
        self.database = database
        self.writer = writer
        self.distance = distance
        self.begun: list[str] = []
        self.told: list[str] = []

    def write(self, name: str, *, is_separate: bool = True, takes_s: float = 0) -> asyncio.Future[None]:
        """Queues a unit that finds nothing, then adds this row: two round trips."""

        def unit(tx: Tx) -> None:
            self.begun.append(name)
            time.sleep(takes_s)
            assert tx.one(_FIND, of=name) is None or name == "there"
            tx.do(_ADD, name=name, value="")

        after = lambda _: self.told.append(name)  # noqa: E731
        return self.writer.write(unit, after, repeatable=is_separate, is_separate=is_separate)

    async def behind(self, first: str, *names: str, takes_s: float = 0) -> list[Any]:
        """Queues a unit, and others while it waits for the database; what became of them."""
        written = [self.write(first)]
        await asyncio.sleep(0)  # its group begins
        written += [self.write(name, takes_s=takes_s) for name in names]
        return await asyncio.gather(*written, return_exceptions=True)

    async def names(self) -> list[str]:
        """The rows that stayed."""
        return [row[0] for row in await self.database.read(lambda tx: tx.all(_ALL))]


@pytest.fixture(params=["alone", "shared"])
async def store(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store, 5 ms away, of one server or of several."""
    url = cluster.fresh()
    with at_a_distance(url, 0.005) as (far, distance):
        database = Database(far, is_shared=request.param == "shared")
        ProcessLock(database, tmp_path).take()
        writer = Writer(database)
        writer.start()
        yield Store(url, database, writer, distance)
        await writer.stop()
        database.close()
    cluster.drop(url)


@pytest.mark.parametrize("store", ["alone"], indirect=True)
async def test_a_group_that_waits_for_a_commit_has_already_begun(store: Store) -> None:
    await store.behind("w1", "w2")
    counts = []
    for names in ("abc", "def", "ghi"):  # a busy machine tears what travels, which looks like more
        before = store.distance.round_trips
        assert await store.behind(*names) == [None] * 3
        counts.append(store.distance.round_trips - before)
    assert min(counts) == 3  # two each, one of them shared
    assert store.told == ["w1", "w2", *"abcdefghi"]


@pytest.mark.parametrize("store", ["shared"], indirect=True)
async def test_a_group_in_a_shared_store_asks_once_it_has_its_turn(store: Store) -> None:
    await store.behind("w1", "w2")
    before = store.distance.round_trips
    assert await store.behind("a", "b", "c") == [None] * 3
    assert store.distance.round_trips - before == 4  # two each: what it finds, and what it adds with the commit


_TURNS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1685418869"


@pytest.mark.parametrize("store", ["shared"], indirect=True)
async def test_units_of_a_shared_store_that_ask_nothing_travel_with_their_commit(store: Store) -> None:
    """And others may write while this process does what it can without the database."""
    turns: list[Any] = []
    some = _MANY[:12]
    with psycopg.connect(store.url.replace("+psycopg", ""), autocommit=True) as other:

        def add(name: str) -> asyncio.Future[None]:
            def unit(tx: Tx) -> None:
                if name == some[-3]:  # and those after it: once the commit before has been executed
                    until = time.monotonic() + 10
                    while other.execute(_TURNS).fetchone() != (0,) and time.monotonic() < until:
                        time.sleep(0.02)
                if name in some[-3:]:
                    turns.append(other.execute(_TURNS).fetchone())
                tx.do(_ADD, name=name, value="")

            return store.writer.write(unit, lambda _: store.told.append(name), repeatable=True, is_separate=True)

        assert other.execute(_TURNS).fetchone() == (0,)
        await asyncio.gather(add("w1"), add("w2"))
        store.distance.delay_s = 0.5
        before, groups = store.distance.round_trips, store.writer.groups
        written = [add("a")]
        await asyncio.sleep(0)  # its group begins
        written += [add(name) for name in some]
        await asyncio.gather(*written)
    assert turns == [(0,)] * 3
    assert store.told == ["w1", "w2", "a", *some]
    assert store.writer.groups - groups == 2
    assert store.distance.round_trips - before == 2


_MANY = [f"b{number:02}" for number in range(20)]
_SLOW_S = 0.003  # a few of them are begun before the event loop has another turn


async def test_a_group_begins_as_a_whole_while_the_commit_before_it_is_on_its_way(store: Store) -> None:
    await store.behind("w1", "w2")
    for first, delay_s in (("a", 0.15), ("c", 1.5)):  # a busy machine needs longer to begin so many
        names = [first, *(f"{first}{name}" for name in _MANY)]
        groups, store.distance.delay_s, store.begun, store.told = store.writer.groups, delay_s, [], []
        written = [store.write(first)]
        await asyncio.sleep(0)
        written += [store.write(name, takes_s=_SLOW_S) for name in names[1:]]
        await written[0]
        begun = list(store.begun)
        await asyncio.gather(*written)
        if begun == names:
            break
    assert begun == names
    assert store.writer.groups - groups == 2
    assert store.told == names


async def test_the_event_loop_has_its_turns_while_many_units_begin_and_are_told(store: Store) -> None:
    await store.behind("w1", "w2")
    store.distance.delay_s, store.begun, store.told = 0.1, [], []
    steps: list[tuple[int, int]] = []

    async def look() -> None:
        while len(store.told) < 201:
            steps.append((len(store.begun), len(store.told)))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await store.behind("a", *(f"c{number:03}" for number in range(200)), takes_s=0.001)
    await looking
    at_once = [(later[0] - begun, later[1] - told) for (begun, told), later in itertools.pairwise(steps)]
    assert max(begun for begun, _ in at_once) <= 12
    assert max(told for _, told in at_once) <= 32
    assert store.told == ["a", *(f"c{number:03}" for number in range(200))]


async def test_a_unit_whose_values_cannot_be_sent_fails_alone_wherever_it_begins(store: Store) -> None:
    await store.behind("w1", "w2")
    store.told = []
    names = [*_MANY[:10], "bad\ud800", *_MANY[10:]]
    _, *others = await store.behind("a", *names, takes_s=_SLOW_S)
    assert [type(one).__name__ for one in others if one is not None] == ["UnicodeEncodeError"]
    assert sorted(store.told) == ["a", *_MANY]
    assert await store.names() == ["a", *_MANY, "w1", "w2"]


async def test_units_that_end_with_their_first_turn_are_committed_with_the_others(store: Store) -> None:
    """Of one whose row is there already, the database refuses the statement of all that began with it."""

    def add(name: str) -> asyncio.Future[None]:
        def unit(tx: Tx) -> None:
            time.sleep(_SLOW_S)
            tx.do(_ADD, name=name, value="")

        return store.writer.write(unit, repeatable=True, is_separate=True)

    await store.behind("w1", "w2")
    written = [store.write("a")]
    await asyncio.sleep(0)
    written += [add(name) for name in [*_MANY[:10], "w1", *_MANY[10:]]]
    found = await asyncio.gather(*written, return_exceptions=True)
    assert [type(one) for one in found if one is not None] == [UniqueViolation]
    assert await store.names() == ["a", *_MANY, "w1", "w2"]


@pytest.mark.parametrize("after_s", [0.12, 0.2, 0.27])
async def test_a_connection_that_dies_behind_a_commit_costs_no_unit(
    cluster: Cluster, store: Store, after_s: float
) -> None:
    await store.behind("w1", "w2")
    store.distance.delay_s, store.told = 0.1, []
    writing = asyncio.create_task(store.behind("a", *_MANY, takes_s=_SLOW_S))
    await asyncio.sleep(after_s)
    await asyncio.to_thread(cluster.kill_connections, store.url)
    done = await writing
    names = await store.names()
    for name, found in zip(["a", *_MANY], done, strict=True):
        assert found is None or isinstance(found, DustrunError), found
        if found is None:
            assert name in names
    told = [name for name, found in zip(["a", *_MANY], done, strict=True) if found is None]
    assert store.told == told


@pytest.mark.parametrize("others", [["a", "b"], _MANY], ids=["few", "many"])
@pytest.mark.parametrize("first", ["there", "refused"], ids=["its last statement", "the commit itself"])
async def test_a_commit_that_fails_takes_nobody_with_it_who_has_begun_behind_it(
    store: Store, first: str, others: list[str]
) -> None:
    await store.writer.write(lambda tx: tx.raw(_REFUSE.split(";\nCREATE CONSTRAINT")[0]))
    await store.writer.write(lambda tx: tx.raw("CREATE CONSTRAINT" + _REFUSE.split("CREATE CONSTRAINT")[1]))
    await store.write("there")
    failed, *done = await store.behind(first, *others, takes_s=_SLOW_S)
    assert type(failed) is (UniqueViolation if first == "there" else RaiseException)
    assert done == [None] * len(others)
    assert store.told == ["there", *others]
    assert await store.names() == [*others, "there"]


@pytest.mark.parametrize("others", [["b", "c"], _MANY], ids=["few", "many"])
@pytest.mark.parametrize("keeping", [True, False])
async def test_units_behind_a_commit_of_unknown_outcome_are_written_once(
    cluster: Cluster, store: Store, keeping: bool, others: list[str]
) -> None:
    store.writer.on_doubt.append(lambda: store.told.append("doubt"))
    store.writer.on_settled.append(lambda: store.told.append("settled"))
    with cluster.commits_that_die(store.url, "store_facts", keeping=keeping) as die:
        writing = asyncio.create_task(store.behind("a", *others, takes_s=_SLOW_S))
        await asyncio.to_thread(die)
        if keeping:  # the next commit would wait for ever too
            cluster._say("ALTER SYSTEM RESET synchronous_standby_names")
            cluster._say("SELECT pg_reload_conf()")
        unknown, *done = await writing
    assert (type(unknown), done) == (CommitUnknown, [None] * len(others))
    assert store.told == ["doubt", "settled", *others]
    assert await store.names() == (["a", *others] if keeping else others)


async def test_whatever_fails_each_unit_is_told_once_and_in_the_order_of_commits(store: Store) -> None:
    chance, expected, written = random.Random(3), [], []
    await store.write("there")
    for number in range(150):
        name = "there" if chance.random() < 0.05 else f"{number:03}"
        expected.append(UniqueViolation if name == "there" else type(None))
        written.append(store.write(name, is_separate=chance.random() < 0.9))
        if chance.random() < 0.1:
            await asyncio.sleep(chance.random() * 0.01)
    done = await asyncio.gather(*written, return_exceptions=True)
    assert [type(one) if one is not None else type(None) for one in done] == expected
    names = [f"{number:03}" for number, kind in enumerate(expected) if kind is not UniqueViolation]
    assert sorted(store.told) == [*names, "there"]
    assert await store.names() == [*names, "there"]
