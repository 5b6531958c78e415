"""When a polled trigger is asked, and what is kept between two times."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from dustrun.records import dataclass

_LONGEST_MS: Final = 3_600_000
_LONGEST_ASKED_MS: Final = 86_400_000
_SPREAD_MS: Final = 30_000


def backoff_ms(interval_ms: int, failures: int, retry_after_s: float | None = None) -> int:
    """How long to wait after so many failures in a row: twice as long each time, up to an hour or the interval, and no
    shorter than the source asks for, up to a day."""
    wait = min(interval_ms << min(failures - 1, 16), max(interval_ms, _LONGEST_MS))
    asked = min(int((retry_after_s or 0) * 1000), _LONGEST_ASKED_MS)
    return max(wait, asked)


def spread_ms(subscription_id: str, interval_ms: int) -> int:
    """How much later an overdue poll begins, so that a start does not ask everybody at once. Always the same for one
    subscription."""
    within = min(interval_ms, _SPREAD_MS)
    return int.from_bytes(hashlib.sha256(subscription_id.encode()).digest()[:4]) % within


@dataclass(frozen=True, slots=True)
class Place:
    """How far a polled trigger has come: the cursor that its next poll gets, and the events of the last poll that are
    not taken yet. They are stored, since the source may not show them again."""

    cursor: Any
    left: tuple[dict[str, Any], ...] = ()

    @classmethod
    def read(cls, stored: Any) -> Place | None:
        """The place in a subscription's cursor; None before the first poll."""
        return None if stored is None else cls(stored["at"], tuple(stored.get("left", ())))

    def stored(self) -> dict[str, Any]:
        """What a subscription's cursor has."""
        return {"at": self.cursor, **({"left": list(self.left)} if self.left else {})}
