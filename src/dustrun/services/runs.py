"""Starting, reading and steering runs. `start` is the heart: checks, freezes the version, one transaction, wakes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from dustrun import clock, ids, log
from dustrun.catalog import Catalog
from dustrun.core import trace
from dustrun.core.definition import Definition
from dustrun.core.exact_json import dumps_text, loads
from dustrun.core.expression import ExpressionError, parse_template
from dustrun.core.journal import Execution
from dustrun.core.program import Program
from dustrun.core.state import RUN_OPEN, RUN_RETRYABLE, Mode, NodeStatus, RunStatus
from dustrun.errors import Code, Conflict, Forbidden, Invalid, NotFound, Problem, Refused, Temporary, Uncertain
from dustrun.services import idempotency, starting
from dustrun.services.hub import Hub
from dustrun.services.keys import principal_of
from dustrun.services.ports import Child, ChildCall, Engine, RunFacts
from dustrun.services.principal import Principal
from dustrun.services.programs import Compiled, Programs
from dustrun.services.starting import Concurrency, Head, HeadMoved, Prepared, RunRequest
from dustrun.services.unveiling import Unveiling
from dustrun.storage import forks as fork_rows
from dustrun.storage import journal as journal_rows
from dustrun.storage import keys as key_rows
from dustrun.storage import runs as rows
from dustrun.storage import workflows as workflow_rows
from dustrun.storage.database import Database
from dustrun.storage.forks import Fork
from dustrun.storage.journal import Event
from dustrun.storage.run_lists import Filters, count_by_status, list_runs
from dustrun.storage.runs import RunRow
from dustrun.storage.statement import Tx
from dustrun.storage.vault import Vault
from dustrun.storage.writer import Writer

_HEAD_TRIES = 5
_MAX_SYNC_NODES = 20


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


def _caller_of(tx: Tx, parent: RunFacts, head: Head, program: Program) -> str:
    """The key that started a run, which must reach the workflow that the run calls, and the wallets that this one
    spends from; raises `Refused`."""
    by = rows.get(tx, parent.pk).triggered_by
    key = key_rows.find(tx, parent.org_id, by)
    principal = principal_of(key) if key is not None else None
    if principal is not None and not principal.may_use_workflow(head.id):
        raise Refused(f'The key "{by}" that started this run is limited to workflows without "{head.id}".')
    if parent.mode is not Mode.SIMULATE and program.wallets:
        if principal is None:
            raise Refused(f'The key "{by}" that started this run no longer exists; nothing is spent in its name.')
        try:
            check_spending(tx, principal, program)
        except Forbidden as error:
            raise Refused(f'The key "{by}" that started this run may not spend: {error.message}') from error
    return by


def check_spending(tx: Tx, principal: Principal, program: Program) -> None:
    """Raises `Forbidden` unless the caller may spend from every wallet that the program names."""
    principal.need("wallet:spend")
    for wallet_id in program.wallets if principal.wallet_ids is not None else ():
        known = wallet_id or rows.find_default_wallet(tx, principal.org_id)
        if known is not None and not principal.may_use_wallet(known):
            raise Forbidden(f'The key is limited to some wallets (walletIds); it may not spend from "{known}".')


def _calling_span(parent: RunFacts, call: ChildCall) -> str:
    """The traceparent of the node that calls a run."""
    run = trace.of_run(parent.org_id, parent.id, parent.trace)
    return trace.of_node(run, parent.org_id, parent.id, call.path, call.attempt).traceparent()


@dataclass(frozen=True, slots=True)
class Created:
    """A run that is on disk."""

    run_id: str
    pk: int
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Run:
    """A run with what became of its nodes; `executions` holds the newest attempt of each path."""

    row: RunRow
    definition: Definition | None = None
    executions: list[Execution] = field(default_factory=list)
    forks: list[Fork] = field(default_factory=list)


class Runs:
    """The use cases of runs."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        hub: Hub,
        catalog: Catalog,
        programs: Programs,
        engine: Engine,
        vault: Vault,
    ) -> None:
        self._database = database
        self._writer = writer
        self._hub = hub
        self._catalog = catalog
        self._programs = programs
        self._engine = engine
        self._vault = vault
        self._heads: dict[str, Head] = {}
        self.is_traced = False
        """Whether runs that others call or retry are to be linked to them in a trace."""

    # --- starting ---

    async def start(self, principal: Principal, workflow_id: str, request: RunRequest) -> Created:
        """Runs a workflow now and answers the run's id once run row and first event are on disk."""
        principal.need_workflow(workflow_id)
        starting.check_request(request)
        for _ in range(_HEAD_TRIES):
            head = await self._head(principal.org_id, workflow_id)
            try:
                return await self._start_at(principal, head, request)
            except HeadMoved:
                self._heads.pop(workflow_id, None)
        raise Temporary("The workflow changes too fast; nothing was started.", retry_after_s=1)

    async def check_workflow(self, principal: Principal, workflow_id: str) -> None:
        """Raises `NotFound` unless the caller's organisation has the workflow and the key reaches it."""
        principal.need_workflow(workflow_id)
        await self._head(principal.org_id, workflow_id)

    async def _head(self, org_id: str, workflow_id: str) -> Head:
        head = self._heads.get(workflow_id)
        if head is None:
            row = await self._database.read(lambda tx: workflow_rows.find(tx, org_id, workflow_id))
            head = None if row is None else starting.head_of(row)
            if head is not None:
                self._heads[workflow_id] = head
        if head is None or head.org_id != org_id:
            raise NotFound(f'There is no workflow "{workflow_id}".', code=Code.WORKFLOW_UNKNOWN)
        return head

    async def _start_at(self, principal: Principal, head: Head, request: RunRequest) -> Created:
        """One try under the assumption that the workflow is as `head` says; the transaction checks that."""
        if head.status == "archived":
            await self._database.read(lambda tx: starting.verify(tx, head))
        starting.check_head(head)
        version = starting.version_of(head, request)
        compiled = self._programs.find_kept(head.id, version) or await self._programs.find(head.id, version)
        if compiled is None:
            raise NotFound(f"The workflow has no version {version}.", code=Code.VERSION_UNKNOWN)
        program = compiled.runnable()
        await self._check_spending(principal, program, is_simulated=request.simulate)
        trigger_id = starting.trigger_of(compiled, request)
        payload = starting.accept(self._catalog, compiled, trigger_id, request.payload)
        facts = self._facts(principal, request, trigger_id, head=head, version=version)
        batch = starting.first_batch(facts, program, payload)
        prepared = starting.Prepared(facts, program, batch, payload, request, principal.key_id, head=head)
        return await self._create(prepared, head.concurrency)

    async def _check_spending(self, principal: Principal, program: Program, *, is_simulated: bool) -> None:
        if program.wallets and not is_simulated:
            await self._database.read(lambda tx: check_spending(tx, principal, program))

    def _facts(
        self,
        principal: Principal,
        request: RunRequest,
        trigger_id: str,
        *,
        head: Head | None = None,
        version: int | None = None,
    ) -> RunFacts:
        run_id = request.run_id or ids.new_id("run")
        return RunFacts(
            pk=0,
            id=run_id,
            org_id=principal.org_id,
            workflow_id=head.id if head is not None else None,
            workflow_name=head.name if head is not None else "",
            version=version,
            mode=Mode.SIMULATE if request.simulate else Mode.DUST if request.dust_test else Mode.LIVE,
            trigger_node_id=trigger_id,
            trigger_source=request.source,
            prop_values=request.prop_values,
            root_run_id=run_id,
            concurrency_key=None,
            trace=request.trace,
            started_at=clock.now_ms(),
            triggered_by=principal.key_id,
        )

    async def _create(
        self, prepared: starting.Prepared, concurrency: Concurrency | None, *, is_call: bool = False
    ) -> Created:
        facts = prepared.facts
        if concurrency is not None and facts.mode is not Mode.SIMULATE:
            facts.concurrency_key = self._concurrency_key(concurrency, prepared)
            self._keep_limit(concurrency, facts)
        limit = concurrency.max if concurrency is not None and facts.mode is not Mode.SIMULATE else None
        opening = self._engine.open(facts, prepared.program, prepared.batch, max_open=limit)

        def unit(tx: Tx) -> Created:
            return Created(facts.id, *starting.create(tx, prepared, opening.batch))

        if not is_call:
            log.bind(run_id=facts.id)  # the caller's request is the one that started this run

        def created(done: Created) -> None:
            facts.pk = done.pk
            self._hub.publish(facts, done.events)
            self._engine.opened(opening, done.pk)

        try:
            if is_call:  # by a node, not by whoever may be behind the present request
                return await self._writer.write(unit, created, repeatable=True)
            creates = ("runId", facts.id)
            return await idempotency.write(self._writer, unit, created, creates=creates, repeatable=True)
        except Uncertain:
            self._engine.doubted(opening)
            raise

    def _concurrency_key(self, concurrency: Concurrency, prepared: starting.Prepared) -> str:
        if concurrency.key is None:
            return ""
        roots = starting.KeyRoots(prepared.payload, prepared.facts.prop_values)
        try:
            return str(parse_template(concurrency.key).evaluate(roots))
        except ExpressionError as error:
            raise Invalid(
                "The workflow's concurrency key cannot be computed from this payload.",
                code=Code.PAYLOAD_INVALID,
                details=[Problem("payload", error.message)],
            ) from None

    def _keep_limit(self, concurrency: Concurrency, facts: RunFacts) -> None:
        assert facts.workflow_id is not None
        open_runs = self._engine.open_runs(facts.workflow_id, facts.concurrency_key)
        if len(open_runs) < concurrency.max or concurrency.on_limit == "queue":
            return
        if concurrency.on_limit == "skip":
            message = f"The workflow already has {len(open_runs)} unfinished runs; its limit is {concurrency.max}."
            raise Conflict(message, code=Code.STATE_CONFLICT)
        oldest = open_runs[0]
        self._writer.write(
            lambda tx: rows.request_cancel(tx, oldest, clock.now_ms()), lambda _: self._engine.cancel(oldest)
        )

    async def start_inline(self, principal: Principal, document: Any, request: RunRequest) -> Created:
        """Runs a definition that is not saved."""
        principal.need_every_workflow("run a definition that belongs to none")
        starting.check_request(request)
        compiled = self._programs.compile(document)
        root = compiled.definition.nodes.get("root")
        if root is None or root.type != "manual":
            raise Invalid('An inline run needs a node "root" of type "manual".', code=Code.TRIGGER_NOT_MANUAL)
        program = compiled.runnable()
        await self._check_spending(principal, program, is_simulated=request.simulate)
        trigger_id = starting.trigger_of(compiled, request)
        payload = starting.accept(self._catalog, compiled, trigger_id, request.payload)
        facts = self._facts(principal, request, trigger_id)
        batch = starting.first_batch(facts, program, payload)
        prepared = starting.Prepared(
            facts, program, batch, payload, request, principal.key_id, definition=dumps_text(document)
        )
        return await self._create(prepared, None)

    async def start_child(self, parent: RunFacts, call: ChildCall) -> Child:
        """Runs a workflow for a node of another run, in that run's mode; the same call again finds the same run.

        Raises `NotFound`, `Invalid`, `Conflict`, or `Temporary` when nothing was started."""
        run_id = _child_id(parent, call)
        for _ in range(_HEAD_TRIES):
            head = await self._head(parent.org_id, call.workflow_id)
            try:
                return await self._start_child_at(parent, call, run_id, head)
            except HeadMoved:
                self._heads.pop(call.workflow_id, None)
        raise Temporary("The workflow changes too fast; nothing was started.", retry_after_s=1)

    async def _start_child_at(self, parent: RunFacts, call: ChildCall, run_id: str, head: Head) -> Child:
        caller = starting.caller_for(parent, call, head)
        known = await self._database.read(lambda tx: rows.find(tx, parent.org_id, run_id))
        if known is not None:
            if known.parent_path != call.path:
                raise Conflict(f'The run "{run_id}" exists and was not started by this node.')
            return Child(known.pk, known.id, head.id)
        if head.status == "archived":
            await self._database.read(lambda tx: starting.verify(tx, head))
        starting.check_head(head)
        version = call.version or head.live_version or head.draft_version or head.latest_version
        compiled = await self._programs.find(head.id, version)
        if compiled is None:
            raise NotFound(f'The workflow "{head.name}" has no version {version}.', code=Code.VERSION_UNKNOWN)
        program = compiled.runnable()
        by = await self._database.read(lambda tx: _caller_of(tx, parent, head, program))
        request = RunRequest(
            payload=call.payload,
            run_id=run_id,
            simulate=parent.mode is Mode.SIMULATE,
            dust_test=parent.mode is Mode.DUST,
            prop_values=call.prop_values,
            source="workflow",
            trace={"parent": _calling_span(parent, call)} if self.is_traced else None,
        )
        trigger_id = starting.trigger_of(compiled, request)
        payload = starting.accept(self._catalog, compiled, trigger_id, request.payload)
        principal = Principal(by, parent.org_id, frozenset())
        facts = self._facts(principal, request, trigger_id, head=head, version=version)
        facts.caller = caller
        facts.root_run_id = _child_root(parent, call)
        facts.secrets.update(parent.secrets)
        batch = starting.first_batch(facts, program, payload, clock_at=call.at if request.simulate else None)
        prepared = starting.Prepared(facts, program, batch, payload, request, by, head=head)
        if not request.simulate:
            prepared.must_be_closed = facts.root_run_id
        try:
            created = await self._create(prepared, head.concurrency, is_call=True)
        except Conflict as error:
            if error.code in (Code.RUN_NOT_RETRYABLE, Code.TRANSACTION_OPEN):
                raise Temporary(f"What this node called before has not come to its end. {error.message}") from error
            raise
        return Child(created.pk, created.run_id, head.id)

    def check_sync(self, document: Any) -> None:
        """Raises `Invalid` when a definition is too large to wait for."""
        nodes = document.get("nodes") if isinstance(document, dict) else None
        if isinstance(nodes, dict) and len(nodes) > _MAX_SYNC_NODES:
            raise Invalid(
                f"A synchronous run may have at most {_MAX_SYNC_NODES} nodes, this one has {len(nodes)}.",
                code=Code.RUN_TOO_LARGE_FOR_SYNC,
            )

    async def wait_for_end(self, principal: Principal, run_id: str, timeout_s: float) -> None:
        """Returns when the run has ended, or when the time is up."""
        subscription = self._hub.watch_run(principal.org_id, run_id)
        try:
            end_at = clock.monotonic_s() + timeout_s
            while (left := end_at - clock.monotonic_s()) > 0:
                found = await self._database.read(lambda tx: rows.find_key(tx, principal.org_id, run_id))
                if found is None or RunStatus(found[1]) not in RUN_OPEN:
                    return
                await subscription.wait(min(left, 5.0))
        finally:
            self._hub.leave_run(principal.org_id, run_id, subscription)

    # --- steering ---

    async def cancel(self, principal: Principal, run_id: str) -> Run:
        """Asks an open run to end; it becomes `cancelled` when what it began is settled."""
        run_pk = (await self.get(principal, run_id, slim=True)).row.pk

        def unit(tx: Tx) -> Run:
            if not rows.request_cancel(tx, run_pk, clock.now_ms()):
                raise Conflict(
                    "The run has ended; only a running or waiting one can be cancelled.", code=Code.RUN_NOT_OPEN
                )
            return Run(rows.get(tx, run_pk))

        return await idempotency.write(self._writer, unit, lambda _: self._engine.cancel(run_pk))

    async def resolve(
        self,
        principal: Principal,
        run_id: str,
        path: str,
        outcome: str,
        result: Any,
    ) -> RunRow:
        """A person's answer for a node in `uncertain`."""
        run = await self.get(principal, run_id, slim=True)
        run_pk = run.row.pk
        data = dumps_text({"outcome": outcome, "result": result, "by": principal.key_id})

        def unit(tx: Tx) -> RunRow:
            known = [e for e in journal_rows.list_executions(tx, run_pk) if e.path == path]
            if not known:
                raise NotFound(f'The run has no node "{path}".', code=Code.NODE_UNKNOWN)
            answered = any(signal.path == path for signal in rows.list_signals(tx, run_pk))
            if known[-1].status is not NodeStatus.UNCERTAIN or answered:
                message = f'The node "{path}" is not in "uncertain" (it is "{known[-1].status.value}").'
                raise Conflict(message, code=Code.NODE_NOT_UNCERTAIN)
            rows.add_signal(tx, run_pk, "resolve", path, data, clock.now_ms())
            return rows.get(tx, run_pk)

        return await idempotency.write(self._writer, unit, lambda _: self._engine.wake(run_pk))

    async def retry(self, principal: Principal, run_id: str) -> Created:
        """A new run that points at the old one and keeps what succeeded."""
        old = await self.get(principal, run_id)
        if RunStatus(old.row.status) not in RUN_RETRYABLE:
            message = f'The run is "{old.row.status}"; only a failed, partial or cancelled one can be retried.'
            raise Conflict(message, code=Code.RUN_NOT_RETRYABLE)
        program = (await self.compiled(old.row)).runnable()
        await self._check_spending(principal, program, is_simulated=old.row.mode == Mode.SIMULATE.value)
        prepared = await self._database.read(lambda tx: self._retry_of(tx, old.row, program, principal.key_id))
        prepared.must_be_closed = old.row.root_run_id
        if self.is_traced:
            source = trace.of_run(old.row.org_id, old.row.id, loads(old.row.trace) if old.row.trace else None)
            prepared.facts.trace = {"link": source.traceparent()}
        return await self._create(prepared, None)

    def _retry_of(self, tx: Tx, row: RunRow, program: Program, triggered_by: str) -> Prepared:
        """A retry, with the signatures that the run had made."""
        unveiling = Unveiling(tx, self._vault, row.org_id)
        executions = journal_rows.list_executions(tx, row.pk, unveiling.text)
        plain = replace(row, payload=unveiling.text(row.payload), prop_values=unveiling.text(row.prop_values))
        prepared = starting.retry_of(plain, executions, program, triggered_by)
        prepared.facts.secrets.update(unveiling.secrets)
        return prepared

    # --- reading ---

    async def compiled(self, row: RunRow) -> Compiled:
        """The version that a run executes."""
        if row.workflow_id is None or row.version is None:
            return self._programs.compile(starting.inline_document(row))
        compiled = await self._programs.find(row.workflow_id, row.version)
        assert compiled is not None, "a run's version is never deleted"
        return compiled

    async def get(self, principal: Principal, run_id: str, *, slim: bool = False) -> Run:
        """One run; `slim` leaves out its nodes and definition."""

        def query(tx: Tx) -> Run | None:
            row = rows.find(tx, principal.org_id, run_id)
            if row is None or not principal.may_use_workflow(row.workflow_id):
                return None
            forks = _forks(tx, row)
            if slim:
                return Run(row, forks=forks)
            return Run(row, None, journal_rows.list_executions(tx, row.pk), forks)

        run = await self._database.read(query)
        if run is None:
            raise NotFound(f'There is no run "{run_id}".', code=Code.RUN_UNKNOWN)
        if slim:
            return run
        return replace(run, definition=(await self.compiled(run.row)).definition)

    async def list_page(
        self, principal: Principal, filters: Filters, limit: int, offset: int
    ) -> tuple[list[RunRow], bool]:
        """A page of runs, newest first, and whether there are more."""
        filters = await self._reachable(principal, filters)
        found = await self._database.read(lambda tx: list_runs(tx, principal.org_id, filters, limit, offset))
        return found[:limit], len(found) > limit

    async def count(self, principal: Principal, filters: Filters) -> dict[str, int]:
        """Runs by status."""
        filters = await self._reachable(principal, filters)
        return await self._database.read(lambda tx: count_by_status(tx, principal.org_id, filters))

    async def _reachable(self, principal: Principal, filters: Filters) -> Filters:
        """The filters within what the key reaches; raises `NotFound` for a workflow that it does not."""
        if filters.workflow_id is not None:
            await self.check_workflow(principal, filters.workflow_id)
        only = principal.workflow_ids
        return filters if only is None else replace(filters, only=tuple(sorted(only)))

    @property
    def catalog(self) -> Catalog:
        """The catalogue that runs are executed with."""
        return self._catalog


def _forks(tx: Tx, row: RunRow) -> list[Fork]:
    """The chains that a simulation stands on."""
    if row.mode != Mode.SIMULATE.value:
        return []
    caller = starting.caller_of(row)
    return fork_rows.list_chains(tx, caller.top_pk if caller is not None else row.pk)


def newest(executions: list[Execution]) -> dict[str, Execution]:
    """The newest attempt of each path."""
    return {execution.path: execution for execution in executions}
