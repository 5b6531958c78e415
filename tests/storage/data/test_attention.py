"""What needs a person is found without reading what does not."""

from __future__ import annotations

from pathlib import Path

from dustrun.storage.data import attention
from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import metadata

_SMALL = ("SCAN hooks", "SCAN store_facts")
"""Tables with a few rows, which have no index for it."""


def test_only_the_rows_that_need_a_person_are_read(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    steps = list[str]()
    with database.engine.connect() as connection:
        for statement in (attention._COUNTS, *attention._LISTS.values()):
            sql, take, fixed = statement.compile(database.dialect)
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", take({**fixed, "org_id": "o", "most": 9}))
            steps += [str(row[3]) for row in found]
    database.close()
    scans = {step for step in steps if step.startswith("SCAN") and step not in _SMALL}
    assert {step.partition(" USING INDEX ")[2] for step in scans} == {
        *("ix_transactions_displaced", "ix_transactions_held"),
        *("ix_subscriptions_failed", "ix_subscriptions_stalled"),
    }, steps
    assert not [step for step in steps if "ix_runs_open" in step]
