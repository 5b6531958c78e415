"""Reads, cancels and resolves runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from dustrun import clock
from dustrun.catalog import Catalog
from dustrun.core.run.journal import Execution, Journal
from dustrun.core.run.state import RUN_OPEN, Mode, NodeStatus, RunStatus
from dustrun.core.values.exact_json import dumps_text
from dustrun.core.workflow.definition import Definition
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.paging import Paging
from dustrun.services.access.principal import Principal
from dustrun.services.runs import create
from dustrun.services.runs import pages as pages
from dustrun.services.runs.create import RunDeps
from dustrun.services.runs.engine_port import Engine
from dustrun.services.runs.pages import RunPage
from dustrun.services.runs.shown_values import Answering, ShownValues
from dustrun.services.streaming import run_waits
from dustrun.services.streaming.broadcaster import Broadcaster
from dustrun.services.streaming.run_waits import RunWaits
from dustrun.services.workflows.closure import Lookup
from dustrun.services.workflows.compiled import CompiledWorkflow
from dustrun.storage.access import keys
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import forks as fork_rows
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs.forks import Fork
from dustrun.storage.runs.journal import Event, Reading
from dustrun.storage.runs.large_values import MARK
from dustrun.storage.runs.run_lists import RunFilters, count_by_status
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.runs.waits import is_answered

_FEW_NODES = 20
"""Nodes whose executions are searched for; for more, all are read."""
_MAX_SYNC_NODES = 20


@dataclass(frozen=True, slots=True)
class Resolution:
    """A person's answer for an `uncertain` node. `attempt`: the one that it is about; None: whichever is open."""

    outcome: str
    result: Any = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run with what became of its nodes; `executions` holds the newest attempt of each path. `owner`: the key that
    created its workflow. `shown`: makes its definition as answers have it, if that is kept. `payload`: as
    an answer has it, if it is large."""

    row: RunRow
    definition: Definition | None = None
    executions: list[Execution] = field(default_factory=list)
    forks: list[Fork] = field(default_factory=list)
    owner: str | None = None
    shown: Callable[[], Mapping[str, Any]] | None = None
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How far a run came while its caller waited: it answered (`answer`: the result of the `respond` node), or ended
    (`results`: those of its last nodes), or neither yet."""

    row: RunRow
    answer: Mapping[str, Any] | None
    results: Mapping[str, Any]

    @property
    def is_due(self) -> bool:
        """Whether there is something to tell the caller."""
        return self.answer is not None or RunStatus(self.row.status) not in RUN_OPEN

    @property
    def result(self) -> Any:
        """The result of the run, if it has one last node."""
        return next(iter(self.results.values())) if len(self.results) == 1 else None


