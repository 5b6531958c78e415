"""Limits with a scope: they count only what a spend does within it, each under a measure of its own.

The measure's name contains a digest of the scope, so two limits of one scope share a count, and a change of the scope
begins a new one. `per` splits the count: by run, workflow, key or recipient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from dustrun.core.evm.calls import read_selector, selector_of
from dustrun.core.money.intent import Movement
from dustrun.core.money.policy.counting import (
    COUNT,
    GAS_USD,
    USD,
    CountedUnits,
    PolicyRequest,
    Worth,
    asked,
    canonical,
    count,
    implied_of,
    own_movements,
    units_of,
)
from dustrun.core.money.policy.document import Limit, LimitScope, WalletPolicy
from dustrun.core.money.policy.matching import find_account, find_asset
from dustrun.core.money.token_calls import InnerCall, Unread, inner_calls
from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass

WHOLE_RUN_MS: Final = 2**62
"""The window of a limit per run: however long the run takes."""


@dataclass(frozen=True, slots=True)
class LimitCount:
    """One count that a limit holds against its maximum. `window_ms` None: this transaction alone. `member`: the
    recipient of a limit per recipient."""

    index: int
    limit: Limit
    measure: str
    window_ms: int | None
    member: str | None = None


def base_of(limit: Limit) -> str:
    """The dimension that a limit counts, whatever its scope."""
    if limit.asset is not None:
        return limit.asset
    if limit.max_usd is not None:
        return USD
    return COUNT if limit.max_count is not None else GAS_USD


def measure_of(limit: Limit, member: str = "") -> str:
    """The name of a limit's count."""
    if not limit.is_scoped:
        return base_of(limit)
    scope = dumps_text([limit.of.model_dump(mode="json") if limit.of is not None else None, limit.per])
    digest = hashlib.sha256(scope.encode()).hexdigest()[:20]
    return f"{base_of(limit)}@{digest}" + (f"/{member}" if member else "")


def bounds_of(policy: WalletPolicy, request: PolicyRequest) -> list[LimitCount]:
    """The counts that the limits of a policy keep of a request."""
    return [bound for index, limit in enumerate(policy.limits) for bound in _bounds(index, limit, request)]


def _bounds(index: int, limit: Limit, request: PolicyRequest) -> Iterator[LimitCount]:
    origin, window = request.origin, limit.window_ms
    if limit.per == "recipient":
        for who in sorted({one.counterparty.lower() for one in request.movements if one.kind == "send"}):
            yield LimitCount(index, limit, measure_of(limit, who), window, who)
    elif limit.per == "run":  # without a run, each transaction is one
        yield LimitCount(index, limit, measure_of(limit, origin.run_id or "-"), WHOLE_RUN_MS if origin.run_id else None)
    elif limit.per is not None:
        member = origin.workflow_id if limit.per == "workflow" else origin.key_id
        yield LimitCount(index, limit, measure_of(limit, member or "-"), window)
    else:
        yield LimitCount(index, limit, measure_of(limit), window)


def asked_under(policy: WalletPolicy, request: PolicyRequest, worths: Mapping[str, Worth]) -> CountedUnits:
    """The amounts that a request is checked with: everything it moves, in all and within each scope."""
    return _with_scopes(policy, request, asked(request, worths), request.movements, worths)


def count_under(policy: WalletPolicy | None, request: PolicyRequest, worths: Mapping[str, Worth]) -> CountedUnits:
    """The amounts that a request adds to those spent, in all and within each scope."""
    whole = count(request, worths)
    return whole if policy is None else _with_scopes(policy, request, whole, own_movements(request), worths)


def _with_scopes(
    policy: WalletPolicy,
    request: PolicyRequest,
    whole: CountedUnits,
    movements: tuple[Movement, ...],
    worths: Mapping[str, Worth],
) -> CountedUnits:
    scoped = [bound for bound in bounds_of(policy, request) if bound.limit.is_scoped]
    if not scoped:
        return whole
    units = dict(whole.units)
    for bound in scoped:
        units[bound.measure] = _units(bound, request, movements, whole.units.get(COUNT, 0), worths)
    return replace(whole, units=units)


def _units(
    bound: LimitCount, request: PolicyRequest, movements: tuple[Movement, ...], number: int, worths: Mapping[str, Worth]
) -> int:
    limit, implied = bound.limit, implied_of(request)
    within = [one for one in movements if _is_within(bound, request, one)]
    if limit.max_count is not None:
        moves_nothing = not request.movements and bound.member is None and _is_called_within(limit.of, request)
        return number if within or moves_nothing else 0
    if limit.asset is not None:
        return sum(units_of(one, implied) for one in within if canonical(one.asset).lower() == limit.asset.lower())
    known = [(one, worths.get(canonical(one.asset))) for one in within]
    return sum(worth.of(units_of(one, implied)) for one, worth in known if worth is not None)


def _is_within(bound: LimitCount, request: PolicyRequest, movement: Movement) -> bool:
    """Whether a movement is within the scope: all that the scope names must fit."""
    of, who = bound.limit.of, movement.counterparty
    if bound.member is not None and (who.lower() != bound.member or movement.kind != "send"):
        return False
    if of is None:
        return True
    chain_id = movement.asset.chain_id
    if of.recipients and find_account(of.recipients, chain_id, who) is None:
        return False
    if of.assets and find_asset(of.assets, movement.asset) is None:
        return False
    is_for_contract = bool(of.contracts) and find_account(of.contracts, chain_id, who) is not None
    if is_for_contract and not of.methods:
        return _is_of_origin(of, request)  # a stand-alone approval for the contract, or coins that go into it
    return _is_called_within(of, request)


def _is_called_within(of: LimitScope | None, request: PolicyRequest) -> bool:
    """Whether one call of a request, also a nested one, is of a contract and a method that the scope names."""
    if of is None:
        return True
    if not _is_of_origin(of, request):
        return False
    if not (of.contracts or of.methods):
        return not (of.recipients or of.assets) or bool(request.movements)
    return any(_is_named(of, request.chain_id, call) for call in _calls(request))


def _is_of_origin(of: LimitScope, request: PolicyRequest) -> bool:
    origin = request.origin
    return (not of.workflows or origin.workflow_id in of.workflows) and (not of.keys or origin.key_id in of.keys)


def _is_named(of: LimitScope, chain_id: int | None, call: InnerCall) -> bool:
    selectors = {read_selector(method) for method in of.methods}
    is_contract = not of.contracts or find_account(of.contracts, chain_id, call.to) is not None
    return is_contract and (not selectors or selector_of(call.data) in selectors)


def _calls(request: PolicyRequest) -> list[InnerCall]:
    if request.to is None:
        return []
    try:
        nested = inner_calls(request.to, request.data)
    except Unread:
        nested = []  # denied elsewhere
    return [InnerCall(request.to, request.value_units, request.data), *nested]
