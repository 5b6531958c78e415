"""Creates the rows of a new run, within its workflow's limit of unfinished runs. Needs no engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dustrun import log
from dustrun.catalog import Catalog
from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import dumps_text, is_large, loads
from dustrun.core.workflow.program import Program
from dustrun.records import dataclass
from dustrun.services.access import idempotency
from dustrun.services.runs import may_start
from dustrun.services.runs.engine_port import Caller, CreatedRun, NewRun, RunFacts, WrittenRun
from dustrun.services.runs.start_request import Concurrency, PreparedRun, SnapshotOutdated, StartOutcome, WorkflowCache
from dustrun.services.streaming.broadcaster import Broadcaster
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.storage.data import variables as variable_rows
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs.journal import Batch, Event
from dustrun.storage.runs.large_values import LARGE
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.workflows import workflows as workflow_rows

# The first rows of a run, written in one transaction.


_OPEN = {"finished_at": None, "passed": None, "error": None, "summary": None}


def create(tx: Tx, prepared: PreparedRun, batch: Batch) -> tuple[int, list[Event]]:
    """Creates the run with its first rows, all or nothing; raises `Invalid`, `Conflict` or `SnapshotOutdated`."""
    facts, request = prepared.facts, prepared.request
    snapshot = prepared.snapshot
    # asked together with the run's row, which is undone if the workflow is no longer so
    state = workflow_rows.find_state_soon(tx, snapshot.org_id, snapshot.id) if snapshot is not None else None
    if request.chat_message_id is not None:
        may_start.check_message(tx, facts.org_id, request.chat_message_id)
    if prepared.must_be_closed is not None:
        may_start.check_chain(tx, facts.org_id, prepared.must_be_closed)
    inserted = rows.insert(tx, _row(prepared, batch))
    if snapshot is not None and state is not None and state.value != snapshot.state:
        raise SnapshotOutdated
    run_pk = may_start.check_created(inserted, facts.id)
    if prepared.keeps_draft and snapshot is not None and snapshot.draft_version is not None:
        workflow_rows.keep_draft(tx, snapshot.org_id, snapshot.id, snapshot.draft_version)
    if request.chat_message_id is not None:
        rows.link_message(tx, request.chat_message_id, run_pk)
    if prepared.source_run_id is not None and facts.mode is not Mode.SIMULATE:
        _pass_on_variables(tx, facts.org_id, prepared.source_run_id, run_pk)
    if batch.ending is not None:
        journal_rows.note_end(tx, run_pk, facts.org_id, facts.workflow_id, batch.ending, str(facts.mode))
    journal_rows.write_executions(tx, run_pk, batch, is_new=True)
    events = journal_rows.write_events(tx, run_pk, facts.org_id, facts.workflow_id, 1, batch.events)
    return run_pk, events


def _pass_on_variables(tx: Tx, org_id: str, source_run_id: str, run_pk: int) -> None:
    """A retry keeps the writes of nodes that succeeded, so it keeps the values that they set for their run."""
    source = rows.find_key(tx, org_id, source_run_id)
    if source is not None:
        variable_rows.pass_on(tx, source[0], run_pk)


def read_back(tx: Tx, run_pk: int, program: Program) -> WrittenRun:
    """The run as it was stored: its results are redacted."""
    row = rows.get(tx, run_pk)
    executions = journal_rows.list_executions(tx, run_pk)
    return WrittenRun(row, program.definition, executions, rows.find_owner(tx, row.workflow_id))


def _row(prepared: PreparedRun, batch: Batch) -> dict[str, Any]:
    facts, redaction, ending = prepared.facts, batch.redaction, batch.ending
    payload = redaction.value(prepared.payload)
    text = dumps_text(payload)
    return {
        "id": facts.id,
        "org_id": facts.org_id,
        "workflow_id": facts.workflow_id,
        "workflow_name": facts.workflow_name,
        "version": facts.version,
        "definition": prepared.definition,
        "mode": str(facts.mode),
        "status": str(ending.status if ending is not None else batch.status),
        "trigger_node_id": facts.trigger_node_id,
        "trigger_source": facts.trigger_source,
        "triggered_by": prepared.triggered_by,
        "payload": text if len(text) < LARGE else batch.fold(text, payload),
        "prop_values": dumps_text(redaction.value(facts.prop_values)),
        "chat_message_id": prepared.request.chat_message_id,
        "source_run_id": prepared.source_run_id,
        "root_run_id": facts.root_run_id,
        "concurrency_key": facts.concurrency_key,
        "fence": facts.fence,
        "claimed_by": facts.claimed_by,
        "last_seq": len(batch.events),
        "started_at": facts.started_at,
        "cancel_requested_at": None,
        "nodes_executed": batch.executed,
        "closure": prepared.closure,
        "trace": dumps_text(facts.trace) if facts.trace else None,
        "as_of": dumps_text(facts.as_of.public()) if facts.as_of is not None else None,
        "rehearsal_run_id": prepared.request.rehearsal_run_id,
        **_caller(facts.caller),
        **(_OPEN if ending is None else journal_rows.end_columns(ending, redaction)),
    }


def _caller(caller: Caller | None) -> dict[str, Any]:
    if caller is None:
        return {"parent_pk": None, "parent_run_id": None, "parent_path": None, "callers": None}
    further = {"topPk": caller.top_pk, "workflowIds": caller.workflow_ids, "waits": caller.waits}
    return {
        "parent_pk": caller.pk,
        "parent_run_id": caller.run_id,
        "parent_path": caller.path,
        "callers": dumps_text(further),
    }


def stored_facts(row: RunRow, prop_values: dict[str, Any]) -> RunFacts:
    """The facts of a stored run, without what only the engine that advances it needs."""
    return RunFacts(
        pk=row.pk,
        id=row.id,
        org_id=row.org_id,
        workflow_id=row.workflow_id,
        workflow_name=row.workflow_name,
        version=row.version,
        mode=Mode(row.mode),
        trigger_node_id=row.trigger_node_id,
        trigger_source=row.trigger_source,
        prop_values=prop_values,
        root_run_id=row.root_run_id,
        concurrency_key=row.concurrency_key,
        started_at=row.started_at,
        triggered_by=row.triggered_by,
    )


def caller_of(row: RunRow) -> Caller | None:
    """The caller of a stored run."""
    if row.parent_pk is None or row.parent_run_id is None or row.parent_path is None:
        return None
    further = loads(row.callers or "{}")
    workflow_ids = tuple(further["workflowIds"])
    return Caller(row.parent_pk, row.parent_run_id, row.parent_path, further["topPk"], workflow_ids, further["waits"])


class NotStarted(Exception):
    """The run's admission decided against it; `result` is what it made of it."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


