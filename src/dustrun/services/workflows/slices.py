"""The slices of what a version can spend, computed once for each set of versions and kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dustrun.core.sources.report import report_of
from dustrun.core.sources.slicer import ClosedPrograms, Key
from dustrun.core.sources.spend_slice import SpendSlice, slices_of
from dustrun.core.workflow.program import Program
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, NotFound
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.closure import Closure, Closures, Lookup, version_called
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.data import managed_tables
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

Json = dict[str, Any]
_KEPT: Final = 200
_AT_ONCE: Final = 200  # nodes that are sliced on the event loop, in some 10 ms


class Slices:
    """Finds the slices of closures. A version never changes, so nothing that is kept goes stale."""

    def __init__(self, database: Database, programs: CompiledWorkflows, closures: Closures, specs: Specs) -> None:
        self._database = database
        self._programs = programs
        self._closures = closures
        self._specs = specs
        self._kept: OrderedDict[tuple[Any, ...], list[SpendSlice]] = OrderedDict()

    async def of(self, org_id: str, closure: Closure) -> list[SpendSlice]:
        """The slice of every spend that a closure can reach. A member whose definition does not compile, as it was
        written for an earlier release, can run nothing and is left out."""
        compiled = {member.key: await self._programs.find(*member.key) for member in closure.members}
        programs = {
            key_of(*key): one.program for key, one in compiled.items() if one is not None and one.program is not None
        }
        if key_of(*closure.root.key) not in programs:
            return []
        tables = await self._database.read(lambda tx: names_of_tables(tx, org_id, programs.values()))
        known = (closure.root.key, *sorted(member.key for member in closure.members), *sorted(tables.items()))
        found = self._kept.get(known)
        if found is None:
            closed = ClosedPrograms(key_of(*closure.root.key), programs, _resolved(closure), tables)
            found = self._kept[known] = await slice_apart(closed, self._specs)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(known)
        return found

    async def report(
        self, principal: Principal, workflow_id: str, version: int | None, paging: Paging
    ) -> tuple[Json, Page[Json]]:
        """The version asked for and a page of its spends with their sources, by default of the draft, else of the live
        version; raises `NotFound`."""

        def query(tx: Tx) -> tuple[Closure | None, int]:
            row = get_workflow(tx, principal, workflow_id)
            number = version or row.current_version
            return self._closures.resolve(Lookup(tx, principal.org_id), row, number), number

        closure, number = await self._database.read(query)
        if closure is None:
            raise NotFound(f'The workflow "{workflow_id}" has no version {number}.', code=Code.VERSION_UNKNOWN)
        found = await self.of(principal.org_id, closure)
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


def key_of(workflow_id: str, version: int) -> Key:
    """A version as slices name it."""
    return f"{workflow_id}@{version}"


async def slice_apart(closed: ClosedPrograms, specs: Specs) -> list[SpendSlice]:
    """The slices, computed in a thread unless there are few nodes."""
    if sum(len(program.nodes) for program in closed.programs.values()) <= _AT_ONCE:
        return slices_of(closed, specs)
    return await asyncio.to_thread(slices_of, closed, specs)


def names_of_tables(tx: Tx, org_id: str, programs: Iterable[Program]) -> Mapping[str, str]:
    """The names of the tables that nodes name by their ids."""
    named = {node.node.payload.get("table") for program in programs for node in program.nodes.values()}
    ids = sorted(one for one in named if isinstance(one, str) and one.startswith("tbl_") and "{{" not in one)
    rows = {one: managed_tables.find(tx, org_id, one) for one in ids}
    return {one: row.name for one, row in rows.items() if row is not None}


def _resolved(closure: Closure) -> Mapping[tuple[str, int | None], Key]:
    """The member that each call runs."""
    rows = {member.workflow.id: member.workflow for member in closure.members}
    calls: Sequence[tuple[str, int | None]] = [call for member in closure.members for call in member.content.calls]
    return {
        (workflow_id, version): key_of(workflow_id, version or version_called(rows[workflow_id]))
        for workflow_id, version in calls
        if workflow_id in rows
    }
