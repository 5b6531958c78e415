"""The results of control nodes."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.core.values.fields import Fields


class BranchResult(Fields):
    """What `if` and `switch` decided."""

    branch: str = Field(description="The branch that was taken.")


class Iteration(Fields):
    """One item of a loop."""

    index: int = Field(description="Its place in the list, from 0.")
    status: str = Field(description="`success`, `partial`, `failure` or `skipped`.")
    results: dict[str, Any] | None = Field(None, description="The results of its nodes, by their ids.")
    error: dict[str, Any] | None = Field(None, description="Why it failed.")
    results_omitted: bool | None = Field(None, description="True where its results are left out of a long list.")


class ItemCounts(Fields):
    """How many items ended in which status."""

    success: int = Field(description="Items that succeeded.")
    partial: int = Field(description="Items that succeeded in part.")
    failure: int = Field(description="Items that failed.")
    skipped: int = Field(description="Items in which no node was executed.")


class ForEachResult(Fields):
    """What became of the items of a loop."""

    iterations: list[Iteration] = Field(description="The items, in their order.")
    iteration_count: int = Field(description="How many items there were.")
    counts: ItemCounts = Field(description="Number of items by status.")
    results_omitted: int | None = Field(None, description="Number of items without their results.")
    iterations_omitted: int | None = Field(None, description="How many items are left out altogether.")


class DelayResult(Fields):
    """How long it waited."""

    until: str = Field(description="Until when, RFC 3339.")
    delayed_ms: int = Field(description="How many milliseconds that was.")


class StopResult(Fields):
    """How the run ended."""

    status: str = Field(description="`success` or `failure`.")
    message: str = Field(description="The reason.")


class RespondResult(Fields):
    """The answer to the request."""

    status: int = Field(description="The HTTP status.")
    headers: dict[str, Any] = Field(description="The headers.")
    content_type: str | None = Field(description="The media type of the body.")
    body: Any = Field(description="The body.")
    is_effective: bool = Field(description="Whether it was the run's first answer, which counts.")


class WaitResult(Fields):
    """What resumed the run."""

    status: str = Field(description="`resumed` or `timed_out`; `waiting` where a simulation ends.")
    branch: str | None = Field(description="The branch that was taken.")
    trigger_result: Any = Field(description="What the resume brought.")
    source: str | None = Field(description="Who resumed it: `link`, `api`; `pinned` or `example` in a simulation.")
    timeout_ms: int = Field(description="The timeout in milliseconds.")


class ApproveResult(Fields):
    """What was decided."""

    decision: str = Field(description="`approved`, `rejected` or `timed_out`.")
    branch: str = Field(description="The branch that was taken.")
    message: str = Field(description="The question.")
    by: str | None = Field(description="Id of the API key that decided.")
    comment: str | None = Field(description="What was said with it.")
    decided_at: str = Field(description="When, RFC 3339.")


class CallWorkflowResult(Fields):
    """What became of the called run."""

    run_id: str = Field(description="Id of the called run.")
    workflow_id: str = Field(description="Its workflow.")
    status: str = Field(description="Status of the called run; `started` if the node does not wait for it.")
    result: Any = Field(description="The result of its last node, if it has only one.")
    results: dict[str, Any] = Field(description="The results of its last nodes, by their ids.")


class VariableChange(Fields):
    """The value before and after."""

    name: str = Field(description="The variable's name.")
    value: Any = Field(description="The new value.")
    previous: Any = Field(description="The value before.")


class VariableValue(Fields):
    """The value of a variable."""

    name: str = Field(description="The variable's name.")
    value: Any = Field(description="The value, or the default.")
    exists: bool = Field(description="Whether the variable was ever set.")
