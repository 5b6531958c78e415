"""Free runs are claimed organisation after organisation, by an index that holds no runs of others in their way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.database import Database
from dustrun.storage.db.ledger_tables import processes
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import organizations, runs, workflows
from dustrun.storage.runs import claims
from dustrun.storage.runs.claims import ClaimedRuns, Rooms
from testkit.postgres import Cluster

_RUN: dict[str, Any] = {
    "workflow_name": "w",
    "mode": "live",
    "trigger_node_id": "root",
    "trigger_source": "manual",
    "triggered_by": "key_1",
    "payload": "{}",
    "prop_values": "{}",
    "started_at": 1,
}


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    url = cluster.fresh()
    database = Database(url, is_shared=True)
    yield database
    database.close()
    cluster.drop(url)


def _add(database: Database, org_id: str, count: int, *, status: str = "running", **more: Any) -> None:
    with database.engine.begin() as connection:
        first = connection.execute(sa.select(sa.func.count()).select_from(runs)).scalar_one()
        names = [f"run_{number}" for number in range(first, first + count)]
        rows = [{**_RUN, "org_id": org_id, "id": name, "root_run_id": name, "status": status, **more} for name in names]
        connection.execute(sa.insert(runs), rows)


def _claim(database: Database, count: int, *more: Any, holder: str = "me") -> ClaimedRuns:
    tx = database.begin()
    answer = claims.claim(tx, holder, count, *more)
    database.commit()
    return claims.claimed(answer)


def _orgs(found: ClaimedRuns) -> list[str]:
    return sorted(run.org_id for run in found.runs)


def _live(database: Database, *names: str, until: int = 2**52) -> None:
    with database.engine.begin() as connection:
        for name in names:
            row = {"id": name, "roles": "engine", "version": "1", "started_at": 0, "alive_until": until}
            connection.execute(sa.insert(processes).values(row))


def test_organizations_take_turns_and_of_each_the_oldest_runs_are_claimed(database: Database) -> None:
    for org_id, count in (("b", 30), ("a", 2), ("c", 5)):
        _add(database, org_id, count)
    found = _claim(database, 10)
    assert (_orgs(found), found.last_org) == (["a"] * 2 + ["b"] * 4 + ["c"] * 4, "c")
    assert [run.id for run in found.runs] == [f"run_{n}" for n in (0, 1, 2, 3, 30, 31, 32, 33, 34, 35)]
    assert _orgs(_claim(database, 50)) == ["b"] * 26 + ["c"]
    assert _claim(database, 50) == ClaimedRuns([], None)


def test_turns_go_on_behind_the_organization_that_was_last(database: Database) -> None:
    for org_id in "abcd":
        _add(database, org_id, 3)
    after, seen = "", []
    for _ in range(6):
        found = _claim(database, 1, None, after)
        after = found.last_org or ""
        seen += _orgs(found)
    assert seen == [*"abcdab"]
    assert _orgs(_claim(database, 2, None, "c")) == ["a", "d"]
    assert _orgs(_claim(database, 1, None, "z")) == ["b"]


def test_no_more_of_an_organization_is_claimed_than_may_begin(database: Database) -> None:
    for org_id in "abc":
        _add(database, org_id, 9)
    assert _orgs(_claim(database, 10, Rooms(2, {}))) == [*"aabbcc"]
    assert _orgs(_claim(database, 10, Rooms(3, {"a": 0, "c": 1}))) == [*"bbbc"]
    assert _orgs(_claim(database, 1, Rooms(3, {"a": 0, "b": 0}))) == ["c"]


def test_runs_that_their_workflow_holds_back_are_passed_over(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.insert(organizations).values(id="a", name="A", created_at=0))
        flow = {"id": "wf", "org_id": "a", "name": "w", "description": "", "status": "active", "latest_version": 1}
        limit = {"concurrency": '{"max":2}', "owner": "key_1", "created_at": 0, "updated_at": 0}
        connection.execute(sa.insert(workflows).values({**flow, **limit}))
    _add(database, "a", 5, workflow_id="wf", concurrency_key="k")
    _add(database, "a", 1, workflow_id="wf", concurrency_key="l")
    _add(database, "a", 1, workflow_id="wf", concurrency_key="k", cancel_requested_at=1)
    _add(database, "a", 1)
    assert [run.id for run in _claim(database, 10).runs] == ["run_0", "run_1", "run_5", "run_6", "run_7"]
    with database.engine.begin() as connection:
        connection.execute(sa.update(runs).where(runs.c.id == "run_0").values(status="success", finished_at=1))
    assert [run.id for run in _claim(database, 10).runs] == ["run_2"]


def test_what_a_process_had_claimed_is_free_once_it_is_no_more(database: Database) -> None:
    _live(database, "lives")
    _live(database, "frozen", until=0)
    for holder in ("lives", "frozen", "forgotten"):
        _add(database, "a", 3, claimed_by=holder)
    tx = database.begin()
    assert sorted(claims.list_dead(tx)) == ["forgotten", "frozen"]
    assert [claims.release_dead(tx, name, 2) for name in ("lives", "frozen", "frozen", "forgotten")] == [0, 2, 1, 2]
    assert claims.list_dead(tx) == ["forgotten"]
    database.commit()
    assert [run.id for run in _claim(database, 50).runs] == [f"run_{n}" for n in (3, 4, 5, 6, 7)]


def _pages(tx: Tx, statement: Statement, values: dict[str, Any]) -> int:
    """How many pages a statement reads."""
    text, take, _ = statement.compile(sa.create_engine("postgresql+psycopg://").dialect)
    tx.cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, FORMAT JSON) {text}", take(values))
    plan = tx.cursor.fetchone()[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("has_statistics", [False, True])
def test_a_claim_reads_as_much_however_many_runs_wait_or_are_claimed(database: Database, has_statistics: bool) -> None:
    _live(database, "other")
    values = {"holder": "me", "count": 1, "after": "", "orgs": 2, "most_of_org": 1}
    read: list[int] = []
    for _ in range(2):
        _add(database, "a", 4000)
        _add(database, "a", 4000, claimed_by="other", status="waiting")
        _add(database, "b", 1)
        if has_statistics:
            with database.engine.begin() as connection:
                connection.exec_driver_sql("ANALYZE runs")
        tx = database.begin()
        with claims._by_index(tx):
            read.append(_pages(tx, claims._CLAIM, values))
            read.append(_pages(tx, claims._DEAD, {}))
        database.commit()
    assert max(read) < 100, read
