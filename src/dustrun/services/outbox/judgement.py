"""Judges all transactions of a node before the first of them is signed, in their order: cost, policy, outflow.

If one of them is refused, none is signed; if one needs a person's approval, all of them are one question. What waits
for another to be mined (a swap for its allowance) is judged with it, and once more when its turn comes. All are
simulated first, on the newest block: that says what each uses after those before it, and what it takes from the wallet.
A dust test always has a ceiling on that; a live spend has one if the wallet's policy states `outflow`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace

from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate.taking import OutflowForecast, forecast_outflow
from dustrun.core.money.intent import Intent
from dustrun.core.money.policy import Ask, Deny, PolicyRequest, Reason
from dustrun.core.money.policy.judge import depends_on_prices
from dustrun.core.money.policy.outflow import Ceilings
from dustrun.core.money.transaction_state import TxState
from dustrun.errors import Code, Permanent
from dustrun.records import dataclass
from dustrun.services.outbox import concerns, fees, policy_check
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.fees import FeeRequest, PricedIntent
from dustrun.services.outbox.preflight import Grounds, Ready
from dustrun.services.outbox.spend_status import IntentFailure, intent_of
from dustrun.services.wallets.budget import Values
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import TransactionRow

EXCEEDED, UNKNOWN = Code.OUTFLOW_EXCEEDED.name, Code.OUTFLOW_UNKNOWN.name
Forecasts = Mapping[str, OutflowForecast]
"""By the id of the transaction; one that is missing could not be simulated."""


@dataclass(frozen=True, slots=True)
class SpendRefusal:
    """Why a transaction, and with it the rest of its node, is not signed."""

    row: TransactionRow
    failure: IntentFailure
    verdict: Deny | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What may be signed, in order, and what waits for that; or why nothing may; or what a person has to approve first,
    by id. `requests` are those that policy has judged."""

    ready: tuple[Ready, ...] = ()
    later: tuple[Ready, ...] = ()
    refusal: SpendRefusal | None = None
    asks: Mapping[str, Ask] = field(default_factory=dict)
    requests: tuple[PolicyRequest, ...] = ()


def waits_for_earlier(row: TransactionRow, node_rows: Sequence[TransactionRow]) -> bool:
    """Whether an earlier transaction of the node is signed and not mined: this one may depend on it."""
    earlier = node_rows[: node_rows.index(row)]
    return any(one.chain_id == row.chain_id and one.state in (TxState.SIGNED, TxState.SENT) for one in earlier)


async def judge(deps: OutboxDeps, planned: Sequence[TransactionRow], next_ids: Collection[str]) -> Judgement:
    """Judges a node's planned transactions; those of `next_ids` wait for no other one. Writes nothing."""
    judging = NodeJudging(deps, planned, next_ids)
    return await judging.run()


