"""The statement `sources`: what may shape each money field of a spend. Systems are judged here; the keys that wrote
definitions, stores and connectors are judged before, by what they may spend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from dustrun.core.money.policy.verdict import Reason
from dustrun.core.values.fields import Fields
from dustrun.records import dataclass

_ALLOWED: Final = re.compile(
    r"definition|variable|table|starter|connector|chain|clock|run|price|schedule|setting|env|workflow|approval|system"
    r"|http:\S{1,253}|contract:(\*|[0-9]{1,19}/0x[0-9a-fA-F]{40})|trigger:[a-z0-9-]{1,64}|model:\S{1,64}|mcp:\S{1,64}"
    r"|resume"
)
_ALWAYS: Final = frozenset({"definition", "variable", "table", "starter", "approval", "connector", "run", "setting"})
_READ: Final = frozenset({"env", "workflow", "chain", "clock"})
_TOKEN: Final = re.compile(r"eip155:([0-9]+)/erc20:(0x[0-9a-fA-F]{40})")
_KEPT: Final = 50
_OF_TOKENS: Final = frozenset({"asset", "amount", "limits"})
MONEY: Final = ("recipient", "amount", "asset", "chain", "calldata", "limits", "wallet")


def _check_allowed(text: str) -> str:
    if _ALLOWED.fullmatch(text) is None:
        raise ValueError(
            "must be definition, variable, table, starter, approval, connector, chain, clock, run, price, schedule, "
            "setting, env, workflow, system or resume, or http:HOST, contract:CHAIN/0x…, contract:*, trigger:TYPE, "
            "model:CONNECTOR or mcp:CONNECTOR"
        )
    return text


Allowed = Annotated[str, StringConstraints(max_length=260), AfterValidator(_check_allowed)]


class SourcesRule(Fields):
    """What may shape one money field."""

    allow: tuple[Allowed, ...] = Field((), max_length=100, description="Kinds of sources, some with a name.")
    otherwise: Literal["ask", "deny"] = Field("ask", description="What to do if anything else shapes it.")


Sources = dict[Literal["recipient", "amount", "asset", "chain", "calldata", "limits", "wallet"], SourcesRule]

_PARTY: Final = tuple(sorted({*_ALWAYS, "env", "workflow"}))
_VALUE: Final = tuple(sorted({*_PARTY, "chain", "clock", "schedule", "price"}))


def default_sources() -> Sources:
    """The rule of new policies: who is paid comes from those who may spend; how much also from schedules, chains and
    prices; models, forms, webhooks and answers of other systems ask."""
    party, what = SourcesRule(allow=_PARTY), SourcesRule(allow=tuple(sorted({*_PARTY, "chain", "clock"})))
    value = SourcesRule(allow=_VALUE)
    return {
        "recipient": party,
        "wallet": party,
        "chain": party,
        "asset": what,
        "calldata": what,
        "amount": value,
        "limits": value,
    }


@dataclass(frozen=True, slots=True)
class VouchedContracts:
    """Contracts, as sources, whose answers count like their chain's wherever a rule allows `chain`. `listed`: a network
    or the policy names them. `moved`: the token that is spent; what it says of itself, its owner decides anyway, but it
    does not say whom else a contract should pay."""

    listed: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()

    def covers(self, money: str, source: str) -> bool:
        """Whether a source of a money field is one of them."""
        name = source.lower()
        return name in self.listed or (name in self.moved and money in _OF_TOKENS)


_NONE: Final = VouchedContracts()


def contracts_of(assets: Iterable[str]) -> frozenset[str]:
    """The contracts of tokens as sources; there are none of coins, and of patterns for many assets."""
    found = map(_TOKEN.fullmatch, assets)
    return frozenset(f"contract:{one.group(1)}/{one.group(2).lower()}" for one in found if one is not None)


def accounts_as_sources(contracts: Iterable[str]) -> frozenset[str]:
    """The contracts that a policy names, as sources: `contract:CHAIN/0x…`, with the chain `any` where the name counts
    on every chain."""
    named = (entry.lower().removeprefix("eip155:").rpartition(":") for entry in contracts)
    return frozenset(f"contract:{chain or 'any'}/{address}" for chain, _, address in named if address != "*")


def judge_sources(
    rules: Sources | None,
    shaped: Mapping[str, frozenset[str]] | None,
    contracts: tuple[str, ...] = (),
    vouched: VouchedContracts = _NONE,
) -> Iterator[tuple[str, Reason]]:
    """(`ask` or `deny`, why) of every field that something shapes which the policy does not name. `shaped`: the sources
    of each money field, as `core/sources` writes them, with `starter` for what a key gave that may spend; None: nothing
    shapes the spend but its caller. A contract that is named among the policy's `contracts` is trusted with money, and
    so with an answer."""
    if rules is None or shaped is None:
        return
    for money in MONEY:
        rule = rules.get(money)
        if rule is None:
            continue
        foreign = sorted(
            source
            for source in shaped.get(money, ())
            if not (_is_allowed(source, rule.allow) or _is_named(source, contracts))
            and not ("chain" in rule.allow and vouched.covers(money, source))
        )
        if foreign:
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            message = f"The {money} hangs on {', '.join(foreign[:3])}{more}, which the policy does not name."
            yield rule.otherwise, Reason(f"sources.{money}", message)


def brief(shaped: Mapping[str, frozenset[str]]) -> dict[str, tuple[str, ...]]:
    """The sources of each money field as spends and the ledger keep them: versions instead of each of their nodes, and
    at most 50 of a field."""
    return {
        money: tuple(sorted({one.split("#")[0] if one.startswith("definition:") else one for one in sources})[:_KEPT])
        for money, sources in sorted(shaped.items())
    }


def _is_allowed(source: str, allowed: tuple[str, ...]) -> bool:
    kind, _, name = source.partition(":")
    if kind in allowed or (kind == "import" and "connector" in allowed):  # hands judge both
        return True
    if kind == "trigger":
        trigger = re.split(r"[.\[]", name)[0]
        return f"trigger:{trigger}" in allowed or (trigger in ("cronjob", "schedule") and "schedule" in allowed)
    if kind == "contract":
        return "contract:*" in allowed or source.lower() in {one.lower() for one in allowed}
    return source in allowed


def _is_named(source: str, contracts: tuple[str, ...]) -> bool:
    kind, _, name = source.lower().partition(":")
    chain, _, contract = name.partition("/")
    named = {one.lower() for one in contracts if not one.endswith("*")}
    return kind == "contract" and bool(named & {contract, f"eip155:{chain}:{contract}"})


def is_looser(old: Sources | None, new: Sources | None) -> bool:
    """Whether a spend may pass the new rules that the old ones ask about or deny."""
    for money, rule in (old or {}).items():
        fresh = (new or {}).get(money)
        if fresh is None or not set(fresh.allow) <= set(rule.allow):
            return True
        if (rule.otherwise, fresh.otherwise) == ("deny", "ask"):
            return True
    return False
