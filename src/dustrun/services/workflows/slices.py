"""The sources of what a version can spend, as lists of them are shown."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from dustrun.core.sources.kept import kept_of, of_part
from dustrun.core.sources.report import list_sources, report_of
from dustrun.core.sources.source import ANY, parse_source
from dustrun.core.sources.spend_slice import SpendSlice
from dustrun.core.workflow.graph import TOP
from dustrun.core.workflow.loop_forecast import LOOP, forecast_loop
from dustrun.errors import Code, NotFound
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.closure import Closure, Lookup, key_of
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.data import managed_tables, named, store_sources
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

Json = dict[str, Any]


MOST_BESIDE: Final = 50
"""Spends whose sources a plan, a ladder or a question shows beside the rest."""
_MOST_TABLES: Final = 20
_MOST_WRITERS: Final = 20


class Slices:
    """Shows the slices by which spends are judged."""

    def __init__(self, database: Database, gate: SpendGate, programs: CompiledWorkflows) -> None:
        self._database = database
        self._gate = gate
        self._programs = programs

    async def report(
        self, principal: Principal, workflow_id: str, version: int | None, paging: Paging
    ) -> tuple[Json, Page[Json]]:
        """The version asked for and a page of its spends with their sources, by default of the draft, else of the live
        version; raises `NotFound`. A member whose definition does not compile, as it was written for an earlier
        release, can run nothing and is left out."""

        def query(tx: Tx) -> tuple[Closure | None, int, list[SpendSlice]]:
            lookup, row = Lookup(tx, principal.org_id), get_workflow(tx, principal, workflow_id)
            number = version or row.current_version
            closure = self._gate.closures.resolve(lookup, row, number)
            shapes = self._gate.shapes.get(lookup, closure) if closure is not None and closure.can_spend else ()
            return closure, number, [one.slice for one in shapes if one.slice is not None]

        closure, number, found = await self._gate.slicing(lambda: self._database.read(query))
        if closure is None:
            raise NotFound(f'The workflow "{workflow_id}" has no version {number}.', code=Code.VERSION_UNKNOWN)
        visible = [one for one in found if principal.may_use_workflow(one.place[0].rpartition("@")[0])]
        page = page_of(visible[paging.offset : paging.offset + paging.peek], paging)

        def shape() -> list[Json]:
            return [report_of(one, principal.may_use_workflow, with_stops=True) for one in page.items]

        items = await asyncio.to_thread(shape)
        about = {
            "workflowId": workflow_id,
            "version": number,
            "digest": closure.digest,
            "callsAny": closure.calls_any,
            "hidden": len(found) - len(visible),
            "loops": await self._loops(workflow_id, number),
            "tables": await self._tables(principal, visible),
        }
        return about, Page(items, page.limit, page.offset, page.has_more)

    async def _tables(self, principal: Principal, found: list[SpendSlice]) -> list[Json]:
        """Of each table that can change a money field: which workflows write it, and what shapes that, by their
        definitions and as far as it is kept of what they have written."""
        read = {one.name for spend in found for one in spend.data if one.kind == "table" and one.name != ANY}

        def kept(tx: Tx) -> list[tuple[str, frozenset[str], list[tuple[str, int]]]]:
            rows = (managed_tables.find(tx, principal.org_id, name) for name in sorted(read)[:_MOST_TABLES])
            return [
                (
                    row.name,
                    of_part(store_sources.list_of(tx, row.id), ANY),
                    named.list_writers(tx, principal.org_id, row.id, row.name, _MOST_WRITERS),
                )
                for row in rows
                if row is not None
            ]

        shown = []
        for name, sources, writers in await self._database.read(kept) if read else ():
            nodes: list[Json] = []
            for key in writers:
                by_node = await self._written_by(principal, key, name)
                sources |= frozenset[str]().union(*by_node.values())
                told = by_node if principal.may_use_workflow(key[0]) else ()
                nodes += [{"workflowId": key[0], "version": key[1], "nodeId": node} for node in told]
            listed = list_sources((parse_source(one) for one in sources), principal.may_use_workflow)
            shown.append({"table": name, "writers": nodes, **listed})
        return shown

    async def _written_by(self, principal: Principal, key: tuple[str, int], table: str) -> dict[str, frozenset[str]]:
        """By node, what shapes what a version itself writes to a table."""

        def query(tx: Tx) -> dict[str, frozenset[str]]:
            lookup = Lookup(tx, principal.org_id)
            row = lookup.find(key[0])
            closure = self._gate.closures.resolve(lookup, row, key[1]) if row is not None else None
            writes = self._gate.shapes.writes(lookup, closure) if closure is not None else {}
            own = {place[1]: one for place, one in writes.items() if place[0] == key_of(*key)}
            return {node: kept_of(map(str, one.data | one.decides)) for node, one in own.items() if table in one.tables}

        return await self._gate.slicing(lambda: self._database.read(query))

    async def _loops(self, workflow_id: str, version: int) -> list[Json]:
        """Of each outermost loop that spends: which nodes are judged before its first item, and why others are not."""
        compiled = await self._programs.find(workflow_id, version)
        program = compiled.program if compiled is not None else None
        if program is None or not program.wallets:
            return []
        outermost = [one for one in program.graph.scopes[TOP].node_ids if program.nodes[one].node.type == LOOP]
        found = [(node_id, forecast_loop(program, node_id)) for node_id in outermost]
        return [
            {"nodeId": node_id, "judgedBefore": sorted(one.spends), "judgedInTurn": dict(one.unknown)}
            for node_id, one in found
            if one.spends or one.unknown
        ]

    async def beside(self, principal: Principal, workflow_id: str, version: int | None) -> list[Json]:
        """The sources of a version's first spends, to be shown beside something else."""
        return [*(await self.report(principal, workflow_id, version, Paging(MOST_BESIDE, 0)))[1].items]
