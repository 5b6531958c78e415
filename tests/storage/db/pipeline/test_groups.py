"""Units that run together on PostgreSQL: few round trips, and each as if it had run alone."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from psycopg.errors import ProgramLimitExceeded, UniqueViolation
from sqlalchemy import bindparam as b

from dustrun import clock
from dustrun.errors import StoreUnavailable
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.statement import PendingResult, Statement, Tx
from dustrun.storage.db.tables import activity, run_counts, store_facts
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import journal
from testkit.distance import Distance, at_a_distance
from testkit.postgres import Cluster

_ADD = Statement(sa.insert(store_facts))
_CHANGE = Statement(
    sa.update(store_facts)
    .where(store_facts.c.name == b("of"))
    .values(value=store_facts.c.value + b("more"))
    .returning(store_facts.c.value)
)
_READ = Statement(sa.select(store_facts.c.value).where(store_facts.c.name == b("of")))
_ALL = Statement(sa.select(store_facts.c.name, store_facts.c.value).order_by(store_facts.c.name))
_TOTALS = Statement(sa.select(run_counts.c.status, run_counts.c.total).order_by(run_counts.c.status))
_PLACES = Statement(sa.select(activity.c.id, activity.c.workflow_id).order_by(activity.c.id))

_LONG = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))  # longer than an index bears, and not compressible

Unit = Callable[[Tx], Any]


class Broken(Exception):
    """What a unit raises."""


class Store:
    """A store at a distance, with its writer."""

    def __init__(self, database: Database, writer: Writer, distance: Distance) -> None:
        self.database = database
        self.writer = writer
        self.distance = distance

    async def together(self, *units: Unit, is_separate: bool = True) -> list[Any]:
        """What became of units that were queued at once."""
        written = [self.writer.write(unit, repeatable=is_separate, is_separate=is_separate) for unit in units]
        return await asyncio.gather(*written, return_exceptions=True)

    async def round_trips(self, *units: Unit) -> int:
        """How often the writer waits for the database until the units are committed."""
        before = self.distance.round_trips
        await self.together(*units)
        return self.distance.round_trips - before

    async def facts(self) -> dict[str, str]:
        """The rows that stayed."""
        return dict(await self.database.read(lambda tx: tx.all(_ALL)))


@pytest.fixture(params=[(0.01, "alone"), (0.01, "shared")], ids=["alone", "shared"])
async def store(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store, so many seconds away, of one server or of several."""
    url, (delay_s, whose) = cluster.fresh(), request.param
    with at_a_distance(url, delay_s) as (far, distance):
        database = Database(far, is_shared=whose == "shared")
        ProcessLock(database, tmp_path).take()
        writer = Writer(database)
        writer.start()
        yield Store(database, writer, distance)
        await writer.stop()
        database.close()
    cluster.drop(url)


def _add(name: str, value: str = "") -> Unit:
    return lambda tx: tx.many(_ADD, [{"name": name, "value": value}])


def _change(name: str, more: str) -> Unit:
    def unit(tx: Tx) -> str | None:
        row = tx.one(_CHANGE, of=name, more=more)
        return None if row is None else str(row[0])

    return unit


def _copy(source: str, target: str) -> Unit:
    """Reads, changes and adds: three statements, each after the result of the one before."""

    def unit(tx: Tx) -> str:
        row = tx.one(_READ, of=source)
        assert row is not None
        _change(source, "!")(tx)
        _add(target, row[0])(tx)
        return str(row[0])

    return unit


async def test_units_that_run_together_take_as_many_round_trips_as_one(store: Store) -> None:
    await store.together(*(_add(f"from {number}", str(number)) for number in range(1, 202)))
    await store.together(_copy("from 201", "to 201"))  # what is prepared once does not count
    one = await store.round_trips(_copy("from 1", "to 1"))
    parts = (range(2, 68), range(68, 135), range(135, 201))  # a busy machine tears what travels, which looks like more
    many = [await store.round_trips(*(_copy(f"from {n}", f"to {n}") for n in part)) for part in parts]
    assert (one, min(many)) == (3, 3)
    facts = await store.facts()
    assert facts == {
        **{f"from {number}": f"{number}!" for number in range(1, 202)},
        **{f"to {number}": str(number) for number in range(1, 202)},
    }


