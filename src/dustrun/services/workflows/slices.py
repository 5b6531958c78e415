"""The sources of what a version can spend, as lists of them are shown."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from dustrun.core.sources.report import report_of
from dustrun.core.sources.spend_slice import SpendSlice
from dustrun.core.workflow.graph import TOP
from dustrun.core.workflow.loop_forecast import LOOP, forecast_loop
from dustrun.errors import Code, NotFound
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.closure import Closure, Lookup
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.services.workflows.shaped_stores import ShapedStores
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

Json = dict[str, Any]


MOST_BESIDE: Final = 50
"""Spends whose sources a plan, a ladder or a question shows beside the rest."""


class Slices:
    """Shows the slices by which spends are judged."""

    def __init__(self, database: Database, gate: SpendGate, programs: CompiledWorkflows) -> None:
        self._database = database
        self._gate = gate
        self._programs = programs
        self.stores = ShapedStores(database, gate)

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

        items = await self.stores.add_to(principal, await asyncio.to_thread(shape))
        about = {
            "workflowId": workflow_id,
            "version": number,
            "digest": closure.digest,
            "callsAny": closure.calls_any,
            "hidden": len(found) - len(visible),
            "loops": await self._loops(workflow_id, number),
        }
        return about, Page(items, page.limit, page.offset, page.has_more)

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
