"""Every row of every table and every file of a data folder, before and after; and what of the difference a simulation
may leave behind."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dustrun.storage.db.store_facts import MEASURED
from dustrun.storage.db.tables import SEARCHES

Row = dict[str, Any]
Key = tuple[Any, ...]

# Tables whose new rows must be of the simulations themselves, by the column that names the run.
OF_RUNS = {
    "executions": "run_pk",
    "events": "run_pk",
    "activity": "run_pk",
    "simulation_forks": "top_pk",
    "run_variables": "owner_pk",
    "variable_writes": "run_pk",
    "table_writes": "run_pk",
    "table_rows": "layer",
    "table_cells": "layer",
    "approvals": "run_pk",
    "run_words": "run_pk",
    "run_sizes": "run_pk",
    "run_values": "run_pk",
}
# Rows that may change, and in which columns: counters of runs and of their bytes, and when a key was last used.
MAY_CHANGE = {
    "run_counts": {"total"},
    "run_sizes": {"bytes"},
    "stored_bytes": {"bytes"},
    "store_facts": {"value"},
    "api_keys": {"last_used_at"},
    "sqlite_sequence": {"seq"},
}
AUDITED: frozenset[str] = frozenset()  # actions of audit rows that a simulation may leave: there are none
_STORE_FILES = ("dustrun.db", "dustrun.db-wal", "dustrun.db-shm")


@dataclass(frozen=True)
class Store:
    """What there was at one moment."""

    tables: dict[str, dict[Key, Row]]
    files: dict[str, str]

    @classmethod
    def read(cls, data_dir: Path) -> Store:
        """Every row and every file."""
        connection = sqlite3.connect(f"file:{data_dir / 'dustrun.db'}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("BEGIN")
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = [row["name"] for row in found if not row["name"].startswith(SEARCHES)]
            tables = {name: _rows(connection, name) for name in names}
        finally:
            connection.close()
        return cls(tables, _files(data_dir))


def _rows(connection: sqlite3.Connection, table: str) -> dict[Key, Row]:
    shape = connection.execute(f"PRAGMA table_info({table})").fetchall()
    names = [column["name"] for column in sorted(shape, key=lambda column: column["pk"]) if column["pk"]]
    names = names or [column["name"] for column in shape][:1]
    rows = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
    return {tuple(row[name] for name in names): row for row in rows}


def _files(folder: Path) -> dict[str, str]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in _STORE_FILES)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


class Difference:
    """What came, went and changed between two moments; `faults` is what no simulation may do."""

    def __init__(self, before: Store, after: Store) -> None:
        self.came: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.faults: list[str] = []
        new_runs = {key[0]: row for key, row in after.tables["runs"].items() if key not in before.tables["runs"]}
        self._runs = set(new_runs)
        self.faults += [f"a run of mode {row['mode']}" for row in new_runs.values() if row["mode"] != "simulate"]
        for name in sorted({*before.tables, *after.tables}):
            self._table(name, before.tables.get(name, {}), after.tables.get(name, {}))
        for name in sorted({*before.files, *after.files}):
            if before.files.get(name) != after.files.get(name):
                self.faults.append(f"the file {name} changed")

    def _table(self, name: str, before: dict[Key, Row], after: dict[Key, Row]) -> None:
        gone = before.keys() - after.keys()
        if gone:
            self.faults.append(f"{name}: {len(gone)} rows are gone")
        for key in after.keys() - before.keys():
            self.came[name] += 1
            fault = self._new_row(name, after[key])
            if fault is not None:
                self.faults.append(f"{name}: {fault}")
        for key in after.keys() & before.keys():
            if after[key] != before[key]:
                self.changed[name] += 1
                self._changed_row(name, before[key], after[key])

    def _new_row(self, name: str, row: Row) -> str | None:
        if name in ("runs", "key_requests", "sqlite_sequence"):  # its own, and the record of requests to the API
            return None
        if name == "run_counts":
            return None if row["mode"] == "simulate" else f"counts a run of mode {row['mode']}"
        if name == "stored_bytes" or (name == "store_facts" and row["name"] == MEASURED):
            return None
        if name == "audit":
            return None if row["action"] in AUDITED else f"an audit row of {row['action']}"
        column = OF_RUNS.get(name)
        if column is None:
            return f"a row came: {list(row)[:4]}"
        if row[column] not in self._runs:
            return f"a row that is of no simulation: {column} {row[column]}"
        if name == "variable_writes" and not row["simulated"]:
            return "a write that does not say that it was simulated"
        return None

    def _changed_row(self, name: str, before: Row, after: Row) -> None:
        columns = {column for column in after if after[column] != before[column]}
        if not columns <= MAY_CHANGE.get(name, set()):
            self.faults.append(f"{name}: {sorted(columns)} of a row changed")
        elif name == "store_facts" and after["name"] != MEASURED:
            self.faults.append(f"store_facts: {after['name']} changed")
        elif name == "run_counts" and after["mode"] != "simulate":
            self.faults.append(f"run_counts: counts a run of mode {after['mode']}")
