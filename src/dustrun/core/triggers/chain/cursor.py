"""How far a chain subscription has scanned, and what it scans next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dustrun.records import dataclass

NEAR: Final = 64
"""Blocks below the target that are scanned one by one, each by its hash; what is older may be read by ranges."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last scanned block. `done`: its events up to this place have been recorded; None: all of them."""

    number: int
    hash: str
    done: int | None = None

    def public(self) -> dict[str, Any]:
        """As it is stored."""
        shown: dict[str, Any] = {"number": self.number, "hash": self.hash}
        return shown if self.done is None else {**shown, "done": self.done}

    @classmethod
    def of(cls, stored: Any) -> Cursor | None:
        """From `public()`; None for a subscription that has not scanned yet."""
        if not isinstance(stored, Mapping) or "hash" not in stored:
            return None
        done = stored.get("done")
        return cls(int(stored["number"]), str(stored["hash"]), None if done is None else int(done))

    @property
    def next(self) -> int:
        """The block to scan next: the same one again if its events are not all recorded."""
        return self.number + 1 if self.done is None else self.number


@dataclass(frozen=True, slots=True)
class ResumedSubscription:
    """A subscription that begins anew after it has scanned: what lies between becomes a gap from `first` on, unless it
    `catches_up` from there."""

    first: int
    reason: str
    catches_up: bool = False

    def public(self) -> dict[str, Any]:
        """As a part of a stored cursor."""
        return {"resumed": True, "first": self.first, "reason": self.reason, "catchesUp": self.catches_up}

    @classmethod
    def of(cls, stored: Any) -> ResumedSubscription | None:
        """From a stored cursor; None if nothing lies between."""
        if not isinstance(stored, Mapping) or "first" not in stored:
            return None
        return cls(int(stored["first"]), str(stored["reason"]), stored.get("catchesUp") is True)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to scan yet."""


@dataclass(frozen=True, slots=True)
class Skip:
    """More blocks were missed than the operator allows to scan: these, both included, become a gap record."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Scan:
    """Scan these blocks, both included; `by_range` in one read, else one by one."""

    first: int
    last: int
    by_range: bool


def plan(cursor: Cursor, target: int, most: int, ranges: bool = True) -> Wait | Skip | Scan:
    """The next scan of a subscription. `target` is the newest block with enough confirmations, `most` how many missed
    blocks may be scanned; `ranges`: what it watches can be read by ranges."""
    first = cursor.next
    if first > target:
        return Wait()
    if target - first + 1 > most:
        return Skip(first, target - most)
    if ranges and target - first >= 2 * NEAR and cursor.done is None:
        return Scan(first, target - NEAR, by_range=True)
    return Scan(first, target, by_range=False)
