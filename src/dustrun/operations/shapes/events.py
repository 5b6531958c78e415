"""The events of a run's stream: one model, and so one published JSON Schema, per type."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from dustrun.core import stream_events
from dustrun.core.run.state import Mode, RunStatus
from dustrun.operations.declaration.answers import Time

Json = dict[str, Any]


class RunEvent(BaseModel):
    """Fields of every event. `seq` counts from 1 without gaps and is also the frame's `id:`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, defer_build=True)

    type: str
    seq: int = Field(ge=1)
    run_id: str
    at: Time


class RunStarted(RunEvent):
    """The run was stored."""

    workflow_id: str | None
    workflow_name: str
    version: int | None
    mode: Mode
    trigger_node_id: str
    trigger_source: str
    node_count: int
    dust: Json | None = Field(None, description="In a dust run: which amounts are scaled.")


class NodeEvent(RunEvent):
    """An event of one node. `path` names loop items: `each[3].pay`."""

    node_id: str
    path: str
    attempt: int = Field(ge=1)


class NodeStarted(NodeEvent):
    """An attempt started."""

    node_type: str


class NodeOutcome(NodeEvent):
    """An attempt ended."""

    status: str
    result: Any = None
    result_omitted: bool = Field(False, description="The result is too large for an event; read it from the run.")
    result_bytes: int | None = None
    error: Json | None = None
    branch: str | None = None
    assumed: bool = Field(
        False, description="The result was assumed, or computed from an assumed one, rather than executed or pinned."
    )
    wake_at: Time | None = None


class TransactionStep(RunEvent):
    """A step of a transaction or signature. `status`: `planned`, `simulated`, `asked` (waits for a person's approval),
    `voted` (one of several who must approve it did), `refused` (nothing is signed), `held` and `released` (after a
    restore), `signed`, `sent`, `delayed` (an endpoint rejects it, or its bid cannot be raised), `replaced`,
    `cancelling`, `mined`, `reorged`, `confirmed`, `reverted`, `cancelled`, `displaced` (another transaction used its
    nonce)."""

    node_id: str
    path: str
    status: str
    item: str = Field(description="Which of the node's intents.")
    about: str
    chain_id: int | None
    transaction_id: str | None = None
    signature_id: str | None = Field(None, description="Id of a signature; the signature itself is never in an event.")
    from_: str | None = Field(None, alias="from")
    to: str | None = None
    value: str | None = Field(None, description="Base units of the native coin.")
    nonce: int | None = None
    hash: str | None = None
    generation: int | None = None
    gas_limit: int | None = None
    gas_price: str | None = None
    max_fee_per_gas: str | None = None
    max_priority_fee_per_gas: str | None = None
    replaces: str | None = Field(None, description="Hash of the previous attempt.")
    block_number: int | None = None
    block_hash: str | None = None
    is_success: bool | None = None
    gas_used: int | None = None
    fee: str | None = Field(None, description="Base units of the native coin.")
    confirmations: int | None = None
    confirmations_needed: int | None = None
    approval_id: str | None = None
    by: str | None = Field(None, description="Of `voted`: the key that approved.")
    votes: int | None = Field(None, description="Of `voted`: how many have approved, of `quorum`.")
    quorum: int | None = None
    message: str | None = None
    reason: str | None = None
    was_final: bool | None = Field(
        None, description="Of `reorged`: its receipt had been final; a reorg deeper than its confirmations removed it."
    )
    error: Json | None = None


class NodeSaid(RunEvent):
    """A node reports progress or logs a line."""

    node_id: str
    path: str
    message: str
    level: str | None = None
    percent: int | None = None
    data: Any = None


class RunWaiting(RunEvent):
    """Nothing is executing; the run continues at `until` or when it gets an answer."""

    until: Time | None
    nodes: list[str]


class RunResumed(RunEvent):
    """The run continues."""


class RunResponded(NodeEvent):
    """A `respond` node answered the request that started the run."""

    status: int = Field(description="Status code of the answer; the node's result has the rest.")