@dataclass(frozen=True, slots=True)
class RunDeps:
    """What starting and reading runs uses. `is_traced`: whether called runs and retries are linked to their origin in
    traces."""

    database: Database
    catalog: Catalog
    programs: CompiledWorkflows
    workflow_cache: WorkflowCache
    creation: RunCreation
    is_traced: bool


class RunCreation:
    """Turns prepared runs into `NewRun`s, which write themselves when an engine takes them."""

    def __init__(self, writer: Writer, hub: Broadcaster, gate: SpendGate) -> None:
        self._writer = writer
        self._hub = hub
        self.gate = gate
        """Decides whether a run may begin."""

    def new_run(self, prepared: PreparedRun, concurrency: Concurrency | None, *, is_call: bool = False) -> NewRun:
        """A run ready for `Engine.submit`; `is_call`: a node starts it, so the current request's Idempotency-Key is
        not its own. Raises `Invalid` when the concurrency key cannot be computed."""
        facts = prepared.facts
        limit = concurrency if facts.mode is not Mode.SIMULATE else None
        if limit is not None:
            facts.concurrency_key = may_start.concurrency_key_of(limit, prepared)
        is_separate = limit is None and prepared.is_separate
        if not is_call:
            log.bind(run_id=facts.id)  # the caller's request is the one that started this run

        async def write(batch: Batch, created: Callable[[CreatedRun], None]) -> CreatedRun:
            admission = prepared.admission

            def unit(tx: Tx) -> CreatedRun | StartOutcome:
                held = admission.before(tx) if admission is not None else None
                if held is not None:
                    return held
                run_pk, events = create(tx, prepared, batch)
                cancelled = may_start.make_room(tx, limit, facts, run_pk) if limit is not None else None
                is_retry = prepared.source_run_id is not None
                written = read_back(tx, run_pk, prepared.program) if is_retry else None
                made = CreatedRun(facts.id, run_pk, events, cancelled, written)
                return admission.after(tx, made) if admission is not None else made

            def after(done: CreatedRun | StartOutcome) -> None:
                made = _created_in(done)
                if made is not None:
                    facts.pk = made.pk
                    self._hub.publish(facts, made.events, facts.trigger_source)
                    created(made)

            is_short = batch.is_short() and not is_large(facts.prop_values)  # the payload is in the trigger's result
            options: dict[str, Any] = {"repeatable": is_short, "is_separate": is_short and is_separate}
            options["may_wait"] = prepared.admission is not None  # what a trigger starts
            if is_call:
                done = await self._writer.write(unit, after, **options)
            else:
                done = await idempotency.write(self._writer, unit, after, creates=("runId", facts.id), **options)
            made = _created_in(done)
            if made is None:
                raise NotStarted(done)
            return made

        return NewRun(facts, prepared.program, prepared.batch, limit.max if limit is not None else None, write)


def _created_in(done: CreatedRun | StartOutcome) -> CreatedRun | None:
    return done if isinstance(done, CreatedRun) else done.created
