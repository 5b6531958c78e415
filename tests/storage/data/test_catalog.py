"""A search of the catalogue begins with its words, however many operations an organisation has."""

from __future__ import annotations

from pathlib import Path

from dustrun.storage.data import catalog
from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import metadata


def test_a_search_begins_with_its_words(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    with database.engine.connect() as connection:
        sql, take, fixed = catalog._HITS_SQLITE.compile(database.dialect)
        given = take({**fixed, "org_id": "o", "import_id": "", "query": '"word"', "most": 9})
        steps = [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", given)]
    database.close()
    assert steps[0].startswith("SCAN s VIRTUAL TABLE"), steps
    assert len(steps) == 3, steps
    assert all(step.startswith(("SEARCH o USING INTEGER PRIMARY KEY", "SEARCH i USING")) for step in steps[1:]), steps
