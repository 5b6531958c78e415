"""Counts by workflow and by time against the plain reading of their filters, on both stores."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import metadata
from dustrun.storage.runs.run_lists import RunFilters, first_pk
from dustrun.storage.runs.run_metrics import Slots, _in_slots, count_by_slot, count_by_workflow, list_failed
from storage.runs.test_run_lists import FIRST, MODES, every_filter, passes, store

__all__ = ["store"]


def test_every_workflow_is_counted(store: tuple[Database, list[dict[str, Any]]]) -> None:
    database, kept = store

    def look(tx: Tx) -> None:
        for filters in every_filter():
            found = Counter(
                (run["workflow_id"] or "", run["status"]) for run in kept if passes(run, filters, by_status=False)
            )
            assert count_by_workflow(tx, "a", filters) == found, filters

    database.read_now(look)


def test_ended_runs_are_counted_in_their_slot(store: tuple[Database, list[dict[str, Any]]]) -> None:
    database, kept = store
    slots = Slots(FIRST - 100_000, 90_000, 9)

    def look(tx: Tx) -> None:
        edges = [first_pk(tx, slots.begin + at * slots.width) for at in range(slots.count + 1)]
        for filters in every_filter():
            if filters.since is not None:
                continue
            wanted = [run for run in kept if passes(run, filters, by_status=False) and run["finished_at"]]
            found = Counter(
                (at, run["status"]) for run in wanted for at in range(9) if edges[at] <= run["pk"] < edges[at + 1]
            )
            assert count_by_slot(tx, "a", filters, slots) == found, filters
        everything = count_by_slot(tx, "a", RunFilters(modes=MODES), Slots(FIRST - 10**6, 10**6, 3))
        assert everything.total() == sum(run["org_id"] == "a" and run["finished_at"] is not None for run in kept)

    database.read_now(look)


def test_the_newest_failed_runs_are_those_of_the_filters(store: tuple[Database, list[dict[str, Any]]]) -> None:
    database, kept = store
    filters = RunFilters(modes=("live",), since=FIRST + 200_001, until=FIRST + 700_001)
    wanted = [run["id"] for run in kept if run["status"] == "failure" and passes(run, filters)]
    assert [run.id for run in database.read_now(lambda tx: list_failed(tx, "a", filters, 3))] == wanted[:3]
    assert wanted[3:]


@pytest.mark.parametrize("column", ["org_id", "workflow_id"])
def test_slots_are_counted_in_the_index_of_ended_runs_alone(tmp_path: Path, column: str) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    sql = _in_slots(column, 2, MODES).compile(database.dialect)[0]
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", tuple("1" * sql.count("?"))).fetchall()
    database.close()
    plan = [str(row[3]) for row in rows if " runs" in row[3]]
    found = f"({column}=? AND status=? AND mode=? AND pk>? AND pk<?)"
    by_index = [one for one in plan if "ix_runs" in one]
    assert by_index == [f"SEARCH runs USING COVERING INDEX ix_runs_ended_{column} {found}"]
    assert all("PRIMARY KEY" in one or one == "SEARCH runs" for one in plan if one not in by_index), plan
