"""The rate limit of a node: at most `count` attempts of it begin in any `per_ms` milliseconds of one run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Rate:
    """When the next attempt may begin. Times are milliseconds UTC of the run's clock."""

    def __init__(self, count: int, per_ms: int, begun: Iterable[int] = ()) -> None:
        self._count = count
        self._per_ms = per_ms
        self._begun = deque(sorted(begun), maxlen=count)

    def due(self, now: int) -> int:
        """The earliest time at which another attempt may begin: `now` or later."""
        if len(self._begun) < self._count:
            return now
        return max(now, self._begun[0] + self._per_ms)

    def note(self, now: int) -> None:
        """An attempt begins."""
        self._begun.append(now)
