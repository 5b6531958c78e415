"""`/v1/metrics`: runs over time, and what they fail with. `/metrics`, for Prometheus, is in `api/routes`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.core.run.state import Mode
from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.answers import Answer, From, Time, time
from dustrun.operations.declaration.fields import Instant, moment_ms
from dustrun.operations.declaration.operation import Group, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.runs import Modes, OfWorkflow
from dustrun.services.runs import run_metrics
from dustrun.services.runs.run_metrics import MOST_FAILED, RunErrors, Slot
from dustrun.storage.runs.run_lists import RunFilters
from dustrun.storage.runs.run_metrics import Slots

noun = Noun("Runs")

_WIDTHS = {"hourly": 3_600_000, "daily": 86_400_000}
_MOST_POINTS = 366
_MOST_WORKFLOWS = 50


class MetricsQuery(Group):
    """Which runs, and of what time."""

    since: Instant = Field(description="Runs that started at or after this instant.")
    until: Instant = Field(description="Runs that started before this instant.")
    modes: Modes = Field(None, alias="mode", description="Modes; default: `live`.")
    workflow_id: OfWorkflow = Field(None, alias="workflowId")

    def filters(self) -> RunFilters:
        """The same for the store; raises `Invalid` for a time that ends before it begins."""
        since, until = moment_ms(self.since), moment_ms(self.until)
        if until <= since:
            raise _refused("until", "must be after `since`")
        modes = tuple(mode.value for mode in self.modes or (Mode.LIVE,))
        return RunFilters(workflow_id=self.workflow_id, modes=modes, since=since, until=until)


class RunsPoint(Answer):
    """The runs that started in an hour or a day, and have ended."""

    bucket_start: Time
    success: int
    partial: int
    failure: int
    cancelled: int
    total: int


class RunsSeries(Answer):
    """Runs over time."""

    granularity: str
    data: list[RunsPoint]


def _refused(name: str, message: str) -> Invalid:
    return Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=[Problem(name, message)])


def _points(found: tuple[str, list[Slot]]) -> dict[str, Any]:
    statuses = ("success", "partial", "failure", "cancelled")
    points = [
        {
            "bucketStart": time(slot.begin),
            **{status: slot.counts.get(status, 0) for status in statuses},
            "total": sum(slot.counts.values()),
        }
        for slot in found[1]
    ]
    return {"granularity": found[0], "data": points}


@noun.get(
    "/v1/metrics/runs-timeseries",
    permission="run:read",
    answers=RunsSeries,
    shape=_points,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def get_runs_timeseries(
    call: Call, query: MetricsQuery, granularity: Literal["hourly", "daily"] = "daily"
) -> tuple[str, list[Slot]]:
    """Count ended runs by the hour or day in which they started; at most 366 of them.

    They begin at the last full hour or midnight, in UTC, before `since`. A run that started within a minute of the end
    of one may be counted in the one beside it.
    """
    filters, width = query.filters(), _WIDTHS[granularity]
    assert filters.since is not None
    assert filters.until is not None
    begin = filters.since - filters.since % width
    count = -((begin - filters.until) // width)
    if count > _MOST_POINTS:
        raise _refused("until", f"is {count} points after `since`; take at most {_MOST_POINTS}, or days for hours")
    filters = await call.parts.runs.reachable(call.principal, filters)
    if len(filters.workflow_ids or ()) > _MOST_WORKFLOWS:
        raise _refused("workflowId", f"is needed: the key reaches more than {_MOST_WORKFLOWS} workflows, but not all")
    slots = Slots(begin, width, count)
    return granularity, await run_metrics.series(call.parts.database, call.principal, filters, slots)


class RunErrorAnswer(Answer):
    """An error that runs failed with."""

    error: str = Field(description="Its message.")
    code: str | None
    count: int
    last_occurred: Annotated[Time, From("last_at")]
    run_id: str = Field(description="The newest run that failed with it.")
    workflow_id: str | None = Field(description="That run's workflow; null if it was inline.")


class RunErrorsAnswer(Answer):
    """The most frequent errors."""

    items: list[RunErrorAnswer]
    failed_runs: Annotated[int, From("failed")] = Field(description="The runs whose errors were compared.")
    is_partial: bool = Field(description=f"Whether more failed: only the newest {MOST_FAILED} are compared.")


@noun.get("/v1/metrics/top-errors", permission="run:read", answers=RunErrorsAnswer, refusals=[Code.WORKFLOW_UNKNOWN])
async def list_top_errors(
    call: Call,
    query: MetricsQuery,
    limit: Annotated[int, Field(ge=1, le=100, description="Most errors.")] = 20,
) -> RunErrors:
    """List the errors that the newest failed runs failed with, the most frequent first."""
    filters = await call.parts.runs.reachable(call.principal, query.filters())
    return await run_metrics.top_errors(call.parts.database, call.principal, filters, limit)
