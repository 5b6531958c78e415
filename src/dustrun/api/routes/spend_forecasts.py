"""`/v1/workflows/{id}/dust-plan` and `/analyze-funds`: forecasts of a run's spends, without running it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes import spend_forecasts as shapes
from dustrun.api.shapes.wire import MAX_INTEGER
from dustrun.core.workflow.forecast import Given
from dustrun.errors import Code
from dustrun.services.preview.dust_plans import DustPlan, without_addresses
from dustrun.services.preview.fund_needs import FundNeeds
from dustrun.services.workflows.versions import document_of

routes = Routes("Workflows")
router = routes.router

WorkflowId = Annotated[str, Path(alias="id", description="Id of the workflow.", max_length=128)]
Version = Annotated[
    int | None, Query(ge=1, le=MAX_INTEGER, description="Default: the draft, or the live version if there is no draft.")
]
_UNKNOWN = [Code.WORKFLOW_UNKNOWN, Code.VERSION_UNKNOWN, Code.DEFINITION_INVALID]


@routes.post(
    "/v1/workflows/{id}/dust-plan",
    permission="workflow:read",
    answers=shapes.DustPlanAnswer,
    shape=shapes.dust_plan,
    refusals=_UNKNOWN,
)
async def plan_dust(call: Call, id: WorkflowId, body: shapes.DustPlanBody) -> DustPlan:
    """Plan a dust test without running anything.

    For every amount known before the run: the dust amount and the price used. Also lists refusals with reasons, amounts
    known only during the run, writes that are not scaled, and conditions that read a scaled value.
    """
    given = Given(body.payload, body.prop_values)
    plan = await call.parts.money.dust_plans.plan(call.principal, id, body.version, given)
    return plan if call.principal.may("wallet:read") else without_addresses(plan)


@routes.get(
    "/v1/workflows/{id}/analyze-funds",
    permission="workflow:read",
    answers=shapes.FundsAnswer,
    shape=shapes.fund_needs,
    refusals=_UNKNOWN,
)
async def analyze_workflow_funds(call: Call, id: WorkflowId, version: Version = None) -> FundNeeds:
    """Compare the wallets' balances with what one run needs.

    Per node, chain and token, with a gas estimate. Needs that are not known before the run are listed with the reason.
    A key without `wallet:read` is told of each need whether the wallet has enough, and no balance.
    """
    return await call.parts.money.fund_needs.of_workflow(call.principal, id, version)


@routes.post(
    "/v1/workflows/analyze-funds",
    permission="workflow:read",
    answers=shapes.FundsAnswer,
    shape=shapes.fund_needs,
    refusals=[Code.DEFINITION_INVALID],
)
async def analyze_definition_funds(call: Call, body: shapes.AnalyzeFundsBody) -> FundNeeds:
    """Compare the wallets' balances with what one run of an unsaved definition needs.

    A key without `wallet:read` is told the needs alone: it chooses the amounts here, so that each answer would narrow a
    balance down.
    """
    document = document_of(body.definition)
    return await call.parts.money.fund_needs.of_definition(call.principal, document, body.default_wallet_address)
