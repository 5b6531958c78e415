"""Which items of a list are new.

A list shows the same items again and again, and drops old ones. What was seen is remembered by fingerprints: all that
the list shows, and as many older ones as fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from dustrun.records import dataclass

MOST_ITEMS: Final = 1000
"""How many items a list may have."""
MOST_EVENTS: Final = 50
"""How many new items one poll takes; the next one follows at once."""
_REMEMBERED: Final = 2 * MOST_ITEMS
_LONGEST_KEY: Final = 200


@dataclass(frozen=True, slots=True)
class News:
    """The places of new items, in the list's order, and what is seen then. `is_cut`: there are more."""

    places: tuple[int, ...]
    seen: tuple[str, ...]
    is_cut: bool


def find_news(seen: Sequence[str] | None, keys: Sequence[str], *, takes_first: bool) -> News:
    """Which of the keys, oldest first, are new. `seen`: None at the first look, which finds nothing new unless
    `takes_first`."""
    shown = [fingerprint(key) for key in keys]
    if seen is None and not takes_first:
        return News((), _remembered(shown, ()), is_cut=False)
    known, places = set(seen or ()), []
    for place, one in enumerate(shown):
        if one not in known:
            known.add(one)
            places.append(place)
    taken = places[:MOST_EVENTS]
    left = {shown[place] for place in places[MOST_EVENTS:]}
    return News(tuple(taken), _remembered([one for one in shown if one not in left], seen or ()), bool(left))


def _remembered(shown: Sequence[str], before: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*shown, *before]))[:_REMEMBERED]


def fingerprint(text: str) -> str:
    """A short stand-in for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def event_key(source: str, key: str) -> str:
    """The key of an item's event. Two sources may number their items alike, so the source is part of it."""
    shown = key if len(key) <= _LONGEST_KEY else f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    return f"{fingerprint(source)}:{shown}"
