"""Differences between two results, leaf by leaf, ignoring what is unique to a run: ids, hashes, gas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Own:
    """Ids and hashes that only this run has, as strings. `is_simulated`: its hashes are null."""

    texts: frozenset[str]
    is_simulated: bool


def differences_of(left: Any, right: Any, own: tuple[Own, Own], *, of_spend: bool) -> list[tuple[str, Any, Any]]:
    """`(path, left, right)` of differing leaves, at most 50; paths begin with `.` or `[`, or are empty. `of_spend`: the
    result is that of a spending action.
    """
    found = []
    for entry in _walk(left, right, ""):
        where, before, after = entry
        name = where.rpartition(".")[2].partition("[")[0]
        if not (of_spend and name in _OF_TRANSACTION) and not _is_own(before, after, *own):
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
    """Whether two values differ only in ids and hashes; a simulation has null instead of a hash."""
    if _without(left, own_left) == _without(right, own_right):
        return True
    sides = ((left, own_left, right, own_right), (right, own_right, left, own_left))
    return any(
        one is None and own.is_simulated and isinstance(other, str) and other in others.texts
        for one, own, other, others in sides
    )


def _without(value: Any, own: Own) -> Any:
    """Removes the run's own ids from a string; where a simulation had none, the placeholder that also stands for
    null.
    """
    if not isinstance(value, str):
        return value
    for text in sorted(own.texts, key=len, reverse=True):
        value = value.replace(text, "null")
    return value
