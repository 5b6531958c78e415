"""`/v1/workflows/{id}/dust-plan` and `/analyze-funds`: forecasts of a run's spends, without running it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.core.values.amounts import format_units
from dustrun.core.values.fields import Fields
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.forecast import ForecastInput
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.declaration.fields import MAX_INTEGER
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.runs import WorkflowId
from dustrun.operations.shapes.findings import Ignoring
from dustrun.operations.shapes.sources import SpendSourcesAnswer
from dustrun.operations.shapes.wallets import EXAMPLE_ADDRESS
from dustrun.operations.shapes.workflows import HELLO
from dustrun.services.preview.dust_plans import DustPlan, without_addresses
from dustrun.services.preview.fund_needs import ComparedNeed, FundNeed, FundNeeds, WalletHolding
from dustrun.services.workflows.versions import document_of

noun = Noun("Workflows")


class DustPlanBody(Fields):
    """The start of the forecast run."""

    version: int | None = Field(
        None, ge=1, le=2**31 - 1, description="Default: the draft, or the live version if there is no draft."
    )
    payload: dict[str, Any] | None = Field(
        None, description="The trigger's payload; without it, amounts that depend on it are unknown."
    )
    prop_values: dict[str, Any] = Field(default_factory=dict, description="Values for `{{$props.key}}`.")


class DustPrice(Answer):
    """The price used to scale an amount."""

    usd: str = Field(description="US dollars per whole coin.")
    source: str
    at_ms: int
    age_ms: int


class ScaledLimit(Answer):
    """A limit scaled with its amount, in base units."""

    from_: str = Field(alias="from")
    to: str


class DustEntry(Answer):
    """One amount, and what a dust test uses instead."""

    field: str = Field(description="Path of the amount in the payload.")
    direction: Literal["send", "approve"]
    asset: str = Field(description="Like `eip155:1/native`.")
    chain_id: int
    decimals: int
    recipient: str | None
    original: str = Field(description="Base units.")
    original_formatted: str
    dust: str = Field(description="Base units.")
    dust_formatted: str
    usd: str | None = Field(description="Value of the dust in US dollars; null without a price.")
    price: DustPrice | None
    limits: dict[str, ScaledLimit] = Field(description="Scaled limits (minimum out, maximum in) by field.")
    warnings: list[str]


class PlannedFee(Answer):
    """The network fee, estimated from typical transactions of this kind."""

    chain_id: int
    gas: str
    fee: str = Field(description="Base units of the native coin, at the current gas price.")
    usd: str | None


class DustSpend(Answer):
    """A node that spends; a node in a loop is listed once per item."""

    path: str = Field(description="Through calls: `monthly/pay` is `pay` of the workflow that `monthly` calls.")
    workflow_id: str | None = Field(description="The workflow of the node; null if it is not stored.")
    node_id: str
    type: str
    wallet_id: str | None
    wallet_address: str | None
    repeats: str | None = Field(description="Why the number of executions is unknown; null: exactly one.")
    entries: list[DustEntry]
    fee: PlannedFee | None


class PlanFinding(Answer):
    """A finding about a node."""

    path: str
    node_id: str
    field: str | None
    message: str
    code: str | None = Field(description="For a refusal: the name of its code, like `DUST_UNPRICED`.")


class UnscaledWrite(Answer):
    """A node with an external effect that a dust test does not scale."""

    path: str = Field(description="Through calls: `monthly/pay` is `pay` of the workflow that `monthly` calls.")
    workflow_id: str | None = Field(description="The workflow of the node; null if it is not stored.")
    node_id: str
    type: str
    reads: list[str] = Field(description="Scaled values that it reads.")


class ScaledReading(Answer):
    """A condition that reads a scaled value, so it may take another branch than live."""

    path: str = Field(description="Through calls: `monthly/pay` is `pay` of the workflow that `monthly` calls.")
    workflow_id: str | None = Field(description="The workflow of the node; null if it is not stored.")
    node_id: str
    type: str
    field: str
    reads: str


class DustPlanAnswer(Answer):
    """The plan of a dust test."""

    workflow_id: str | None = Field(description="Null for a definition that is not stored.")
    version: int | None
    dust_usd: str = Field(description="US dollars to which each amount is scaled.")
    spend_cap_usd: str
    run_cap_usd: str
    total_usd: str = Field(description="Total value of the known amounts in US dollars.")
    spends: list[DustSpend]
    skipped: list[str] = Field(description="Paths of nodes with `dust: skip`.")
    refusals: list[PlanFinding]
    unknowns: list[PlanFinding] = Field(description="Amounts that are known only during the run.")
    writes: list[UnscaledWrite]
    conditions: list[ScaledReading]
    sources: list[SpendSourcesAnswer] = Field(
        description="Why this amount, why this recipient: of the first 50 spends. `GET /v1/workflows/{id}/sources` has "
        "all."
    )


def dust_plan(plan: DustPlan) -> dict[str, Any]:
    """Shapes a dust plan."""
    return plan.public() | {"sources": plan.reasons}


class AnalyzeFundsBody(Fields):
    """A definition that is not stored."""

    definition: Definition
    default_wallet_address: str | None = Field(
        None, max_length=100, description="Wallet for nodes that name none. Default: the organisation's default wallet."
    )


class FundsBalance(Answer):
    """One asset of a wallet: balance and need."""

    amount: str = Field(description="Base units.")
    amount_usd: str | None = Field(description="US dollars, exact; null without a price.")
    chain_id: int
    decimals: int
    is_insufficient: bool = Field(description="Whether the balance is less than all needs of the run together.")
    is_low: bool = Field(description="Whether the balance is enough for this run but not for a second one.")
    symbol: str
    token_address: str | None = Field(description="Null for the native coin.")
    wallet_address: str


class RequirementAnswer(Answer):
    """One node's need from one wallet."""

    path: str = Field(description="Through calls: `monthly/pay` is `pay` of the workflow that `monthly` calls.")
    workflow_id: str | None = Field(description="The workflow of the node; null if it is not stored.")
    node_id: str
    node_name: str
    node_type: str
    source: Literal["node", "gas"] = Field(description="`gas` is the estimated network fee.")
    reason: str
    wallet_address: str | None
    chain_id: int | None
    chain_name: str | None
    token_address: str | None = Field(description="Null for the native coin.")
    is_native: bool | None
    symbol: str | None
    decimals: int | None
    required_amount: str | None = Field(description="Base units; null if unknown.")
    amount_is_human_readable: bool = Field(description="Always false: amounts are base units.")
    unresolved: bool
    unresolved_reason: str | None
    is_sufficient: bool | None = Field(
        description="Whether the wallet has enough for all needs of the run together; null if that is not known. To a "
        "key without `wallet:read` it is told of stored workflows alone."
    )
    balance: FundsBalance | None = Field(description="Needs `wallet:read`, as does `walletAddress`.")


