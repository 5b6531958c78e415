"""Processor time of a piece of work, as a machine of a known pace would need it.

A limit such as "100 ms" is meant for a machine of today. A virtual machine in a slow hour needs three times as long for
everything, which says nothing about the work; so a fixed calculation is timed beside it, and what the machine is slower
by is taken off.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from decimal import Decimal

_USUAL_S = 0.0014
"""What `_calculation` takes in a quiet hour of the kind of machine that the limits were set on, with Python 3.13."""
_DISTURBED = 1.3
_UNEVEN = 1.5
"""A machine that is slower than usual is so for some work more than for other: memory and caches are shared, too."""
_ATTEMPTS = 5


def is_within(work: Callable[[], object], most_s: float) -> bool:
    """Whether the work needs less than `most_s` seconds of processor time in the best of a few attempts, because
    threads of a busy machine disturb one another. The garbage collector rests meanwhile: what other tests left behind
    is not the work."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return any(_is_within(work, most_s) for _ in range(_ATTEMPTS))
    finally:
        if collects:
            gc.enable()


def usual_seconds(taken: float, calculations: tuple[float, float]) -> float:
    """What `taken` seconds would have been in a quiet hour, by how long the calculation took before and after. On a
    faster machine nothing is added."""
    slower_by = max(1.0, sum(calculations) / 2 / _USUAL_S)
    return taken / (slower_by if slower_by < _DISTURBED else slower_by * _UNEVEN)


def calculation_s() -> float:
    """The seconds of processor time that the calculation takes now."""
    return _seconds_of(_calculation)


def _is_within(work: Callable[[], object], most_s: float) -> bool:
    """Only what seems too long is compared with the calculation, which costs time itself."""
    taken = _seconds_of(work)
    return taken < most_s or usual_seconds(taken, (calculation_s(), calculation_s())) < most_s


def _seconds_of(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


def _calculation() -> int:
    """What the interpreter's own work and the library's consist of: calls, dicts and numbers, and fresh memory."""
    seen: dict[str, int] = {}
    for number in range(5_000):
        seen[str(number % 1000)] = seen.get(str(number % 7), 0) + number * number
    return len(seen) + len(",".join([str(Decimal(number)) for number in range(5_000)]).encode())
