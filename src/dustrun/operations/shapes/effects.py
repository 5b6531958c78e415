"""Response models of the effects report, which `core/run/effects.py` and `services/runs/reporting/reports.py` build.
What was recorded when a transaction was carried out may have more fields."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from dustrun.core.run.state import Mode, NodeStatus, RunStatus
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.shapes.sources import SpendSourcesAnswer

Json = dict[str, Any]
_RECORDED = ConfigDict(extra="allow")


class _Placed(Answer):
    """An entry of a report, and where it comes from."""

    run_id: str = Field(description="The run that carried it out: the reported run, or one that it called.")
    node_id: str
    path: str = Field(
        description="From the reported run; `monthly/pay` is node `pay` of the run that `monthly` called."
    )


class _Valued(Answer):
    """An amount of an asset."""

    asset: str = Field(examples=["eip155:8453/native"])
    amount: str = Field(description="Base units.", examples=["1000000000000000000"])
    amount_formatted: str | None = Field(None, description="In whole units; absent if the decimals are unknown.")
    symbol: str | None = None
    usd: str | None = Field(description="Worth in dollars; null without a price.")


class EffectMovement(_Valued):
    """One movement of a transaction or signature, or one that it lets others make."""

    kind: Literal["send", "approve"]
    counterparty: str = Field(description="The recipient, or the spender of an approval.")
    of_swap: bool = Field(False, description="Whether it is a swap's own approval, which is counted with the swap.")
    needed: str | None = Field(None, description="Of an allowance: the base units that the node uses, if it knows.")


class EffectBalanceChange(_Valued):
    """How the balance of an address changed, gas fees excluded; the amount may be negative."""

    address: str
    shared: bool = Field(False, description="Whether another party's transaction of the same block may contribute.")


class EffectApproval(_Valued):
    """The rest of an allowance: what a spender may still take from an owner."""

    owner: str
    spender: str


class EffectFee(_Valued):
    """Gas fees that an address paid on one chain."""

    address: str


class EffectReason(Answer):
    """A statement of a policy, and what it says of a spend."""

    statement: str
    message: str


class EffectVerdict(Answer):
    """A policy's verdict on a spend."""

    outcome: Literal["allow", "deny", "ask"]
    reasons: list[EffectReason]


class EffectPlacedVerdict(_Placed):
    """A policy's verdict on one transaction or signature of a node."""

    item: str
    outcome: Literal["allow", "deny", "ask"]
    reasons: list[EffectReason]


class EffectTransaction(_Placed):
    """A transaction of a spending node: sent, simulated, or refused before it was signed."""

    model_config = _RECORDED

    attempt: int
    status: str
    item: str = Field(description="Which of the node's transactions.")
    chain_id: int | str | None
    from_: str = Field(alias="from")
    to: str | None
    value: str = Field(description="Base units of the native coin.")
    about: str
    method: str | None = None
    wallet_id: str | None = None
    hash: str | None = None
    fee: str | None = Field(None, description="Network fee in base units of the native coin.")
    fee_usd: str | None = None
    movements: list[EffectMovement]
    balance_changes: list[EffectBalanceChange]
    approvals: list[EffectApproval]
    events: list[Json]
    measured: bool = Field(False, description="Whether its balance changes are known.")
    assumed: bool = Field(False, description="Whether it rests on an assumed value.")
    verdict: EffectVerdict | None = None
    error: Json | None = None
    revert: Json | None = None


class EffectSignature(_Placed):
    """A signature that was made, or would be, for others to use."""

    model_config = _RECORDED

    item: str
    about: str
    movements: list[EffectMovement]
    verdict: EffectVerdict | None = None


class EffectRequest(_Placed):
    """A request that writes."""

    attempt: int
    action: str = Field(description="The node's type.")
    request: Json
    sent: bool = Field(description="Whether it left the server; with status `uncertain` or `cancelled`: it may have.")
    answered: int | None = Field(None, description="The HTTP status of the answer, also of one that refused it.")
    status: NodeStatus


class EffectVariableWrite(_Placed):
    """A write of a variable."""

    name: str
    op: str
    scope: str
    old_value: Any
    new_value: Any
    written: bool = Field(description="False in a simulation, whose writes only the run itself sees.")


class EffectTableWrite(_Placed):
    """A write of table rows."""

    table: str
    mode: str
    keys: list[Any]
    inserted: int
    updated: int
    deleted: int
    written: bool = Field(description="False in a simulation, whose writes only the run itself sees.")