async def test_texts_of_many_rows_arrive_as_they_are(store: Store) -> None:
    texts = [
        "",
        "NULL",
        "{}",
        '{"a","b"}',
        'say "a"',
        "back\\slash",
        "\\",
        '\\"',
        "a,b",
        " a ",
        "line\nline",
        "ü€😀",
        "%s",
    ]
    await store.together(*(_add(f"{number:02}", text) for number, text in enumerate([*texts, "a\x00b"])))
    assert list((await store.facts()).values()) == [*texts, "a\ufffdb"]


async def test_a_unit_that_fails_after_it_has_written_takes_nobody_with_it(store: Store) -> None:
    def broken(tx: Tx) -> None:
        _add("broken")(tx)
        _change("broken", "!")(tx)
        raise Broken

    done = await store.together(_add("a"), broken, _add("b"))
    assert [type(one) for one in done] == [type(None), Broken, type(None)]
    assert await store.facts() == {"a": "", "b": ""}


async def test_units_that_fail_after_they_have_written_are_repeated_together(store: Store) -> None:
    def broken(number: int) -> Unit:
        def unit(tx: Tx) -> None:
            _add(f"broken {number}")(tx)
            _change(f"broken {number}", "!")(tx)
            raise Broken

        return unit

    await store.together(_add("warm"))
    assert await store.round_trips(*map(broken, range(40)), _add("a")) < 8
    assert await store.facts() == {"a": "", "warm": ""}


async def test_what_is_asked_soon_is_known_after_the_next_answer(store: Store) -> None:
    def unit(tx: Tx) -> tuple[Any, Any]:
        there, not_there = tx.soon(_READ, of="a"), tx.soon(_READ, of="nobody")
        assert tx.one(_CHANGE, of="a", more="2") == ("12",)
        return there.value, not_there.value

    await store.together(_add("a", "1"))
    assert await store.together(unit) == [(("1",), None)]
    await store.together(_change("a", ""))
    before = store.distance.round_trips
    assert await store.together(lambda tx: (tx.soon(_READ, of="a"), tx.one(_READ, of="a"))[1]) == [("12",)]
    assert store.distance.round_trips - before == 2


async def test_what_is_asked_soon_is_known_after_a_wait_for_it(store: Store) -> None:
    def unit(tx: Tx) -> tuple[Any, Any, Any]:
        there, not_there, every = tx.soon(_READ, of="a"), tx.soon(_READ, of="nobody"), tx.soon_all(_ALL)
        tx.wait()
        tx.wait()  # nothing is asked any more
        _add("b")(tx)
        return there.value, not_there.value, every.value

    await store.together(_add("a", "1"))
    before = store.distance.round_trips
    assert await store.together(unit) == [(("1",), None, [("a", "1")])]
    assert store.distance.round_trips - before == 2
    assert await store.facts() == {"a": "1", "b": ""}


async def test_units_that_touch_the_same_thing_run_one_after_the_other(store: Store) -> None:
    def add_up(tx: Tx) -> str:
        row = tx.one(_READ, of="sum")
        assert row is not None
        tx.do(_CHANGE, of="sum", more="+")
        return str(row[0])

    await store.together(_add("sum", ""), _add("a"))
    keys: list[tuple[str, ...]] = [("sum",), ("other", "sum"), (), ("other",), ("sum",)]
    units = [add_up, add_up, _copy("a", "b"), _copy("b", "c"), add_up]
    written = [
        store.writer.write(unit, repeatable=True, is_separate=True, touches=touches)
        for unit, touches in zip(units, keys, strict=True)
    ]
    assert await asyncio.gather(*written) == ["", "+", "", "", "++"]
    assert (await store.facts())["sum"] == "+++"


async def test_a_unit_that_fails_before_it_has_written_repeats_nobody(store: Store) -> None:
    ran: list[str] = []

    def broken(tx: Tx) -> None:
        assert _change("nobody", "!")(tx) is None
        raise Broken

    def fine(tx: Tx) -> None:
        ran.append("fine")
        _add("a")(tx)

    done = await store.together(fine, broken)
    assert ([type(one) for one in done], ran) == ([type(None), Broken], ["fine"])
    assert await store.facts() == {"a": ""}


@pytest.mark.parametrize("is_separate", [True, False])
async def test_rows_that_the_database_refuses_fail_their_units_only(store: Store, is_separate: bool) -> None:
    names = [f"{number:02}" for number in range(20)]
    wrong = {"03": _LONG, "05": "\ud800"}  # and 11 is there already
    units = [_add(wrong.get(name, name)) for name in names]
    await store.together(_add("11"))
    done = await store.together(*units, is_separate=is_separate)
    failed = {name: type(one).__name__ for name, one in zip(names, done, strict=True) if one is not None}
    assert failed == {"03": "ProgramLimitExceeded", "05": "UnicodeEncodeError", "11": "UniqueViolation"}
    assert list(await store.facts()) == [name for name in names if name not in wrong]
    (alone,) = await store.together(_add("\ud800"), is_separate=is_separate)
    (again,) = await store.together(_add("new"), is_separate=is_separate)
    assert (type(alone), again) == (UnicodeEncodeError, None)


