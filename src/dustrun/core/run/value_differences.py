"""Where two results differ, leaf by leaf, without what only one run can have: its own ids and hashes, its gas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_MOST = 50
# what actions that spend tell of a transaction's place, time and price
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
    """What only this run has: ids and hashes as texts. `is_simulated`: its hashes are null."""

    texts: frozenset[str]
    is_simulated: bool


def differences_of(left: Any, right: Any, own: tuple[Own, Own], *, of_spend: bool) -> list[tuple[str, Any, Any]]:
    """`(path, left, right)` of leaves that differ, at most 50; paths begin with `.` or `[`, or are empty. `of_spend`:
    it is what an action that spends tells of its transactions."""
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
    """Whether they are the same but for ids and hashes; a simulation has null in place of a hash."""
    if _without(left, own_left) == _without(right, own_right):
        return True
    sides = ((left, own_left, right, own_right), (right, own_right, left, own_left))
    return any(
        one is None and own.is_simulated and isinstance(other, str) and other in others.texts
        for one, own, other, others in sides
    )


def _without(value: Any, own: Own) -> Any:
    """A text with the run's own names taken out; where a simulation had none, the word that stands for null too."""
    if not isinstance(value, str):
        return value
    for text in sorted(own.texts, key=len, reverse=True):
        value = value.replace(text, "null")
    return value
