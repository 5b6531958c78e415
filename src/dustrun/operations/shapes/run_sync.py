"""Request and response models of runs whose caller waits."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, model_validator

from dustrun.core.run.state import Mode, RunStatus
from dustrun.core.values.exact_json import loads
from dustrun.core.values.fields import Fields
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.shapes.effects import EffectsAnswer
from dustrun.operations.shapes.findings import Ignoring
from dustrun.operations.shapes.runs import Json, RunBody, Strict
from dustrun.services.actions import ActionCall
from dustrun.services.runs.runs import Conclusion

MOST_MS: Final = 60_000


class SyncBody(RunBody):
    """Options of a run call whose caller waits."""

    wait_ms: int | None = Field(
        None, ge=0, le=MOST_MS, strict=True, description="How long to wait, in milliseconds. Default: 60000."
    )

    @property
    def wait_s(self) -> float:
        """How long to wait, in seconds."""
        return (MOST_MS if self.wait_ms is None else self.wait_ms) / 1000


class ActionConnector(Fields):
    """A connector or wallet, as nodes of a definition name it."""

    type: str = Field(max_length=128, description="Type of the connector, or `wallet`.", examples=["wallet"])
    id: str = Field(min_length=1, max_length=128, description="Its id.")


class TestAction(Fields):
    """An action's inputs, to simulate it."""

    inputs: Json = Field(description="The node's `payload`; its schema is that of `GET /v1/actions/{type}`.")
    connector_id: str | None = Field(
        None,
        max_length=128,
        description="Id of its connector, or of the wallet that it spends from. Default: the default wallet.",
    )
    connector: ActionConnector | None = Field(None, description="The same, as a node names it: `{type, id}`.")
    wait_ms: int | None = Field(
        None, ge=0, le=MOST_MS, strict=True, description="How long to wait, in milliseconds. Default: 60000."
    )

    @model_validator(mode="after")
    def _names_one_connector(self) -> TestAction:
        if self.connector is not None and self.connector_id not in (None, self.connector.id):
            raise ValueError("connectorId and connector name two different ones; leave one of them out")
        return self

    @property
    def wait_s(self) -> float:
        """How long to wait, in seconds."""
        return (MOST_MS if self.wait_ms is None else self.wait_ms) / 1000

    def call(self, kind: str, *, simulate: bool, dust_test: bool = False) -> ActionCall:
        """The call of the service."""
        named = self.connector
        return ActionCall(
            type=kind,
            inputs=self.inputs,
            connector_id=self.connector_id if named is None else named.id,
            connector_type=None if named is None else named.type,
            simulate=simulate,
            dust_test=dust_test,
        )


class RunAction(TestAction):
    """An action's inputs, and how to run it."""

    simulate: Strict | None = Field(False, description="Dry run: only reads leave the machine.")
    dust_test: Strict | None = Field(False, description="Real run with amounts scaled to about 0.01 USD.")


class ActionCallAnswer(Ignoring):
    """The result of an action that ran outside a workflow."""

    run_id: str = Field(description="The run that is its record.")
    type: str | None = Field(None, description="Type of the action. Absent from the answer to a repeated request.")
    mode: Mode | None = Field(None, description="Absent from the answer to a repeated request.")
    status: RunStatus = Field(description="`running` or `waiting`: it continues.")
    passed: bool | None = Field(None, description="Of a simulation that ended: whether nothing important was assumed.")
    duration_ms: int | None = Field(None, description="Null while it continues.")
    result: Any = Field(None, description="The action's result. Needs `run:read`.")
    error: Json | None = Field(None, description="Why it failed. Needs `run:read`.")
    effects: EffectsAnswer | None = Field(
        None,
        description="Of a simulation that ended: what would have left the server, as `GET /v1/runs/{id}/effects` "
        "shows it. Needs `run:read`.",
    )


class RespondedAnswer(Answer):
    """The answer of a `respond` node."""

    status: int
    headers: dict[str, str]
    content_type: str
    body: Any


class ConclusionAnswer(Ignoring):
    """How far a run came while its caller waited."""

    run_id: str
    status: RunStatus = Field(description="`running` or `waiting`: it continues.")
    duration_ms: int | None = Field(None, description="Null while it continues.")
    response: RespondedAnswer | None = Field(None, description="What a `respond` node answered; null if none did.")
    result: Any = Field(
        None,
        description="Of a run that ended without `respond`: the result of its last node, if it has one last node. "
        "Needs `run:read`.",
    )
    results: Json | None = Field(None, description="The results of all its last nodes, by id. Needs `run:read`.")
    error: Json | None = Field(None, description="Why it failed. Needs `run:read`.")


def conclusion_shape(found: Conclusion, *, is_reader: bool) -> Json:
    """How far a run came, to a key that started it; results and errors only to one that may read runs."""
    row = found.row
    shaped: Json = {
        "runId": row.id,
        "status": row.status,
        "durationMs": None if row.finished_at is None else max(0, row.finished_at - row.started_at),
        "response": None if found.answer is None else response_shape(found.answer),
    }
    if is_reader:
        shaped |= {"result": found.result, "results": dict(found.results)}
        shaped["error"] = loads(row.error) if row.error else None
    return shaped


def action_shape(kind: str, found: Conclusion, effects: Json | None, *, is_reader: bool) -> Json:
    """The result of an action, for the key that ran it."""
    concluded = conclusion_shape(found, is_reader=is_reader)
    row = found.row
    passed = None if row.passed is None else bool(row.passed)
    shaped = {"type": kind, "mode": row.mode, "passed": passed, "effects": effects}
    return shaped | {name: value for name, value in concluded.items() if name not in ("response", "results")}


def response_shape(answer: Any) -> Json:
    """The answer of a `respond` node."""
    return {name: answer[name] for name in ("status", "headers", "contentType", "body")}
