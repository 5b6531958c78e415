"""A policy in sentences that can be read back, and in remarks that say everything else of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from dustrun.core.money.policy.document import (
    FEE_TIMES_USUAL,
    HOUR_MS,
    ApprovalAbove,
    ApprovalRules,
    AskTotal,
    GasRule,
    Limit,
    LimitScope,
    Outflow,
    WalletPolicy,
)
from dustrun.core.money.policy.sentences.reader import METHOD, SPANS, Json, Names, on_chains, read_sentences
from dustrun.core.money.policy.sources_rule import default_sources
from dustrun.core.values.amounts import format_units
from dustrun.core.values.fields import Fields
from dustrun.records import dataclass

# What a policy says beyond its sentences, for a person who reads it. Every field of the rest is said.


_SWITCHES: Final = {
    "allowDeploy": "It may create contracts.",
    "allowUnlimitedApprovals": "It may give unlimited allowances.",
    "allowUnverifiedCalldata": "It may make calls that cannot be decoded, to the listed contracts and methods.",
    "allowUnpricedAssets": "It may move assets without a price; they count as $0.",
}
_TYPED: Final = {
    "none": "It signs no typed data.",
    "any": "It signs any typed data, even what cannot be decoded.",
    "known": "It signs permits and orders whose amounts can be decoded.",
}
_OUTFLOW: Final = (
    ("beyondDeclared", "A transaction may take more than its node declares.", "A transaction may take no more than its "
     "node declares."),
    ("allowancesBeyondDeclared", "Allowances may rise further than the node declares.", ""),
)  # fmt: skip


def remarks_of(policy: WalletPolicy, rest: Mapping[str, Any], names: Names) -> Iterator[str]:
    """One sentence for each thing that the rest of a document says; of a policy that allows something also its
    defaults."""
    for contract in rest.get("contracts", ()):
        yield f"It may call the contract {contract}, and let it spend."
    for method in rest.get("methods", ()):
        yield _method(method)
    for limit in rest.get("limits", ()):
        yield _limit(limit, names)
    for rule in rest.get("gas", ()):
        yield _gas(rule, names)
    yield from _approvals(rest.get("approvalAbove") or {}, names)
    if "approval" in rest:
        yield from _deciders(policy.approval)
    if policy.chains:
        yield from _defaults(policy, names)
    signatures = rest.get("signatures")
    if signatures:
        yield _TYPED[signatures["typedData"]]
        if signatures["messages"]:
            yield "It signs plain messages."
    yield from (sentence for name, sentence in _SWITCHES.items() if rest.get(name))


def _method(method: Any) -> str:
    if isinstance(method, str):
        return "It may call every method, except those that hand its money to others." if method == "*" else (
            f"It may call {method}."
        )  # fmt: skip
    return f"It may call {method['method']} only if {method['where']}."


def _amount(limit: Mapping[str, Any], asset: str, units: str, usd: str, names: Names) -> str:
    return _units(limit[asset], limit[units], names) if limit.get(units) is not None else f"${limit[usd]}"


def _units(key: str, units: str, names: Names) -> str:
    """An amount with its symbol and its asset: a symbol alone does not say which token it is."""
    known = names.units.get(key.lower())
    return (
        f"{units} base units of {key}" if known is None else f"{format_units(int(units), known[1])} {known[0]} ({key})"
    )


def _limit(limit: Json, names: Names) -> str:
    if limit["maxCount"] is not None:
        most = f"It sends and signs at most {limit['maxCount']} times"
    elif limit["maxGasUsd"] is not None:
        most = f"It pays at most ${limit['maxGasUsd']} in network fees"
    else:
        most = f"It moves at most {_amount(limit, 'asset', 'maxUnits', 'maxUsd', names)}"
    per, window = limit["per"], limit["windowMs"]
    when = " in one run" if per == "run" else " per transaction" if window is None else f" in any {_time(window)}"
    each = f" for each {per}" if per not in (None, "run") else ""
    scope = [f"{name} {', '.join(entries)}" for name, entries in (limit["of"] or {}).items() if entries]
    return f"{most}{when}{each}{', counted only for ' if scope else ''}{'; '.join(scope)}."


def _time(ms: int) -> str:
    hours, left = divmod(ms, HOUR_MS)
    return f"{ms} ms" if left else "hour" if hours == 1 else f"{hours} hours"


def _gas(rule: Json, names: Names) -> str:
    known = {chain_id: name for name, chain_id in names.chains.items()}
    most = {"maxGasUsd": "${}", "maxGas": "{} gas", "maxFeePerGas": "{} base units per gas"}
    listed = [form.format(rule[name]) for name, form in most.items() if rule[name] is not None]
    chain = rule["chainId"]
    where = "" if chain is None else f" on {known.get(chain, f'chain {chain}')}"
    return f"The network fee of one transaction{where} is at most {' and '.join(listed) or 'anything'}."


def _approvals(above: Mapping[str, Any], names: Names) -> Iterator[str]:
    for key, units in above.get("assets", {}).items():
        yield f"Above {_units(key, units, names)} a person must approve the exact transaction."
    for total in above.get("totals", ()):
        amount = _amount(total, "asset", "units", "usd", names)
        where = {"batch": "one node", "run": "one run"}.get(total["per"]) or f"any {_time(total['windowMs'])}"
        yield f"Above {amount} in all of {where} a person must approve the exact transactions."


def _deciders(rules: ApprovalRules) -> Iterator[str]:
    if rules.quorum > 1:
        yield f"{rules.quorum} keys of different people must approve what it asks about."
    if rules.approvers:
        yield f"Only these keys may approve what it asks about: {', '.join(rules.approvers)}."
    yield f"What is not approved within {_time(rules.expires_ms)} ends."


def _defaults(policy: WalletPolicy, names: Names) -> Iterator[str]:
    for name, entries in sorted(on_chains(names, list(policy.chains)).contracts.items()):
        if entries and set(entries) <= set(policy.contracts):
            yield f"{name} is {' and '.join(entries)}."
    if policy.contracts and "*" in policy.methods:
        yield (
            "Of a contract that it may use, it may call every method whose parties are the wallet or listed here, or "
            "that a simulation shows to give nothing away."
        )
    if "*" in policy.assets:
        yield "Any asset may move."
    above = policy.approval_above
    if above is not None and above.usd is not None and not above.totals:
        yield f"It asks about each transaction above ${above.usd}; smaller ones that come to more are not asked about."
    if any(limit.window_ms is not None for limit in policy.limits):
        yield "A day is any 24 hours in a row, a month any 30 days. Network fees do not count toward amounts."
    if policy.fee_above_usual == FEE_TIMES_USUAL:
        yield f"A network fee above {FEE_TIMES_USUAL} times the usual one needs a person's approval."
    yield from _outflow(policy.outflow, names)
    yield from _sources(policy)


def _outflow(outflow: Outflow | None, names: Names) -> Iterator[str]:
    if outflow is None:
        yield "What a transaction really takes is not simulated before it signs."
        return
    yield "Before it signs, it simulates what the transaction really takes."
    fields = outflow.model_dump(mode="json", by_alias=True)
    if outflow.max_usd is not None:
        yield f"One transaction takes at most ${outflow.max_usd} from its balances."
    for key, units in outflow.assets.items():
        yield f"One transaction takes at most {_units(key, units, names)} from its balances."
    for name, so, otherwise in _OUTFLOW:
        sentence = so if fields[name] else otherwise
        if sentence:
            yield sentence
    if outflow.unsimulated == "declared":
        yield "If no endpoint can simulate, what the node declares is trusted."


def _sources(policy: WalletPolicy) -> Iterator[str]:
    if policy.sources is None:
        yield "Models, forms and other systems may say who is paid and how much."
        return
    if policy.sources == default_sources():
        yield (
            "If a model, a form, a webhook or an answer from outside shapes who is paid or how much, a person must "
            "approve it."
        )
        return
    for name in default_sources():
        rule = policy.sources.get(name)
        if rule is None:
            yield f"Anything may shape the {name}."
        else:
            denied = "denied" if rule.otherwise == "deny" else "approved by a person"
            yield f"What shapes the {name} is {', '.join(rule.allow) or 'nothing'}; anything else must be {denied}."


_Contracts = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class WrittenPolicy:
    """A policy in sentences; the rest of its document, which they do not say; and remarks on that rest and on what
    holds by default. Together the sentences and the remarks say everything."""

    sentences: tuple[str, ...]
    rest: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


def tell(policy: WalletPolicy, names: Names) -> WrittenPolicy:
    """A policy in sentences from which `read_sentences`, with the `rest`, makes the same policy."""
    places = on_chains(names, list(policy.chains)).contracts
    worded = [(limit, line) for limit in policy.limits if (line := _tell_limit(limit, policy, places)) is not None]
    scopes = [limit.of for limit, _ in worded if limit.of is not None]
    lines = _tell_assets(policy) + _tell_parties(policy, scopes, places)
    lines += [line for _, line in worded]
    lines += [f"pay fees up to ${rule.max_gas_usd}" for rule in policy.gas if _is_plain_fee(rule)]
    lines += _tell_asks(policy.approval_above)
    if policy.fee_above_usual != FEE_TIMES_USUAL and policy.chains:
        times = policy.fee_above_usual
        lines.append("never ask for fees" if times is None else f"ask for fees above {times} times the usual")
    if policy.new_recipient_hours:
        lines.append(f"wait {policy.new_recipient_hours} hours before a new recipient is paid")
    if policy.chains or lines:
        lines.insert(0, _tell_chains(policy, names))
    rest = _rest_of(policy, read_sentences("\n".join(lines), names).policy or WalletPolicy())
    return WrittenPolicy(tuple(lines), rest, tuple(remarks_of(policy, rest, names)))


def statements_of(policy: WalletPolicy, names: Names, told: WrittenPolicy) -> dict[str, str]:
    """Which of a policy's sentences and remarks says each statement that a verdict may name, like `limits[0]`. What no
    sentence says is left out: whatever is not allowed is refused without one."""
    places = on_chains(names, list(policy.chains)).contracts
    said: dict[str, str | None] = {"newRecipientHours": _first(told.sentences, "wait ")}
    said["assets"] = _first(told.sentences, "move ") or _first(told.remarks, "Any asset")
    said["recipients"] = _first([line for line in told.sentences if not line.startswith("pay fees")], "pay ")
    said["contracts"] = _first(told.sentences, "use ", "call ") or _first(told.remarks, "It may call the contract")
    said["methods"] = _first(told.sentences, "call ", "use ") or _first(told.remarks, "It may call")
    said["feeAboveUsual"] = _first(told.sentences, "ask for fees") or _first(told.remarks, "A network fee above")
    said["outflow"] = _first(told.remarks, "Before it signs")
    said |= {name: text for name, text in _SWITCHES.items() if text in told.remarks}
    said["signatures.typedData"] = _TYPED.get(policy.signatures.typed_data)
    said["signatures.messages"] = _first(told.remarks, "It signs plain messages")
    for name in policy.sources or ():
        said[f"sources.{name}"] = _first(told.remarks, "If a model", f"What shapes the {name} ")
    for index, limit in enumerate(policy.limits):
        said[f"limits[{index}]"] = _tell_limit(limit, policy, places) or _limit(_json(limit), names)
    for index, rule in enumerate(policy.gas):
        said[f"gas[{index}]"] = (
            f"pay fees up to ${rule.max_gas_usd}" if _is_plain_fee(rule) else _gas(_json(rule), names)
        )
    said |= _statements_of_asks(policy.approval_above, told, names)
    said["chains"] = _tell_chains(policy, names) if policy.chains else None
    return {statement: line for statement, line in said.items() if line is not None and line in _whole(told)}


def _statements_of_asks(above: ApprovalAbove | None, told: WrittenPolicy, names: Names) -> dict[str, str | None]:
    if above is None:
        return {}
    said: dict[str, str | None] = {}
    if above.usd is not None:
        said["approvalAbove.usd"] = f"ask above ${_grouped(above.usd)}"
    for index, total in enumerate(above.totals):
        alone = ApprovalAbove(totals=(total,))
        lines = [*_tell_asks(alone), *_approvals(_json(alone), names)]
        said[f"approvalAbove.totals[{index}]"] = next((one for one in lines if one in _whole(told)), None)
    for key, units in above.assets.items():
        alone = ApprovalAbove(assets={key: units})
        said[f"approvalAbove.assets.{key}"] = next(iter(_approvals(_json(alone), names)))
    return said


def _whole(told: WrittenPolicy) -> set[str]:
    return {*told.sentences, *told.remarks}


def _first(lines: Iterable[str], *starts: str) -> str | None:
    """The first line that begins with one of these, in their order."""
    found = list(lines)
    return next((line for start in starts for line in found if line.startswith(start)), None)


def _json(part: Fields) -> Json:
    return part.model_dump(mode="json", by_alias=True)


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


def _tell_parties(policy: WalletPolicy, scopes: Sequence[LimitScope], names: _Contracts) -> list[str]:
    """Whom it may pay and call, other than those that its limits name."""
    named = {who for scope in scopes for who in (*scope.recipients, *scope.contracts)}
    others = [who for who in policy.recipients if who not in named]
    lines = ["pay anyone" if others == ["*"] else f"pay {_and(others)}"] if others else []
    places = [where for where in policy.contracts if where not in named]
    if not policy.contracts:
        return lines
    where = _tell_places(places or policy.contracts, names)
    methods = [one for one in policy.methods if isinstance(one, str) and METHOD.fullmatch(one)]
    if methods and (places or not {one for scope in scopes for one in scope.methods} >= set(methods)):
        lines.append(f"call {_and(methods)} on {where}")
    if "*" in policy.methods and (places or not any(scope.contracts and not scope.methods for scope in scopes)):
        lines.append(f"use {where}")
    return lines


def _tell_asks(above: ApprovalAbove | None) -> list[str]:
    """Above what a person is asked; totals only if all of them can be said."""
    if above is None:
        return []
    lines = [f"ask above ${_grouped(above.usd)}"] if above.usd is not None else []
    spans = [_tell_span(total) if total.usd is not None and total.per != "batch" else None for total in above.totals]
    if None not in spans:
        lines += [f"ask above ${_grouped(one.usd or '0')}{span}" for one, span in zip(above.totals, spans, strict=True)]
    return lines


def _tell_places(entries: Sequence[str], names: _Contracts) -> str:
    """Contracts by the name under which the server knows all of them, else by their addresses."""
    words, left = [], list(entries)
    while left:
        found = next((name for name, known in names.items() if known and tuple(left[: len(known)]) == known), None)
        words.append(found or ("any contract" if left[0] == "*" else left[0]))
        left = left[len(names[found]) if found else 1 :]
    return _and(words)


def _is_plain_fee(rule: GasRule) -> bool:
    is_plain = rule.chain_id is None and rule.max_gas is None and rule.max_fee_per_gas is None
    return is_plain and rule.max_gas_usd is not None


def _tell_limit(limit: Limit, policy: WalletPolicy, places: _Contracts) -> str | None:
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
        of_all = " each" if each else " together" if len(of.recipients) > 1 else ""
        return f"pay {_and(of.recipients)}{of_all} {amount}"
    if each:
        return None
    if named == {"contracts"} and "*" in policy.methods:
        return f"use {_tell_places(of.contracts, places)} {amount}"
    is_called = named == {"contracts", "methods"} and all(METHOD.fullmatch(method) for method in of.methods)
    return f"call {_and(of.methods)} on {_tell_places(of.contracts, places)} {amount}" if is_called else None


def _tell_span(limit: Limit | AskTotal) -> str | None:
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
