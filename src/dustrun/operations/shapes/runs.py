"""Request and response models of runs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import Field

from dustrun.core.run.journal import KEPT_FROM, Execution, enclosing
from dustrun.core.run.state import Mode, NodeStatus, RunStatus
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.core.values.fields import Fields
from dustrun.log import mask_value, may_hold_secret
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time, time
from dustrun.operations.declaration.encoding import data_of
from dustrun.operations.declaration.fields import Text, Version
from dustrun.operations.shapes.findings import Ignoring
from dustrun.services.runs.engine_port import CreatedRun
from dustrun.services.runs.runs import Run, newest
from dustrun.services.runs.shown_values import Omitted
from dustrun.services.runs.start_request import RunRequest
from dustrun.services.workflows.compiled import show_definition
from dustrun.storage.runs.forks import Fork

_OPEN_ENDS = {RunStatus.RUNNING.value, RunStatus.WAITING.value}
Json = dict[str, Any]
Strict = Annotated[bool, Field(strict=True)]


class RunBody(Fields):
    """Options of a run call. Every field is optional, and so is the body; null is the same as absent."""

    payload: Json | None = Field(
        None, description="Payload of the trigger, available as `$trigger.body`. Default: an empty object."
    )
    version: Version | None = Field(
        None, description="Version to run. Default: the draft, or the live version if there is no draft."
    )
    run_id: str | None = Field(
        None,
        description=(
            "Your own id: `run_` and 1 to 64 of `[A-Za-z0-9_-]`, unique in the organisation. With it you can open "
            "the stream before the run starts."
        ),
        examples=["run_order-17"],
    )
    simulate: Strict | None = Field(False, description="Dry run: only reads leave the machine.")
    dust_test: Strict | None = Field(False, description="Real run with amounts scaled to about 0.01 USD.")
    chat_message_id: Text | None = Field(None, description="Id of the conversation message that started this run.")
    trigger_node_id: str | None = Field(None, description="Id of the trigger node to start from.")
    prop_values: Json | None = Field(None, description="Values for `{{$props.key}}`. Default: an empty object.")


class InlineBody(RunBody):
    """A definition to run without saving it."""

    definition: Json = Field(description="The complete graph; its node `root` must have the type `manual`.")


class RetryBody(Fields):
    """No fields: a retry uses the run's own mode, version and payload. Unknown fields are rejected, since ignoring one
    could move money."""


class ResolveBody(Fields):
    """A person's answer for an `uncertain` node: whether its effect happened."""

    outcome: str = Field(
        description="`happened`, or `notHappened` to execute the node again.",
        pattern="^(happened|notHappened)$",
        examples=["happened"],
    )
    attempt: int | None = Field(
        None,
        ge=1,
        strict=True,
        description="The attempt that the answer is about, as the node shows it. It does not resolve another one, so a "
        "repeated request cannot answer for a later attempt.",
    )
    result: Any = Field(None, description="The node's result, for `happened`.")
    for_each_context: ForEachContext | None = Field(None, description="The loop iteration, if the node is in a loop.")


class LoopPosition(Fields):
    """One loop around a node."""

    parent_node_id: str = Field(description="The loop's node.")
    index: int = Field(ge=0, strict=True, description="Item, from 0.")
    total: int | None = Field(None, ge=0, description="Number of items.")


class ForEachContext(Fields):
    """The loop iterations that contain the node, outermost first."""

    stack: list[LoopPosition] = Field(max_length=10)


class RunIdAnswer(Ignoring):
    """Id of a stored run."""

    run_id: str = Field(examples=["run_01k9w3x7q2c4v6b8n0m1a2s3d4"])


class NodeAnswer(Answer):
    """Execution of one node."""

    status: NodeStatus
    type: str
    attempt: int = 0
    input: Any = None
    result: Any = None
    error: Json | None = None
    input_omitted: bool = Field(False, description="Whether the input is larger than `omitLargerThan`.")
    input_bytes: int | None = Field(None, description="Of an input that is omitted: its size as JSON.")
    result_omitted: bool = Field(False, description="Whether the result is larger than `omitLargerThan`.")
    result_bytes: int | None = Field(None, description="Of a result that is omitted: its size as JSON.")
    branch: str | None = None
    assumed: bool = False
    wake_at: Time | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    kept_from: str | None = Field(None, description="Of a retry: the run whose result it keeps; it did not run again.")
    attempts: list[Json] = Field(default_factory=list, description="Earlier attempts, oldest first.")
    iterations: list[dict[str, Any]] | None = Field(None, description="For a loop: a map of nodes per item.")


