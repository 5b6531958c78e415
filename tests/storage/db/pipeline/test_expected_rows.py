"""A run's progress is written without a wait for its row; if the row is not what was expected, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.pipeline.wave import forms_of
from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import events, runs
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import journal
from dustrun.storage.runs.journal import Batch, BatchTarget, Event, StaleFence
from testkit.distance import Distance, at_a_distance
from testkit.postgres import Cluster

_RUN: dict[str, Any] = {
    "org_id": "org",
    "workflow_name": "w",
    "mode": "live",
    "status": "running",
    "trigger_node_id": "root",
    "trigger_source": "manual",
    "triggered_by": "key_1",
    "payload": "{}",
    "prop_values": "{}",
    "started_at": 1,
    "fence": 1,
    "last_seq": 1,
}
_SEQS = Statement(sa.select(runs.c.pk, runs.c.last_seq).order_by(runs.c.pk))
_EVENTS = Statement(sa.select(events.c.run_pk, events.c.seq, events.c.type).order_by(events.c.run_pk, events.c.seq))


_GONE: dict[int, dict[str, Any]] = {7: {"fence": 2}, 8: {"status": "success"}, 9: {"last_seq": 4}}
"""Another process advances run 7, run 8 has ended, and somebody has written events of run 9."""


class Store:
    """A store with runs, and its writer."""

    def __init__(self, database: Database, writer: Writer, distance: Distance) -> None:
        self.database = database
        self.writer = writer
        self.distance = distance
        self.told: list[int] = []

    def step(self, run_pk: int) -> asyncio.Future[list[Event]]:
        """Writes an event of a run whose newest event is expected to have the number 1."""
        batch = Batch()
        batch.events.append(("node_started", 5, "{}"))
        place = BatchTarget(run_pk, "org", None, "live", 1, 1)
        return self.writer.write(
            lambda tx: journal.write(tx, place, batch),
            lambda _: self.told.append(run_pk),
            repeatable=True,
            is_separate=True,
        )

    async def steps(self, *run_pks: int) -> list[Any]:
        """The numbers of the events that were written, or the errors."""
        done = await asyncio.gather(*map(self.step, run_pks), return_exceptions=True)
        return [type(one) if isinstance(one, BaseException) else [event.seq for event in one] for one in done]


@pytest.fixture(params=["alone", "shared"])
async def store(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with twelve runs, 10 ms away."""
    url = cluster.fresh()
    with at_a_distance(url, 0.01) as (far, distance):
        database = Database(far, is_shared=request.param == "shared")
        with database.engine.begin() as connection:
            for pk in range(1, 13):
                row = {**_RUN, "pk": pk, "id": f"run_{pk}", "root_run_id": f"run_{pk}", **_GONE.get(pk, {})}
                connection.execute(sa.insert(runs), [row])
        ProcessLock(database, tmp_path).take()
        writer = Writer(database)
        writer.start()
        yield Store(database, writer, distance)
        await writer.stop()
        database.close()
    cluster.drop(url)


@pytest.mark.parametrize("behind", [False, True], ids=["first", "behind a commit"])
async def test_a_run_whose_row_is_not_as_expected_fails_or_goes_on_and_the_others_too(
    store: Store, behind: bool
) -> None:
    first = store.step(12) if behind else None
    await asyncio.sleep(0)
    found = await store.steps(*range(1, 12))
    assert found == [[2]] * 6 + [StaleFence, StaleFence, [5]] + [[2]] * 2
    if first is not None:
        await first
    told = [pk for pk in range(1, 12) if pk not in (7, 8)]
    assert store.told == ([12, *told] if behind else told)
    seqs: dict[int, int] = dict(await store.database.read(lambda tx: tx.all(_SEQS)))
    assert [seqs[pk] for pk in range(1, 12)] == [2] * 6 + [1, 1, 5] + [2] * 2
    rows = [(pk, 5 if pk == 9 else 2, "node_started") for pk in (*told, *([12] if behind else []))]
    assert await store.database.read(lambda tx: tx.all(_EVENTS)) == rows


async def test_a_step_waits_for_no_row(store: Store) -> None:
    """Its row and its events travel together: once to the database and, with the commit, once more at most."""
    await store.steps(1, 2)
    before = store.distance.round_trips
    assert await store.steps(3, 4, 5) == [[2]] * 3
    assert store.distance.round_trips - before <= 2
    assert store.writer.groups == 2


async def test_rows_are_found_by_their_keys_however_many_runs_are_open(store: Store) -> None:
    """Without statistics the planner takes open runs for few, but their index has those that ended lately, too."""
    with store.database.engine.begin() as connection:
        long = '"' + "x" * 1000 + '"'
        rows = [
            {**_RUN, "payload": long, "pk": n, "id": f"run_{n}", "root_run_id": f"run_{n}"} for n in range(13, 3000)
        ]
        connection.execute(sa.insert(runs), rows)
        connection.execute(sa.update(runs).where(runs.c.pk > 500).values(status="success", finished_at=2))
    asked = [{"the_pk": pk, "the_fence": 1, "events": 1, "executed": 0, "known_seq": 1} for pk in range(20, 60)]
    statement = journal._ADVANCE.if_still
    assert statement is not None
    form = forms_of(statement, store.database.dialect).many
    assert form is not None
    call = form.text.call(form.parameters(asked))
    with store.database.engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        plan = driver.pgconn.exec_params(b"EXPLAIN " + call.sql, [str(value).encode() for value in call.values])
        lines = [plan.get_value(row, 0).decode() for row in range(plan.ntuples)]
    assert any("pk_runs" in line for line in lines), lines
    assert not any("ix_runs_open" in line for line in lines), lines
