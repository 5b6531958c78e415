"""Runs that a node of another run starts, in that run's mode and in the name of the key that started it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from dustrun.core.run import trace
from dustrun.core.run.state import Mode
from dustrun.core.workflow.program import Program
from dustrun.errors import Code, Conflict, Forbidden, Refused, Temporary
from dustrun.services.access.api_keys import principal_of
from dustrun.services.access.principal import Principal
from dustrun.services.runs import may_start, start_request
from dustrun.services.runs.create import RunDeps
from dustrun.services.runs.engine_port import Child, ChildCall, CreatedRun, NewRun, RunFacts
from dustrun.services.runs.start import facts_of
from dustrun.services.runs.start_request import PreparedRun, RunRequest, WorkflowSnapshot
from dustrun.services.workflows.closure import Lookup
from dustrun.storage.access import keys as key_rows
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import runs as rows

Submit = Callable[[NewRun], Awaitable[CreatedRun]]
"""`Engine.submit` of the engine that advances the calling run."""


class CalledRuns:
    """Runs that nodes of other runs start."""

    def __init__(self, deps: RunDeps) -> None:
        self._database = deps.database
        self._catalog = deps.catalog
        self._programs = deps.programs
        self._workflow_cache = deps.workflow_cache
        self._creation = deps.creation
        self._guard = may_start.StartGuard(deps.database, deps.creation.gate)
        self._is_traced = deps.is_traced

    async def start(self, parent: RunFacts, call: ChildCall, submit: Submit) -> Child:
        """Runs a workflow for a node of another run, in that run's mode; the same call again finds the same run.

        Raises `NotFound`, `Invalid`, `Conflict`, or `Temporary` when nothing was started."""
        run_id = _child_id(parent, call)
        return await self._workflow_cache.start_at(
            parent.org_id, call.workflow_id, lambda snapshot: self._start_at(parent, call, submit, run_id, snapshot)
        )

    async def _start_at(
        self, parent: RunFacts, call: ChildCall, submit: Submit, run_id: str, snapshot: WorkflowSnapshot
    ) -> Child:
        caller = start_request.caller_for(parent, call, snapshot)
        known = await self._database.read(lambda tx: rows.find(tx, parent.org_id, run_id))
        if known is not None:
            if known.parent_path != call.path:
                raise Conflict(f'The run "{run_id}" exists and was not started by this node.')
            return Child(known.pk, known.id, snapshot.id)
        await self._guard.check_snapshot(snapshot)
        version = call.version or snapshot.live_version or snapshot.draft_version or snapshot.latest_version
        name = f'The workflow "{snapshot.name}"'
        compiled = await may_start.find_version(self._programs, snapshot, version, name)
        program = compiled.runnable()
        by = await self._database.read(lambda tx: _caller_of(tx, parent, snapshot, program))
        closure = await self._admit(parent, program, snapshot, version)
        request = self._request(parent, call, run_id)
        trigger_id = may_start.trigger_of(compiled, request)
        payload = await may_start.accept(self._catalog, compiled, trigger_id, request.payload)
        principal = Principal(by, parent.org_id, frozenset())
        facts = facts_of(principal, request, trigger_id, snapshot=snapshot, version=version)
        facts.caller = caller
        facts.root_run_id = _child_root(parent, call)
        facts.as_of = parent.as_of
        facts.secrets.update(parent.secrets)
        clock_at = call.at if request.simulate else None
        batch = start_request.first_batch(facts, program, payload, clock_at=clock_at, assumed=call.is_assumed)
        prepared = PreparedRun(facts, program, batch, payload, request, by, snapshot=snapshot)
        prepared.closure = closure
        if not request.simulate:
            prepared.must_be_closed = facts.root_run_id
        try:
            created = await submit(self._creation.new_run(prepared, snapshot.concurrency, is_call=True))
        except Conflict as error:
            if error.code in (Code.RUN_NOT_RETRYABLE, Code.TRANSACTION_OPEN):
                raise Temporary(f"What this node called before has not come to its end. {error.message}") from error
            raise
        return Child(created.pk, created.run_id, snapshot.id)

    async def _admit(self, parent: RunFacts, program: Program, snapshot: WorkflowSnapshot, version: int) -> str | None:
        """The digest of what the called run can reach, if that can spend; raises `Refused` unless it and every run
        that led to it may spend with what is called now, and `SnapshotOutdated` instead of judging what no longer
        is. A version that spends nothing itself may shape what its callers spend, and may be newer than they are."""
        if parent.mode is Mode.SIMULATE and not (program.wallets or program.calls):
            return None
        gate = self._creation.gate

        def query(tx: Tx) -> str | None:
            lookup = Lookup(tx, parent.org_id)
            workflow = lookup.find(snapshot.id)
            start_request.check_current(workflow, snapshot)
            digest = gate.admit(lookup, parent.mode, workflow, version) if workflow is not None else None
            if parent.mode is not Mode.SIMULATE:
                gate.check_callers(lookup, parent.mode, parent.pk, (snapshot.id, version))
            return digest

        try:
            return await gate.slicing(lambda: self._database.read(query))
        except Conflict as error:
            raise Refused(error.message, code=error.code, details=error.details) from error

    def _request(self, parent: RunFacts, call: ChildCall, run_id: str) -> RunRequest:
        return RunRequest(
            payload=call.payload,
            run_id=run_id,
            simulate=parent.mode is Mode.SIMULATE,
            dust_test=parent.mode is Mode.DUST,
            prop_values=call.prop_values,
            source="workflow",
            trace={"parent": _calling_span(parent, call)} if self._is_traced else None,
        )


def _caller_of(tx: Tx, parent: RunFacts, snapshot: WorkflowSnapshot, program: Program) -> str:
    """The id of the key that started the calling run; raises `Refused` unless the key may use the called workflow, its
    connectors, and the wallets that it spends from."""
    by = rows.get(tx, parent.pk).triggered_by
    key = key_rows.find(tx, parent.org_id, by)
    principal = principal_of(key) if key is not None else None
    if principal is not None and not principal.may_use_workflow(snapshot.id):
        raise Refused(f'The key "{by}" that started this run is limited to workflows without "{snapshot.id}".')
    if principal is not None:
        _need_connectors(principal, program)
    if parent.mode is not Mode.SIMULATE and program.wallets:
        if principal is None:
            raise Refused(f'The key "{by}" that started this run no longer exists; nothing is spent in its name.')
        try:
            may_start.check_spending(tx, principal, program)
        except Forbidden as error:
            raise Refused(f'The key "{by}" that started this run may not spend: {error.message}') from error
    return by


def _need_connectors(principal: Principal, program: Program) -> None:
    try:
        may_start.check_connectors(principal, program)
    except Forbidden as error:
        raise Refused(f'The key "{principal.key_id}" that started this run may not: {error.message}') from error


def _child_id(parent: RunFacts, call: ChildCall) -> str:
    """The id of a called run: of this attempt, or, when it is only started, of the node in the whole retry chain."""
    if not call.waits:
        return _child_root(parent, call)
    return _hashed(parent.org_id, "wait", parent.id, call.path, str(call.attempt))


def _child_root(parent: RunFacts, call: ChildCall) -> str:
    """The root of a called run's retry chain: all that the node calls, in whatever attempt and run, is one chain, so
    that what one of them paid the next does not pay again."""
    return _hashed(parent.org_id, "start", parent.root_run_id, call.path)


def _hashed(*parts: str) -> str:
    return f"run_{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:32]}"


def _calling_span(parent: RunFacts, call: ChildCall) -> str:
    """The traceparent of the node that calls a run."""
    run = trace.of_run(parent.org_id, parent.id, parent.trace)
    return trace.of_node(run, parent.org_id, parent.id, call.path, call.attempt).traceparent()
