"""Whether and when to retry a failed attempt. Only failures that certainly had no effect are retried."""

from __future__ import annotations

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
