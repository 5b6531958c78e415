"""The only module that reads the clock. Times are integer milliseconds since the Unix epoch, UTC."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

_IDLE_S: Final = 3600.0
_wall_ns: Callable[[], int] = time.time_ns
_monotonic_s: Callable[[], float] = time.monotonic


def now_ms() -> int:
    """The current time in milliseconds since the epoch."""
    return _wall_ns() // 1_000_000


def monotonic_s() -> float:
    """Seconds on a monotonic clock; only differences are meaningful."""
    return _monotonic_s()


def look_around_s(usual_s: float) -> float:
    """How long a loop sleeps at most that looks around although nothing is due: the clock may be set, a machine may
    sleep. A virtual clock is never set, and such loops would be most of the work in it: there it is an hour."""
    return usual_s if _monotonic_s is time.monotonic else _IDLE_S


def polled_within_ms(usual_ms: int) -> int:
    """How long a loop waits at most that asks others what is new; twice as long by a virtual clock, where asking would
    be most of the work too."""
    return usual_ms if _monotonic_s is time.monotonic else 2 * usual_ms


@contextlib.contextmanager
def virtual(now_s: Callable[[], float], epoch_ms: int, skew_s: Callable[[], float] = lambda: 0.0) -> Iterator[None]:
    """Context manager: the whole process reads `now_s`, the seconds since `epoch_ms`, instead of the machine's clocks.
    `skew_s`: how far the time of day is ahead for whoever reads it. For simulations."""
    global _wall_ns, _monotonic_s
    before = _wall_ns, _monotonic_s
    _wall_ns, _monotonic_s = lambda: epoch_ms * 1_000_000 + int((now_s() + skew_s()) * 1e9), now_s
    try:
        yield
    finally:
        _wall_ns, _monotonic_s = before


@functools.lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def to_rfc3339(ms: int) -> str:
    """Formats a time as RFC 3339 in UTC, with milliseconds and `Z`."""
    seconds, millis = divmod(ms, 1000)
    return f"{_second(seconds)}.{millis:03d}Z"