class RunListItem(Answer):
    """A run in a list."""

    id: str
    organization_id: Annotated[str, From("org_id")]
    workflow_id: Annotated[str, From(lambda one: one.workflow_id or "")] = Field(description="Empty for an inline run.")
    workflow_name: str
    workflow_version: Annotated[int | None, From("version")]
    status: RunStatus
    mode: Mode
    is_simulation: Annotated[bool, From(lambda one: one.mode == "simulate")]
    is_dust_test: Annotated[bool, From(lambda one: one.mode == "dust")]
    trigger_node_id: str
    trigger_source: str
    triggered_by: str
    chat_message_id: str | None
    source_run_id: str | None
    root_run_id: str
    parent_run_id: str | None = Field(description="The run whose `call-workflow` node started this one.")
    parent_path: str | None = Field(description="Path of that node.")
    started_at: Time
    finished_at: Time | None
    wake_at: Time | None
    cancel_requested_at: Time | None
    passed: bool | None
    total_cu: Annotated[int, From("nodes_executed")] = Field(description="Nodes executed.")
    summary: str | None = Field(description="The message of the `stop` node that ended it; null if none did.")
    error: Annotated[Json | None, STORED]


class RunPageAnswer(PageAnswer[RunListItem]):
    """One page of a list of runs."""

    next_cursor: Annotated[str | None, From(lambda one: None if one.cursor is None else str(one.cursor))] = Field(
        description="`cursor` of the next page; null for the last one."
    )


class RunAnswer(RunListItem):
    """A run."""

    workflow_owner_user_id: str | None = Field(
        description="Id of the key that created the workflow; null for an inline run."
    )
    as_of: Time | None = Field(None, description="Of a back-test: the past moment that it simulates.")
    rehearsal_run_id: str | None = Field(
        None, description="Of a launch: the simulation that showed it. Its spends are held to that."
    )
    simulation_mode: str | None = Field(
        None, description="How its transactions were simulated; null if there were none."
    )
    simulation_forks: list[Json] = Field(
        default_factory=list, description="For each simulated chain: the block it is pinned to, and the strategy."
    )
    execution_state: dict[str, NodeAnswer] | None = None
    workflow_definition: Json | None = None
    payload: Json | None = Field(description="Null if it is omitted.")
    payload_omitted: bool = Field(False, description="Whether the payload is larger than `omitLargerThan`.")
    payload_bytes: int | None = Field(None, description="Of a payload that is omitted: its size as JSON.")
    prop_values: Json


class RetriedAnswer(RunAnswer):
    """The new run, as it was stored."""

    run_id: str = Field(description="The same as `id`.")


class SyncAnswer(Ignoring):
    """A run and, if it ended in time, its result."""

    run_id: str
    status: RunStatus
    duration_ms: int | None = Field(None, description="Absent from the answer to a repeated request.")
    execution_state: dict[str, NodeAnswer] | None = Field(None, description="By node id. Needs `run:read`.")


class CountsAnswer(Answer):
    """Runs by status."""

    running: int = 0
    waiting: int = 0
    success: int = 0
    partial: int = 0
    failure: int = 0
    cancelled: int = 0
    total: int = 0


class WorkflowCountsAnswer(CountsAnswer):
    """A workflow's runs by status."""

    workflow_id: str = Field(description="Empty for inline runs.")


def run_shape(run: Run, node_ids: frozenset[str] | None = None) -> Json:
    """A complete run; without state and definition if they were not read."""
    row = run.row
    forks = [_fork(fork) for fork in run.forks]
    shaped = {
        **data_of(RunListItem, row),
        "workflowOwnerUserId": run.owner,
        "payload": _masked(row.payload) if run.payload is None else mask_value(run.payload),
        "propValues": _masked(row.prop_values),
        "simulationMode": ", ".join(dict.fromkeys(fork["strategy"] for fork in forks if fork["strategy"])) or None,
        "simulationForks": forks,
        "asOf": time(loads_own(row.as_of)["at"]) if row.as_of is not None else None,
        "rehearsalRunId": row.rehearsal_run_id,
    }
    if isinstance(run.payload, Omitted):
        shaped |= {"payload": None, "payloadOmitted": True, "payloadBytes": run.payload.bytes}
    if run.definition is not None:
        shaped["executionState"] = execution_state(run, node_ids)
        shaped["workflowDefinition"] = run.shown() if run.shown is not None else show_definition(run.definition)
    return shaped


