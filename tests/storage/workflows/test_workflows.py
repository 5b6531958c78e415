"""The queries of workflows stay cheap when there are many runs."""

from __future__ import annotations

from pathlib import Path

from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import metadata
from dustrun.storage.workflows import workflows


def test_the_ladder_reads_the_index_of_passed_runs_only(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    sql = workflows._LADDER.compile(database.dialect)[0]
    with database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", tuple("x" * sql.count("?"))).fetchall()
    assert any("ix_runs_passed" in str(row) for row in plan), plan
    database.close()
