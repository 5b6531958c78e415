"""The queries of workflows stay cheap when there are many runs."""

from __future__ import annotations

from pathlib import Path

from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import metadata
from dustrun.storage.workflows import latest_runs, workflows


def test_the_ladder_reads_the_index_of_passed_runs_only(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    sql = workflows._LADDER.compile(database.dialect)[0]
    with database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", tuple("x" * sql.count("?"))).fetchall()
    assert any("ix_runs_passed" in str(row) for row in plan), plan
    database.close()


def test_what_lists_show_of_runs_is_found_by_workflow(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    sql, take, _ = latest_runs.statement_for(["w1", "w2"], last_run=True, ladder=True).compile(database.dialect)
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", take({})).fetchall()
    database.close()
    steps = [str(row[3]) for row in rows if "runs" in str(row[3])]
    assert len(steps) > 4
    wanted = (
        "SEARCH runs USING INDEX ix_runs_workflow_id_pk (workflow_id=?)",
        "SEARCH runs USING INDEX ix_runs_passed (workflow_id=? AND version=? AND mode=?)",
        "SEARCH runs USING INDEX ix_runs_ended_version (workflow_id=? AND version=? AND status=? AND mode=?)",
        "SEARCH runs USING INTEGER PRIMARY KEY (rowid=?)",
    )
    assert not [step for step in steps if step not in wanted], steps
