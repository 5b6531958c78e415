"""What a policy says beyond its sentences, for a person who reads it. Every field of the rest is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dustrun.core.money.policy.document import FEE_TIMES_USUAL, HOUR_MS, ApprovalRules, Outflow, WalletPolicy
from dustrun.core.money.policy.sentences.reader import Json, Names
from dustrun.core.money.policy.sources_rule import default_sources
from dustrun.core.values.amounts import format_units

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
        yield "If a model, a form or another system shapes who is paid or how much, a person must approve it."
        return
    for name in default_sources():
        rule = policy.sources.get(name)
        if rule is None:
            yield f"Anything may shape the {name}."
        else:
            denied = "denied" if rule.otherwise == "deny" else "approved by a person"
            yield f"What shapes the {name} is {', '.join(rule.allow) or 'nothing'}; anything else must be {denied}."
