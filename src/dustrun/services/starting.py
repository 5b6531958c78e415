"""The steps of starting a run: what a request must satisfy, which version and trigger, the first rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dustrun import clock, ids
from dustrun.catalog import Catalog
from dustrun.core.exact_json import dumps_text, loads
from dustrun.core.journal import Execution
from dustrun.core.program import Program
from dustrun.core.state import Mode, NodeStatus
from dustrun.core.validate import near
from dustrun.errors import Code, Conflict, Invalid, Problem, Refused
from dustrun.services.ports import Caller, ChildCall, RunFacts
from dustrun.services.programs import Compiled
from dustrun.storage import journal as journal_rows
from dustrun.storage import runs as rows
from dustrun.storage import transactions as transaction_rows
from dustrun.storage import workflows as workflow_rows
from dustrun.storage.journal import Batch, Event
from dustrun.storage.runs import RunRow
from dustrun.storage.statement import Tx
from dustrun.storage.workflows import WorkflowRow

RUN_ID = re.compile(r"run_[A-Za-z0-9_-]{1,64}")
_SCALES = "Each amount that is spent is made dust; the plan is a log event before the first signature (data.dustPlan)."


class HeadMoved(Exception):
    """The workflow is no longer as this process remembered it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a caller says of a run; the table of the run call explains each field."""

    payload: dict[str, Any] = field(default_factory=dict)
    version: int | None = None
    run_id: str | None = None
    simulate: bool = False
    dust_test: bool = False
    chat_message_id: str | None = None
    trigger_node_id: str | None = None
    prop_values: dict[str, Any] = field(default_factory=dict)
    source: str = "api"
    trace: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Concurrency:
    """A workflow's own limit of unfinished runs, per value of `key` when it has one."""

    max: int
    key: str | None
    on_limit: str


@dataclass(frozen=True, slots=True)
class Head:
    """What starting a run must know of a workflow."""

    id: str
    org_id: str
    name: str
    status: str
    latest_version: int
    draft_version: int | None
    live_version: int | None
    concurrency: Concurrency | None


@dataclass(slots=True)
class Prepared:
    """A run that is ready to be created. `must_be_closed` names a retry chain without open runs."""

    facts: RunFacts
    program: Program
    batch: Batch
    payload: dict[str, Any]
    request: RunRequest
    triggered_by: str
    head: Head | None = None
    definition: str | None = None
    source_run_id: str | None = None
    must_be_closed: str | None = None


class KeyRoots:
    """What a concurrency key may refer to: the trigger's payload and the props."""

    def __init__(self, payload: Mapping[str, Any], props: Mapping[str, Any]) -> None:
        self._roots: dict[str, Any] = {
            "$trigger": {**payload, "body": dict(payload)},
            "$inputs": dict(payload),
            "$props": dict(props),
        }

    def root(self, name: str) -> Any:
        """The value behind a root."""
        return self._roots[name]


def head_of(row: WorkflowRow) -> Head:
    """A workflow's row as starting a run reads it."""
    limit = loads(row.concurrency) if row.concurrency else None
    concurrency = Concurrency(limit["max"], limit.get("key"), limit.get("onLimit", "queue")) if limit else None
    return Head(
        row.id,
        row.org_id,
        row.name,
        row.status,
        row.latest_version,
        row.draft_version,
        row.live_version,
        concurrency,
    )


def verify(tx: Tx, head: Head) -> None:
    """Raises `HeadMoved` unless the workflow is still as `head` says."""
    row = workflow_rows.find(tx, head.org_id, head.id)
    if row is None or head_of(row) != head:
        raise HeadMoved


def check_request(request: RunRequest) -> None:
    """What can be refused without looking anything up."""
    if request.simulate and request.dust_test:
        raise Invalid(
            "`simulate` and `dustTest` exclude each other; send one of them.",
            code=Code.BOTH_MODES,
            details=[Problem("dustTest", "cannot be true together with simulate")],
        )
    if request.run_id is not None and not RUN_ID.fullmatch(request.run_id):
        raise Invalid(
            "The runId is malformed.",
            code=Code.RUN_ID_MALFORMED,
            details=[Problem("runId", "must be run_ and 1 to 64 of A-Z a-z 0-9 _ -, for example run_order-17")],
        )


