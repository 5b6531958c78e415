"""What the bloom of a block says about its logs: that one is certainly not there, or that it may be.

A bloom has 2,048 bits, three of which each address and topic sets. The fuller it is, the less a "may" says.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from dustrun.core.triggers.chain.queries import LogQuery
from dustrun.core.values.addresses import keccak256

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
    """What a log must have one of each of."""
    return [part for part in (query.addresses, *query.topics) if part]
