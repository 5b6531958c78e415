"""The stored headers of one chain: which blocks were seen, which of them are canonical, and where branches part.

Blocks that a reorg removed are kept as well, so that each subscription can walk back from the block that it scanned
last to the canonical chain, by itself and after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from dustrun.core.triggers.chain.queries import LogQuery
from dustrun.core.values.addresses import keccak256
from dustrun.records import dataclass

KEPT: Final = 256
"""How many blocks back headers are stored: the deepest reorg that is followed."""


@dataclass(frozen=True, slots=True)
class Header:
    """One block: its number, hash, and its parent's hash."""

    number: int
    hash: str
    parent: str


@dataclass(frozen=True, slots=True)
class HeaderRow:
    """A stored header; not `is_canonical` after a reorg removed it."""

    header: Header
    is_canonical: bool


class HeaderChain:
    """The headers of one chain, in memory as they are stored."""

    def __init__(self, rows: Iterable[HeaderRow] = ()) -> None:
        self._known: dict[str, Header] = {}
        self._canonical: dict[int, str] = {}
        for row in rows:
            self._known[row.header.hash] = row.header
            if row.is_canonical:
                self._canonical[row.header.number] = row.header.hash

    @property
    def newest(self) -> Header | None:
        """The newest canonical header; None before the first."""
        return self._known[self._canonical[max(self._canonical)]] if self._canonical else None

    def hash_at(self, number: int) -> str | None:
        """The canonical hash at a height; None where no header is stored."""
        return self._canonical.get(number)

    def is_canonical(self, number: int, hash: str) -> bool:
        """Whether that block is stored as canonical."""
        return self._canonical.get(number) == hash

    def hashes_above(self, number: int) -> set[str]:
        """The canonical hashes above a height."""
        return {hash for known, hash in self._canonical.items() if known > number}

    def knows(self, hash: str) -> bool:
        """Whether that block is stored, canonical or not."""
        return hash in self._known

    def get(self, hash: str) -> Header:
        """A stored header."""
        return self._known[hash]

    def numbers_back_from(self, number: int) -> list[int]:
        """The heights of canonical headers from this one down, newest first."""
        return sorted((known for known in self._canonical if known <= number), reverse=True)

    def ancestor(self, hash: str) -> Header | None:
        """The newest canonical block at or below a known one; None if the stored headers do not reach that far."""
        found = self._known.get(hash)
        while found is not None and not self.is_canonical(found.number, found.hash):
            found = self._known.get(found.parent)
        return found

    def cut(self, above: int) -> list[Header]:
        """Takes canonical headers above a height off the canonical chain, and returns them; they stay known."""
        removed = sorted(number for number in self._canonical if number > above)
        return [self._known[self._canonical.pop(number)] for number in removed]

    def add(self, headers: Iterable[Header]) -> None:
        """Adds canonical headers."""
        for header in headers:
            self._known[header.hash] = header
            self._canonical[header.number] = header.hash

    def prune(self, below: int) -> None:
        """Forgets what is below a height."""
        self._known = {hash: header for hash, header in self._known.items() if header.number >= below}
        self._canonical = {number: hash for number, hash in self._canonical.items() if number >= below}


def linked(before: Header, headers: Sequence[Header]) -> int:
    """How many of these headers follow each other and the one before them: fewer than all if the chain changed while
    they were read."""
    for place, header in enumerate(headers):
        if header.parent != before.hash or header.number != before.number + 1:
            return place
        before = header
    return len(headers)


_INTERVALS: Final = 7


@dataclass(frozen=True, slots=True)
class Finality:
    """The height of the finalized block, when it last grew (of a monotonic clock), the newest block then, and the last
    times between two growths, in seconds."""

    number: int = -1
    grew_s: float = 0.0
    head: int = -1
    intervals: tuple[float, ...] = ()

    def grown(self, number: int, now_s: float, head: int) -> Finality:
        """With a newer finalized block; of another chain, if it is older, nothing is known yet."""
        if number <= self.number or self.number < 0:
            return Finality(number, now_s, head)
        return Finality(number, now_s, head, (*self.intervals, now_s - self.grew_s)[-_INTERVALS:])

    def patience_s(self, least_s: float) -> float:
        """How long it may stay the same: no shorter than `least_s`, and twice as long as it usually does. What is usual
        is the middle of the last times, so that one stall does not make the next one usual."""
        if len(self.intervals) < 2:
            return least_s
        return max(least_s, 2 * sorted(self.intervals)[(len(self.intervals) - 1) // 2])

    def public(self, now_ms: int, now_s: float) -> dict[str, Any]:
        """As it is stored."""
        at = now_ms - round(1000 * (now_s - self.grew_s))
        times = [round(one) for one in self.intervals]
        return {"number": self.number, "grewAt": at - at % 1000, "head": self.head, "intervalsS": times}

    @classmethod
    def of(cls, stored: Any, now_ms: int, now_s: float) -> Finality:
        """From `public()`."""
        if not isinstance(stored, Mapping):
            return cls()
        age_s = max(0, now_ms - int(stored["grewAt"])) / 1000
        times = tuple(float(one) for one in stored.get("intervalsS", ()))
        return cls(int(stored["number"]), now_s - age_s, int(stored["head"]), times)


# What the bloom of a block says about its logs: that one is certainly not there, or that it may be.
#
# A bloom has 2,048 bits, three of which each address and topic sets. The fuller it is, the less a "may" says.


BITS: Final = 2048


@lru_cache(maxsize=20_000)
def mask(item: str) -> int:
    """The bits of an address or topic (0x-hex)."""
    digest = keccak256(bytes.fromhex(item[2:]))
    return sum(
        {1 << (int.from_bytes(digest[place : place + 2]) & BITS - 1) for place in (0, 2, 4)}  # two may be the same bit
    )


def may_have(bloom: int, query: LogQuery) -> bool:
    """Whether a block with this bloom may have a log of a query."""
    return bloom != 0 and all(any(bloom & bits == bits for bits in map(mask, part)) for part in _parts(query))


def chance(bloom: int, query: LogQuery) -> float:
    """How likely a bloom says "may" although there is no such log, if all but the rarest part of the query is there."""
    full = (bloom.bit_count() / BITS) ** 3
    return min((1 - (1 - full) ** len(part) for part in _parts(query)), default=1.0)


def bloom_of(items: set[str]) -> int:
    """The bloom of the addresses and topics of a block's logs."""
    found = 0
    for item in items:
        found |= mask(item)
    return found


def _parts(query: LogQuery) -> list[frozenset[str]]:
    """The groups of which a log must have one member each."""
    return [part for part in (query.addresses, *query.topics) if part]
