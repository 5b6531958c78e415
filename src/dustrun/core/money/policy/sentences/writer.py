"""A policy in sentences that can be read back, and in remarks that say everything else of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dustrun.core.money.policy.document import FEE_TIMES_USUAL, HOUR_MS, GasRule, Limit, LimitScope, WalletPolicy
from dustrun.core.money.policy.sentences.reader import METHOD, SPANS, Json, Names, read_sentences
from dustrun.core.money.policy.sentences.remarks import remarks_of
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class Told:
    """A policy in sentences; the rest of its document, which they do not say; and remarks on that rest and on what
    holds by default. Together the sentences and the remarks say everything."""

    sentences: tuple[str, ...]
    rest: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


def tell(policy: WalletPolicy, names: Names) -> Told:
    """A policy in sentences from which `read_sentences`, with the `rest`, makes the same policy."""
    worded = [(limit, line) for limit in policy.limits if (line := _tell_limit(limit, policy)) is not None]
    lines = _tell_assets(policy) + _tell_parties(policy, [limit.of for limit, _ in worded if limit.of is not None])
    lines += [line for _, line in worded]
    lines += [f"pay fees up to ${rule.max_gas_usd}" for rule in policy.gas if _is_plain_fee(rule)]
    if policy.approval_above is not None and policy.approval_above.usd is not None:
        lines.append(f"ask above ${_grouped(policy.approval_above.usd)}")
    if policy.fee_above_usual != FEE_TIMES_USUAL and policy.chains:
        times = policy.fee_above_usual
        lines.append("never ask for fees" if times is None else f"ask for fees above {times} times the usual")
    if policy.new_recipient_hours:
        lines.append(f"wait {policy.new_recipient_hours} hours before a new recipient is paid")
    if policy.chains or lines:
        lines.insert(0, _tell_chains(policy, names))
    rest = _rest_of(policy, read_sentences("\n".join(lines), names).policy or WalletPolicy())
    return Told(tuple(lines), rest, tuple(remarks_of(policy, rest, names)))


def _tell_chains(policy: WalletPolicy, names: Names) -> str:
    known = {chain_id: name for name, chain_id in names.chains.items()}
    words = ["every chain" if one == "*" else known.get(one, f"chain {one}") for one in policy.chains]
    return f"on {_and(words)}" if words else "on no chain"


def _tell_assets(policy: WalletPolicy) -> list[str]:
    """Where someone may be paid or called, every asset goes without saying."""
    is_implied = bool(policy.recipients or policy.contracts)
    if policy.assets == ("*",):
        return [] if is_implied else ["move any asset"]
    if not policy.assets:
        return ["move nothing"] if is_implied else []
    return [f"move {_and(policy.assets)}"]


def _tell_parties(policy: WalletPolicy, scopes: Sequence[LimitScope]) -> list[str]:
    """Whom it may pay and call, other than those that its limits name."""
    named = {who for scope in scopes for who in (*scope.recipients, *scope.contracts)}
    others = [who for who in policy.recipients if who not in named]
    lines = ["pay anyone" if others == ["*"] else f"pay {_and(others)}"] if others else []
    places = [where for where in policy.contracts if where not in named]
    if not policy.contracts:
        return lines
    where = _and(["any contract" if one == "*" else one for one in places or policy.contracts])
    methods = [one for one in policy.methods if isinstance(one, str) and METHOD.fullmatch(one)]
    if methods and (places or not {one for scope in scopes for one in scope.methods} >= set(methods)):
        lines.append(f"call {_and(methods)} on {where}")
    if "*" in policy.methods and (places or not any(scope.contracts and not scope.methods for scope in scopes)):
        lines.append(f"use {where}")
    return lines


def _is_plain_fee(rule: GasRule) -> bool:
    is_plain = rule.chain_id is None and rule.max_gas is None and rule.max_fee_per_gas is None
    return is_plain and rule.max_gas_usd is not None


def _tell_limit(limit: Limit, policy: WalletPolicy) -> str | None:
    """A limit in words; None if there are none, or if they would also allow what the policy does not."""
    span = _tell_span(limit)
    if span is None or limit.max_units is not None:
        return None
    if limit.max_count is not None:
        return f"sign up to {limit.max_count} times{span}" if limit.of is None and limit.per in (None, "run") else None
    if limit.max_gas_usd is not None:
        return f"pay fees up to ${_grouped(limit.max_gas_usd)}{span}" if span else None
    amount, of = f"up to ${_grouped(limit.max_usd or '0')}{span}", limit.of
    each = limit.per == "recipient"
    if of is None:
        return f"spend {amount}{' for each recipient' if each else ''}"
    named = {name for name in type(of).model_fields if getattr(of, name)}
    if any(not set(getattr(of, name)) <= set(getattr(policy, name, ())) for name in named):
        return None
    if named == {"recipients"} and "*" not in of.recipients:
        return f"pay {_and(of.recipients)}{' each' if each else ''} {amount}"
    if each:
        return None
    if named == {"contracts"} and "*" in policy.methods:
        return f"use {_and(of.contracts)} {amount}"
    is_called = named == {"contracts", "methods"} and all(METHOD.fullmatch(method) for method in of.methods)
    return f"call {_and(of.methods)} on {_and(of.contracts)} {amount}" if is_called else None


def _tell_span(limit: Limit) -> str | None:
    if limit.per == "run":
        return " in one run"
    if limit.per in ("workflow", "key"):
        return None
    if limit.window_ms is None:
        return ""
    known = next((f" {words}" for words, ms in SPANS.items() if ms == limit.window_ms), None)
    hours, rest = divmod(limit.window_ms, HOUR_MS)
    return known or (f" in {hours} hours" if rest == 0 else None)


def _grouped(usd: str) -> str:
    whole, _, part = usd.partition(".")
    return f"{int(whole):,}{'.' + part if part else ''}"


def _and(words: Sequence[Any]) -> str:
    listed = [str(word) for word in words]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def _rest_of(policy: WalletPolicy, again: WalletPolicy) -> Json:
    """The fields of a document that its sentences do not give back: of a list the missing entries."""
    whole, read = (one.model_dump(mode="json", by_alias=True) for one in (policy, again))
    rest: Json = {}
    for name, value in whole.items():
        said = read[name]
        if isinstance(value, list):
            given = {repr(entry) for entry in said}
            missing = [entry for entry in value if repr(entry) not in given]
            rest |= {name: missing} if missing else {}
        elif value != said:
            is_part = name == "approvalAbove" and said is not None
            rest[name] = {key: one for key, one in value.items() if one != said[key]} if is_part else value
    return rest
