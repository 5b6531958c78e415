"""The verdict on one request: pure, and the same for the same facts. What is not allowed, or not known, is denied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dustrun.core.amounts import Asset
from dustrun.core.intent import Movement
from dustrun.core.policy.counting import COUNT, GAS_USD, USD, Counted, Request, Worth, asked, canonical, count
from dustrun.core.policy.document import HOUR_MS, Limit, WalletPolicy, usd_units
from dustrun.core.policy.matching import find_account, find_asset, find_method, names_chain
from dustrun.core.selectors import read_selector, selector_of
from dustrun.core.token_calls import OF_TOKENS, implied_movement

Need = tuple[str, int]
"""A measure and the length of a window in milliseconds."""

_ENDLESS = (2**96 - 1, 2**128 - 1)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: the statement of the policy that decided, like `limits[2]`, and what it says to this request."""

    statement: str
    message: str

    def public(self) -> dict[str, str]:
        """As JSON."""
        return {"statement": self.statement, "message": self.message}


@dataclass(frozen=True, slots=True)
class _Verdict:
    reasons: tuple[Reason, ...]

    @property
    def outcome(self) -> str:
        """`allow`, `deny` or `ask`."""
        return type(self).__name__.lower()

    def public(self) -> dict[str, Any]:
        """As JSON."""
        return {"outcome": self.outcome, "reasons": [reason.public() for reason in self.reasons]}


@dataclass(frozen=True, slots=True)
class Allow(_Verdict):
    """It may be signed; the reasons are the statements that allow it."""


@dataclass(frozen=True, slots=True)
class Deny(_Verdict):
    """It may not be signed; every statement that denies it is a reason."""


@dataclass(frozen=True, slots=True)
class Ask(_Verdict):
    """A person must approve exactly this first."""


Verdict = Allow | Deny | Ask


@dataclass(frozen=True, slots=True)
class Facts:
    """What the verdict hangs on besides policy and request. What is not in here is not known.

    `worths` by asset key; `spent` units by measure and window, as `needs` asks for them; `first_seen` the instant at
    which each recipient (lower case) became known; `is_approved`: a person has approved exactly this request.
    """

    now_ms: int
    worths: Mapping[str, Worth] = field(default_factory=dict)
    spent: Mapping[Need, int] = field(default_factory=dict)
    first_seen: Mapping[str, int] = field(default_factory=dict)
    is_approved: bool = False


def needs(policy: WalletPolicy) -> list[Need]:
    """The measures and windows that the limits of a policy look at."""
    return sorted({(_measure(limit), limit.window_ms) for limit in policy.limits if limit.window_ms is not None})


def judge(policy: WalletPolicy | None, request: Request, facts: Facts) -> Verdict:
    """Whether the request may be signed, with all reasons."""
    if policy is None:
        return Deny((Reason("default", "The wallet has no policy, so it may do nothing: give it one."),))
    allowed: list[Reason] = []
    counted = asked(request, facts.worths)
    denied = [
        *_scope(policy, request, allowed),
        *_prices(policy, counted),
        *_limits(policy, counted, facts),
        *_new_recipients(policy, request, facts),
        *judge_gas(policy, request, facts.worths),
    ]
    if denied:
        return Deny(tuple(denied))
    waits = list(_waits(policy, count(request, facts.worths)))
    if waits and not facts.is_approved:
        return Ask(tuple(waits))
    approved = [Reason(reason.statement, "A person approved exactly this.") for reason in waits]
    return Allow(tuple(dict.fromkeys([*allowed, *approved])))


# --- chains, assets, recipients, contracts, methods ---


def _scope(policy: WalletPolicy, request: Request, allowed: list[Reason]) -> Iterator[Reason]:
    if request.chain_id is None:
        if request.kind != "message":
            yield Reason("chains", "It does not say for which chain it is, so it could count on any.")
    elif names_chain(policy.chains, request.chain_id):
        allowed.append(Reason("chains", f"Chain {request.chain_id} is allowed."))
    else:
        yield Reason("chains", f"Chain {request.chain_id} is not among the allowed chains.")
    yield from (
        _call(policy, request, allowed) if request.kind == "transaction" else _signature(policy, request, allowed)
    )
    for movement in request.movements:
        yield from _movement(policy, request, movement, allowed)


def _signature(policy: WalletPolicy, request: Request, allowed: list[Reason]) -> Iterator[Reason]:
    rules = policy.signatures
    if request.kind == "message":
        if rules.messages:
            allowed.append(Reason("signatures.messages", "Messages may be signed."))
        else:
            yield Reason("signatures.messages", "Messages may not be signed; set signatures.messages to allow it.")
    elif rules.typed_data == "none":
        yield Reason("signatures.typedData", "Typed data may not be signed.")
    elif rules.typed_data == "known" and not (request.is_decoded and request.movements):
        message = "The typed data is neither a permit nor an order that can be read, so nobody knows what it allows."
        yield Reason("signatures.typedData", message)
    else:
        allowed.append(Reason("signatures.typedData", f"Typed data may be signed ({rules.typed_data})."))


