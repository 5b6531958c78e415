"""Collects what a run's report is made of: the run itself and every run that it called, within limits.

A key that is limited to some workflows sees nothing of a called run of another workflow, nor of what that one called;
the report says how many runs it leaves out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from dustrun.core.run import assumptions
from dustrun.core.run.effects import Part
from dustrun.core.run.journal import KEPT_FROM, Execution, ReportedExecution
from dustrun.core.values.exact_json import loads
from dustrun.core.workflow.definition import Node
from dustrun.records import dataclass
from dustrun.services.access.principal import Principal
from dustrun.services.runs.runs import Run, Runs
from dustrun.services.workflows.compiled import CompiledWorkflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import called_runs, journal, runs
from dustrun.storage.runs.runs import RunRow

Json = dict[str, Any]
MOST_CALLED: Final = 1_000
"""Called runs that one report shows; of the rest it says how many there are."""
_MOST_EXECUTIONS: Final = 20_000
_MOST_EARLIER: Final = 20


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a report, the run itself first. `total` counts the runs that it called, at any depth; `hidden` those
    that the key does not see, among the first `MOST_CALLED`. `versions`: the run of each part, and what it executes."""

    parts: list[Part]
    total: int
    hidden: int
    versions: Sequence[tuple[RunRow, CompiledWorkflow]]

    def called(self) -> Json:
        """How many runs were called, and how many of them the report covers."""
        shown = len(self.parts) - 1
        is_complete = shown == self.total
        open_ids = [part.run_id for part in self.parts[1:] if part.is_open]
        return {
            "total": self.total,
            "shown": shown,
            "hidden": self.hidden,
            "openRunIds": open_ids,
            "isComplete": is_complete,
        }


class ReportParts:
    """Reads the parts of reports."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    async def of(self, principal: Principal, run: Run, *, with_results: bool = False) -> Parts:
        """A run and what it called; `with_results` for a comparison."""

        def query(tx: Tx) -> tuple[list[RunRow], int, int, dict[int, list[Execution]]]:
            called, total = called_runs.list_called(tx, principal.org_id, run.row.pk, MOST_CALLED)
            shown = _visible(principal, run.row.pk, called)
            pks = [row.pk for row in shown]
            found = called_runs.list_reported(tx, pks, _MOST_EXECUTIONS, with_results=with_results)
            return shown, total, len(called) - len(shown), found

        rows, total, hidden, found = await self._database.read(query)
        rows = [row for row in rows if row.pk in found]
        versions = {_version(row): await self._runs.compiled(row) for row in _first_of_each([run.row, *rows])}

        def build() -> list[Part]:
            paths, graphs = _paths(run.row.pk, rows), {key: _graph(one) for key, one in versions.items()}
            of_run = [(run.row, run.executions), *((row, found[row.pk]) for row in rows)]
            return [_part(row, paths[row.pk], graphs[_version(row)], executions) for row, executions in of_run]

        executed = [(row, versions[_version(row)]) for row in (run.row, *rows)]
        return Parts(await asyncio.to_thread(build), total, hidden, executed)

    async def earlier(self, principal: Principal, run: Run, *, with_results: bool = False) -> list[Parts]:
        """The earlier runs of a retry chain with what they called, the oldest first."""
        found: list[Parts] = []
        while (
            len(found) < _MOST_EARLIER and (source := await self._database.read(partial(_source, run.row))) is not None
        ):
            run = source
            found.append(await self.of(principal, run, with_results=with_results))
        return found[::-1]


_Graph = tuple[Mapping[str, Node], assumptions.References]


def _version(row: RunRow) -> tuple[str | None, int | None]:
    return row.workflow_id, row.version


def _first_of_each(rows: Iterable[RunRow]) -> list[RunRow]:
    """One run of each version."""
    return list({_version(row): row for row in rows}.values())


def _graph(compiled: CompiledWorkflow) -> _Graph:
    program = compiled.program
    return compiled.definition.nodes, assumptions.references_of(program) if program is not None else {}


def _part(row: RunRow, path: str, graph: _Graph, executions: Iterable[Execution]) -> Part:
    return Part(
        run_id=row.id,
        path=path,
        caller_id=row.parent_run_id if path else None,
        status=row.status,
        passed=None if row.passed is None else bool(row.passed),
        is_awaited=row.callers is None or bool(loads(row.callers)["waits"]),
        executions=[_reported(one, row.id, path) for one in executions],
        nodes=graph[0],
        references=graph[1],
    )


def _source(row: RunRow, tx: Tx) -> Run | None:
    """The run that a run retries; None for no retry, and once that run is deleted."""
    found = runs.find(tx, row.org_id, row.source_run_id) if row.source_run_id is not None else None
    return None if found is None else Run(found, None, journal.list_executions(tx, found.pk))


def _visible(principal: Principal, top_pk: int, called: Iterable[RunRow]) -> list[RunRow]:
    """The called runs that the key sees, and that were called by one that it sees."""
    seen = {top_pk}
    shown = []
    for row in called:
        if row.parent_pk in seen and principal.may_use_workflow(row.workflow_id):
            seen.add(row.pk)
            shown.append(row)
    return shown


def _paths(top_pk: int, called: Sequence[RunRow]) -> Mapping[int, str]:
    """The path of each call from the reported run: `monthly/each[2].pay`."""
    paths = {top_pk: ""}
    for row in called:
        assert row.parent_pk is not None
        paths[row.pk] = _inside(paths[row.parent_pk], row.parent_path or "")
    return paths


def _inside(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _reported(execution: Execution, run_id: str, path: str) -> ReportedExecution:
    """An execution for the report; one that a retry kept is of the run that carried it out."""
    return ReportedExecution(
        path=_inside(path, execution.path),
        node_id=execution.node_id,
        attempt=execution.attempt,
        status=execution.status,
        branch=execution.branch,
        input=execution.input,
        result=execution.result,
        error=execution.error,
        facts=execution.facts,
        assumed=execution.assumed,
        wake_at=execution.wake_at,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
        run_id=(execution.facts or {}).get(KEPT_FROM, run_id),
    )