class Runs:
    """Reads runs, and passes on what people ask of them."""

    def __init__(self, deps: RunDeps, writer: Writer, hub: Broadcaster, engine: Engine) -> None:
        self.gate = deps.creation.gate
        """Says who may decide on spends."""
        self._database = deps.database
        self._writer = writer
        self._catalog = deps.catalog
        self._programs = deps.programs
        self._engine = engine
        self._workflow_cache = deps.workflow_cache
        self.waits = RunWaits(deps.database, hub)

    async def check_workflow(self, principal: Principal, workflow_id: str) -> None:
        """Raises `NotFound` unless the caller's organisation has the workflow and the key reaches it."""
        principal.need_workflow(workflow_id)
        await self._workflow_cache.find(principal.org_id, workflow_id)

    def check_sync(self, document: Any) -> None:
        """Raises `Invalid` when a definition is too large to wait for."""
        nodes = document.get("nodes") if isinstance(document, dict) else None
        if isinstance(nodes, dict) and len(nodes) > _MAX_SYNC_NODES:
            raise Invalid(
                f"A synchronous run may have at most {_MAX_SYNC_NODES} nodes, this one has {len(nodes)}.",
                code=Code.RUN_TOO_LARGE_FOR_SYNC,
            )

    async def conclude(
        self, org_id: str, run_id: str, events: Sequence[Event], timeout_s: float, *, for_answer: bool = True
    ) -> Conclusion:
        """Waits until a run has ended or, `for_answer`, has answered its request, or the time is up. `events`: what is
        known of it already."""
        reached = run_waits.reached(events, for_answer=for_answer)
        if reached is None and timeout_s > 0:
            reached = await self.waits.wait(org_id, run_id, timeout_s, for_answer=for_answer)
        path = reached.answered_at if reached is not None else None

        def query(tx: Tx) -> tuple[RunRow, Execution | None, list[Execution]]:
            row = rows.find(tx, org_id, run_id)
            assert row is not None, "runs that somebody waits for are not deleted"
            answer = journal_rows.find_execution(tx, row.pk, path) if path is not None else None
            ended = path is None and RunStatus(row.status) not in RUN_OPEN
            return row, answer, journal_rows.list_executions(tx, row.pk) if ended else []

        row, answer, executions = await self._database.read(query)
        last = {}
        if executions:
            last = Journal.of(executions).list_last((await self.compiled(row)).runnable().graph)
        return Conclusion(
            row, None if answer is None else answer.result, {name: one.result for name, one in last.items()}
        )

    # --- steering ---

    async def cancel(self, principal: Principal, run_id: str) -> Run:
        """Requests the cancel of an open run; it becomes `cancelled` once everything it began has settled.

        The request is written before the run is read for the answer: reading may be slow, and asking twice does no
        harm."""
        run_pk = (await self.get(principal, run_id, slim=True)).row.pk

        def unit(tx: Tx) -> None:
            if not rows.request_cancel(tx, run_pk, clock.now_ms()):
                raise Conflict(
                    "The run has ended; only a running or waiting one can be cancelled.", code=Code.RUN_NOT_OPEN
                )
            audit.record(tx, principal, "run.cancel", run_id)

        await self._writer.write(unit, lambda _: self._engine.cancel(run_pk))
        return await self.get(principal, run_id)

    async def resolve(
        self,
        principal: Principal,
        run_id: str,
        path: str,
        answer: Resolution,
    ) -> RunRow:
        """Records a person's answer for a node that is `uncertain`. Raises `Forbidden` if the caller says that it
        happened, and may not spend what the run can."""
        run = await self.get(principal, run_id, slim=True)
        run_pk = run.row.pk
        data = dumps_text({"outcome": answer.outcome, "result": answer.result, "by": principal.key_id})

        def unit(tx: Tx) -> RunRow:
            known = journal_rows.find_execution(tx, run_pk, path)
            if known is None:
                raise NotFound(f'The run has no node "{path}".', code=Code.NODE_UNKNOWN)
            if known.status is not NodeStatus.UNCERTAIN or is_answered(tx, run_pk, path):
                message = f'The node "{path}" is not in "uncertain" (it is "{known.status.value}").'
                raise Conflict(message, code=Code.NODE_NOT_UNCERTAIN)
            if answer.attempt is not None and answer.attempt != known.attempt:
                message = f'The answer is about attempt {answer.attempt} of "{path}"; it is in attempt {known.attempt}.'
                raise Conflict(message, code=Code.NODE_NOT_UNCERTAIN)
            if answer.outcome == "happened":
                self.gate.check_steering(Lookup(tx, principal.org_id), principal, rows.get(tx, run_pk))
            rows.add_signal(tx, run_pk, "resolve", path, data, clock.now_ms())
            audit.record(tx, principal, "run.resolve", run_id, path=path, outcome=answer.outcome)
            return rows.get(tx, run_pk)

        return await idempotency.write(self._writer, unit, lambda _: self._engine.wake(run_pk))

    # --- reading ---

    async def compiled(self, row: RunRow) -> CompiledWorkflow:
        """The version that a run executes."""
        if row.workflow_id is None or row.version is None:
            return await self._programs.compile_text(row.org_id, row.definition or "{}")
        compiled = await self._programs.find(row.workflow_id, row.version)
        assert compiled is not None, "a run's version is never deleted"
        return compiled

    async def get(
        self,
        principal: Principal,
        run_id: str,
        *,
        slim: bool = False,
        node_ids: frozenset[str] | None = None,
        answer: Answering | None = None,
    ) -> Run:
        """One run; `slim` leaves out its nodes and definition. `node_ids`: with the executions of these nodes and of
        what is inside them, None for all. `answer`: the run is for an answer alone, see `ShownValues`."""

        def query(tx: Tx) -> Run | None:
            row = (rows.find if answer is None else rows.find_as_stored)(tx, principal.org_id, run_id)
            if row is None or not principal.may_use_workflow(row.workflow_id):
                return None
            forks, owner = _forks(tx, row), rows.find_owner(tx, row.workflow_id)
            if answer is None:
                executions = [] if slim else _executions(tx, row.pk, node_ids, journal_rows.reading_of(tx, row.pk))
                return Run(row, None, executions, forks, owner)
            values = functools.cache(lambda: ShownValues(tx, row.pk, answer.largest))
            reading = Reading(values) if answer.largest is None else Reading(values, least=0)
            executions = [] if slim else _executions(tx, row.pk, node_ids, reading)
            is_large = len(row.payload) >= reading.least or MARK in row.payload
            payload = values().load_input(row.payload) if is_large else None
            return Run(row, None, executions, forks, owner, payload=payload)

        run = await self._database.read(query)
        if run is None:
            raise NotFound(f'There is no run "{run_id}".', code=Code.RUN_UNKNOWN)
        if slim:
            return run
        compiled = await self.compiled(run.row)
        return replace(run, definition=compiled.definition, shown=compiled.shown)

    async def list_page(
        self, principal: Principal, filters: RunFilters, paging: Paging, text: str | None = None
    ) -> RunPage:
        """A page of runs, newest first."""
        filters = await self.reachable(principal, filters)
        return await pages.list_page(self._database, principal.org_id, filters, paging, text)

    async def keys_of(self, principal: Principal, who: str) -> tuple[str, ...]:
        """The keys by which somebody starts runs: see `storage/access/keys.py`."""
        return await self._database.read(lambda tx: keys.ids_of(tx, principal.org_id, who, principal.key_id))

    async def count(self, principal: Principal, filters: RunFilters) -> dict[str, int]:
        """Runs by status."""
        filters = await self.reachable(principal, filters)
        return await self._database.read(lambda tx: count_by_status(tx, principal.org_id, filters))

    async def reachable(self, principal: Principal, filters: RunFilters) -> RunFilters:
        """The filters within what the key reaches; raises `NotFound` for a workflow that it does not, and `Invalid` for
        a version of none."""
        if filters.version is not None and filters.workflow_id is None:
            problem = Problem("version", "needs `workflowId`: each workflow has its own versions")
            raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=[problem])
        if filters.workflow_id is not None:
            await self.check_workflow(principal, filters.workflow_id)
        only = principal.workflow_ids
        return filters if only is None else replace(filters, only=tuple(sorted(only)))

    @property
    def catalog(self) -> Catalog:
        """The catalogue that runs are executed with."""
        return self._catalog


def _executions(tx: Tx, run_pk: int, node_ids: frozenset[str] | None, reading: Reading) -> list[Execution]:
    if node_ids is None or len(node_ids) > _FEW_NODES:
        return journal_rows.list_executions(tx, run_pk, reading)
    return journal_rows.list_executions_of(tx, run_pk, node_ids, reading)


def _forks(tx: Tx, row: RunRow) -> list[Fork]:
    """The pinned chains of a simulation."""
    if row.mode != Mode.SIMULATE.value:
        return []
    caller = create.caller_of(row)
    return fork_rows.list_chains(tx, caller.top_pk if caller is not None else row.pk)


def newest(executions: list[Execution]) -> dict[str, Execution]:
    """The newest attempt of each path."""
    return {execution.path: execution for execution in executions}
