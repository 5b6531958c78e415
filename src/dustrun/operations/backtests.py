"""`/v1/backtests`: workflows on the events of the past."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from dustrun import clock
from dustrun.core.run.state import RunStatus
from dustrun.core.values.exact_json import loads_own
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, PageAnswer, Time, page_shape, time
from dustrun.operations.declaration.fields import Instant, Paged, Version, moment_ms
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page
from dustrun.services.triggers.backtest.backtests import BacktestRequest
from dustrun.services.triggers.backtest.past_events import MOST_EVENTS, Period
from dustrun.storage.triggers.backtests import BacktestRow

noun = Noun("Triggers")

Json = dict[str, Any]


class StartBacktest(Fields):
    """The past to test: moments, or blocks of the trigger's chain."""

    from_: Instant | None = Field(None, alias="from", description="The first moment.")
    to: Instant | None = Field(None, description="The last moment; default: now.")
    from_block: int | None = Field(None, ge=0, description="The first block, for a trigger of a chain.")
    to_block: int | None = Field(None, ge=0, description="The last block; default: the newest.")
    version: Version | None = Field(None, description="Default: the live version, else the draft.")
    trigger_node_id: str | None = Field(
        None, max_length=255, description="Which trigger; needed if several fire by themselves."
    )
    limit: int = Field(50, ge=1, le=MOST_EVENTS, description="The most events to simulate, from the oldest on.")
    prop_values: dict[str, Any] | None = Field(None, description="Values of `{{$props.key}}`.")
    wait_ms: int = Field(30_000, ge=0, le=60_000, description="How long the call waits for the end.")

    @model_validator(mode="after")
    def _has_a_period(self) -> StartBacktest:
        if (self.from_ is None) == (self.from_block is None):
            raise ValueError("say either `from` or `fromBlock`")
        if (self.to is not None and self.from_ is None) or (self.to_block is not None and self.from_block is None):
            raise ValueError("`to` goes with `from`, and `toBlock` with `fromBlock`")
        if self.from_ is not None and self.to is not None and moment_ms(self.to) < moment_ms(self.from_):
            raise ValueError("`to` is before `from`")
        if self.from_block is not None and self.to_block is not None and self.to_block < self.from_block:
            raise ValueError("`toBlock` is before `fromBlock`")
        return self

    def request(self, now: int) -> BacktestRequest:
        """The request of the service."""
        is_timed = self.from_ is not None
        period = Period(
            from_ms=moment_ms(self.from_) if self.from_ is not None else None,
            to_ms=(moment_ms(self.to) if self.to is not None else now) if is_timed else None,
            from_block=self.from_block,
            to_block=self.to_block,
        )
        return BacktestRequest(
            period=period,
            version=self.version,
            trigger_node_id=self.trigger_node_id,
            count=self.limit,
            prop_values=self.prop_values,
        )


class BacktestPeriod(Answer):
    """The period that was asked for."""

    from_: Time | None = Field(alias="from")
    to: Time | None
    from_block: int | None
    to_block: int | None


class BacktestError(Answer):
    """Why a run failed."""

    code: str
    message: str
    path: str | None


class BacktestEvent(Answer):
    """An event of the past, and the run that was simulated for it."""

    key: str
    occurred_at: Time
    blocks: dict[str, int] = Field(description="The block whose state its run started from, by chain id.")
    skipped: str | None = Field(description="Why it would have started no run: a limit of the workflow, or `payload`.")
    run_id: str | None
    status: RunStatus | None
    error: BacktestError | None


class BacktestAmount(Answer):
    """A sum of one asset at one address."""

    address: str
    asset: str
    symbol: str | None
    amount: str = Field(description="Base units; negative: it went out.")
    amount_formatted: str | None
    usd: str | None


class BacktestTotals(Answer):
    """The effects of all simulated runs together."""

    runs: int
    by_status: dict[str, int]
    transactions: int
    signatures: int
    requests: int
    variable_writes: int
    table_writes: int
    verdicts: dict[str, int] = Field(description="How often the policy said allow, ask and deny.")
    warnings: dict[str, int]
    balance_changes: list[BacktestAmount]
    total_fees: list[BacktestAmount]
    total_fees_usd: str | None


