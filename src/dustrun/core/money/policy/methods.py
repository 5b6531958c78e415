"""The methods of a policy: which call one allows, and with which arguments."""

from __future__ import annotations

from collections.abc import Iterator

from dustrun.core.evm.calls import selector_of
from dustrun.core.money.policy.conditions import CallFacts, ConditionOutcome
from dustrun.core.money.policy.counting import PolicyRequest
from dustrun.core.money.policy.document import MethodRule, WalletPolicy
from dustrun.core.money.policy.matching import named_methods
from dustrun.core.money.policy.special_methods import known_functions
from dustrun.core.money.policy.star import find_doubt
from dustrun.core.money.policy.verdict import Reason
from dustrun.core.money.token_calls import InnerCall


def judge_method(
    policy: WalletPolicy,
    request: PolicyRequest,
    call: InnerCall,
    method: str | None,
    allowed: list[Reason],
) -> Iterator[Reason]:
    """The denials of one call; `method` is the signature by which it was decoded. Named entries win over `*`."""
    selector = selector_of(call.data) or ""
    shown = _shown(selector, method)
    named = named_methods(policy.methods, selector)
    if any(isinstance(entry, str) for entry in named):
        allowed.append(Reason("methods", f'The method "{shown}" is allowed.'))
    elif named:
        denied = list(judge_conditions(policy, request, call, method))
        if not denied:
            allowed.append(Reason("methods", f'The method "{shown}" is allowed with these arguments.'))
        yield from denied
    elif "*" not in policy.methods:
        yield Reason("methods", f'The method "{shown}" ({selector}) is not among the allowed methods.')
    elif (doubt := find_doubt(policy, request, call, method)) is None:
        allowed.append(Reason("methods", f'The method "{shown}" is allowed.'))
    else:
        why = f'The method "{shown}" ({selector}) is not allowed: it {doubt}, so "*" does not cover it'
        yield Reason("methods", f"{why}: list it by name.")


def signature_of(policy: WalletPolicy, selector: str) -> str | None:
    """The signature by which a nested call decodes: a well-known one, or one that the policy names. Whoever writes the
    call has no say."""
    known = known_functions().get(selector)
    if known is not None:
        return known.signature
    for entry in named_methods(policy.methods, selector):
        if isinstance(entry, MethodRule):
            return entry.condition.function.signature
        if "(" in entry:
            return entry
    return None


def judge_conditions(
    policy: WalletPolicy, request: PolicyRequest, call: InnerCall, method: str | None
) -> Iterator[Reason]:
    """The denials of a call whose method a policy names only with conditions, none of which holds."""
    selector = selector_of(call.data) or ""
    named = named_methods(policy.methods, selector)
    rules = [entry for entry in named if isinstance(entry, MethodRule)]
    if not rules or len(rules) < len(named):
        return
    outcomes = [_outcome(rule, request, call) for rule in rules]
    if any(outcome.holds for outcome in outcomes):
        return
    for rule, outcome in zip(rules, outcomes, strict=True):
        why = "does not hold" if outcome.fault is None else f"cannot be evaluated: {outcome.fault}"
        yield Reason("methods", f'The condition "{rule.where}" on "{_shown(selector, method)}" {why}.')


def _outcome(rule: MethodRule, request: PolicyRequest, call: InnerCall) -> ConditionOutcome:
    if request.sender is None or request.chain_id is None:
        return ConditionOutcome(False, "the wallet or the chain is unknown")
    return rule.condition.judge(call.data, CallFacts(request.sender, _value(request, call), request.chain_id))


def _value(request: PolicyRequest, call: InnerCall) -> int:
    """The coin that a call sees: calls that a contract makes to itself see that of the transaction."""
    is_outer = request.to is not None and call.to.lower() == request.to.lower()
    return max(call.value_units, request.value_units) if is_outer else call.value_units


def _shown(selector: str, method: str | None) -> str:
    known = known_functions().get(selector)
    return method or (known.signature if known is not None else selector)
