"""`ctx.tables`: the managed tables for one attempt of one node."""

from __future__ import annotations

from dustrun.engine.node.context import Notes
from dustrun.engine.node.until_known import until_known
from dustrun.sdk.tables import TableChange, TableQuery, TableRows, TableWritten
from dustrun.services.data.managed_tables import Tables
from dustrun.services.runs.engine_port import RunFacts


class RunTables:
    """The `ctx.tables` of a node; `write_key` is the same for every attempt, restart and retry run."""

    def __init__(self, tables: Tables, facts: RunFacts, write_key: str, notes: Notes) -> None:
        self._tables = tables
        self._facts = facts
        self._write_key = write_key
        self._notes = notes

    async def read(self, query: TableQuery) -> TableRows:
        """The matching rows, with this run's simulated changes."""
        found = await self._tables.read_for(self._facts, query)
        self._notes.assumed = self._notes.assumed or found.assumed
        return TableRows(found.rows, found.has_more)

    async def write(self, change: TableChange) -> TableWritten:
        """Changes rows; the same write key changes them once."""
        assumed = self._notes.assumed
        written = await until_known(
            lambda: self._tables.write_for(self._facts, change, self._write_key, assumed=assumed)
        )
        shown = {"table": change.table, "mode": change.mode, "keys": written.keys}
        counts = {"inserted": written.inserted, "updated": written.updated, "deleted": written.deleted}
        self._notes.facts = {"tableWrite": {**shown, **counts}}
        return written
