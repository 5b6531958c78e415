"""The query of called runs stays cheap when an organisation has many runs."""

from __future__ import annotations

from pathlib import Path

from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import metadata
from dustrun.storage.runs import called_runs


def test_what_a_run_called_is_found_by_the_caller_at_every_depth(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    sql = called_runs._LIST.compile(database.dialect)[0]
    with database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", tuple("x" * sql.count("?"))).fetchall()
    found = [row[3] for row in plan if "SEARCH runs" in row[3]]
    assert found == ["SEARCH runs USING INDEX ix_runs_parent_pk (parent_pk=?)"] * 2
    database.close()
