"""Entries of a policy's lists: what they match, and when one covers another."""

from __future__ import annotations

from collections.abc import Iterable

from dustrun.core.evm.calls import read_selector
from dustrun.core.money.policy.document import MethodRule
from dustrun.core.values.amounts import Asset


def names_chain(entries: Iterable[int | str], chain_id: int) -> bool:
    """Whether a list of chains allows one."""
    return any(entry in ("*", chain_id) for entry in entries)


def find_asset(entries: Iterable[str], asset: Asset) -> str | None:
    """The first entry that allows an asset."""
    key = asset.key.lower()
    return next((entry for entry in entries if entry.lower() in ("*", f"eip155:{asset.chain_id}/*", key)), None)


def find_account(entries: Iterable[str], chain_id: int | None, address: str) -> str | None:
    """The first entry that allows an address on a chain."""
    plain = address.lower()
    allowed = ("*", plain, f"eip155:{chain_id}:{plain}", f"eip155:{chain_id}:*")
    return next((entry for entry in entries if entry.lower() in allowed), None)


def named_methods(entries: Iterable[str | MethodRule], selector: str) -> list[str | MethodRule]:
    """The entries, other than `*`, that name a selector."""
    return [entry for entry in entries if entry != "*" and selector_of_entry(entry) == selector]


def selector_of_entry(entry: str | MethodRule) -> str:
    """The selector that an entry other than `*` names."""
    return entry.condition.selector if isinstance(entry, MethodRule) else read_selector(entry)


def asset_covers(wide: str, narrow: str) -> bool:
    """Whether `wide` allows every asset that `narrow` allows."""
    wide, narrow = wide.lower(), narrow.lower()
    return wide in ("*", narrow) or (wide.endswith("/*") and narrow.startswith(wide[:-1]))


def account_covers(wide: str, narrow: str) -> bool:
    """Whether `wide` allows every account that `narrow` allows."""
    wide, narrow = wide.lower(), narrow.lower()
    if wide in ("*", narrow):
        return True
    chain, _, address = narrow.rpartition(":")
    return bool(chain) and wide in (address, f"{chain}:*") and address != "*"