class FundsAnswer(Ignoring):
    """Needs of all wallets for one run."""

    workflow_id: str | None = Field(description="Null for a definition that is not stored.")
    workflow_version: int | None
    balances_fetched: bool = Field(description="Whether every balance could be read.")
    requirements: list[RequirementAnswer]
    unresolved: list[RequirementAnswer] = Field(description="Needs with an unknown amount, and why.")
    hidden_without: str | None = Field(
        None,
        description="The permission that the key lacks to see balances; absent if it may.",
        examples=["wallet:read"],
    )


def fund_needs(found: FundNeeds) -> dict[str, Any]:
    """Shapes the needs."""
    shown = [(one.need, _requirement(one)) for one in found.needs]
    return {
        "workflowId": found.forecast.workflow_id,
        "workflowVersion": found.forecast.version,
        "balancesFetched": found.is_complete,
        "requirements": [one for need, one in shown if need.why is None],
        "unresolved": [one for need, one in shown if need.why is not None],
        **({} if found.hidden_without is None else {"hiddenWithout": found.hidden_without}),
    }


def _requirement(one: ComparedNeed) -> dict[str, Any]:
    need, held = one.need, one.held
    coin, network = need.coin, need.network
    return {
        "path": need.path,
        "workflowId": need.workflow_id,
        "nodeId": need.node_id,
        "nodeName": need.node_name,
        "nodeType": need.node_type,
        "source": need.source,
        "reason": "the network fee" if need.source == "gas" else "what the node moves",
        "walletAddress": need.wallet_address,
        "chainId": network.chain_id if network is not None else None,
        "chainName": network.name if network is not None else None,
        "tokenAddress": coin.asset.token if coin is not None else None,
        "isNative": coin.asset.token is None if coin is not None else None,
        "symbol": coin.symbol if coin is not None else None,
        "decimals": coin.decimals if coin is not None else None,
        "requiredAmount": str(need.units) if need.units is not None else None,
        "amountIsHumanReadable": False,
        "unresolved": need.why is not None,
        "unresolvedReason": need.why,
        "isSufficient": one.is_sufficient,
        "balance": _balance(need, held) if held is not None else None,
    }


