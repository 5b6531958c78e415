"""The queries of called runs stay cheap when an organisation has many runs, or a run calls many."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import executions, metadata, runs
from dustrun.storage.runs import called_runs
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.called_runs import CalledNode


def test_what_a_run_called_is_found_by_the_caller_at_every_depth(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    sql = called_runs._LIST.compile(database.dialect)[0]
    with database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", tuple("x" * sql.count("?"))).fetchall()
    found = [row[3] for row in plan if "SEARCH runs" in row[3]]
    assert found == ["SEARCH runs USING INDEX ix_runs_parent_pk (parent_pk=?)"] * 2
    database.close()


def test_inputs_are_those_of_a_run_and_of_all_that_it_called_unless_these_are_too_many(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    needed = {
        one.name: 0 if isinstance(one.type, sa.Integer) else "x"
        for one in runs.columns
        if not one.nullable and one.server_default is None
    }

    def add(pk: int, parent_pk: int | None = None, workflow_id: str = "helper", version: int = 1) -> dict[str, object]:
        own = {"pk": pk, "id": f"run_{pk}", "org_id": "org", "workflow_id": workflow_id, "version": version}
        return {**needed, **own, "parent_pk": parent_pk}

    def begin(run_pk: int, path: str, token: str, status: str = "success") -> dict[str, object]:
        place = {"run_pk": run_pk, "path": path, "attempt": 1, "node_id": path.rpartition(".")[2]}
        return {**place, "status": status, "input": token}

    with database.engine.begin() as connection:
        tree = [add(1, workflow_id="top"), add(2, 1), add(3, 2), add(4, 1, version=2), add(5)]
        connection.execute(sa.insert(runs), tree)
        connection.execute(sa.insert(runs), [add(9, workflow_id="top"), *(add(100 + n, 9) for n in range(3_000))])
        begun = [begin(2, "info", "a"), begin(3, "each[0].info", "b"), begin(4, "info", "c"), begin(5, "info", "d")]
        connection.execute(sa.insert(executions), [*begun, begin(3, "info", "e", "skipped"), begin(100, "info", "f")])

    def asked(top: int, *, in_loop: bool = True, most: int = 2) -> set[str | None] | None:
        return database.read_now(
            lambda tx: called_runs.list_inputs(
                tx, run_rows.get(tx, top), CalledNode("helper", 1, "info", in_loop), most
            )
        )

    assert (asked(1), asked(1, in_loop=False), asked(5)) == ({"a", "b"}, {"a"}, {"d"})
    assert asked(1, most=1) is None, "they are too many to be looked at"
    assert asked(9) is None, "it called too many"
    database.close()
