"""Whether a new policy is looser than an old one: whether some spend passes under it that the old one denies or asks
about. Conservative: what is not provably as strict counts as looser.

Less can be looser: a method named with a condition is bound by it, so taking the entry away frees the method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dustrun.core.money.policy.document import (
    ApprovalAbove,
    ApprovalRules,
    AskTotal,
    GasRule,
    Limit,
    MethodRule,
    Outflow,
    SignatureRules,
    WalletPolicy,
    usd_units,
)
from dustrun.core.money.policy.matching import account_covers, asset_covers, named_methods, selector_of_entry
from dustrun.core.money.policy.methods import signature_of
from dustrun.core.money.policy.sources_rule import accounts_as_sources, contracts_of
from dustrun.core.money.policy.sources_rule import is_looser as sources_are_looser
from dustrun.core.money.policy.star import covers_always
from dustrun.core.money.token_calls import OF_TOKENS

_FLAGS = ("allow_deploy", "allow_unlimited_approvals", "allow_unverified_calldata", "allow_unpriced_assets")
_TYPED = ("none", "known", "any")


def is_looser(old: WalletPolicy | None, new: WalletPolicy) -> bool:
    """Whether `new` may allow a spend that `old` denies or sends to approval. A missing policy allows nothing."""
    return bool(what_is_looser(old or WalletPolicy(), new))


def what_is_looser(old: WalletPolicy, new: WalletPolicy) -> list[str]:
    """The statements in which `new` is not provably as strict as `old`."""
    if not new.chains and not new.signatures.messages:
        return []  # a policy without chains allows nothing: the way to stop a wallet
    found = [
        name for name, covers in _LISTS.items() if not _all_covered(getattr(old, name), getattr(new, name), covers)
    ]
    found += [name for name in _trusts_more(old, new) if name not in found]
    if _calls_more(old, new):
        found.append("methods")
    found += [name for name in _FLAGS if getattr(new, name) and not getattr(old, name)]
    if new.new_recipient_hours < old.new_recipient_hours:
        found.append("new_recipient_hours")
    if not all(any(_limit_holds(limit, kept) for kept in new.limits) for limit in old.limits):
        found.append("limits")
    if not all(_rule_holds(rule, new.gas) for rule in old.gas):
        found.append("gas")
    if old.fee_above_usual is not None and (new.fee_above_usual or old.fee_above_usual + 1) > old.fee_above_usual:
        found.append("fee_above_usual")
    if not _asks_as_often(old.approval_above, new.approval_above):
        found.append("approval_above")
    if not _is_approved_as_hard(old.approval, new.approval):
        found.append("approval")
    if sources_are_looser(old.sources, new.sources):
        found.append("sources")
    if not _takes_no_more(old.outflow, new.outflow):
        found.append("outflow")
    if _signs_more(old.signatures, new.signatures):
        found.append("signatures")
    return found


def _chain_covers(wide: Any, narrow: Any) -> bool:
    return wide in ("*", narrow)


_LISTS: dict[str, Callable[[Any, Any], bool]] = {
    "chains": _chain_covers,
    "assets": asset_covers,
    "recipients": account_covers,
    "contracts": account_covers,
}


def _all_covered(old: Iterable[Any], new: Iterable[Any], covers: Callable[[Any, Any], bool]) -> bool:
    entries = tuple(old)
    return all(any(covers(wide, narrow) for wide in entries) for narrow in new)


def _trusts_more(old: WalletPolicy, new: WalletPolicy) -> list[str]:
    """The lists in which `new` names contracts about whose answers `old` asks: names vouch, a star does not."""
    named = {"contracts": accounts_as_sources(new.contracts), "assets": contracts_of(new.assets)}
    before, tokens = accounts_as_sources(old.contracts), contracts_of(old.assets)
    found: set[str] = set()
    for rule in (old.sources or {}).values():
        vouches = "chain" in rule.allow  # tokens do only where the rule lets their chain speak
        known = before.union(map(str.lower, rule.allow), tokens if vouches else ())
        fresh = {name for name, sources in named.items() if not all(_is_trusted(one, known) for one in sources)}
        found |= fresh if vouches else fresh - {"assets"}
    return sorted(found)


def _is_trusted(source: str, known: frozenset[str]) -> bool:
    return not known.isdisjoint((source, "contract:*", f"contract:any/{source.rpartition('/')[2]}"))


def _calls_more(old: WalletPolicy, new: WalletPolicy) -> bool:
    """Whether some call passes the methods of `new` and not those of `old`. Each named selector is held against what
    the other one makes of it; all others are like any that neither names."""
    selectors = {selector_of_entry(one) for one in (*old.methods, *new.methods) if one != "*"}
    if "*" in new.methods and ("*" not in old.methods or not _names_no_more(old, new)):
        return True
    return any(_frees(old, new, selector) for selector in selectors)


def _frees(old: WalletPolicy, new: WalletPolicy, selector: str) -> bool:
    before, after = named_methods(old.methods, selector), named_methods(new.methods, selector)
    bound, rules = _rules(before), _rules(after)
    loses_condition = bound is not None and (rules is None or not rules <= bound)
    if not after:  # then a token's own method passes anyway, and any other under the star
        return loses_condition and (selector in OF_TOKENS or "*" in new.methods)
    if bound is not None:
        return loses_condition
    if before:
        verifies = signature_of(new, selector) is not None and signature_of(old, selector) is None
        return verifies and not old.allow_unverified_calldata
    signatures = [one.condition.function.signature if isinstance(one, MethodRule) else one for one in after]
    return "*" not in old.methods or not all(covers_always(one) for one in signatures)


def _rules(named: list[str | MethodRule]) -> frozenset[tuple[str, str]] | None:
    """The conditions of which one must hold; None if any call passes, or the method is not named."""
    if not named or any(isinstance(entry, str) for entry in named):
        return None
    return frozenset((rule.method, rule.where) for rule in named if isinstance(rule, MethodRule))


def _names_no_more(old: WalletPolicy, new: WalletPolicy) -> bool:
    """Whether every address that `new` names is named by `old`: a star in `methods` covers calls that contain it."""
    named = [entry for entry in (*old.recipients, *old.contracts, *old.assets) if "0x" in entry]
    return all(
        any(account_covers(_party(one), _party(entry)) for one in named)
        for entry in (*new.recipients, *new.contracts, *new.assets)
        if "0x" in entry
    )


def _party(entry: str) -> str:
    return entry.replace("/erc20", "")


def _limit_holds(old: Limit, new: Limit) -> bool:
    """Whether `new` implies `old`: no higher maximum, over an equal or longer window, of the same scope or of
    everything. A wider scope would begin to count anew."""
    if new.is_scoped and (new.of, new.per) != (old.of, old.per):
        return False
    if old.per == "run" and new.per != "run":
        return False
    if (old.asset or "").lower() != (new.asset or "").lower():
        return False
    if old.window_ms is not None and (new.window_ms is None or new.window_ms < old.window_ms):
        return False
    return (
        _same_and_no_more(old.max_units, new.max_units, int)
        and _same_and_no_more(old.max_usd, new.max_usd, usd_units)
        and _same_and_no_more(old.max_count, new.max_count, int)
        and _same_and_no_more(old.max_gas_usd, new.max_gas_usd, usd_units)
    )


def _same_and_no_more(old: Any, new: Any, read: Callable[[Any], int]) -> bool:
    if old is None or new is None:
        return old is None and new is None
    return read(new) <= read(old)


def _rule_holds(old: GasRule, new: Iterable[GasRule]) -> bool:
    """Whether rules for at least the same chains enforce each ceiling of `old`."""
    rules = [rule for rule in new if rule.chain_id in (None, old.chain_id)]
    ceilings: tuple[tuple[str, Callable[[Any], int]], ...] = (
        ("max_gas", int),
        ("max_fee_per_gas", int),
        ("max_gas_usd", usd_units),
    )
    return all(
        getattr(old, name) is None
        or any(
            getattr(rule, name) is not None and read(getattr(rule, name)) <= read(getattr(old, name)) for rule in rules
        )
        for name, read in ceilings
    )


def _asks_as_often(old: ApprovalAbove | None, new: ApprovalAbove | None) -> bool:
    if old is None:
        return True
    if new is None:
        return old.usd is None and not old.assets and not old.totals
    if not all(any(_total_holds(total, kept) for kept in new.totals) for total in old.totals):
        return False
    if old.usd is not None and (new.usd is None or usd_units(new.usd) > usd_units(old.usd)):
        return False
    return all(key in new.assets and int(new.assets[key]) <= int(units) for key, units in old.assets.items())


def _is_approved_as_hard(old: ApprovalRules, new: ApprovalRules) -> bool:
    """Whether whatever the new rules let pass, the old ones did."""
    is_listed = not old.approvers or (bool(new.approvers) and set(new.approvers) <= set(old.approvers))
    return is_listed and new.quorum >= old.quorum and new.expires_ms <= old.expires_ms


def _total_holds(old: AskTotal, new: AskTotal) -> bool:
    """Whether `new` asks whenever `old` does: no higher sum, of at least as much."""
    if (old.asset or "").lower() != (new.asset or "").lower():
        return False
    if old.per == "window" and (new.window_ms is None or new.window_ms < (old.window_ms or 0)):
        return False
    if old.per == "run" and new.per != "run":
        return False
    if old.per == "batch" and new.per == "window":
        return False  # a batch may begin before the window does
    return _same_and_no_more(old.usd, new.usd, usd_units) and _same_and_no_more(old.units, new.units, int)


def _takes_no_more(old: Outflow | None, new: Outflow | None) -> bool:
    if old is None:
        return True
    if new is None:
        return False
    names_more = bool(new.assets.keys() - old.assets.keys())  # what is named may leave without a price
    return (
        all(key in new.assets and int(new.assets[key]) <= int(units) for key, units in old.assets.items())
        and not (names_more and old.max_usd is not None)
        and (old.max_usd is None or (new.max_usd is not None and usd_units(new.max_usd) <= usd_units(old.max_usd)))
        and new.beyond_declared <= old.beyond_declared
        and new.allowances_beyond_declared <= old.allowances_beyond_declared
        and (new.unsimulated == "deny" or old.unsimulated == "declared")
    )


def _signs_more(old: SignatureRules, new: SignatureRules) -> bool:
    more_messages = new.messages and not old.messages
    return more_messages or _TYPED.index(new.typed_data) > _TYPED.index(old.typed_data)