class BacktestRefusal(Answer):
    """Runs that failed for one reason."""

    code: str
    message: str = Field(description="The message of the first.")
    count: int
    run_ids: list[str] = Field(description="The first five.")


class BacktestStateMissing(Answer):
    """Runs that could not be simulated since no endpoint has the state."""

    count: int
    message: str | None


class BacktestReportAnswer(Answer):
    """The findings of a back-test."""

    events: list[BacktestEvent]
    totals: BacktestTotals
    skipped: dict[str, int] = Field(description="Events that would have started no run, by reason.")
    refused: list[BacktestRefusal]
    state_missing: BacktestStateMissing


class BacktestAnswer(Answer):
    """A back-test."""

    id: str
    workflow_id: str
    version: int
    trigger_node_id: str
    trigger_type: str
    status: Literal["running", "done", "failed"]
    period: BacktestPeriod
    events_found: int
    has_more_events: bool = Field(description="Whether there were more events than `limit`.")
    created_at: Time
    finished_at: Time | None
    error: str | None
    report: BacktestReportAnswer | None = Field(description="Null while it is running, and in lists.")


def listed(row: BacktestRow) -> Json:
    """A back-test in a list."""
    asked = loads_own(row.asked)
    return {
        "id": row.id,
        "workflowId": row.workflow_id,
        "version": row.version,
        "triggerNodeId": row.node_id,
        "triggerType": row.type,
        "status": row.status,
        "period": {
            "from": time(asked["from"]),
            "to": time(asked["to"]),
            "fromBlock": asked["fromBlock"],
            "toBlock": asked["toBlock"],
        },
        "eventsFound": len(loads_own(row.events)),
        "hasMoreEvents": bool(row.is_cut),
        "createdAt": time(row.created_at),
        "finishedAt": time(row.finished_at),
        "error": row.error,
        "report": None,
    }


def whole(row: BacktestRow) -> Json:
    """A back-test with its report."""
    report = None if row.report is None else loads_own(row.report)
    if report is not None:
        for event in report["events"]:
            event["occurredAt"] = time(event["occurredAt"])
    return listed(row) | {"report": report}


@noun.post(
    "/v1/workflows/{id}/backtest",
    permission="workflow:execute",
    reads="run:read",
    needed=["eventsFound", "hasMoreEvents"],
    answers=BacktestAnswer,
    shape=whole,
    refusals=[
        Code.WORKFLOW_UNKNOWN,
        Code.VERSION_UNKNOWN,
        Code.TRIGGER_NODE_UNKNOWN,
        Code.DEFINITION_INVALID,
        Code.STATE_CONFLICT,
    ],
    example={"from": "2026-01-01T00:00:00Z", "to": "2026-01-31T00:00:00Z", "limit": 100},
)
async def start_backtest(call: Call, id: str, body: StartBacktest) -> BacktestRow:
    """Test a workflow on the events of the past.

    Finds the events that its trigger would have had, and simulates a run for each on the state, at the time and with
    the fees of that moment. Events of a chain are read from it again, those of a schedule are computed, those of a
    webhook or poll are in the event log. Answers with the runs, the sum of their effects and what would have been
    refused, or with `status: "running"` if that takes longer than `waitMs`. The policy and its limits are today's. A
    back-test never counts as a rehearsal, and needs an archive node for more than about 128 blocks back. The report is
    for keys with `run:read`; others see that it is done.
    """
    backtests = call.parts.triggers.backtests
    row = await backtests.begin(call.principal, id, body.request(clock.now_ms()))
    return await backtests.wait(call.principal, row, body.wait_ms / 1000)


@noun.get(
    "/v1/workflows/{id}/backtests",
    permission="workflow:read",
    answers=PageAnswer[BacktestAnswer],
    shape=page_shape(listed),
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_backtests(call: Call, id: str, paging: Paged) -> Page[BacktestRow]:
    """List a workflow's back-tests, newest first, without their reports."""
    return await call.parts.triggers.backtests.list_page(call.principal, id, paging)


@noun.get(
    "/v1/backtests/{id}",
    permission="run:read",
    answers=BacktestAnswer,
    shape=whole,
    refusals=[Code.BACKTEST_UNKNOWN],
)
async def get_backtest(call: Call, id: str) -> BacktestRow:
    """Get a back-test with its report."""
    return await call.parts.triggers.backtests.get(call.principal, id)
