"""The only module that reads the clock. Times are integer milliseconds since the Unix epoch, UTC."""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime
from typing import Final


def now_ms() -> int:
    """The current time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


monotonic_s: Final = time.monotonic
"""Seconds on a monotonic clock; only differences are meaningful."""


@functools.lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def to_rfc3339(ms: int) -> str:
    """Formats a time as RFC 3339 in UTC, with milliseconds and `Z`."""
    seconds, millis = divmod(ms, 1000)
    return f"{_second(seconds)}.{millis:03d}Z"
