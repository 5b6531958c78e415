"""Fills a store with copies of real runs: their rows, as the server wrote them, under other ids."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.storage.db import tables
from dustrun.storage.db.database import create_engine
from dustrun.storage.db.tables import COUNTED_TOGETHER

_AT_ONCE = 100_000  # runs a transaction
_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT :begin UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :until) ",
    "postgresql": "WITH numbers AS (SELECT generate_series(:begin, :until - 1) AS n) ",
}
_EVERY_MS = 1000
_COUNTS = f"""
INSERT INTO run_counts (org_id, workflow_id, status, mode, bucket, total)
SELECT org_id, workflow_id, status, mode, pk / {COUNTED_TOGETHER} AS bucket, count(*) FROM runs
WHERE finished_at IS NOT NULL GROUP BY org_id, workflow_id, status, mode, pk / {COUNTED_TOGETHER}
"""
_OF_RUNS = {
    "pk": "s.pk + n * :many",
    "id": "'run_fill-' || (s.pk + n * :many)",
    "root_run_id": "'run_fill-' || (s.pk + n * :many)",
    "started_at": "s.started_at - (:copies - n) * :many * :every",
    "finished_at": "s.finished_at - (:copies - n) * :many * :every",
}
_OF_OTHERS = {"run_pk": "s.run_pk + n * :many"}
_ROWS = {"runs": ("pk", _OF_RUNS), "executions": ("run_pk", _OF_OTHERS), "events": ("run_pk", _OF_OTHERS)}


def fill(url: str, count: int) -> int:
    """Copies the runs of a store, all of which have ended, until there are `count`; returns how many there are. The
    copies have lower times and higher row ids than what they were made of."""
    engine = create_engine(url, synchronous="OFF", name="fill")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA cache_size=-400000" if engine.dialect.name == "sqlite" else "SELECT 1")
        first, last = connection.execute(sa.text("SELECT min(pk), max(pk) FROM runs")).one()
        many = last - first + 1
        values = {"many": many, "copies": count // many, "every": _EVERY_MS, "first": first, "last": last}
        step = max(1, _AT_ONCE // many)
        for begin in range(1, values["copies"], step):
            until = min(begin + step, values["copies"])
            connection.exec_driver_sql("BEGIN")
            for name, (key, changed) in _ROWS.items():
                text = _copy(engine.dialect.name, name, key, changed)
                connection.execute(sa.text(text), {**values, "begin": begin, "until": until})
            connection.execute(sa.text(_activity(engine.dialect.name)), {**values, "begin": begin, "until": until})
            connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("BEGIN")
        connection.execute(sa.text("DELETE FROM run_counts"))
        connection.execute(sa.text(_COUNTS))
        if engine.dialect.name == "postgresql":
            connection.execute(
                sa.text("SELECT setval(pg_get_serial_sequence('runs', 'pk'), (SELECT max(pk) FROM runs))")
            )
        stored = connection.execute(sa.text("SELECT count(*) FROM runs")).scalar_one()
        connection.exec_driver_sql("COMMIT")
        # what autovacuum does by itself, which the cluster of the tests has switched off
        connection.exec_driver_sql("VACUUM (ANALYZE)" if engine.dialect.name == "postgresql" else "PRAGMA optimize")
    engine.dispose()
    return int(stored)


def _copy(dialect: str, name: str, key: str, changed: dict[str, str]) -> str:
    """Numbers first, so that rows are added in the order of their keys."""
    columns = [column.name for column in tables.metadata.tables[name].columns]
    taken = ", ".join(changed.get(column, f"s.{column}") for column in columns)
    names, join = ", ".join(columns), "CROSS JOIN"
    source = f"FROM numbers {join} {name} s WHERE s.{key} BETWEEN :first AND :last"
    return f"INSERT INTO {name} ({names}) {_NUMBERS[dialect]} SELECT {taken} {source}"


def _activity(dialect: str) -> str:
    return (
        f"INSERT INTO activity (org_id, workflow_id, run_pk, seq) {_NUMBERS[dialect]}"
        " SELECT s.org_id, s.workflow_id, s.run_pk + n * :many, s.seq FROM numbers CROSS JOIN activity s"
        " WHERE s.run_pk BETWEEN :first AND :last"
    )
