"""The first rows of a run, written in one transaction."""

from __future__ import annotations

from typing import Any

from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.core.workflow.program import Program
from dustrun.errors import Code, Conflict, Invalid, Problem
from dustrun.services.runs.engine_port import Caller, RunFacts, WrittenRun
from dustrun.services.runs.start_request import Prepared, SnapshotOutdated
from dustrun.storage.data import variables as variable_rows
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as transaction_rows
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs.journal import Batch, Event
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.workflows import workflows as workflow_rows

_OPEN = {"finished_at": None, "passed": None, "error": None, "summary": None}


def create(tx: Tx, prepared: Prepared, batch: Batch) -> tuple[int, list[Event]]:
    """Creates the run with its first rows, all or nothing; raises `Invalid`, `Conflict` or `SnapshotOutdated`."""
    facts, request = prepared.facts, prepared.request
    snapshot = prepared.snapshot
    # asked together with the run's row, which is undone if the workflow is no longer so
    state = workflow_rows.find_state_soon(tx, snapshot.org_id, snapshot.id) if snapshot is not None else None
    if request.chat_message_id is not None and not rows.has_message(tx, facts.org_id, request.chat_message_id):
        message = f'"{request.chat_message_id}" names no message of this organisation.'
        raise Invalid(message, code=Code.CHAT_MESSAGE_UNKNOWN, details=[Problem("chatMessageId", message)])
    if prepared.must_be_closed is not None and rows.chain_is_open(tx, facts.org_id, prepared.must_be_closed):
        message = "Another run of this retry chain has not ended; wait for it or cancel it."
        raise Conflict(message, code=Code.RUN_NOT_RETRYABLE)
    if prepared.must_be_closed is not None:
        _check_settled(tx, facts.org_id, prepared.must_be_closed)
    run_pk = rows.insert(tx, _row(prepared, batch))
    if snapshot is not None and state is not None and state.value != snapshot.state:
        raise SnapshotOutdated
    if run_pk is None:
        message = f'The runId "{facts.id}" is already used; choose another one.'
        raise Invalid(message, code=Code.RUN_ID_USED, details=[Problem("runId", message)])
    if prepared.keeps_draft and snapshot is not None and snapshot.draft_version is not None:
        workflow_rows.keep_draft(tx, snapshot.org_id, snapshot.id, snapshot.draft_version)
    if request.chat_message_id is not None:
        rows.link_message(tx, request.chat_message_id, run_pk)
    if prepared.source_run_id is not None and facts.mode is not Mode.SIMULATE:
        _pass_on_variables(tx, facts.org_id, prepared.source_run_id, run_pk)
    if batch.ending is not None:
        status, mode = batch.ending.status, str(facts.mode)
        journal_rows.count_end(tx, run_pk, facts.org_id, facts.workflow_id, status, mode)
    journal_rows.write_executions(tx, run_pk, batch)
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


def _check_settled(tx: Tx, org_id: str, root_run_id: str) -> None:
    """Raises `Conflict` while anything that the retry chain signed may still be included: paying again could pay
    twice."""
    unsettled = transaction_rows.find_unsettled(tx, org_id, root_run_id)
    if unsettled is not None:
        message = (
            f'The transaction "{unsettled}" of this retry chain is still open; wait until it is final, or cancel it '
            f"(POST /v1/transactions/{unsettled}/cancel)."
        )
        raise Conflict(message, code=Code.TRANSACTION_OPEN, details=[{"field": "transactionId", "message": unsettled}])


def _row(prepared: Prepared, batch: Batch) -> dict[str, Any]:
    facts, redaction, ending = prepared.facts, batch.redaction, batch.ending
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
        "payload": dumps_text(redaction.value(prepared.payload)),
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
