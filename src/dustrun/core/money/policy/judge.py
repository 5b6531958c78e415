"""The verdict on one request: pure and deterministic. Whatever is not allowed, or not known, is denied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Final

from dustrun.core.money.intent import Movement
from dustrun.core.money.policy.counting import (
    COUNT,
    GAS_USD,
    USD,
    USD_UNIT,
    CountedUnits,
    PolicyRequest,
    Worth,
    canonical,
    count,
)
from dustrun.core.money.policy.document import HOUR_MS, AskTotal, Limit, WalletPolicy, usd_units
from dustrun.core.money.policy.scope import is_endless, judge_scope, paid, revokes
from dustrun.core.money.policy.scopes import LimitCount, asked_under, base_of, bounds_of
from dustrun.core.money.policy.sources_rule import VouchedContracts, brief, contracts_of, judge_sources
from dustrun.core.money.policy.verdict import Allow, Ask, Deny, Reason, Verdict
from dustrun.records import dataclass

Need = tuple[str, int]
"""A measure and the length of a window in milliseconds, or `RUN` or `BATCH`."""
RUN, BATCH = -1, -2
"""Instead of a window: everything that the run, or the node, has spent."""


APPROVED_BY_PERSON: Final = "A person approved exactly this request."
"""What a verdict says of a statement that asked, once a person has answered."""
_ENDLESS_USD = 10**9 * USD_UNIT
_USUAL_GAS = 250_000
"""The gas that a usual transaction is taken to use, where only the price of gas is known."""


@dataclass(frozen=True, slots=True)
class VerdictFacts:
    """Everything the verdict depends on besides policy and request; what is absent is unknown.

    `worths` by asset key; `spent` units by measure and window, as `needs` asks for them; `first_seen` the time at which
    each recipient (lower case) became known; `is_approved`: a person has approved exactly this request; `doubts` by
    asset key: why its price may be wrong.
    """

    now_ms: int
    worths: Mapping[str, Worth] = field(default_factory=dict)
    spent: Mapping[Need, int] = field(default_factory=dict)
    first_seen: Mapping[str, int] = field(default_factory=dict)
    is_approved: bool = False
    doubts: Mapping[str, str] = field(default_factory=dict)
    concerns: tuple[Reason, ...] = ()
    approved_gas_units: int = 0
    """The price of a unit of gas on the chain that a person approved last for the wallet."""


def needs(policy: WalletPolicy, request: PolicyRequest) -> list[Need]:
    """The (measure, window) pairs that the limits and totals of a policy need for a request."""
    found = bounds_of(policy, request)
    windows = {(bound.measure, bound.window_ms) for bound in found if bound.window_ms is not None}
    return sorted(windows | {(total_measure(total), _span_of(total)) for total in _totals(policy)})


def total_measure(total: AskTotal) -> str:
    """The quantity that a total adds up."""
    return total.asset if total.asset is not None else USD


def _span_of(total: AskTotal) -> int:
    return {"batch": BATCH, "run": RUN}.get(total.per) or total.window_ms or 0


def _totals(policy: WalletPolicy) -> tuple[AskTotal, ...]:
    return () if policy.approval_above is None else policy.approval_above.totals


def judge(policy: WalletPolicy | None, request: PolicyRequest, facts: VerdictFacts) -> Verdict:
    """Whether the request may be signed, with all reasons."""
    if policy is None:
        return Deny((Reason("default", "The wallet has no policy, so it may not spend: give it one."),))
    allowed: list[Reason] = []
    counted = asked_under(policy, request, facts.worths)
    denied = [
        *judge_scope(policy, request, allowed),
        *(() if revokes(request) else _prices(policy, counted)),
        *_limits(bounds_of(policy, request), counted, facts),
        *_new_recipients(policy, request, facts),
        *judge_gas(policy, request, facts.worths),
        *_unlimited(policy, request, facts.worths),
    ]
    shaped = list(judge_sources(policy.sources, request.shaped, policy.contracts, _vouched(policy, request)))
    denied += [reason for otherwise, reason in shaped if otherwise == "deny"]
    told = brief(request.shaped) if request.shaped is not None else None
    if denied:
        return Deny(tuple(denied), told)
    waits = [
        *_waits(policy, count(request, facts.worths), facts),
        *_wild_fee(policy, request, facts),
        *_doubtful(policy, request, facts),
        *facts.concerns,
        *(reason for otherwise, reason in shaped if otherwise == "ask"),
    ]
    if waits and not facts.is_approved:
        return Ask(tuple(waits), told)
    approved = [Reason(reason.statement, APPROVED_BY_PERSON) for reason in waits]
    return Allow(tuple(dict.fromkeys([*allowed, *approved])), told)


def _vouched(policy: WalletPolicy, request: PolicyRequest) -> VouchedContracts:
    """The contracts that a network or the policy names as tokens; and the token that is moved, if nothing else is."""
    moved = {canonical(movement.asset) for movement in request.movements}
    own = contracts_of(moved) if len(moved) == 1 else frozenset[str]()
    return VouchedContracts(request.listed | contracts_of(policy.assets), own)


def _prices(policy: WalletPolicy, counted: CountedUnits) -> Iterator[Reason]:
    if policy.allow_unpriced_assets:
        return
    for key in counted.unpriced:
        message = (
            f"{key} has no price, so its worth cannot be checked against the limits; set static_prices or a price "
            "source."
        )
        yield Reason("allowUnpricedAssets", message)


def _maximum(limit: Limit) -> int:
    if limit.max_units is not None:
        return int(limit.max_units)
    if limit.max_count is not None:
        return limit.max_count
    return usd_units(limit.max_usd or limit.max_gas_usd or "0")


def _limits(bounds: Iterable[LimitCount], counted: CountedUnits, facts: VerdictFacts) -> Iterator[Reason]:
    for bound in bounds:
        reason = _over(bound, counted, facts)
        if reason is not None:
            yield reason


def _over(bound: LimitCount, counted: CountedUnits, facts: VerdictFacts) -> Reason | None:
    statement, limit, window_ms = f"limits[{bound.index}]", bound.limit, bound.window_ms
    measure, maximum = base_of(limit), _maximum(limit)
    if measure == GAS_USD and counted.fee_unpriced:
        return Reason(statement, "The network's coin has no price, so the fee cannot be checked against the limit.")
    wanted = counted.units.get(bound.measure, 0)
    if wanted == 0:
        return None
    if window_ms is None:
        if wanted <= maximum:
            return None
        return Reason(statement, f"{show(measure, wanted)} is over {_plain(measure, maximum)} in one transaction.")
    spent = facts.spent.get((bound.measure, window_ms))
    past = "in this run" if limit.per == "run" else f"in the last {_span(window_ms)}"
    past += _scope_of(bound)
    if spent is None:
        return Reason(statement, f"The amount of {measure} spent {past} is unknown.")
    if spent + wanted <= maximum:
        return None
    if measure == COUNT:
        return Reason(statement, f"The limit of {_plain(measure, maximum)} {past} is reached.")
    more, most = _plain(measure, spent), _plain(measure, maximum)
    return Reason(statement, f"{show(measure, wanted)} on top of the {more} spent {past} is over {most}.")


def _scope_of(bound: LimitCount) -> str:
    if bound.member is not None:
        return f" for {bound.member}"
    return " within its scope" if bound.limit.of is not None else ""


def show(measure: str, units: int) -> str:
    """An amount of a measure for messages."""
    is_asset = measure not in (USD, GAS_USD, COUNT)
    return f"{_plain(measure, units)} base units of {measure}" if is_asset else _plain(measure, units)


def _span(ms: int) -> str:
    if ms == HOUR_MS:
        return "hour"
    for unit, length in (("day", 24 * HOUR_MS), ("hour", HOUR_MS), ("minute", 60_000)):
        number, rest = divmod(ms, length)
        if rest == 0 and number > 1:
            return f"{number} {unit}s"
    return f"{ms} ms"


def _plain(measure: str, units: int) -> str:
    if measure in (USD, GAS_USD):
        whole, part = divmod(units, 10**18)
        digits = f"{part:018d}".rstrip("0")
        return f"{whole}.{digits} USD" if digits else f"{whole} USD"
    return f"{units} transaction{'' if units == 1 else 's'}" if measure == COUNT else str(units)


def _new_recipients(policy: WalletPolicy, request: PolicyRequest, facts: VerdictFacts) -> Iterator[Reason]:
    if not policy.new_recipient_hours:
        return
    for who in sorted({movement.counterparty for movement in paid(policy, request)}):
        seen = facts.first_seen.get(who.lower())
        if seen is None or facts.now_ms < seen + policy.new_recipient_hours * HOUR_MS:
            message = f"{who} is new: it may be paid {policy.new_recipient_hours} hours after it was first named."
            yield Reason("newRecipientHours", message)


def judge_gas(policy: WalletPolicy, request: PolicyRequest, worths: Mapping[str, Worth]) -> Iterator[Reason]:
    """The denials by the gas rules."""
    if request.native is None:
        return
    worth = worths.get(canonical(request.native))
    for index, rule in enumerate(policy.gas):
        if rule.chain_id not in (None, request.chain_id):
            continue
        statement = f"gas[{index}]"
        if rule.max_gas is not None and request.gas_limit > rule.max_gas:
            yield Reason(statement, f"The gas limit {request.gas_limit} is over {rule.max_gas}.")
        if rule.max_fee_per_gas is not None and request.max_fee_units > int(rule.max_fee_per_gas):
            yield Reason(
                statement, (f"The fee of {request.max_fee_units} per unit of gas is over {rule.max_fee_per_gas}.")
            )
        if rule.max_gas_usd is None:
            continue
        if worth is None:
            yield Reason(statement, "The network's coin has no price, so the fee cannot be checked against maxGasUsd.")
        elif worth.of(request.gas_units) > usd_units(rule.max_gas_usd):
            fee = show(GAS_USD, worth.of(request.gas_units))
            yield Reason(statement, f"The fee may reach {fee}, over {rule.max_gas_usd} USD.")


def _doubtful(policy: WalletPolicy, request: PolicyRequest, facts: VerdictFacts) -> Iterator[Reason]:
    """Why a person must look at a price on which a statement in dollars depends."""
    moved, coin = priced_assets(policy, request)
    for key in sorted(moved & facts.doubts.keys()):
        yield Reason("prices", f"{facts.doubts[key]}: a person must approve what depends on it.")
    for key in coin & facts.doubts.keys():
        yield Reason("prices", f"{facts.doubts[key]}: a person must approve the fee.")


def priced_assets(policy: WalletPolicy, request: PolicyRequest) -> tuple[frozenset[str], frozenset[str]]:
    """The assets on whose prices a statement about what is moved depends, and those of the fee."""
    moved = frozenset(canonical(movement.asset) for movement in request.movements)
    coin = frozenset() if request.native is None else frozenset([canonical(request.native)])
    return moved if _has_dollars(policy) else frozenset(), coin if _has_fees_in_dollars(policy) else frozenset()


def _has_dollars(policy: WalletPolicy) -> bool:
    """Whether a statement about what is moved is in dollars."""
    above, outflow = policy.approval_above, policy.outflow
    return (
        any(limit.max_usd is not None for limit in policy.limits)
        or (above is not None and (above.usd is not None or any(total.usd is not None for total in above.totals)))
        or (outflow is not None and outflow.max_usd is not None)
    )


def _has_fees_in_dollars(policy: WalletPolicy) -> bool:
    bounds = [*(limit.max_gas_usd for limit in policy.limits), *(rule.max_gas_usd for rule in policy.gas)]
    return any(bound is not None for bound in bounds)


def depends_on_prices(policy: WalletPolicy | None) -> bool:
    """Whether a verdict may depend on a price being right, and not only on there being one."""
    return policy is not None and (_has_dollars(policy) or _has_fees_in_dollars(policy))


def needs_approved_gas(policy: WalletPolicy, request: PolicyRequest) -> bool:
    """Whether the fee is held against what a person has approved before: the chain's file states no usual fee."""
    return policy.fee_above_usual is not None and request.native is not None and not request.usual_fee_units


