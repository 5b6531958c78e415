"""Pages and counts against the plain reading of their filters, over runs of every kind, on both stores."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import COUNTED_TOGETHER, metadata, organizations, run_counts, runs
from dustrun.storage.runs.run_lists import RangeKind, RunFilters, _newest_of, count_by_status, list_runs

STATUSES = ("running", "waiting", "success", "partial", "failure", "cancelled")
MODES = ("live", "simulate", "dust")
FIRST = 1_700_000_000_000
COUNT = 400


def made(number: int, chance: random.Random) -> dict[str, Any]:
    status, org_id = chance.choice(STATUSES), chance.choice("aaab")
    return {
        # over three counters, the last of them partly
        "pk": 1 + number * (2 * COUNTED_TOGETHER + 20_000) // COUNT,
        "id": f"run_{number}",
        "org_id": org_id,
        "workflow_id": chance.choice(["w1", "w1", "w2", None]) if org_id == "a" else "of-b",
        "workflow_name": "",
        "version": number // 150 + 1,
        "mode": chance.choice(MODES),
        "status": status,
        "trigger_node_id": "root",
        "trigger_source": chance.choice(["api", "action-test"]) if number % 7 == 0 else ("api", "schedule")[number % 2],
        "triggered_by": f"key_{number % 3}",
        "payload": "{}",
        "prop_values": "{}",
        "root_run_id": f"run_{number}",
        # a start may be a little out of order with the key
        "started_at": FIRST + number * 2000 + chance.randrange(-20_000, 20_000),
        "finished_at": None if status in ("running", "waiting") else FIRST + number * 2000 + 30_000,
    }


@pytest.fixture
def store(store_url: str) -> Iterator[tuple[Database, list[dict[str, Any]]]]:
    database, chance = Database(store_url), random.Random(7)
    migrate.upgrade(database)
    kept = [made(number, chance) for number in range(COUNT)]
    counted = Counter(
        (run["org_id"], run["workflow_id"] or "", run["status"], run["mode"], run["pk"] // COUNTED_TOGETHER)
        for run in kept
        if run["finished_at"]
    )
    tx = database.begin()
    tx.run(Statement(sa.insert(organizations).values(id="a", name="", created_at=0)))
    insert = Statement(sa.insert(runs).values({name: sa.bindparam(name) for name in kept[0]}))
    for run in kept:
        tx.run(insert, **run)
    count = Statement(sa.insert(run_counts).values({column.name: sa.bindparam(column.name) for column in run_counts.c}))
    for (org_id, workflow_id, status, mode, bucket), total in counted.items():
        owner = {"org_id": org_id, "workflow_id": workflow_id}
        tx.run(count, **owner, status=status, mode=mode, bucket=bucket, total=total)
    database.commit()
    yield database, kept[::-1]
    database.close_writer()
    database.close()


def passes(run: dict[str, Any], filters: RunFilters, *, by_status: bool = True) -> bool:
    return (
        run["org_id"] == "a"
        and (not by_status or not filters.statuses or run["status"] in filters.statuses)
        and (not filters.modes or run["mode"] in filters.modes)
        and (filters.workflow_id is None or run["workflow_id"] == filters.workflow_id)
        and (filters.only is None or run["workflow_id"] in filters.only)
        and (filters.since is None or run["started_at"] >= filters.since)
        and (filters.until is None or run["started_at"] < filters.until)
        and (filters.version is None or run["version"] == filters.version)
        and (filters.before is None or run["pk"] < filters.before)
        and run["trigger_source"] != filters.without_source
        and (filters.keys is None or (run["triggered_by"] in filters.keys and run["trigger_source"] != "schedule"))
    )


def every_filter() -> Iterator[RunFilters]:
    statuses = [(), ("failure",), ("running", "success"), STATUSES]
    modes = [(), ("dust",), ("live", "simulate")]
    sinces = [None, FIRST - 10**6, FIRST + 200_001, FIRST + 700_001, FIRST + 10**7]
    for status, mode, since in itertools.product(statuses, modes, sinces):
        for workflow_id, only in ((None, None), ("w1", None), (None, ("w1", "w2")), ("w2", ("w1",)), (None, ())):
            yield RunFilters(status, workflow_id, mode, since, only)


def test_every_filter_shows_and_counts_what_it_says(store: tuple[Database, list[dict[str, Any]]]) -> None:
    database, kept = store

    def look(tx: Tx) -> None:
        for filters in every_filter():
            wanted = [run["id"] for run in kept if passes(run, filters)]
            for limit, offset in ((20, 0), (7, 15)):
                found = [row.id for row in list_runs(tx, "a", filters, limit, offset)]
                assert found == wanted[offset : offset + limit + 1], filters
            counted = Counter(run["status"] for run in kept if passes(run, filters, by_status=False))
            assert count_by_status(tx, "a", filters) == dict(counted), filters

    database.read_now(look)


def test_lists_take_versions_and_ends_and_cursors_too(store: tuple[Database, list[dict[str, Any]]]) -> None:
    database, kept = store

    def look(tx: Tx) -> None:
        versions = [RunFilters(workflow_id="w1", version=version) for version in (1, 2, 3, 4)]
        for start, status, mode in itertools.product(
            [*versions, RunFilters()], [(), ("failure", "running")], [(), MODES]
        ):
            for since, until, before in (
                (None, FIRST + 400_001, None),
                (FIRST + 200_001, FIRST + 500_001, None),
                (None, None, kept[90]["pk"]),
                (FIRST, FIRST + 700_001, kept[200]["pk"]),
                (FIRST + 500_001, FIRST + 200_001, None),
            ):
                filters = replace(start, statuses=status, modes=mode, since=since, until=until, before=before)
                counted = Counter(
                    run["status"] for run in kept if passes(run, replace(filters, before=None), by_status=False)
                )
                assert count_by_status(tx, "a", filters) == dict(counted), filters
                wanted = [run["id"] for run in kept if passes(run, filters)]
                assert [row.id for row in list_runs(tx, "a", filters, 30, 3)] == wanted[3:34], filters
                filters = replace(filters, without_source="action-test")
                wanted = [run["id"] for run in kept if passes(run, filters)]
                assert [row.id for row in list_runs(tx, "a", filters, 30, 3)] == wanted[3:34], filters

    database.read_now(look)


def test_lists_show_what_somebody_started_and_not_what_their_triggers_did(
    store: tuple[Database, list[dict[str, Any]]],
) -> None:
    database, kept = store

    def look(tx: Tx) -> None:
        for filters, keys in itertools.product(every_filter(), [("key_1",), ("key_0", "key_2"), ("key_9",), ()]):
            given = replace(filters, keys=keys)
            wanted = [run["id"] for run in kept if passes(run, given)]
            assert [row.id for row in list_runs(tx, "a", given, 20, 3)] == wanted[3:24], given
        given = RunFilters(keys=("key_1", "key_2"), workflow_id="w1", version=2, before=kept[90]["pk"])
        wanted = [run["id"] for run in kept if passes(run, given)]
        assert wanted
        assert [row.id for row in list_runs(tx, "a", given, 200, 0)] == wanted
        assert list_runs(tx, "c", RunFilters(keys=("key_1",)), 20, 0) == []

    database.read_now(look)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("is_ended", "index"),
    [
        (False, "COVERING INDEX ix_runs_started_by (org_id=? AND triggered_by=?)"),
        (True, "COVERING INDEX ix_runs_ended_started_by (org_id=? AND triggered_by=? AND status=? AND mode=?)"),
    ],
)
def test_what_somebody_started_in_a_workflow_is_read_from_one_index(
    tmp_path: Path, seed: int, is_ended: bool, index: str
) -> None:
    kind = RangeKind("triggered_by", is_ended, False, is_ended, False, 1)
    assert _plans_of(tmp_path, seed, [_newest_of(kind, False, False, False)]) == [index]


@pytest.mark.parametrize("seed", range(4))
def test_a_workflows_runs_are_found_by_its_own_indexes(tmp_path: Path, seed: int) -> None:
    kinds = [RangeKind("workflow_id", True, False, True, has_version) for has_version in (True, False)]
    assert _plans_of(tmp_path, seed, [_newest_of(kind, False, True, True) for kind in kinds]) == [
        "INDEX ix_runs_ended_version (workflow_id=? AND version=? AND status=? AND mode=? AND pk<?)",
        "INDEX ix_runs_ended_workflow_id (workflow_id=? AND status=? AND mode=? AND pk<?)",
    ]


def _plans_of(tmp_path: Path, seed: int, statements: list[Statement]) -> list[str]:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    plans = []
    with database.engine.connect() as connection:
        # SQLite takes the last of equally good indexes
        made = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql LIKE 'CREATE INDEX ix_runs%'")
        found = made.fetchall()
        for name, sql in random.Random(seed).sample(found, len(found)):
            connection.exec_driver_sql(f"DROP INDEX {name}")
            connection.exec_driver_sql(sql)
        for statement in statements:
            sql = statement.compile(database.dialect)[0]
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", tuple("1" * sql.count("?"))).fetchall()
            plans += [str(row[3]).split(" USING ")[1] for row in plan]
    database.close()
    return plans
