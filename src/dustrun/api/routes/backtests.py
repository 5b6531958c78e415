"""`/v1/backtests`: workflows on the events of the past."""

from __future__ import annotations

from dustrun import clock
from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.triggers import backtests as shapes
from dustrun.api.shapes.wire import PageAnswer, Paged, page_shape
from dustrun.errors import Code
from dustrun.services.access.paging import Page
from dustrun.storage.triggers.backtests import BacktestRow

routes = Routes("Triggers")
router = routes.router


@routes.post(
    "/v1/workflows/{id}/backtest",
    permission="workflow:execute",
    reads="run:read",
    needed=["eventsFound", "hasMoreEvents"],
    answers=shapes.BacktestAnswer,
    shape=shapes.whole,
    refusals=[
        Code.WORKFLOW_UNKNOWN,
        Code.VERSION_UNKNOWN,
        Code.TRIGGER_NODE_UNKNOWN,
        Code.DEFINITION_INVALID,
        Code.STATE_CONFLICT,
    ],
)
async def start_backtest(call: Call, id: str, body: shapes.StartBacktest) -> BacktestRow:
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


@routes.get(
    "/v1/workflows/{id}/backtests",
    permission="workflow:read",
    answers=PageAnswer[shapes.BacktestAnswer],
    shape=page_shape(shapes.listed),
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_backtests(call: Call, id: str, paging: Paged) -> Page[BacktestRow]:
    """List a workflow's back-tests, newest first, without their reports."""
    return await call.parts.triggers.backtests.list_page(call.principal, id, paging)


@routes.get(
    "/v1/backtests/{id}",
    permission="run:read",
    answers=shapes.BacktestAnswer,
    shape=shapes.whole,
    refusals=[Code.BACKTEST_UNKNOWN],
)
async def get_backtest(call: Call, id: str) -> BacktestRow:
    """Get a back-test with its report."""
    return await call.parts.triggers.backtests.get(call.principal, id)
