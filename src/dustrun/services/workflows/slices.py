"""The sources of what a version can spend, as lists of them are shown."""

from __future__ import annotations

import asyncio
from typing import Any

from dustrun.core.sources.report import report_of
from dustrun.core.sources.spend_slice import SpendSlice
from dustrun.errors import Code, NotFound
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.closure import Closure, Lookup
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

Json = dict[str, Any]


class Slices:
    """Shows the slices by which spends are judged."""

    def __init__(self, database: Database, gate: SpendGate) -> None:
        self._database = database
        self._gate = gate

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
        }
        return about, Page(items, page.limit, page.offset, page.has_more)
