"""Whether a new policy is looser than an old one. Conservative: anything not provably as strict counts as looser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dustrun.core.money.policy.document import (
    ApprovalAbove,
    GasRule,
    Limit,
    Outflow,
    SignatureRules,
    WalletPolicy,
    usd_units,
)
from dustrun.core.money.policy.matching import account_covers, asset_covers, method_covers

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
    found += [name for name in _FLAGS if getattr(new, name) and not getattr(old, name)]
    if new.new_recipient_hours < old.new_recipient_hours:
        found.append("new_recipient_hours")
    if not all(any(_limit_holds(limit, kept) for kept in new.limits) for limit in old.limits):
        found.append("limits")
    if not all(_rule_holds(rule, new.gas) for rule in old.gas):
        found.append("gas")
    if not _asks_as_often(old.approval_above, new.approval_above):
        found.append("approval_above")
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
    "methods": method_covers,
}


def _all_covered(old: Iterable[Any], new: Iterable[Any], covers: Callable[[Any, Any], bool]) -> bool:
    entries = tuple(old)
    return all(any(covers(wide, narrow) for wide in entries) for narrow in new)


def _limit_holds(old: Limit, new: Limit) -> bool:
    """Whether `new` implies `old`: no higher maximum, over an equal or longer window."""
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
        return old.usd is None and not old.assets
    if old.usd is not None and (new.usd is None or usd_units(new.usd) > usd_units(old.usd)):
        return False
    return all(key in new.assets and int(new.assets[key]) <= int(units) for key, units in old.assets.items())


def _takes_no_more(old: Outflow | None, new: Outflow | None) -> bool:
    if old is None:
        return True
    if new is None or new.assets.keys() != old.assets.keys():
        return False
    return (
        all(int(new.assets[key]) <= int(units) for key, units in old.assets.items())
        and (old.max_usd is None or (new.max_usd is not None and usd_units(new.max_usd) <= usd_units(old.max_usd)))
        and new.beyond_declared <= old.beyond_declared
        and new.allowances_beyond_declared <= old.allowances_beyond_declared
        and (new.unsimulated == "deny" or old.unsimulated == "declared")
    )


def _signs_more(old: SignatureRules, new: SignatureRules) -> bool:
    more_messages = new.messages and not old.messages
    return more_messages or _TYPED.index(new.typed_data) > _TYPED.index(old.typed_data)
