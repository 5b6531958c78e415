"""Starts runs: checks the request, freezes the version, creates the run in one transaction, hands it to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from dustrun import clock, ids
from dustrun.core.run import trace
from dustrun.core.run.as_of import AsOf
from dustrun.core.run.journal import KEPT_FROM, OPENS_AGAIN, Execution, items_of
from dustrun.core.run.state import RUN_RETRYABLE, Mode, NodeStatus, RunStatus
from dustrun.core.text.masking import marks_in, unseal
from dustrun.core.values.exact_json import dumps_text, loads, loads_own
from dustrun.core.workflow.definition import ANY_WALLET
from dustrun.core.workflow.program import Program
from dustrun.errors import Code, Conflict, Forbidden, Invalid, NotFound, Temporary
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.read_hosts import ReadHosts
from dustrun.services.runs import start_request
from dustrun.services.runs.create import RunCreation
from dustrun.services.runs.engine_port import Created, Engine, RunFacts
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.start_request import (
    Admission,
    Concurrency,
    Prepared,
    RunRequest,
    WorkflowCache,
    WorkflowSnapshot,
    first_batch,
)
from dustrun.services.workflows.closure import Lookup
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as signature_rows
from dustrun.storage.runs import called_runs
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.secrets.vault import Vault
from dustrun.storage.workflows import workflows as workflow_rows

# A retry: a new run that keeps what succeeded in the old one.


def retry_of(old: RunRow, executions: list[Execution], program: Program, triggered_by: str) -> Prepared:
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
    return Prepared(
        facts, program, batch, payload, request, triggered_by, definition=old.definition, source_run_id=old.id
    )


def _kept(execution: Execution, run_id: str) -> Execution | None:
    """What a retry keeps of an execution of a run: its result and who had it, or the items of an unfinished loop."""
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
        self,
        database: Database,
        programs: CompiledWorkflows,
        engine: Engine,
        creation: RunCreation,
        vault: Vault,
        workflow_cache: WorkflowCache,
        runs: Runs,
    ) -> None:
        self._database = database
        self._catalog = runs.catalog
        self._programs = programs
        self._engine = engine
        self._creation = creation
        self._vault = vault
        self._workflow_cache = workflow_cache
        self._runs = runs
        self.is_traced = False
        """Whether called runs and retries are linked to their origin in traces."""
        self.read_hosts: ReadHosts | None = None
        """What keys that only simulate may read from; None: anything."""

    async def start(
        self, principal: Principal, workflow_id: str, request: RunRequest, admission: Admission | None = None
    ) -> Created:
        """Starts a run of a workflow; returns once its row and first event are on disk. Raises `NotStarted` if the
        `admission` decides against it."""
        principal.need_workflow(workflow_id)
        start_request.check_request(request)
        if admission is None:  # what a trigger may start was decided when its version was published
            principal.need_mode(is_simulated=request.simulate)
        return await self._workflow_cache.start_at(
            principal.org_id, workflow_id, lambda snapshot: self._start_at(principal, snapshot, request, admission)
        )

    async def _start_at(
        self, principal: Principal, snapshot: WorkflowSnapshot, request: RunRequest, admission: Admission | None
    ) -> Created:
        """Starts the run assuming that `snapshot` is current; the transaction verifies it."""
        await self._workflow_cache.settle(snapshot)
        version = start_request.version_of(snapshot, request)
        compiled = await start_request.find_program(self._programs, snapshot, version)
        if compiled is None:
            raise NotFound(f"The workflow has no version {version}.", code=Code.VERSION_UNKNOWN)
        program = compiled.runnable()
        await self._check_hosts(principal, program)
        await self._check_spending(principal, program, is_simulated=request.simulate)
        closure = await self._admit(principal, mode_of(request), program, snapshot.id, version, snapshot)
        trigger_id = start_request.trigger_of(compiled, request)
        payload = await start_request.accept(self._catalog, compiled, trigger_id, request.payload)
        facts = facts_of(principal, request, trigger_id, snapshot=snapshot, version=version)
        batch = start_request.first_batch(facts, program, payload, request=request)
        prepared = Prepared(facts, program, batch, payload, request, principal.key_id, snapshot=snapshot)
        prepared.closure, prepared.admission = closure, admission
        return await self._submit(prepared, snapshot.concurrency)

    async def start_inline(self, principal: Principal, document: Any, request: RunRequest) -> Created:
        """Starts a run of a definition that is not saved."""
        principal.need_every_workflow("run a definition that belongs to none")
        start_request.check_request(request)
        principal.need_mode(is_simulated=request.simulate)
        compiled = await self._programs.compile(document)
        root = compiled.definition.nodes.get("root")
        if root is None or root.type != "manual":
            raise Invalid('An inline run needs a node "root" of type "manual".', code=Code.TRIGGER_NOT_MANUAL)
        program = compiled.runnable()
        await self._check_hosts(principal, program)
        await self._check_spending(principal, program, is_simulated=request.simulate)
        text = dumps_text(document)
        await self._check_sources(
            program,
            lambda tx: self._creation.gate.check_unsaved(_lookup(tx, principal), mode_of(request), text, principal),
        )
        trigger_id = start_request.trigger_of(compiled, request)
        payload = await start_request.accept(self._catalog, compiled, trigger_id, request.payload)
        facts = facts_of(principal, request, trigger_id)
        batch = start_request.first_batch(facts, program, payload)
        prepared = Prepared(facts, program, batch, payload, request, principal.key_id, definition=text)
        return await self._submit(prepared, None)

    async def retry(self, principal: Principal, run_id: str) -> Created:
        """Starts a new run that refers to the old one and keeps its successful results."""
        old = await self._runs.get(principal, run_id)
        if RunStatus(old.row.status) not in RUN_RETRYABLE:
            message = f'The run is "{old.row.status}"; only a failed, partial or cancelled one can be retried.'
            raise Conflict(message, code=Code.RUN_NOT_RETRYABLE)
        limit = await self._limit_of(old.row)
        program = (await self._runs.compiled(old.row)).runnable()
        await self._check_hosts(principal, program)
        await self._check_spending(principal, program, is_simulated=old.row.mode == Mode.SIMULATE.value)
        prepared = await self._database.read(lambda tx: self._retry_of(tx, old.row, program, principal.key_id))
        prepared.must_be_closed = old.row.root_run_id
        prepared.closure = await self._admit(
            principal, prepared.facts.mode, program, old.row.workflow_id, old.row.version
        )
        if old.row.workflow_id is None:
            await self._check_sources(
                program, lambda tx: self._creation.gate.check_run(_lookup(tx, principal), old.row)
            )
        if prepared.closure is not None and prepared.facts.mode is not Mode.SIMULATE:
            gate = self._creation.gate
            await gate.slicing(lambda: self._database.read(lambda tx: self._check_callers(tx, principal, old.row)))
        if self.is_traced:
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
        start_request.check_snapshot(snapshot)
        return snapshot.concurrency

    def _retry_of(self, tx: Tx, row: RunRow, program: Program, triggered_by: str) -> Prepared:
        """The prepared retry, with the signatures of the old run."""
        unsealing = Unsealing(tx, self._vault, row.org_id)
        executions = journal_rows.list_executions(tx, row.pk, unsealing.text)
        plain = replace(row, payload=unsealing.text(row.payload), prop_values=unsealing.text(row.prop_values))
        prepared = retry_of(plain, executions, program, triggered_by)
        prepared.facts.secrets.update(unsealing.secrets)
        return prepared

    def _check_callers(self, tx: Tx, principal: Principal, row: RunRow) -> None:
        """Raises `Conflict` unless what called the run, or one that it retries, may still spend with what it called."""
        call = called_runs.find_call(tx, row)
        if call is None or call.parent_pk is None or row.workflow_id is None or row.version is None:
            return
        lookup, called = Lookup(tx, principal.org_id, principal), (row.workflow_id, row.version)
        self._creation.gate.check_callers(lookup, Mode(row.mode), call.parent_pk, called)

    async def _check_hosts(self, principal: Principal, program: Program) -> None:
        if self.read_hosts is not None:
            await self.read_hosts.check(principal, program.definition)

    async def _check_spending(self, principal: Principal, program: Program, *, is_simulated: bool) -> None:
        if program.wallets and not is_simulated:
            await self._database.look_up(lambda tx: check_spending(tx, principal, program))

    async def _admit(
        self,
        principal: Principal,
        mode: Mode,
        program: Program,
        workflow_id: str | None,
        version: int | None,
        snapshot: WorkflowSnapshot | None = None,
    ) -> str | None:
        """The digest of what the run can reach, if that can spend; raises `Conflict` when it may not in that mode, and
        `SnapshotOutdated` instead of judging a version that the workflow no longer runs."""
        if workflow_id is None or version is None:
            return None

        def query(tx: Tx) -> str | None:
            lookup = _lookup(tx, principal)
            workflow = lookup.find(workflow_id)
            if snapshot is not None:
                start_request.check_current(workflow, snapshot)
            return self._creation.gate.admit(lookup, mode, workflow, version) if workflow is not None else None

        return await self._check_sources(program, query)

    async def _check_sources(self, program: Program, query: Callable[[Tx], T]) -> T | None:
        """The answer to a question about whose hands a program's spends are in; None if it has none."""
        if not (program.wallets or program.calls):
            return None
        look = self._database.read if program.calls else self._database.look_up
        return await self._creation.gate.slicing(lambda: look(query))

    async def _submit(self, prepared: Prepared, concurrency: Concurrency | None) -> Created:
        if not self._engine.has_room():
            raise Temporary("The server is busy or stopping; nothing was started.", retry_after_s=2)
        return await self._engine.submit(self._creation.new_run(prepared, concurrency))


def _lookup(tx: Tx, principal: Principal) -> Lookup:
    return Lookup(tx, principal.org_id, principal)


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


def check_spending(tx: Tx, principal: Principal, program: Program) -> None:
    """Raises `Forbidden` unless the caller may spend from every wallet that the program can use."""
    principal.need("wallet:spend")
    if ANY_WALLET in program.wallets and principal.wallet_ids is not None:
        raise Forbidden(
            "The key is limited to some wallets (walletIds), and an expression of this workflow may name any wallet. "
            "List those that it may name in `connector.oneOf`."
        )
    for wallet_id in program.wallets if principal.wallet_ids is not None else ():
        known = wallet_id or rows.find_default_wallet(tx, principal.org_id)
        if known is not None and not principal.may_use_wallet(known):
            raise Forbidden(f'The key is limited to some wallets (walletIds); it may not spend from "{known}".')