def _call(policy: WalletPolicy, request: Request, allowed: list[Reason]) -> Iterator[Reason]:
    yield from _undeclared(request)
    if request.to is None:
        if policy.allow_deploy:
            allowed.append(Reason("allowDeploy", "Contracts may be created."))
        else:
            yield Reason("allowDeploy", "Contracts may not be created.")
        return
    if not request.data:
        return
    selector = selector_of(request.data)
    if selector is None:
        yield Reason("methods", "The calldata has fewer than four bytes, so it names no method.")
        return
    if not request.is_decoded and not policy.allow_unverified_calldata:
        yield Reason("allowUnverifiedCalldata", "The calldata does not decode by a known ABI, so it is not verified.")
    if request.method is not None and not _is_named(request.method, selector):
        yield Reason("methods", f'The calldata begins with {selector}, which is not "{request.method}".')
    if not _is_of_token(request, selector):
        yield from _listed_call(policy, request, request.to, selector, allowed)


def _listed_call(
    policy: WalletPolicy, request: Request, to: str, selector: str, allowed: list[Reason]
) -> Iterator[Reason]:
    shown = request.method or selector
    if find_account(policy.contracts, request.chain_id, to) is None:
        yield Reason("contracts", f"The contract {to} is not among the allowed contracts.")
    else:
        allowed.append(Reason("contracts", f"The contract {to} may be called."))
    if find_method(policy.methods, selector) is None:
        yield Reason("methods", f'The method "{shown}" ({selector}) is not among the allowed methods.')
    else:
        allowed.append(Reason("methods", f'The method "{shown}" is allowed.'))


def _is_named(method: str, selector: str) -> bool:
    try:
        return read_selector(method) == selector
    except ValueError:
        return False


def _is_of_token(request: Request, selector: str) -> bool:
    """Whether it is a token's own transfer or approval, whole and declared, so that assets and recipients judge it."""
    if selector not in OF_TOKENS or request.to is None or request.chain_id is None or request.value_units:
        return False
    implied = implied_movement(request.chain_id, request.to, request.data)
    return implied is not None and len(request.data) == 68


def _undeclared(request: Request) -> Iterator[Reason]:
    """What the transaction moves beyond what it declares: a ledger that believed it would count too little."""
    assert request.chain_id is not None
    declared = sum(
        movement.amount_units
        for movement in request.movements
        if movement.kind == "send" and movement.asset == Asset(request.chain_id)
    )
    if declared < request.value_units:
        message = f"It sends {request.value_units} base units of the native coin and declares {declared}."
        yield Reason("default", message)
    if request.to is None:
        return
    implied = implied_movement(request.chain_id, request.to, request.data)
    if (
        implied is not None
        and implied.amount_units
        and not any(_declares(movement, implied) for movement in request.movements)
    ):
        message = (
            f"Its calldata moves {implied.amount_units} of {implied.asset.key} ({implied.kind}, "
            f"{implied.counterparty}), which it does not declare."
        )
        yield Reason("default", message)


def _declares(movement: Movement, implied: Movement) -> bool:
    if (movement.kind, movement.asset.key.lower()) != (implied.kind, implied.asset.key.lower()):
        return False
    if movement.counterparty.lower() != implied.counterparty.lower():
        return False
    return movement.amount_units >= implied.amount_units


def _movement(policy: WalletPolicy, request: Request, movement: Movement, allowed: list[Reason]) -> Iterator[Reason]:
    key, who = canonical(movement.asset), movement.counterparty
    if request.chain_id is not None and movement.asset.chain_id != request.chain_id:
        yield Reason("chains", f"It moves {key}, which is not on chain {request.chain_id}.")
    entry = find_asset(policy.assets, movement.asset)
    if entry is None:
        yield Reason("assets", f"The asset {key} is not among the allowed assets.")
    else:
        allowed.append(Reason("assets", f"The asset {key} may be moved ({entry})."))
    if movement.kind == "approve":
        yield from _spender(policy, request, movement, allowed)
    elif request.kind == "transaction" and request.to is None:
        return  # value that a new contract begins with: allowDeploy decides
    elif find_account(policy.recipients, movement.asset.chain_id, who) is not None:
        allowed.append(Reason("recipients", f"{who} may be paid."))
    elif not _is_paid_by_call(policy, request, movement):
        yield Reason("recipients", f"{who} is not among the allowed recipients.")


def _spender(policy: WalletPolicy, request: Request, movement: Movement, allowed: list[Reason]) -> Iterator[Reason]:
    if find_account(policy.contracts, movement.asset.chain_id, movement.counterparty) is None:
        yield Reason("contracts", f"The spender {movement.counterparty} is not among the allowed contracts.")
    else:
        allowed.append(Reason("contracts", f"{movement.counterparty} may be approved to spend."))
    if is_endless(movement.amount_units) and not policy.allow_unlimited_approvals:
        message = f"It approves {movement.counterparty} to spend {movement.asset.key} without an end."
        yield Reason("allowUnlimitedApprovals", message)