class EffectAnswer(_Placed):
    """The answer of a `respond` node to the request that started its run. The answer of a called run goes nowhere."""

    status: int
    headers: dict[str, str]
    content_type: str
    body: Any
    body_omitted: bool = Field(description="The body is over 64 KiB; the node's result has it.")
    assumed: bool = Field(description="Whether it rests on an assumed value.")


class EffectCall(Answer):
    """A run that was called."""

    node_id: str
    path: str
    caller_run_id: str
    run_id: str
    workflow_id: str
    mode: Literal["wait", "start"] = Field(description="Whether the node waits for its end.")
    status: NodeStatus = Field(description="Status of the calling node.")
    run_status: RunStatus | None
    is_open: bool | None = Field(description="Whether there may be more to come; null if the run is not shown.")
    is_shown: bool = Field(description="Whether the report has its effects.")


class EffectAssumed(_Placed):
    """A result that rests on an assumed value."""

    source: str
    why: str
    depends_on: list[str]
    decides: bool = Field(description="Whether an important part depends on it, so that the simulation does not pass.")


class EffectWarning(Answer):
    """A warning about one node, transaction or signature."""

    code: str
    run_id: str
    node_id: str | None
    path: str | None
    item: str | None = None
    transaction: int | None = Field(None, description="Index in `transactions`.")
    message: str


class EffectAsset(Answer):
    """The known facts of an asset."""

    symbol: str | None
    decimals: int | None
    usd: str | None
    source: str | None = Field(description="Source of the price.")
    age_ms: int | None = Field(None, description="Age of the price at that time, in milliseconds.")


class EffectScaled(_Placed):
    """An amount that a dust run scaled."""

    model_config = _RECORDED

    field: str
    original: str
    dust: str
    asset: str
    usd: str | None


class EffectDust(Answer):
    """The amounts that a dust run scaled."""

    scaled: list[EffectScaled]
    note: str | None = Field(None, description="Why nothing was scaled.")


class _Effects(Answer):
    transactions: list[EffectTransaction]
    balance_changes: list[EffectBalanceChange] = Field(description="Sums per address and asset, gas fees excluded.")
    approvals: list[EffectApproval] = Field(description="Approvals left at the end.")
    policy_verdicts: list[EffectPlacedVerdict]
    signatures: list[EffectSignature]
    total_fees: list[EffectFee]
    total_fees_usd: str | None = Field(description="Null if a fee has no price.")
    requests: list[EffectRequest]
    variable_writes: list[EffectVariableWrite]
    table_writes: list[EffectTableWrite]
    answers: list[EffectAnswer]
    children: list[EffectCall]
    uncertain: list[str] = Field(description="Paths of nodes whose outcome is unknown.")
    dust: EffectDust | None = Field(None, description="Only of a dust run.")


class EffectsOfEarlier(_Effects):
    """The effects of the earlier runs of a retry chain."""

    run_ids: list[str]


class EffectNotPassed(Answer):
    """Why a rehearsal did not pass."""

    code: str
    run_id: str
    path: str | None
    message: str


class EffectCounts(Answer):
    """How many runs were called, and how many of them the report covers."""

    total: int
    shown: int
    hidden: int
    open_run_ids: list[str]
    is_complete: bool


class EffectFork(Answer):
    """The block that a simulation is pinned to."""

    block_number: int
    strategy: str | None


class EffectChain(Answer):
    """A chain of a report's transactions."""

    chain_id: int
    name: str
    symbol: str | None
    explorer: str | None
    simulated_on: EffectFork | None = None


class EffectName(Answer):
    """The name of an address."""

    name: str
    kind: Literal["wallet", "token", "contract"]
    wallet_id: str | None = None


class EffectsAnswer(_Effects):
    """The effects of a run and of the runs that it called, or those that they would have."""

    run_id: str
    workflow_id: str = Field(description="Empty for an inline run.")
    workflow_name: str
    workflow_version: int | None
    status: RunStatus
    mode: Mode
    passed: bool | None
    not_passed: list[EffectNotPassed]
    assumed: list[EffectAssumed]
    assets: dict[str, EffectAsset]
    warnings: list[EffectWarning]
    called: EffectCounts
    earlier: EffectsOfEarlier | None
    chains: list[EffectChain]
    names: dict[str, EffectName] = Field(description="By address; those of wallets to keys with `wallet:read`.")
    sources: list[SpendSourcesAnswer] | None = Field(
        None, description="What shaped each spend, with `include=sources`; spends in one loop share an entry."
    )