def _wild_fee(policy: WalletPolicy, request: PolicyRequest, facts: VerdictFacts) -> Iterator[Reason]:
    """Why a person must approve the fee."""
    times, usual = policy.fee_above_usual, request.usual_fee_units or _USUAL_GAS * facts.approved_gas_units
    if times is None or request.native is None or request.gas_units <= times * usual:
        return
    fee = f"The fee may reach {request.gas_units} base units of {request.native.key}"
    if usual:
        yield Reason("feeAboveUsual", f"{fee}, over {times} times the usual {usual}: a person must approve it.")
        return
    message = (
        f"{fee}, {request.max_fee_units} for a unit of gas, and no usual fee is known there: a person must approve it, "
        'and later fees are held against it; or state "usualFee" in the file of the chain.'
    )
    yield Reason("feeAboveUsual", message)


def judge_fee(policy: WalletPolicy, request: PolicyRequest, facts: VerdictFacts) -> Iterator[Reason]:
    """The denials by gas rules and fee limits alone, for a replacement with a higher fee: its movements are reserved
    already. `facts.spent` excludes the transaction itself.
    """
    yield from judge_gas(policy, request, facts.worths)
    if not facts.is_approved:
        yield from _wild_fee(policy, request, facts)
    counted = count(request, facts.worths)
    fees = [bound for bound in bounds_of(policy, request) if bound.limit.max_gas_usd is not None]
    yield from _limits(fees, counted, facts)


