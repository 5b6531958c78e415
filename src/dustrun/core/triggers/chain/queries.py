"""Which logs a subscription asks for, and one question for all subscriptions of a chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, Final

from dustrun.records import dataclass

_MOST_ADDRESSES: Final = 500
_MOST_TOPICS: Final = 500


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Contracts (lower case; empty: all) and the accepted topics of each place (0x-hex; None: any)."""

    addresses: frozenset[str] = frozenset()
    topics: tuple[frozenset[str] | None, ...] = ()

    def wants(self, address: str, topics: Sequence[str]) -> bool:
        """Whether a log is one of those asked for."""
        if self.addresses and address.lower() not in self.addresses:
            return False
        return all(
            wanted is None or (place < len(topics) and topics[place] in wanted)
            for place, wanted in enumerate(self.topics)
        )

    def params(self) -> dict[str, Any]:
        """The parameters of `eth_getLogs`, without its blocks. Lists that are too long for a node are left out; what
        comes is filtered again."""
        shown: dict[str, Any] = {}
        if 0 < len(self.addresses) <= _MOST_ADDRESSES:
            shown["address"] = sorted(self.addresses)
        topics = [
            sorted(wanted) if wanted is not None and len(wanted) <= _MOST_TOPICS else None for wanted in self.topics
        ]
        while topics and topics[-1] is None:
            topics.pop()
        return {**shown, "topics": topics} if topics else shown


def merge(queries: Iterable[LogQuery]) -> LogQuery | None:
    """One query whose answer contains the answers of all; None for no query."""
    several = list(dict.fromkeys(queries))
    if not several:
        return None
    addresses: frozenset[str] = frozenset()
    if all(query.addresses for query in several):
        addresses = frozenset().union(*(query.addresses for query in several))
    places = zip_longest(*(query.topics for query in several))
    return LogQuery(addresses, tuple(_union(place) for place in places))


def _union(place: tuple[frozenset[str] | None, ...]) -> frozenset[str] | None:
    several = [wanted for wanted in place if wanted is not None]
    return frozenset().union(*several) if len(several) == len(place) else None