async def test_units_that_take_long_do_not_keep_others_from_their_commit(store: Store) -> None:
    def slow(name: str) -> Unit:
        def unit(tx: Tx) -> None:
            tx.raw("SELECT pg_sleep(0.15)")
            _add(name)(tx)

        return unit

    told: list[str] = []
    units = [(name, slow(name), False) for name in ("a", "b", "c")]
    written = [
        store.writer.write(unit, lambda _, name=name: told.append(name), repeatable=fast, is_separate=fast)  # type: ignore[misc]
        for name, unit, fast in [*units, ("fast", _add("fast"), True)]
    ]
    await written[-1]
    assert told in (["fast", "a"], ["fast", "a", "b"])
    await asyncio.gather(*written)
    assert told == ["fast", "a", "b", "c"]
    assert list(await store.facts()) == ["a", "b", "c", "fast"]


async def test_units_that_change_one_row_change_it_one_after_the_other(store: Store) -> None:
    await store.together(_add("a", "0"))
    done = await store.together(_change("a", "1"), _change("nobody", "x"), _change("a", "2"), _change("a", "3"))
    assert done == ["01", None, "012", "0123"]


async def test_counts_of_many_units_add_up(store: Store) -> None:
    def count(status: str) -> Unit:
        key = {"org_id": "o", "workflow_id": "w", "status": status, "mode": "live", "bucket": 0}
        return lambda tx: tx.do(journal._COUNT_END, **key, total=1)

    for _ in range(2):
        await store.together(*(count(status) for status in ("success", "failure", "success", "success")))
    assert await store.database.read(lambda tx: tx.all(_TOTALS)) == [("failure", 2), ("success", 6)]


async def test_what_is_executed_last_has_the_order_in_which_units_are_told(store: Store) -> None:
    """Numbers of activity are cursors: a reader who is told 5 before 4 never sees 4."""
    told: list[tuple[str, list[int]]] = []
    await store.together(_add("row"))

    def place(name: str, steps: int) -> Unit:
        def unit(tx: Tx) -> tuple[str, list[PendingResult]]:
            for _ in range(steps):
                tx.one(_READ, of="row")
            rows = [{"org_id": "o", "workflow_id": name, "run_pk": pk, "seq": 1} for pk in (1, 2)]
            found = tx.last(journal._ADD_ACTIVITY, rows)
            if name == "broken":
                raise Broken
            return name, found

        return unit

    def tell(done: tuple[str, list[PendingResult]]) -> None:
        told.append((done[0], [one.value for one in done[1]]))

    await store.writer.write(_with_two_runs)
    asked = [("a", 3, True), ("b", 0, False), ("broken", 1, True), ("c", 1, True), ("d", 2, False), ("e", 0, True)]
    written = [
        store.writer.write(place(name, steps), tell, repeatable=True, is_separate=is_separate)
        for name, steps, is_separate in asked
    ]
    done = await asyncio.gather(*written, return_exceptions=True)
    assert [type(one) for one in done].count(Broken) == 1
    assert {name for name, _ in told} == {"a", "b", "c", "d", "e"}
    cursors = [cursor for _, found in told for cursor in found]
    assert cursors == sorted(cursors)
    assert [(cursor, name) for name, found in told for cursor in found] == await store.database.read(
        lambda tx: tx.all(_PLACES)
    )


def _with_two_runs(tx: Tx) -> None:
    """Runs that activity may refer to."""
    tx.raw(
        "INSERT INTO runs (pk, id, org_id, workflow_name, mode, status, trigger_node_id, trigger_source, triggered_by,"
        " payload, prop_values, root_run_id, started_at)"
        " SELECT n, n::text, 'o', '', 'live', 'success', 'root', 'manual', 'k', '{}', '{}', n::text, 0"
        " FROM generate_series(1, 2) n"
    )


