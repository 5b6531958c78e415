"""An event that a trigger saw, and how far its subscription has come with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from dustrun.records import dataclass

MAX_KEY: Final = 300
REFUSED: Final = "refused:"
"""Begins the key of a request that was refused: nobody vouches for what it says."""


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """One event. `key` identifies it within its subscription: the same key again is a redelivery and starts nothing.

    `payload` becomes `$trigger.body`; `headers`, `query` and `request` (the masked record) are of an inbound request.
    `run_id`: the id that its run is to have."""

    key: str
    payload: dict[str, Any]
    occurred_at: int
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    request: Mapping[str, Any] | None = None
    run_id: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= MAX_KEY:
            raise ValueError(f"an event's key has 1 to {MAX_KEY} characters, not {len(self.key)}")


@dataclass(frozen=True, slots=True)
class CursorMove:
    """Moves a subscription's cursor, if it is still at version `expected`. `next_at`: when it is due again;
    `ends`: the subscription is over, for this reason; `if_skipped`: the cursor instead, if the event starts no run."""

    expected: int
    cursor: Any
    next_at: int | None = None
    ends: str | None = None
    if_skipped: Any = None