class RunFinished(RunEvent):
    """The run has ended. This is its last event."""

    status: RunStatus
    mode: Mode
    passed: bool | None = Field(None, description="Of a rehearsal: whether it satisfies `requireRehearsal`.")
    error: Json | None = None


class ActivityNotice(BaseModel):
    """News of the moment in streams over many runs: without `id:`, and not again after a reconnect."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, defer_build=True)

    type: str
    at: Time
    workflow_id: str | None


class TriggerSkipped(ActivityNotice):
    """An event of a trigger started no run. The event log keeps it: `GET /v1/trigger-events/{eventId}`."""

    event_id: str
    trigger_node_id: str
    trigger_type: str
    reason: str | None = Field(description="A word, like `cooldown`.")
    message: str | None = Field(description="The reason as a sentence.")


class TransactionReorged(ActivityNotice):
    """A reorg removed the block of a final transaction whose run has ended."""

    run_id: str
    node_id: str
    path: str
    status: str
    item: str
    about: str
    chain_id: int
    transaction_id: str
    from_: str = Field(alias="from")
    to: str | None
    value: str
    nonce: int | None = None
    hash: str | None = None
    block_number: int
    block_hash: str
    was_final: bool


class LaunchProposed(ActivityNotice):
    """An assistant asks a person to start what a simulation has shown. `GET /v1/approvals/{approvalId}` has it all."""

    approval_id: str
    message: str
    run_id: str = Field(description="The simulation.")
    mode: Mode = Field(description="How it would run.")
    until: Time


class WorkflowChanged(ActivityNotice):
    """Somebody made, changed, published, paused or archived a workflow; `GET /v1/workflows/{workflowId}` shows it. A
    pause by the server itself is told to hooks (`workflow.paused`)."""


_MODELS: dict[str, type[BaseModel]] = {
    stream_events.RUN_STARTED: RunStarted,
    stream_events.NODE_STARTED: NodeStarted,
    stream_events.NODE_PROGRESS: NodeSaid,
    stream_events.NODE_WAITING: NodeOutcome,
    stream_events.NODE_SUCCEEDED: NodeOutcome,
    stream_events.NODE_FAILED: NodeOutcome,
    stream_events.NODE_RETRYING: NodeOutcome,
    stream_events.NODE_SKIPPED: NodeOutcome,
    stream_events.NODE_CANCELLED: NodeOutcome,
    stream_events.NODE_UNCERTAIN: NodeOutcome,
    stream_events.TRANSACTION: TransactionStep,
    stream_events.LOG: NodeSaid,
    stream_events.RUN_WAITING: RunWaiting,
    stream_events.RUN_RESUMED: RunResumed,
    stream_events.RUN_RESPONDED: RunResponded,
    stream_events.RUN_FINISHED: RunFinished,
    stream_events.TRIGGER_SKIPPED: TriggerSkipped,
    stream_events.TRANSACTION_REORGED: TransactionReorged,
    stream_events.LAUNCH_PROPOSED: LaunchProposed,
    stream_events.WORKFLOW_CHANGED: WorkflowChanged,
}
NAMES = {kind: "Event" + "".join(part.title() for part in kind.split("_")) for kind in _MODELS}


def schemas() -> dict[str, Json]:
    """One JSON Schema per event type, by its component name."""
    found = {}
    for kind, model in _MODELS.items():
        schema = model.model_json_schema(by_alias=True)
        definitions = schema.pop("$defs", {})
        schema = _inlined(schema, definitions)
        schema["properties"]["type"] = {"const": kind, "type": "string"}
        found[NAMES[kind]] = schema
    return found


def _inlined(value: Any, definitions: Json) -> Any:
    """The schema with its references replaced: an event's schema stands alone."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            return _inlined(definitions[reference.rsplit("/", 1)[1]], definitions)
        return {key: _inlined(item, definitions) for key, item in value.items()}
    if isinstance(value, list):
        return [_inlined(item, definitions) for item in value]
    return value
