"""`/v1/workflows/{id}/dust-plan` and `/analyze-funds`: what a run would do and need, before there is one."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes import spend_forecasts as shapes
from dustrun.api.shapes.wire import MAX_INTEGER
from dustrun.core.workflow.forecast import Given
from dustrun.errors import Code
from dustrun.services.preview.dust_plans import DustPlan
from dustrun.services.preview.fund_needs import FundNeeds
from dustrun.services.workflows.versions import document_of

routes = Routes("Workflows")
router = routes.router

WorkflowId = Annotated[str, Path(alias="id", description="Id of the workflow.", max_length=128)]
Version = Annotated[int | None, Query(ge=1, le=MAX_INTEGER, description="By default the draft, else the live one.")]
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

    For every amount that is known before the run: what a dust test would use instead, by which price. Listed beside:
    what would be refused and why, what only the run will tell, every write that goes out unscaled, and every condition
    that looks at a scaled value.
    """
    given = Given(body.payload, body.prop_values)
    return await call.parts.money.dust_plans.plan(call.principal, id, body.version, given)


@routes.get(
    "/v1/workflows/{id}/analyze-funds",
    permission="workflow:read",
    answers=shapes.FundsAnswer,
    shape=shapes.fund_needs,
    refusals=_UNKNOWN,
)
async def analyze_workflow_funds(call: Call, id: WorkflowId, version: Version = None) -> FundNeeds:
    """Tell what the wallets need for one run, against what they have.

    Per node, chain and token, and for gas by what is usual. What is not known before the run is listed with the reason.
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
    """Tell what the wallets would need for one run of a definition that is not stored."""
    document = document_of(body.definition)
    return await call.parts.money.fund_needs.of_definition(call.principal, document, body.default_wallet_address)
