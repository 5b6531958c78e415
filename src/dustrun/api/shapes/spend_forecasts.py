"""What goes over the wire of looks ahead: dust plans and needed funds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.core.values.amounts import format_units
from dustrun.core.values.fields import Fields
from dustrun.core.workflow.definition import Definition
from dustrun.services.preview.dust_plans import DustPlan
from dustrun.services.preview.fund_needs import FundNeeds, Holding, Need


class DustPlanBody(Fields):
    """What the run would be started with."""

    version: int | None = Field(None, ge=1, le=2**31 - 1, description="By default the draft, else the live one.")
    payload: dict[str, Any] | None = Field(
        None, description="The trigger's payload; without it what hangs on it is unknown."
    )
    prop_values: dict[str, Any] = Field(default_factory=dict, description="Values for its `{{$props.key}}`.")


class DustPrice(Fields):
    """The price that an amount was scaled by."""

    usd: str = Field(description="US dollars of a whole one.")
    source: str
    at_ms: int
    age_ms: int


class ScaledLimit(Fields):
    """A limit that was scaled with its amount, in base units."""

    from_: str = Field(alias="from")
    to: str


class DustEntry(Fields):
    """One amount and what a dust test uses instead."""

    field: str = Field(description="Where the amount stands in the payload.")
    direction: Literal["send", "approve"]
    asset: str = Field(description="Like `eip155:1/native`.")
    chain_id: int
    decimals: int
    recipient: str | None
    original: str = Field(description="Base units.")
    original_formatted: str
    dust: str = Field(description="Base units.")
    dust_formatted: str
    usd: str | None = Field(description="What the dust is worth; null when nobody prices it.")
    price: DustPrice | None
    limits: dict[str, ScaledLimit] = Field(description="Least out and most in, by field.")
    warnings: list[str]


class PlannedFee(Fields):
    """What the network would take, by what such transactions usually take."""

    chain_id: int
    gas: str
    fee: str = Field(description="Base units of the chain's coin, at the present price.")
    usd: str | None


class DustSpend(Fields):
    """A node that spends; one in a loop is there once per item."""

    path: str
    node_id: str
    type: str
    wallet_id: str | None
    wallet_address: str | None
    repeats: str | None = Field(description="Why nobody knows how often it happens; null: once.")
    entries: list[DustEntry]
    fee: PlannedFee | None


class PlanFinding(Fields):
    """Something about a node."""

    path: str
    node_id: str
    field: str | None
    message: str
    code: str | None = Field(description="Of a refusal: the code's name, like `DUST_UNPRICED`.")


class UnscaledWrite(Fields):
    """A node that changes something outside and goes out unscaled."""

    node_id: str
    type: str
    reads: list[str] = Field(description="Scaled values that it looks at.")


class ScaledReading(Fields):
    """A condition that looks at a scaled value, so that it may go another way than live."""

    node_id: str
    type: str
    field: str
    reads: str


class DustPlanAnswer(Fields):
    """What a dust test would do."""

    workflow_id: str | None = Field(description="Null of a run whose definition is not stored.")
    version: int | None
    dust_usd: str = Field(description="US dollars that one amount is made worth.")
    spend_cap_usd: str
    run_cap_usd: str
    total_usd: str = Field(description="What the known amounts are worth together.")
    spends: list[DustSpend]
    skipped: list[str] = Field(description="Paths of nodes that say `dust: skip`.")
    refusals: list[PlanFinding]
    unknowns: list[PlanFinding] = Field(description="What only the run will tell.")
    writes: list[UnscaledWrite]
    conditions: list[ScaledReading]


def dust_plan(plan: DustPlan) -> dict[str, Any]:
    """The plan as an answer."""
    return plan.public()


class AnalyzeFundsBody(Fields):
    """A definition that is not stored."""

    definition: Definition
    default_wallet_address: str | None = Field(
        None, max_length=100, description="Wallet of nodes that name none; else the organisation's default."
    )


class FundsBalance(Fields):
    """What a wallet has of what it needs."""

    amount: str = Field(description="Base units.")
    amount_usd: str | None = Field(description="US dollars, exact; null when nobody prices it.")
    chain_id: int
    decimals: int
    is_insufficient: bool = Field(description="Whether the run would run out of it, all its needs taken together.")
    is_low: bool = Field(description="Whether it is enough for this run and not for another one like it.")
    symbol: str
    token_address: str | None = Field(description="Null for the chain's coin.")
    wallet_address: str


class RequirementAnswer(Fields):
    """What one node takes from one wallet."""

    node_id: str
    node_name: str
    node_type: str
    source: Literal["node", "gas"] = Field(description="`gas` is the network's fee, by what is usual.")
    reason: str
    wallet_address: str | None
    chain_id: int | None
    chain_name: str | None
    token_address: str | None = Field(description="Null for the chain's coin.")
    is_native: bool | None
    symbol: str | None
    decimals: int | None
    required_amount: str | None = Field(description="Base units; null when it is not known.")
    amount_is_human_readable: bool = Field(description="Always false: amounts are base units.")
    unresolved: bool
    unresolved_reason: str | None
    balance: FundsBalance | None


class FundsAnswer(Fields):
    """What the wallets need for one run."""

    workflow_id: str | None = Field(description="Null for a definition that is not stored.")
    workflow_version: int | None
    balances_fetched: bool = Field(description="Whether every balance could be read.")
    requirements: list[RequirementAnswer]
    unresolved: list[RequirementAnswer] = Field(description="Those whose amount is not known, and why.")


def fund_needs(found: FundNeeds) -> dict[str, Any]:
    """The needs as an answer."""
    shown = [(need, _requirement(need, held)) for need, held in found.needs]
    return {
        "workflowId": found.forecast.workflow_id,
        "workflowVersion": found.forecast.version,
        "balancesFetched": found.is_complete,
        "requirements": [one for need, one in shown if need.why is None],
        "unresolved": [one for need, one in shown if need.why is not None],
    }


def _requirement(need: Need, held: Holding | None) -> dict[str, Any]:
    coin, network = need.coin, need.network
    return {
        "nodeId": need.node_id,
        "nodeName": need.node_name,
        "nodeType": need.node_type,
        "source": need.source,
        "reason": "the network's fee" if need.source == "gas" else "what the node moves",
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
        "balance": _balance(need, held) if held is not None else None,
    }


def _balance(need: Need, held: Holding) -> dict[str, Any]:
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
