"""When a delivery is tried again, and when a receiver that fails is left in peace. Times in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dustrun.records import dataclass

_CALM_AFTER: Final = 3
_LONGEST_PAUSE_MS: Final = 60_000
_MOST_RETRY_AFTER_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Schedule:
    """The operator's delays between attempts, in seconds, and the days of failures after which a hook is disabled (0:
    never)."""

    delays_s: Sequence[float]
    disable_after_days: float

    def next_ms(self, attempts: int, max_retries: int, jitter: float, retry_after_s: int | None) -> int | None:
        """Milliseconds until the attempt after `attempts` failed ones; None if there is none. `jitter` in [0, 1)
        spreads attempts by a tenth."""
        if attempts > min(max_retries, len(self.delays_s)):
            return None
        delay_s = self.delays_s[attempts - 1] * (1 + jitter / 10)
        asked_s = min(retry_after_s or 0, _MOST_RETRY_AFTER_S)
        return int(max(delay_s, asked_s) * 1000)

    def pause_ms(self, failures: int) -> int:
        """How long nothing is sent to a receiver that failed so many times in a row."""
        if failures < _CALM_AFTER:
            return 0
        longest = min(_LONGEST_PAUSE_MS, int(max(self.delays_s, default=0) * 1000))
        return min(longest, 1000 << min(failures - _CALM_AFTER, 10))

    def is_hopeless(self, failing_since: int, now: int) -> bool:
        """Whether a receiver has failed for so long that the hook is disabled."""
        return 0 < self.disable_after_days <= (now - failing_since) / 86_400_000


def is_probed(failures: int) -> bool:
    """Whether the receiver fails so often that it gets one attempt at a time."""
    return failures >= _CALM_AFTER
