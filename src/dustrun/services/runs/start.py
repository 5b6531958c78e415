"""Starts runs: checks the request, freezes the version, creates the run in one transaction, hands it to the engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from dustrun import clock, ids
from dustrun.core.run import trace
from dustrun.core.run.as_of import AsOf
from dustrun.core.run.journal import KEPT_FROM, OPENS_AGAIN, Execution, items_of
from dustrun.core.run.state import Mode, NodeStatus
from dustrun.core.text.masking import marks_in, unseal
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.core.workflow.program import Program
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.read_hosts import ReadHosts
from dustrun.services.quotas import RunQuotas
from dustrun.services.runs import may_start, start_request
from dustrun.services.runs.create import RunDeps
from dustrun.services.runs.engine_port import CreatedRun, Engine, RunFacts
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.start_request import (
    Concurrency,
    PreparedRun,
    RunRequest,
    StartCondition,
    WorkflowSnapshot,
    first_batch,
)
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as signature_rows
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.secrets.vault import Vault
from dustrun.storage.workflows import workflows as workflow_rows

# A retry: a new run that keeps what succeeded in the old one.


def retry_of(old: RunRow, executions: list[Execution], program: Program, triggered_by: str) -> PreparedRun:
    """A new run of the same version and payload; succeeded nodes and loops' items keep their results. A simulation
    keeps none: its results belong to the old run's simulated chains, and the retry starts on current state."""
    payload = loads(old.payload)
    facts = RunFacts(
        pk=0,
        id=ids.new_id("run"),
        org_id=old.org_id,
        workflow_id=old.workflow_id,
        workflow_name=old.workflow_name,
        version=old.version,
        mode=Mode(old.mode),
        trigger_node_id=old.trigger_node_id,
        trigger_source="retry",
        prop_values=loads(old.prop_values),
        root_run_id=old.root_run_id,
        concurrency_key=old.concurrency_key,
        started_at=clock.now_ms(),
        triggered_by=triggered_by,
        as_of=AsOf.of(loads_own(old.as_of)) if old.as_of is not None else None,
    )
    fired = next((one for one in executions if one.path == old.trigger_node_id), None)
    seen = fired.result if fired is not None and isinstance(fired.result, dict) else {}
    inbound = RunRequest(headers=seen.get("headers", {}), query=seen.get("query", {}))
    is_assumed = fired is not None and fired.assumed
    batch = first_batch(facts, program, payload, request=inbound, assumed=is_assumed)
    for execution in executions if facts.mode is not Mode.SIMULATE else ():
        kept = _kept(execution, old.id)
        if kept is not None:
            batch.added[(kept.path, 1)] = kept
    request = RunRequest(
        payload=payload, prop_values=facts.prop_values, source="retry", rehearsal_run_id=old.rehearsal_run_id
    )
    return PreparedRun(
        facts, program, batch, payload, request, triggered_by, definition=old.definition, source_run_id=old.id
    )


def _kept(execution: Execution, run_id: str) -> Execution | None:
    """A retry's share of an execution: its result and who had it, or the items of an unfinished loop."""
    kept = Execution(
        path=execution.path,
        node_id=execution.node_id,
        attempt=1,
        status=execution.status,
        branch=execution.branch,
        input=execution.input,
        result=execution.result,
        facts=execution.facts,
        assumed=execution.assumed,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
    )
    # What was skipped is decided anew: it may have come after what failed, and now succeeds.
    if execution.status is NodeStatus.SUCCESS and not (execution.facts and "stop" in execution.facts):
        kept.facts = {KEPT_FROM: run_id, **(execution.facts or {})}
        return kept
    items = items_of(execution.facts)
    if items is not None:
        kept.status, kept.result, kept.branch, kept.finished_at = NodeStatus.RUNNING, None, None, None
        kept.facts = {**items, OPENS_AGAIN: True}
        return kept
    return None


# Replaces the marks in stored texts with the signatures they stand for; only the engine does so, to advance a run.


class Unsealing:
    """Replaces marks within one transaction; `secrets` collects the signatures found, by their marks."""

    def __init__(self, tx: Tx, vault: Vault, org_id: str) -> None:
        self.secrets: dict[str, str] = {}
        self._tx = tx
        self._vault = vault
        self._org_id = org_id

    def text(self, text: str) -> str:
        """A stored JSON text with the signatures in their places."""
        unknown = marks_in([text]) - self.secrets.keys()
        if unknown:
            for row in signature_rows.list_of_marks(self._tx, self._org_id, unknown):
                self.secrets[row.mark] = signature_rows.opened(self._tx, self._vault, row)
        return unseal(text, self.secrets.get)


T = TypeVar("T")