def check_head(head: Head) -> None:
    """Raises `Invalid` for an archived workflow."""
    if head.status == "archived":
        raise Invalid(
            f'The workflow "{head.name}" is archived. POST /v1/workflows/{head.id}/unarchive brings it back.',
            code=Code.WORKFLOW_ARCHIVED,
        )


def version_of(head: Head, request: RunRequest) -> int:
    """The version to run: the asked one, else the draft, else the live one."""
    return request.version or head.draft_version or head.live_version or head.latest_version


def trigger_of(compiled: Compiled, request: RunRequest) -> str:
    """The trigger that counts as fired: the asked one, else the manual one, else the first."""
    triggers = compiled.definition.trigger_node_ids
    wanted = request.trigger_node_id
    if wanted is None:
        nodes = compiled.definition.nodes
        return next((node_id for node_id in triggers if nodes[node_id].type == "manual"), triggers[0])
    if wanted not in triggers:
        message = f'"{wanted}" names no trigger of this version; it has: {", ".join(triggers)}.{near(wanted, triggers)}'
        raise Invalid(message, code=Code.TRIGGER_NODE_UNKNOWN, details=[Problem("triggerNodeId", message)])
    return wanted


def accept(catalog: Catalog, compiled: Compiled, trigger_id: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The payload as the trigger takes it; raises `Invalid` when its schema does not."""
    trigger = catalog.triggers[compiled.definition.nodes[trigger_id].type]
    accepted: dict[str, Any] = trigger.accept(compiled.trigger_configs[trigger_id], payload)
    return accepted


def trigger_result(payload: Mapping[str, Any], source: str, at: int) -> dict[str, Any]:
    """`root.result`: the payload's own keys, and `body`, `headers`, `query`, `source`, `triggeredAt`."""
    fixed = {"body": payload, "headers": {}, "query": {}, "source": source, "triggeredAt": clock.to_rfc3339(at)}
    return {**payload, **fixed}


MAX_CALLS = 10


def caller_for(parent: RunFacts, call: ChildCall, head: Head) -> Caller:
    """The chain of calls that a called run ends; raises `Refused` for one that is too deep or a circle."""
    above = parent.caller.workflow_ids if parent.caller is not None else ()
    chain = (*above, parent.workflow_id or "")
    if head.id in chain:
        circle = " → ".join([*chain[chain.index(head.id) :], head.id])
        raise Refused(f"The workflows would call each other in a circle: {circle}.")
    if len(chain) > MAX_CALLS:
        raise Refused(f"Workflows call each other at most {MAX_CALLS} levels deep; this call would be one more.")
    return Caller(parent.pk, parent.id, call.path, parent.top_pk, chain, call.waits)


def first_batch(facts: RunFacts, program: Program, payload: dict[str, Any], *, clock_at: int | None = None) -> Batch:
    """The rows that every run begins with: `run_started` and the trigger's execution. `clock_at`: where the clock of
    a simulation stands that another one called."""
    now = facts.started_at
    trigger = facts.trigger_node_id
    batch = Batch()
    batch.added[(trigger, 1)] = Execution(
        path=trigger,
        node_id=trigger,
        attempt=1,
        status=NodeStatus.SUCCESS,
        result=trigger_result(payload, facts.trigger_source, now),
        facts={"clock": clock_at} if clock_at is not None else None,
        started_at=now,
        finished_at=now,
    )
    batch.events.append(("run_started", now, dumps_text(_started(facts, program))))
    return batch


def _started(facts: RunFacts, program: Program) -> dict[str, Any]:
    started: dict[str, Any] = {
        "workflowId": facts.workflow_id,
        "workflowName": facts.workflow_name,
        "version": facts.version,
        "mode": facts.mode.value,
        "triggerNodeId": facts.trigger_node_id,
        "triggerSource": facts.trigger_source,
        "nodeCount": len(program.nodes),
    }
    if facts.caller is not None:
        started["parentRunId"], started["parentPath"] = facts.caller.run_id, facts.caller.path
    if facts.mode is Mode.DUST:
        started["dust"] = {"note": _SCALES if program.wallets else "No node spends, so nothing is scaled."}
    return started


def create(tx: Tx, prepared: Prepared, batch: Batch) -> tuple[int, list[Event]]:
    """Creates the run with its first rows, all or nothing; raises `Invalid`, `Conflict` or `HeadMoved`."""
    facts, request = prepared.facts, prepared.request
    if prepared.head is not None:
        verify(tx, prepared.head)
    if request.chat_message_id is not None and not rows.has_message(tx, facts.org_id, request.chat_message_id):
        message = f'"{request.chat_message_id}" names no message of this organisation.'
        raise Invalid(message, code=Code.CHAT_MESSAGE_UNKNOWN, details=[Problem("chatMessageId", message)])
    if prepared.must_be_closed is not None and rows.chain_is_open(tx, facts.org_id, prepared.must_be_closed):
        message = "Another run of this retry chain has not ended; wait for it or cancel it."
        raise Conflict(message, code=Code.RUN_NOT_RETRYABLE)
    if prepared.must_be_closed is not None:
        _check_settled(tx, facts.org_id, prepared.must_be_closed)
    run_pk = rows.insert(tx, _row(prepared, batch))
    if run_pk is None:
        message = f'The runId "{facts.id}" is already used; choose another one.'
        raise Invalid(message, code=Code.RUN_ID_USED, details=[Problem("runId", message)])
    if request.chat_message_id is not None:
        rows.link_message(tx, request.chat_message_id, run_pk)
    journal_rows.write_executions(tx, run_pk, batch)
    events = journal_rows.write_events(tx, run_pk, facts.org_id, facts.workflow_id, 1, batch.events)
    return run_pk, events


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
    facts, veil = prepared.facts, batch.veil
    return {
        "id": facts.id,
        "org_id": facts.org_id,
        "workflow_id": facts.workflow_id,
        "workflow_name": facts.workflow_name,
        "version": facts.version,
        "definition": prepared.definition,
        "mode": facts.mode.value,
        "status": batch.status.value,
        "trigger_node_id": facts.trigger_node_id,
        "trigger_source": facts.trigger_source,
        "triggered_by": prepared.triggered_by,
        "payload": dumps_text(veil.value(prepared.payload)),
        "prop_values": dumps_text(veil.value(facts.prop_values)),
        "chat_message_id": prepared.request.chat_message_id,
        "source_run_id": prepared.source_run_id,
        "root_run_id": facts.root_run_id,
        "concurrency_key": facts.concurrency_key,
        "fence": facts.fence,
        "last_seq": len(batch.events),
        "started_at": facts.started_at,
        "cancel_requested_at": None,
        "nodes_executed": batch.executed,
        "trace": dumps_text(facts.trace) if facts.trace else None,
        **_caller(facts.caller),
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


def caller_of(row: RunRow) -> Caller | None:
    """Who called a stored run."""
    if row.parent_pk is None or row.parent_run_id is None or row.parent_path is None:
        return None
    further = loads(row.callers or "{}")
    workflow_ids = tuple(further["workflowIds"])
    return Caller(row.parent_pk, row.parent_run_id, row.parent_path, further["topPk"], workflow_ids, further["waits"])


def inline_document(row: RunRow) -> Any:
    """The definition that an inline run carries itself."""
    return loads(row.definition or "{}")


def retry_of(old: RunRow, executions: list[Execution], program: Program, triggered_by: str) -> Prepared:
    """A new run of the same version and payload; succeeded nodes and loops' items keep their results. A simulation
    keeps none: what its nodes did stands on the simulated chains of the old run, and its retry meets the present."""
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
    )
    batch = first_batch(facts, program, payload)
    for execution in executions if facts.mode is not Mode.SIMULATE else ():
        kept = _kept(execution, program)
        if kept is not None:
            batch.added[(kept.path, 1)] = kept
    request = RunRequest(payload=payload, prop_values=facts.prop_values, source="retry")
    return Prepared(
        facts, program, batch, payload, request, triggered_by, definition=old.definition, source_run_id=old.id
    )


def _kept(execution: Execution, program: Program) -> Execution | None:
    """What a retry keeps of an execution: its result, or the items of a loop that has to go on."""
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
        return kept
    if execution.facts is not None and "items" in execution.facts:
        kept.status, kept.result, kept.branch, kept.finished_at = NodeStatus.RUNNING, None, None, None
        return kept
    return None
