"""Entries of a policy's lists: what they match, and when one covers another."""

from __future__ import annotations

from collections.abc import Iterable

from dustrun.core.evm.selectors import read_selector
from dustrun.core.money.inner_calls import unreadable
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


def find_method(entries: Iterable[str], selector: str) -> str | None:
    """The entry that allows a selector; a named entry wins over `*`."""
    listed = tuple(entries)
    named = next((entry for entry in listed if entry != "*" and read_selector(entry) == selector), None)
    return named or next((entry for entry in listed if entry == "*"), None)


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


def method_covers(wide: str, narrow: str) -> bool:
    """Whether `wide` allows every method that `narrow` allows."""
    if wide == "*":
        return narrow == "*" or read_selector(narrow) not in unreadable()
    if narrow == "*":
        return False
    return read_selector(wide) == read_selector(narrow)