def _is_paid_by_call(policy: WalletPolicy, request: Request, movement: Movement) -> bool:
    """Whether the value goes to the very contract that an allowed call is made of (a router, a wrapper)."""
    if request.to is None or movement.counterparty.lower() != request.to.lower():
        return False
    if not request.data or selector_of(request.data) in OF_TOKENS:
        return False
    return find_account(policy.contracts, request.chain_id, request.to) is not None


def is_endless(units: int) -> bool:
    """Whether an approval is one without an end: the largest number of a common width, or near it."""
    return units in _ENDLESS or units >= 2**159


# --- prices and limits ---


def _prices(policy: WalletPolicy, counted: Counted) -> Iterator[Reason]:
    if policy.allow_unpriced_assets:
        return
    for key in counted.unpriced:
        message = f"{key} has no price, so nobody knows what moving it is worth; set static_prices or a price source."
        yield Reason("allowUnpricedAssets", message)


def _measure(limit: Limit) -> str:
    if limit.asset is not None:
        return limit.asset
    if limit.max_usd is not None:
        return USD
    return COUNT if limit.max_count is not None else GAS_USD


def _maximum(limit: Limit) -> int:
    if limit.max_units is not None:
        return int(limit.max_units)
    if limit.max_count is not None:
        return limit.max_count
    return usd_units(limit.max_usd or limit.max_gas_usd or "0")


def _limits(policy: WalletPolicy, counted: Counted, facts: Facts) -> Iterator[Reason]:
    for index, limit in enumerate(policy.limits):
        reason = _over(f"limits[{index}]", limit, counted, facts)
        if reason is not None:
            yield reason


def _over(statement: str, limit: Limit, counted: Counted, facts: Facts) -> Reason | None:
    measure, maximum = _measure(limit), _maximum(limit)
    if measure == GAS_USD and counted.fee_unpriced:
        return Reason(statement, "The network's coin has no price, so the fee cannot be held against the limit.")
    wanted = counted.units.get(measure, 0)
    if wanted == 0:
        return None
    if limit.window_ms is None:
        if wanted <= maximum:
            return None
        return Reason(statement, f"{show(measure, wanted)} is over {show(measure, maximum)} in one transaction.")
    spent = facts.spent.get((measure, limit.window_ms))
    if spent is None:
        return Reason(statement, f"What was spent of {measure} in {limit.window_ms} ms is not known.")
    if spent + wanted <= maximum:
        return None
    message = (
        f"{show(measure, wanted)} more than the {show(measure, spent)} of the last {limit.window_ms} ms is over "
        f"{show(measure, maximum)}."
    )
    return Reason(statement, message)


def show(measure: str, units: int) -> str:
    """An amount of a measure for people."""
    if measure in (USD, GAS_USD):
        whole, part = divmod(units, 10**18)
        digits = f"{part:018d}".rstrip("0")
        return f"{whole}.{digits} USD" if digits else f"{whole} USD"
    return str(units) if measure == COUNT else f"{units} of {measure}"


def _new_recipients(policy: WalletPolicy, request: Request, facts: Facts) -> Iterator[Reason]:
    if not policy.new_recipient_hours:
        return
    for who in sorted({movement.counterparty for movement in paid(policy, request)}):
        seen = facts.first_seen.get(who.lower())
        if seen is None or facts.now_ms < seen + policy.new_recipient_hours * HOUR_MS:
            message = f"{who} is new: it may be paid {policy.new_recipient_hours} hours after it was first named."
            yield Reason("newRecipientHours", message)


def paid(policy: WalletPolicy, request: Request) -> list[Movement]:
    """The sends to somebody, not into the contract that is called."""
    sends = (movement for movement in request.movements if movement.kind == "send")
    return [movement for movement in sends if not _is_paid_by_call(policy, request, movement)]


def judge_gas(policy: WalletPolicy, request: Request, worths: Mapping[str, Worth]) -> Iterator[Reason]:
    """What the ceilings of network fees deny; also asked alone, when a replacement bids more."""
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
            yield Reason(statement, f"{request.max_fee_units} for one unit of gas is over {rule.max_fee_per_gas}.")
        if rule.max_gas_usd is None:
            continue
        if worth is None:
            yield Reason(statement, "The network's coin has no price, so the fee cannot be held against maxGasUsd.")
        elif worth.of(request.gas_units) > usd_units(rule.max_gas_usd):
            fee = show(GAS_USD, worth.of(request.gas_units))
            yield Reason(statement, f"The fee may reach {fee}, over {rule.max_gas_usd} USD.")


def _waits(policy: WalletPolicy, counted: Counted) -> Iterator[Reason]:
    above = policy.approval_above
    if above is None:
        return
    if above.usd is not None:
        worth = counted.units.get(USD, 0)
        if worth > usd_units(above.usd):
            yield Reason("approvalAbove.usd", f"{show(USD, worth)} is over {above.usd} USD: a person decides.")
        elif counted.unpriced:
            yield Reason("approvalAbove.usd", f"{', '.join(counted.unpriced)} has no price: a person decides.")
    for key, units in sorted(above.assets.items()):
        wanted = counted.units.get(key, 0)
        if wanted > int(units):
            yield Reason(f"approvalAbove.assets.{key}", f"{wanted} is over {units} base units: a person decides.")
