"""Whether and when to retry a failed attempt. Only failures that certainly had no effect are retried."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from dustrun.core.workflow.definition import RetryPolicy
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Start the next attempt at this time (milliseconds since the epoch)."""

    at: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The failure is final."""


def decide(
    policy: RetryPolicy | None, attempt: int, *, retryable: bool, now: int, jitter: float, after_ms: int | None = None
) -> RetryAt | GiveUp:
    """Decides after `attempt` (from 1) failed. `jitter` is in [0, 1); `after_ms` is the minimum wait that the server
    asked for (Retry-After).
    """
    if policy is None or not retryable or attempt >= policy.max_attempts:
        return GiveUp()
    wait = min(policy.backoff_ms * 2 ** min(attempt - 1, 32), policy.max_backoff_ms)
    if policy.jitter:
        wait -= int(wait * jitter) // 2
    return RetryAt(now + max(wait, after_ms or 0))


# The rate limit of a node: at most `count` attempts of it begin in any `per_ms` milliseconds of one run.


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