async def test_a_connection_that_dies_in_a_transaction_undoes_the_whole_group(store: Store) -> None:
    def die(tx: Tx) -> None:
        tx.raw("SELECT pg_terminate_backend(pg_backend_pid())")

    units = [("a", _add("a"), True), ("b", _add("b"), False), ("die", die, False), ("c", _add("c"), False)]
    now = time.monotonic()
    with clock.virtual(lambda: now, 0):  # however slow this machine is, no unit is left to a later group
        written = [store.writer.write(unit, repeatable=fast, is_separate=fast) for _, unit, fast in units]
        done = await asyncio.gather(*written, return_exceptions=True)
    assert [type(one) for one in done] == [StoreUnavailable] * 4
    assert await store.together(_add("d")) == [None]
    assert await store.facts() == {"d": ""}


async def test_a_unit_that_hides_an_error_of_the_database_fails_all_the_same(store: Store) -> None:
    def hide(tx: Tx) -> None:
        _add("hidden")(tx)
        with contextlib.suppress(UniqueViolation):
            tx.run(_ADD, name="a", value="")

    await store.together(_add("a"))
    done = await store.together(_add("b"), hide, _add("c"), is_separate=False)
    assert [type(one) for one in done] == [type(None), UniqueViolation, type(None)]
    assert await store.facts() == {"a": "", "b": "", "c": ""}


_OUTCOMES = {
    "fine": type(None),
    "breaks before": Broken,
    "breaks after": Broken,
    "twice": UniqueViolation,
    "too long": ProgramLimitExceeded,
    "no text": UnicodeEncodeError,
}
_LIKELY = [20, 2, 2, 1, 1, 1]


def _random_unit(chance: random.Random, name: str, kind: str) -> Unit:
    """A unit that touches only rows that begin with its name; it reads, changes and adds in some order."""
    steps = [chance.choice(["add", "add later", "change", "read"]) for _ in range(chance.randint(0, 5))]

    def unit(tx: Tx) -> list[PendingResult]:
        if kind == "breaks before":
            raise Broken
        tx.many(_ADD, [{"name": name, "value": ""}])
        for number, step in enumerate(steps):
            if step == "read":
                assert tx.one(_READ, of=name) == ("." * steps[:number].count("change"),)
            elif step == "change":
                assert tx.one(_CHANGE, of=name, more=".") is not None
            else:
                (tx.run if step == "add" else tx.do)(_ADD, name=f"{name} {number}", value=step)
        wrong = {"twice": name, "too long": _LONG, "no text": "\ud800"}.get(kind)
        if wrong is not None:
            tx.do(_ADD, name=wrong, value="")
        found = tx.last(journal._ADD_ACTIVITY, [{"org_id": "o", "workflow_id": name, "run_pk": 1, "seq": 1}])
        if kind == "breaks after":
            raise Broken
        return found

    unit.__name__ = " ".join(steps)
    return unit


def _rows_of(name: str, unit: Unit) -> dict[str, str]:
    steps = unit.__name__.replace("add later", "add-later").split()
    added = {f"{name} {n}": step.replace("-", " ") for n, step in enumerate(steps) if step.startswith("add")}
    return {name: "." * steps.count("change"), **added}


@pytest.mark.parametrize("store", [(0.0, "alone"), (0.0, "shared")], indirect=True, ids=["alone", "shared"])
async def test_whatever_fails_in_a_group_each_unit_is_written_whole_or_not_at_all(store: Store) -> None:
    chance = random.Random(7)
    await store.writer.write(_with_two_runs)
    facts: dict[str, str] = {}
    cursors: list[int] = []
    for turn in range(25):
        kinds = chance.choices(list(_OUTCOMES), _LIKELY, k=chance.randint(1, 25))
        names = [f"{turn:02}-{number:02}" for number in range(len(kinds))]
        units = [_random_unit(chance, name, kind) for name, kind in zip(names, kinds, strict=True)]
        written = [
            store.writer.write(
                unit, lambda found: cursors.extend(one.value for one in found), repeatable=fast, is_separate=fast
            )
            for unit, fast in zip(units, chance.choices([True, False], [4, 1], k=len(units)), strict=True)
        ]
        done = await asyncio.gather(*written, return_exceptions=True)
        failed = [type(one) if isinstance(one, Exception) else type(None) for one in done]
        assert failed == [_OUTCOMES[kind] for kind in kinds]
        for name, unit, kind in zip(names, units, kinds, strict=True):
            facts |= _rows_of(name, unit) if kind == "fine" else {}
        assert await store.facts() == facts
    assert cursors == sorted(cursors)
    assert cursors == [row[0] for row in await store.database.read(lambda tx: tx.all(_PLACES))]
