"""The events of a run's stream: one model, and so one published JSON Schema, per type."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from dustrun.api.shapes.wire import Time
from dustrun.core.state import Mode, RunStatus

Json = dict[str, Any]


class RunEvent(BaseModel):
    """What every event has. `seq` counts from 1 without gaps and is also the `id:` of the frame."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

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


def model_of(kind: str) -> type[RunEvent]:
    """The model of an event type."""
    return _MODELS[kind]
