"""How far a stream has come, and what of it is lost when its connection breaks."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from dustrun.clock import to_rfc3339
from dustrun.core.values.exact_json import dumps
from dustrun.records import dataclass

MARK_EVERY_MS: Final = 30_000
"""How often it is written that a stream without events still works."""
_LONGEST_KEY: Final = 200


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """`at`: until when, in milliseconds, everything that came is on record. `cursor`: of the source, None if it gave
    none yet. `by_content`: all that is on record is known by number and content, not by number alone, as it once was;
    `recent`: the last numbers, each with its content. `skips`: it is not to go on from the cursor, where something
    stands that is too large to be read."""

    at: int
    cursor: Any = None
    by_content: bool = False
    recent: tuple[list[Any], ...] = ()
    skips: bool = False

    @classmethod
    def read(cls, stored: Any) -> StreamPlace | None:
        """The place in a cursor; None before the first connection."""
        if stored is None:
            return None
        recent = tuple(stored.get("recent", ()))
        return cls(
            stored["at"], stored.get("cursor"), stored.get("byContent", False), recent, stored.get("skips", False)
        )

    def stored(self) -> dict[str, Any]:
        """As a cursor."""
        found: dict[str, Any] = {"at": self.at}
        if self.cursor is not None:
            found["cursor"] = self.cursor
        if self.by_content:
            found["byContent"] = True
        if self.recent:
            found["recent"] = list(self.recent)
        if self.skips:
            found["skips"] = True
        return found

    def gap(self, now: int) -> dict[str, Any]:
        """The range of time in which nobody listened."""
        return {"from": to_rfc3339(self.at), "to": to_rfc3339(now)}


def key_of(value: Any) -> str:
    """The identity of an event by a value that the source gives it."""
    text = value if isinstance(value, str) else dumps(value, canonical=True).decode()
    return text if len(text) <= _LONGEST_KEY else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def short(text: str) -> str:
    """A short stand-in for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