def _balance(need: FundNeed, held: WalletHolding) -> dict[str, Any]:
    assert need.coin is not None
    usd = None if held.usd_units is None else format_units(held.usd_units, 18)
    return {
        "amount": str(held.units),
        "amountUsd": usd,
        "chainId": need.coin.asset.chain_id,
        "decimals": need.coin.decimals,
        "isInsufficient": held.is_insufficient,
        "isLow": held.is_low,
        "symbol": need.coin.symbol,
        "tokenAddress": need.coin.asset.token,
        "walletAddress": need.wallet_address,
    }


Version = Annotated[
    int | None, Field(ge=1, le=MAX_INTEGER, description="Default: the draft, or the live version if there is no draft.")
]
_UNKNOWN = [Code.WORKFLOW_UNKNOWN, Code.VERSION_UNKNOWN, Code.DEFINITION_INVALID]


@noun.post(
    "/v1/workflows/{id}/dust-plan",
    permission="workflow:read",
    answers=DustPlanAnswer,
    shape=dust_plan,
    refusals=_UNKNOWN,
    example={"payload": {"limitUsdc": "200"}},
)
async def plan_dust(call: Call, id: WorkflowId, body: DustPlanBody) -> DustPlan:
    """Plan a dust test without running anything.

    For every amount known before the run: the dust amount and the price used. Also lists refusals with reasons, amounts
    known only during the run, writes that are not scaled, and conditions that read a scaled value.
    """
    given = ForecastInput(body.payload, body.prop_values)
    plan = await call.parts.money.dust_plans.plan(call.principal, id, body.version, given)
    return plan if call.principal.may("wallet:read") else without_addresses(plan)


@noun.get(
    "/v1/workflows/{id}/analyze-funds",
    permission="workflow:read",
    answers=FundsAnswer,
    shape=fund_needs,
    refusals=_UNKNOWN,
)
async def analyze_workflow_funds(call: Call, id: WorkflowId, version: Version = None) -> FundNeeds:
    """Compare the wallets' balances with what one run needs.

    Per node, chain and token, with a gas estimate. Needs that are not known before the run are listed with the reason.
    A key without `wallet:read` is told of each need whether the wallet has enough, and no balance.
    """
    return await call.parts.money.fund_needs.of_workflow(call.principal, id, version)


@noun.post(
    "/v1/workflows/analyze-funds",
    permission="workflow:read",
    answers=FundsAnswer,
    shape=fund_needs,
    refusals=[Code.DEFINITION_INVALID],
    example={"definition": HELLO, "defaultWalletAddress": EXAMPLE_ADDRESS},
)
async def analyze_definition_funds(call: Call, body: AnalyzeFundsBody) -> FundNeeds:
    """Compare the wallets' balances with what one run of an unsaved definition needs.

    A key without `wallet:read` is told the needs alone: it chooses the amounts here, so that each answer would narrow a
    balance down.
    """
    document = document_of(body.definition)
    return await call.parts.money.fund_needs.of_definition(call.principal, document, body.default_wallet_address)