class Starts:
    """Starts runs: of a saved workflow, of a definition in the request, or as a retry."""

    def __init__(
        self, deps: RunDeps, engine: Engine, vault: Vault, runs: Runs, read_hosts: ReadHosts, quotas: RunQuotas
    ) -> None:
        self._database = deps.database
        self._catalog = deps.catalog
        self._programs = deps.programs
        self._engine = engine
        self._creation = deps.creation
        self._vault = vault
        self._workflow_cache = deps.workflow_cache
        self._runs = runs
        self._is_traced = deps.is_traced
        self._guard = may_start.StartGuard(deps.database, deps.creation.gate, read_hosts)
        self._quotas = quotas if quotas.are_set else None

    async def start(
        self, principal: Principal, workflow_id: str, request: RunRequest, admission: StartCondition | None = None
    ) -> CreatedRun:
        """Starts a run of a workflow; returns once its row and first event are on disk. Raises `NotStarted` if the
        `admission` decides against it."""
        may_start.check_caller(principal, workflow_id, request, by_trigger=admission is not None)
        return await self._workflow_cache.start_at(
            principal.org_id, workflow_id, lambda snapshot: self._start_at(principal, snapshot, request, admission)
        )

    async def _start_at(
        self, principal: Principal, snapshot: WorkflowSnapshot, request: RunRequest, admission: StartCondition | None
    ) -> CreatedRun:
        """Starts the run assuming that `snapshot` is current; the transaction verifies it."""
        await self._guard.check_snapshot(snapshot)
        version = start_request.version_of(snapshot, request)
        compiled = await may_start.find_version(self._programs, snapshot, version)
        program = compiled.runnable()
        await self._guard.check_program(principal, program, is_simulated=request.simulate)
        closure = await self._guard.admit(principal, mode_of(request), program, (snapshot.id, version), snapshot)
        trigger_id = may_start.trigger_of(compiled, request)
        payload = await may_start.accept(self._catalog, compiled, trigger_id, request.payload)
        facts = facts_of(principal, request, trigger_id, snapshot=snapshot, version=version)
        batch = start_request.first_batch(facts, program, payload, request=request)
        prepared = PreparedRun(facts, program, batch, payload, request, principal.key_id, snapshot=snapshot)
        prepared.closure, prepared.admission = closure, admission
        return await self._submit(prepared, snapshot.concurrency)

    async def start_inline(self, principal: Principal, document: Any, request: RunRequest) -> CreatedRun:
        """Starts a run of a definition that is not saved."""
        may_start.check_caller(principal, None, request, by_trigger=False)
        text = await self._programs.pinned(principal.org_id, document)
        compiled = await self._programs.compile_text(principal.org_id, text)
        may_start.check_inline(compiled)
        program = compiled.runnable()
        await self._guard.check_program(principal, program, is_simulated=request.simulate)
        await self._guard.admit_unsaved(principal, mode_of(request), program, text)
        trigger_id = may_start.trigger_of(compiled, request)
        payload = await may_start.accept(self._catalog, compiled, trigger_id, request.payload)
        facts = facts_of(principal, request, trigger_id)
        batch = start_request.first_batch(facts, program, payload)
        prepared = PreparedRun(facts, program, batch, payload, request, principal.key_id, definition=text)
        return await self._submit(prepared, None)

    async def retry(self, principal: Principal, run_id: str) -> CreatedRun:
        """Starts a new run that refers to the old one and keeps its successful results."""
        old = await self._runs.get(principal, run_id)
        may_start.check_retryable(old.row)
        limit = await self._limit_of(old.row)
        program = (await self._runs.compiled(old.row)).runnable()
        await self._guard.check_program(principal, program, is_simulated=old.row.mode == Mode.SIMULATE.value)
        prepared = await self._database.read(lambda tx: self._retry_of(tx, old.row, program, principal.key_id))
        prepared.must_be_closed = old.row.root_run_id
        prepared.closure = await self._guard.admit_retry(principal, program, old.row)
        if self._is_traced:
            source = trace.of_run(old.row.org_id, old.row.id, loads(old.row.trace) if old.row.trace else None)
            prepared.facts.trace = {"link": source.traceparent()}
        return await self._submit(prepared, limit)

    async def _limit_of(self, row: RunRow) -> Concurrency | None:
        """The limit of unfinished runs that the workflow of a run has now; raises `Invalid` if it is archived."""
        workflow_id = row.workflow_id
        if workflow_id is None:
            return None
        found = await self._database.look_up(lambda tx: workflow_rows.find(tx, row.org_id, workflow_id))
        if found is None:
            return None
        snapshot = start_request.snapshot_of(found)
        may_start.check_snapshot(snapshot)
        return snapshot.concurrency

    def _retry_of(self, tx: Tx, row: RunRow, program: Program, triggered_by: str) -> PreparedRun:
        """The prepared retry, with the signatures of the old run."""
        unsealing = Unsealing(tx, self._vault, row.org_id)
        executions = journal_rows.list_executions(tx, row.pk, journal_rows.reading_of(tx, row.pk, unsealing.text))
        plain = replace(row, payload=unsealing.text(row.payload), prop_values=unsealing.text(row.prop_values))
        prepared = retry_of(plain, executions, program, triggered_by)
        prepared.batch.redaction.learn(unsealing.secrets)
        return prepared

    async def _submit(self, prepared: PreparedRun, concurrency: Concurrency | None) -> CreatedRun:
        may_start.check_room(self._engine)
        if self._quotas is not None:
            await self._quotas.need_room(prepared.facts.org_id)
        return await self._engine.submit(self._creation.new_run(prepared, concurrency))


def facts_of(
    principal: Principal,
    request: RunRequest,
    trigger_id: str,
    *,
    snapshot: WorkflowSnapshot | None = None,
    version: int | None = None,
) -> RunFacts:
    """The facts of a new run: of a version of `snapshot`, or of an inline definition."""
    run_id = request.run_id or ids.new_id("run")
    return RunFacts(
        pk=0,
        id=run_id,
        org_id=principal.org_id,
        workflow_id=snapshot.id if snapshot is not None else None,
        workflow_name=snapshot.name if snapshot is not None else "",
        version=version,
        mode=mode_of(request),
        trigger_node_id=trigger_id,
        trigger_source=request.source,
        prop_values=request.prop_values,
        root_run_id=run_id,
        concurrency_key=None,
        trace=request.trace,
        as_of=request.as_of,
        started_at=clock.now_ms(),
        triggered_by=principal.key_id,
    )


def mode_of(request: RunRequest) -> Mode:
    """The mode that a request asks for."""
    return Mode.SIMULATE if request.simulate else Mode.DUST if request.dust_test else Mode.LIVE
