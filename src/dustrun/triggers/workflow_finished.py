"""Starts a run when a run of another workflow ends.

Use it to act on the outcome of other workflows, for example to report failures. Live runs count, however they were
started. Dust tests count only if `modes` names them, because the run that they start is in this trigger's own mode,
with full amounts. At most ten workflows can start each other in a row, and a loop of them cannot be published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.sdk import Fields, TriggerConfig
from dustrun.sdk.trigger import internal

Status = Literal["success", "partial", "failure", "cancelled"]
WorkflowId = Annotated[str, StringConstraints(pattern=r"^wf_[0-9a-z]{26}$|^unbound:")]


class Config(TriggerConfig):
    """Whose ends start a run."""

    workflow_ids: tuple[WorkflowId, ...] = Field(
        min_length=1,
        max_length=50,
        description="The workflows whose ended runs start a run.",
        json_schema_extra={"x-widget": "workflow"},
    )
    statuses: tuple[Status, ...] = Field(
        ("success", "partial", "failure", "cancelled"), min_length=1, description="How the runs ended."
    )
    modes: tuple[Literal["live", "dust"], ...] = Field(
        ("live",), min_length=1, description="The modes of the runs that count. Simulations never count."
    )


class Output(Fields):
    """The run that ended."""

    run_id: str = Field(description="Its id.")
    workflow_id: str = Field(description="Its workflow.")
    workflow_name: str = Field(description="The workflow's name when it began.")
    workflow_version: int = Field(description="The version that ran.")
    status: Status = Field(description="How it ended.")
    mode: Literal["live", "dust"] = Field(description="The mode it ran in.")
    started_at: str = Field(description="When it began, RFC 3339.")
    finished_at: str = Field(description="When it ended, RFC 3339.")
    depth: int = Field(description="How many runs led to this one through triggers of this type, itself included.")
    through: list[str] = Field(description="The workflows of these runs, oldest first, without this one.")
    body: dict[str, Any] = Field(description="All of these.")
    headers: dict[str, str] = Field(description="Always empty.")
    query: dict[str, str] = Field(description="Always empty.")
    source: str = Field(description="Always `workflow-finished`.")
    triggered_at: str = Field(description="When this run was started, RFC 3339.")


_ENDED: dict[str, Any] = {
    "runId": "run_01m8brt9hae4de3w6f0w3c1rmr",
    "workflowId": "wf_01m8brt9hae4de3w6f0w3c1rmr",
    "workflowName": "Pay invoices",
    "workflowVersion": 3,
    "status": "failure",
    "mode": "live",
    "startedAt": "2026-01-31T12:00:00.000Z",
    "finishedAt": "2026-01-31T12:00:04.500Z",
    "depth": 1,
    "through": ["wf_01m8brt9hae4de3w6f0w3c1rmr"],
}


@internal(
    config=Config,
    output=Output,
    example_config={"workflowIds": ["wf_01m8brt9hae4de3w6f0w3c1rmr"], "statuses": ["failure", "partial"]},
    example_output={
        **_ENDED,
        "body": _ENDED,
        "headers": {},
        "query": {},
        "source": "workflow-finished",
        "triggeredAt": "2026-01-31T12:00:04.512Z",
    },
)
def match(config: Config, seen: Mapping[str, Any]) -> dict[str, Any] | None:
    """The payload for an ended run, or None if another one is meant."""
    if seen["workflowId"] not in config.workflow_ids or seen["status"] not in config.statuses:
        return None
    if seen["mode"] not in config.modes:
        return None
    return dict(seen)
