"""Checks what a node's transactions really take, on the newest block, after they are priced and before one is signed.

A dust test always has a ceiling; a live spend has one if the wallet's policy states `outflow`. Transactions of one node
are simulated in their order: one that would fail after those before it is not signed until they are mined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from dustrun.chain.simulate.taking import MOST_INTENTS, OutflowForecast, forecast_outflow
from dustrun.core.money.intent import Intent
from dustrun.core.money.policy import Deny, Reason
from dustrun.core.money.policy.outflow import Ceilings
from dustrun.core.money.transaction_state import TxState
from dustrun.errors import Code, Permanent
from dustrun.records import dataclass
from dustrun.services.outbox import policy_check
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.fees import REVERTED
from dustrun.services.outbox.preflight import Ready
from dustrun.services.outbox.spend_status import Failure
from dustrun.services.wallets.budget import Budget
from dustrun.storage.money.transactions import TransactionRow

EXCEEDED, UNKNOWN = Code.OUTFLOW_EXCEEDED.name, Code.OUTFLOW_UNKNOWN.name


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a transaction is not signed."""

    row: TransactionRow
    failure: Failure
    verdict: Deny | None = None


def waits_for_earlier(row: TransactionRow, node_rows: Sequence[TransactionRow]) -> bool:
    """Whether an earlier transaction of the node is signed and not mined: this one may depend on it."""
    earlier = node_rows[: node_rows.index(row)]
    return any(one.chain_id == row.chain_id and one.state in (TxState.SIGNED, TxState.SENT) for one in earlier)


async def check(deps: OutboxDeps, ready: Sequence[Ready]) -> tuple[list[Ready], Refusal | None]:
    """Those that may be signed now, in their order. If one is refused, none is."""
    may: list[Ready] = []
    for _, group in groupby(ready, key=lambda one: one.row.chain_id):
        found = await _check_chain(deps, list(group))
        if isinstance(found, Refusal):
            return [], found
        may += found
    return may, None


async def _check_chain(deps: OutboxDeps, ready: Sequence[Ready]) -> list[Ready] | Refusal:
    first = ready[0].row
    policy = await policy_check.find_policy(deps.database, first.wallet_id)
    ready = ready[:MOST_INTENTS]
    ceilings = [deps.budget.ceilings(policy, one.request, is_dust=first.mode == "dust") for one in ready]
    if not any(ceilings) and len(ready) == 1:
        return list(ready)
    live = deps.chains.get(first.chain_id)
    tokens = [token.address for token in live.network.tokens] if any(ceilings) else []
    intents = [replace(one.intent, gas_limit=one.gas_limit) for one in ready]
    try:
        forecasts = await forecast_outflow(live, first.sender, intents, tokens, deps.settings.fork_binary)
    except Permanent as error:
        if error.code is not Code.SIM_UNAVAILABLE:
            raise
        return _unsimulated(ceilings, ready, error)
    return await _judge(deps.budget, ceilings, ready, forecasts)


async def _judge(
    budget: Budget, ceilings: Sequence[Ceilings], ready: Sequence[Ready], forecasts: Sequence[OutflowForecast]
) -> list[Ready] | Refusal:
    may: list[Ready] = []
    for one, bounds, seen in zip(ready, ceilings, forecasts, strict=False):
        if seen.taken is None:
            if may:
                break  # it waits until those before it are mined, and is then estimated on what they left
            return Refusal(one.row, Failure(REVERTED, f"{one.intent.about}: {seen.reason}", retryable=True))
        reasons = await budget.judge_outflow(bounds, one.request, seen.taken)
        if reasons:
            return Refusal(one.row, denial(reasons), Deny(reasons))
        may.append(one)
    return may


def denial(reasons: Sequence[Reason]) -> Failure:
    """The refusal as the node's failure."""
    details = tuple({"field": reason.statement, "message": reason.message} for reason in reasons)
    message = f"Simulated on the newest block before signing, it takes too much: {reasons[0].message}"
    return Failure(EXCEEDED, message, details=details)


def unknown(ceilings: Ceilings, intent: Intent, why: str) -> Failure | None:
    """The refusal of a transaction that nobody can simulate; None if what its node declares is trusted."""
    if not ceilings.unproven and ceilings.rule is None and not (ceilings.dust_cap is not None and intent.as_written):
        return None
    if not ceilings.unproven and ceilings.rule is not None and ceilings.rule.unsimulated == "declared":
        return None
    return Failure(UNKNOWN, f"{intent.about}: what it takes from the wallet cannot be checked. {why}")


def _unsimulated(ceilings: Sequence[Ceilings], ready: Sequence[Ready], error: Permanent) -> list[Ready] | Refusal:
    for one, bounds in zip(ready, ceilings, strict=True):
        failure = unknown(bounds, one.intent, error.message)
        if failure is not None:
            return Refusal(one.row, failure)
    return list(ready)
