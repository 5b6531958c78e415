"""The events of a run's stream: one model, and so one published JSON Schema, per type."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from dustrun.api.shapes.wire import Time
from dustrun.core.run.state import Mode, RunStatus

Json = dict[str, Any]


class RunEvent(BaseModel):
    """What every event has. `seq` counts from 1 without gaps and is also the `id:` of the frame."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, defer_build=True)

    type: str
    seq: int = Field(ge=1)
    run_id: str
    at: Time


class RunStarted(RunEvent):
    """The run is on disk."""

    workflow_id: str | None
    workflow_name: str
    version: int | None
    mode: Mode
    trigger_node_id: str
    trigger_source: str
    node_count: int
    dust: Json | None = Field(None, description="Of a dust run: which amounts are scaled.")


class NodeEvent(RunEvent):
    """Something about one node. `path` names loop items: `each[3].pay`."""

    node_id: str
    path: str
    attempt: int = Field(ge=1)


class NodeStarted(NodeEvent):
    """An attempt began."""

    node_type: str


class NodeOutcome(NodeEvent):
    """What an attempt came to."""

    status: str
    result: Any = None
    result_omitted: bool = Field(False, description="The result is too large for an event; read it from the run.")
    result_bytes: int | None = None
    error: Json | None = None
    branch: str | None = None
    assumed: bool = Field(False, description="Neither executed nor pinned, or made from something assumed.")
    wake_at: Time | None = None


class TransactionStep(RunEvent):
    """A step of a transaction or signature. `status`: `planned`, `simulated`, `asked` (a person is asked), `refused`
    (nothing is signed), `held` and `released` (after a restore), `signed`, `sent`, `delayed` (an endpoint does not take
    it, or its bid cannot be raised), `replaced`, `cancelling`, `mined`, `reorged`, `confirmed`, `reverted`,
    `cancelled`, `displaced` (its nonce went to somebody else's)."""

    node_id: str
    path: str
    status: str
    item: str = Field(description="Which of the node's intents.")
    about: str
    chain_id: int | None
    transaction_id: str | None = None
    signature_id: str | None = Field(None, description="Of a signature, which is never shown itself.")
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
    replaces: str | None = Field(None, description="Hash of the attempt before.")
    block_number: int | None = None
    block_hash: str | None = None
    is_success: bool | None = None
    gas_used: int | None = None
    fee: str | None = Field(None, description="Base units of the native coin.")
    confirmations: int | None = None
    confirmations_needed: int | None = None
    approval_id: str | None = None
    message: str | None = None
    reason: str | None = None
    error: Json | None = None


class NodeSaid(RunEvent):
    """A node tells how far it is, or logs something."""

    node_id: str
    path: str
    message: str
    level: str | None = None
    percent: int | None = None
    data: Any = None


class RunWaiting(RunEvent):
    """Nothing runs; the run goes on at `until`, or when someone answers."""

    until: Time | None
    nodes: list[str]


class RunResumed(RunEvent):
    """The run goes on."""


class RunFinished(RunEvent):
    """The run has ended; the last event."""

    status: RunStatus
    mode: Mode
    passed: bool | None = Field(None, description="Of a rehearsal: it satisfies `requireRehearsal`.")
    error: Json | None = None


_MODELS: dict[str, type[RunEvent]] = {
    "run_started": RunStarted,
    "node_started": NodeStarted,
    "node_progress": NodeSaid,
    "node_waiting": NodeOutcome,
    "node_succeeded": NodeOutcome,
    "node_failed": NodeOutcome,
    "node_retrying": NodeOutcome,
    "node_skipped": NodeOutcome,
    "node_cancelled": NodeOutcome,
    "node_uncertain": NodeOutcome,
    "transaction": TransactionStep,
    "log": NodeSaid,
    "run_waiting": RunWaiting,
    "run_resumed": RunResumed,
    "run_finished": RunFinished,
}
NAMES = {kind: "Event" + "".join(part.title() for part in kind.split("_")) for kind in _MODELS}


def schemas() -> dict[str, Json]:
    """One JSON Schema per event type, by its name in the document."""
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
