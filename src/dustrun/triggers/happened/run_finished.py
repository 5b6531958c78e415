"""Starts a run when a run of any workflow ends.

Use it for one error handler for all workflows: without `workflowIds`, every workflow counts that the publishing key may
use, also those that are made later. Live runs count, however they were started. A workflow never hears of
its own runs, nor of those that it led to, so two error handlers cannot start each other for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from dustrun.sdk import TriggerConfig
from dustrun.sdk.trigger import internal
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.workflow_finished import Status, WorkflowId


class Config(TriggerConfig):
    """Which ends start a run."""

    statuses: tuple[Status, ...] = Field(("failure", "partial"), min_length=1, description="How the runs ended.")
    modes: tuple[Literal["live", "dust"], ...] = Field(
        ("live",), min_length=1, description="The modes of the runs that count. Simulations never count."
    )
    workflow_ids: tuple[WorkflowId, ...] | None = Field(
        None,
        min_length=1,
        max_length=50,
        description="Only runs of these workflows; null: of all.",
        json_schema_extra={"x-widget": "workflow"},
    )
    except_workflow_ids: tuple[WorkflowId, ...] = Field(
        (), max_length=50, description="No runs of these workflows.", json_schema_extra={"x-widget": "workflow"}
    )


class Output(EventOutput):
    """The run that ended."""

    run_id: str = Field(description="Its id.")
    workflow_id: str = Field(description="Its workflow.")
    workflow_name: str = Field(description="The workflow's name when it began.")
    workflow_version: int = Field(description="The version that ran.")
    status: Status = Field(description="How it ended.")
    mode: Literal["live", "dust"] = Field(description="The mode it ran in.")
    error: dict[str, Any] | None = Field(description="Why it failed: `code` and `message`; null if it did not.")
    started_at: str = Field(description="When it began, RFC 3339.")
    finished_at: str = Field(description="When it ended, RFC 3339.")
    depth: int = Field(description="How many runs in a row led to this one by such events, itself included.")
    through: list[str] = Field(description="The workflows of these runs, oldest first, without this one.")


_EXAMPLE: dict[str, Any] = {
    "runId": "run_01m8brt9hae4de3w6f0w3c1rmr",
    "workflowId": "wf_01m8brt9hae4de3w6f0w3c1rmr",
    "workflowName": "Pay invoices",
    "workflowVersion": 3,
    "status": "failure",
    "mode": "live",
    "error": {"code": "FUNDS_INSUFFICIENT", "message": "The wallet has 0.1 ETH; 0.5 ETH are needed."},
    "startedAt": "2026-01-31T12:00:00.000Z",
    "finishedAt": "2026-01-31T12:00:04.500Z",
    "depth": 1,
    "through": ["wf_01m8brt9hae4de3w6f0w3c1rmr"],
}


@internal(
    config=Config,
    output=Output,
    example_config={"statuses": ["failure", "partial"]},
    example_output=example_output(_EXAMPLE, "run-finished"),
)
def match(config: Config, seen: Mapping[str, Any]) -> dict[str, Any] | None:
    """The payload for an ended run, or None if another one is meant."""
    of = seen["workflowId"]
    if of in config.except_workflow_ids or (config.workflow_ids is not None and of not in config.workflow_ids):
        return None
    if seen["status"] not in config.statuses or seen["mode"] not in config.modes:
        return None
    return dict(seen)