def _waits(policy: WalletPolicy, counted: CountedUnits, facts: VerdictFacts) -> Iterator[Reason]:
    above = policy.approval_above
    if above is None:
        return
    for index, total in enumerate(above.totals):
        yield from _over_total(f"approvalAbove.totals[{index}]", total, counted, facts)
    if above.usd is not None:
        worth = counted.units.get(USD, 0)
        if worth > usd_units(above.usd):
            yield Reason("approvalAbove.usd", f"{show(USD, worth)} is over {above.usd} USD: a person must approve it.")
        elif counted.unpriced:
            yield Reason("approvalAbove.usd", f"{', '.join(counted.unpriced)} has no price: a person must approve it.")
    for key, units in sorted(above.assets.items()):
        wanted = counted.units.get(key, 0)
        if wanted > int(units):
            yield Reason(
                f"approvalAbove.assets.{key}", (f"{wanted} is over {units} base units: a person must approve it.")
            )


def _over_total(statement: str, total: AskTotal, counted: CountedUnits, facts: VerdictFacts) -> Iterator[Reason]:
    measure, span = total_measure(total), _span_of(total)
    most = usd_units(total.usd) if total.usd is not None else int(total.units or "0")
    wanted, before = counted.units.get(measure, 0), facts.spent.get((measure, span))
    where = {BATCH: "by this node", RUN: "by this run"}.get(span) or f"in the last {_span(span)}"
    if measure == USD and counted.unpriced:
        yield Reason(statement, f"{', '.join(counted.unpriced)} has no price: a person must approve it.")
    elif wanted and before is None:
        yield Reason(statement, f"What was spent {where} is unknown: a person must approve it.")
    elif wanted and before is not None and before + wanted > most:
        more = f" on top of the {_plain(measure, before)} spent {where}" if before else ""
        message = f"{show(measure, wanted)}{more} is over {_plain(measure, most)}: a person must approve it."
        yield Reason(statement, message)


def _unlimited(policy: WalletPolicy, request: PolicyRequest, worths: Mapping[str, Worth]) -> Iterator[Reason]:
    if policy.allow_unlimited_approvals:
        return
    for movement in request.movements:
        if movement.kind == "approve" and is_unlimited(movement, worths.get(canonical(movement.asset))):
            who, key = movement.counterparty, canonical(movement.asset)
            more = "" if movement.needed is None else f": {movement.amount_units}, where {movement.needed} is needed"
            yield Reason("allowUnlimitedApprovals", f"It gives {who} an unlimited approval for {key}{more}.")


def is_unlimited(movement: Movement, worth: Worth | None) -> bool:
    """Whether an allowance is unlimited: more than the node needs, where that is known. Elsewhere the greatest number
    of a common width, what is worth over a billion dollars, and 2**96 - 1 or more of a token without a price."""
    units = movement.amount_units
    if movement.needed is not None:
        return units > movement.needed
    if is_endless(units):
        return True
    return units >= 2**96 - 1 if worth is None else worth.of(units) > _ENDLESS_USD