def _masked(text: str) -> Any:
    """A stored value with its secrets masked; one whose text says that it has none is not searched."""
    value = loads_own(text)
    return mask_value(value) if may_hold_secret(text) else value


def retried_shape(created: CreatedRun) -> Json:
    """The run that retries another one, as it was stored."""
    new = created.written
    assert new is not None, "a retry is read back in the transaction that created it"
    run = Run(new.row, new.definition, new.executions, owner=new.owner)
    return {**run_shape(run), "runId": created.run_id}


def _fork(fork: Fork) -> Json:
    """A simulated chain: the block it is pinned to, and the strategy. Runs that share it show the same id."""
    state = loads(fork.state)
    digest = hashlib.sha256(f"{fork.top_pk} {fork.chain_id} {state['hash']}".encode()).hexdigest()
    return {
        "chainId": fork.chain_id,
        "forkId": f"fork_{digest[:24]}",
        "blockNumber": state["number"],
        "blockHash": state["hash"],
        "strategy": state["strategy"],
        "transactions": len(state["steps"]),
    }


def execution_state(run: Run, node_ids: frozenset[str] | None = None) -> Json:
    """Executions by node id; nodes inside loops are in the loop's `iterations`."""
    assert run.definition is not None
    nodes = run.definition.nodes
    latest = newest(run.executions)
    inside = _by_loop(latest)
    never = NodeStatus.PENDING if run.row.status in _OPEN_ENDS else NodeStatus.SKIPPED
    in_loops = {e.node_id for e in run.executions if "[" in e.path}
    state: Json = {}
    for node_id, node in nodes.items():
        if (node_ids is not None and node_id not in node_ids) or node_id in in_loops:
            continue
        execution = latest.get(node_id)
        if execution is None:
            state[node_id] = {"status": never.value, "type": node.type, "attempt": 0}
        else:
            state[node_id] = _node(execution, run, inside)
    return state


def _by_loop(latest: dict[str, Execution]) -> dict[str, dict[int, list[Execution]]]:
    """Executions by the loop path and item that directly contain them."""
    inside: dict[str, dict[int, list[Execution]]] = {}
    for execution in latest.values():
        frame = execution.path[: execution.path.rfind(".") + 1]
        if frame:
            loop_path, index = next(enclosing(frame))
            inside.setdefault(loop_path, {}).setdefault(index, []).append(execution)
    return inside


def _node(execution: Execution, run: Run, inside: dict[str, dict[int, list[Execution]]]) -> Json:
    assert run.definition is not None
    shaped: Json = {
        "status": execution.status.value,
        "type": run.definition.nodes[execution.node_id].type,
        "attempt": execution.attempt,
        "input": mask_value(execution.input),
        "result": execution.result,
        "error": execution.error,
        "branch": execution.branch,
        "assumed": execution.assumed,
        "wakeAt": time(execution.wake_at),
        "startedAt": time(execution.started_at),
        "finishedAt": time(execution.finished_at),
    }
    for name in ("input", "result"):
        if isinstance(value := shaped[name], Omitted):
            shaped |= {name: None, f"{name}Omitted": True, f"{name}Bytes": value.bytes}
    if execution.facts is not None and KEPT_FROM in execution.facts:
        shaped["keptFrom"] = execution.facts[KEPT_FROM]
    earlier = (
        [e for e in run.executions if e.path == execution.path and e.attempt < execution.attempt]
        if execution.attempt > 1
        else []
    )
    if earlier:
        shaped["attempts"] = [
            {"attempt": e.attempt, "error": e.error, "startedAt": time(e.started_at), "finishedAt": time(e.finished_at)}
            for e in earlier
        ]
    if execution.path in inside:
        items = inside[execution.path]
        shaped["iterations"] = [
            {e.node_id: _node(e, run, inside) for e in items.get(index, ())} for index in range(max(items) + 1)
        ]
    return shaped


ResolveBody.model_rebuild()


def request_of(body: RunBody, trace: dict[str, str] | None = None) -> RunRequest:
    """Converts the body for the service."""
    return RunRequest(
        payload=body.payload or {},
        version=body.version,
        run_id=body.run_id,
        simulate=body.simulate or False,
        dust_test=body.dust_test or False,
        chat_message_id=body.chat_message_id,
        trigger_node_id=body.trigger_node_id,
        prop_values=body.prop_values or {},
        trace=trace,
    )