class NodeJudging:
    """One judgement of a node: every chain, balance and price is read once."""

    def __init__(self, deps: OutboxDeps, planned: Sequence[TransactionRow], next_ids: Collection[str]) -> None:
        self._deps = deps
        self._planned = list(planned)
        self._next_ids = next_ids
        self._ceilings: dict[str, Ceilings] = {}
        self._why_unknown = ""

    async def run(self) -> Judgement:
        """The judgement. Raises `Temporary` if no endpoint answers."""
        deps, first = self._deps, self._planned[0]
        version, policy = await policy_check.find_with_version(deps.database, first.wallet_id)
        is_dust = first.mode == "dust"
        self._ceilings = {
            row.id: deps.budget.ceilings(policy, _request_of(row, None), is_dust=is_dust) for row in self._planned
        }
        forecasts = await self._forecast({row.id: intent_of(row) for row in self._planned})
        priced, refusal = await self._price_all(forecasts)
        requests = [_request_of(row, priced.get(row.id)) for row in self._planned[: len(priced)]]
        values = await deps.budget.values_of(requests, surveys=is_dust or depends_on_prices(policy))
        costs = [_ready_of(row, priced[row.id], values) for row in self._planned[: len(priced)]]
        seen = {one.row.id: one for one in await concerns.look(deps, [one for one in costs if one is not None])}
        ready = [None if one is None else seen[one.row.id] for one in costs]
        verdicts = await policy_check.judge_all(deps, list(zip(self._planned, requests, ready, strict=False)), values)
        if verdicts.denied is not None:
            place, failure, verdict = verdicts.denied
            refusal, ready = SpendRefusal(self._planned[place], failure, verdict), ready[:place]
        found = await self._judge_outflow([one for one in ready if one is not None])
        if found is not None or refusal is not None:
            return Judgement(refusal=found or refusal, requests=tuple(requests))
        grounds = Grounds(version, verdicts.hands)
        known = tuple(replace(one, grounds=grounds) for one in ready if one is not None)
        if verdicts.asks:
            return Judgement(known, asks=verdicts.asks, requests=tuple(requests))
        later = tuple(one for one in known if one.row.id not in self._next_ids)
        return Judgement(tuple(one for one in known if one.row.id in self._next_ids), later)

    @property
    def _is_bounded(self) -> bool:
        return any(self._ceilings.values())

    async def _forecast(self, intents: Mapping[str, Intent]) -> Forecasts:
        """The gas and outflow of each after those before it, or why it fails; those after it are missing then."""
        found: dict[str, OutflowForecast] = {}
        for chain_id in dict.fromkeys(row.chain_id for row in self._planned):
            here = [row for row in self._planned if row.chain_id == chain_id and row.id in intents]
            if not here or not self._needs_forecast(here):
                continue
            limited = [replace(intents[row.id], gas_limit=intents[row.id].gas_limit or row.gas_limit) for row in here]
            seen = await self._simulate(self._deps.chains.get(chain_id), here[0].sender, limited)
            found |= {row.id: one for row, one in zip(here, seen, strict=False)}
        return found

    def _needs_forecast(self, here: Sequence[TransactionRow]) -> bool:
        """A transfer of native coin alone is estimated by the chain: it uses the same everywhere."""
        return self._is_bounded or len(here) > 1 or bool(intent_of(here[0]).data)

    async def _simulate(self, live: LiveChain, sender: str, intents: Sequence[Intent]) -> Sequence[OutflowForecast]:
        tokens = [token.address for token in live.network.tokens] if self._is_bounded else []
        try:
            return await forecast_outflow(live, sender, intents, tokens, self._deps.settings.fork_binary)
        except Permanent as error:
            if error.code is not Code.SIM_UNAVAILABLE:
                raise
            self._why_unknown = error.message
            return ()

    async def _price_all(self, forecasts: Forecasts) -> tuple[dict[str, PricedIntent | None], SpendRefusal | None]:
        """The cost of each up to the first that the chain would not accept, or that the wallet cannot pay besides those
        before it; None of what nobody can know yet."""
        deps, priced = self._deps, dict[str, PricedIntent | None]()
        costs = await asyncio.gather(*(self._cost(row, forecasts.get(row.id)) for row in self._planned))
        balances: dict[int, int] = {}
        promised: dict[int, int] = {}
        for row, cost in zip(self._planned, costs, strict=True):
            if isinstance(cost, IntentFailure):
                return priced, SpendRefusal(row, cost)
            priced[row.id] = cost
            if cost is None:
                continue
            chain = deps.chains.get(row.chain_id)
            if row.chain_id not in balances:
                promised[row.chain_id] = await self._promised(
                    row
                )  # first: what is mined meanwhile counts twice, not never
                balances[row.chain_id] = await chain.balance(row.sender)
            before = promised[row.chain_id]
            lacks = fees.shortfall(cost, balances[row.chain_id], before, chain.network.native.symbol)
            if lacks is not None:
                return priced, SpendRefusal(row, lacks)
            promised[row.chain_id] = before + cost.most_units
        return priced, None

    async def _promised(self, row: TransactionRow) -> int:
        return await self._deps.database.look_up(lambda tx: rows.promised_units(tx, row.chain_id, row.sender))

    async def _cost(self, row: TransactionRow, seen: OutflowForecast | None) -> PricedIntent | IntentFailure | None:
        intent, is_next = intent_of(row), row.id in self._next_ids
        is_first = is_next and next(one.id for one in self._planned if one.chain_id == row.chain_id) == row.id
        if seen is not None and seen.failure is not None:
            if not is_first and seen.failure.code is not Code.FUNDS_INSUFFICIENT:
                return fees.failure_of(seen.failure, intent)
            seen = None  # the chain's own estimate says it better
        if seen is None and not is_next:
            return None
        request = FeeRequest(
            row.sender,
            intent,
            gas_limit=row.gas_limit,
            max_price_units=int(row.max_price) if row.max_price is not None else None,
            gas_used=None if seen is None else seen.gas_used,
            is_next=is_first or (is_next and seen is None),
        )
        return await fees.cost_of(
            self._deps.chains.get(row.chain_id), request, self._deps.settings.transaction_max_fee_rise
        )

    async def _judge_outflow(self, ready: Sequence[Ready]) -> SpendRefusal | None:
        """The first that takes more than it may, with the gas limit that it will have."""
        if not self._is_bounded or not ready:
            return None
        forecasts = await self._forecast({one.row.id: replace(one.intent, gas_limit=one.gas_limit) for one in ready})
        for one in ready:
            seen, ceilings = forecasts.get(one.row.id), self._ceilings[one.row.id]
            if seen is None:
                failure = unknown(ceilings, one.intent, self._why_unknown)
                if failure is not None:
                    return SpendRefusal(one.row, failure)
                continue
            if seen.taken is None:
                assert seen.failure is not None
                return SpendRefusal(one.row, fees.failure_of(seen.failure, one.intent))
            reasons = await self._deps.budget.judge_outflow(ceilings, one.request, seen.taken)
            if reasons:
                return SpendRefusal(one.row, denial(reasons), Deny(reasons))
        return None


def _ready_of(row: TransactionRow, priced: PricedIntent | None, values: Values) -> Ready | None:
    return None if priced is None else Ready(row, priced, values)


def _request_of(row: TransactionRow, priced: PricedIntent | None) -> PolicyRequest:
    """The spend as the policy judges it; without a fee if nobody knows what it will use."""
    return unpriced_request(row) if priced is None else priced.request


def unpriced_request(row: TransactionRow) -> PolicyRequest:
    """The spend as the policy judges it, without a fee."""
    return PolicyRequest.of_intent(intent_of(row), row.sender, gas_limit=0, max_fee_units=0)


def denial(reasons: Sequence[Reason]) -> IntentFailure:
    """The refusal as the node's failure."""
    details = tuple({"field": reason.statement, "message": reason.message} for reason in reasons)
    message = f"Simulated on the newest block before signing, it takes too much: {reasons[0].message}"
    return IntentFailure(EXCEEDED, message, details=details)


def unknown(ceilings: Ceilings, intent: Intent, why: str) -> IntentFailure | None:
    """The refusal of a transaction that nobody can simulate; None if what its node declares is trusted."""
    if not ceilings.unproven and ceilings.rule is None and not (ceilings.dust_cap is not None and intent.as_written):
        return None
    if not ceilings.unproven and ceilings.rule is not None and ceilings.rule.unsimulated == "declared":
        return None
    return IntentFailure(UNKNOWN, f"{intent.about}: what it takes from the wallet cannot be checked. {why}")
