"""Differences between two results, leaf by leaf, ignoring what is unique to a run: ids, hashes, gas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from decimal import Decimal
from functools import cached_property
from typing import Any

from dustrun.core.text.masking import KnownTexts
from dustrun.records import dataclass

_MOST = 50
# Result fields of spending actions that say where, when and at what fee a transaction was included.
_OF_TRANSACTION = frozenset(
    {
        "hash",
        "approvalHash",
        "explorerUrl",
        "blockNumber",
        "blockHash",
        "blockTime",
        "gasUsed",
        "fee",
        "feeFormatted",
        "totalFee",
        "nonce",
    }
)

# Of a loop item's error only the code is compared, as of a node's: a live message names hashes.
_ITEM_ERROR = re.compile(r"(^|\.)iterations\[\d+\]\.error\.(?!code$)")


@dataclass(frozen=True)
class Own:
    """What only this run has: ids and hashes, which may stand inside other text, and `roles`, the values of results
    that say where, when and at what fee something happened, each with its places (node path and field). `is_simulated`:
    its hashes are null.
    """

    texts: frozenset[str]
    is_simulated: bool
    roles: Mapping[Any, frozenset[str]] = field(default_factory=dict)

    @cached_property
    def known(self) -> KnownTexts:
        """Finds the ids and hashes in text."""
        known = KnownTexts(min(map(len, self.texts), default=1))
        known.add(self.texts)
        return known

    def roles_of(self, value: Any) -> frozenset[str]:
        """The places of a value; none for one that is no number, text or null."""
        return self.roles.get(value, frozenset()) if isinstance(value, str | int | Decimal | None) else frozenset()


def roles_in(path: str, result: Any, *, of_spend: bool) -> Iterator[tuple[Any, str]]:
    """(value, place) of the values in a result that no two runs share; `of_spend` as in `differences_of`, else all."""
    for where, value in _leaves(result, ""):
        if not of_spend or _name(where) in _OF_TRANSACTION:
            yield value, f"{path}{where}"


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{where}[{place}]")
    else:
        yield where, value


def _name(where: str) -> str:
    return where.rpartition(".")[2].partition("[")[0]


def differences_of(left: Any, right: Any, own: tuple[Own, Own], *, of_spend: bool) -> list[tuple[str, Any, Any]]:
    """`(path, left, right)` of differing leaves, at most 50; paths begin with `.` or `[`, or are empty. `of_spend`: the
    result is that of a spending action.
    """
    found = []
    for entry in _walk(left, right, ""):
        where, before, after = entry
        if _ITEM_ERROR.search(where):
            continue
        if not (of_spend and _name(where) in _OF_TRANSACTION) and not _is_own(before, after, *own):
            found.append(entry)
        if len(found) == _MOST:
            break
    return found


def _walk(left: Any, right: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for name in dict.fromkeys([*left, *right]):
            yield from _walk(left.get(name), right.get(name), f"{where}.{name}")
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for place, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from _walk(one, other, f"{where}[{place}]")
    elif left != right or type(left) is not type(right):
        yield where, left, right


def _is_own(left: Any, right: Any, own_left: Own, own_right: Own) -> bool:
    """Whether two values differ only in ids and hashes, or tell the same of the same node; a simulation has null
    instead of a hash.
    """
    if _without(left, own_left) == _without(right, own_right) or own_left.roles_of(left) & own_right.roles_of(right):
        return True
    sides = ((left, own_left, right, own_right), (right, own_right, left, own_left))
    return any(
        one is None and own.is_simulated and isinstance(other, str) and other in others.texts
        for one, own, other, others in sides
    )


def _without(value: Any, own: Own) -> Any:
    """Replaces the run's own ids in a string by the placeholder that also stands for the null of a simulation."""
    return own.known.replaced(value, lambda _: "null") if isinstance(value, str) else value
