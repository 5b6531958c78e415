"""A watchdog in an event loop: the longest processor time for which nothing else had a turn."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from dustrun.app.process import spare_the_collector
from testkit.processor_time import calculation_s, usual_seconds

_EVERY_S = 0.002
_REPETITIONS = 6
_SCHEDULE = Path("/proc/thread-self/schedstat")


class LoopWatch:
    """A timer of the loop that reads two clocks whenever it has a turn.

    Both count processor time, so that other processes do not matter. `longest_s` is of the loop's own thread;
    `longest_process_s` is of the whole process, so it also shows calls that keep the interpreter from the loop while
    another thread makes them. It leaves out the time for which the loop's thread could run and other processes had the
    processor, because the threads of this one may run on meanwhile.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._own, self._process, self._ready = time.thread_time(), time.process_time(), _ready_s()
        self.longest_s = 0.0
        self.longest_process_s = 0.0
        self._timer = loop.call_later(_EVERY_S, self._tick)

    def _tick(self) -> None:
        self._note()
        self._timer = self._loop.call_later(_EVERY_S, self._tick)

    def _note(self) -> None:
        own, process, ready = time.thread_time(), time.process_time(), _ready_s()
        self.longest_s = max(self.longest_s, own - self._own)
        held = min(process - self._process, ready - self._ready)
        self.longest_process_s = max(self.longest_process_s, held)
        self._own, self._process, self._ready = own, process, ready

    def take(self) -> float:
        """The longest time of the loop's thread so far, in seconds; then both start anew."""
        self._note()
        taken, self.longest_s, self.longest_process_s = self.longest_s, 0.0, 0.0
        return taken

    def take_process(self) -> float:
        """The longest time of the process so far, in seconds; then both start anew."""
        self._note()
        taken, self.longest_s, self.longest_process_s = self.longest_process_s, 0.0, 0.0
        return taken

    def end(self) -> None:
        """Stops the timer."""
        self._timer.cancel()


def _ready_s() -> float:
    """Seconds of a clock that stands while this thread waits for a processor (Linux, kernel/sched/stats.h)."""
    now = time.perf_counter()
    if not _SCHEDULE.exists():
        return now
    return now - int(_SCHEDULE.read_text().split()[1]) / 1e9


@contextlib.contextmanager
def watched() -> Iterator[LoopWatch]:
    """Watches the running loop, with the garbage collector as a server sets it."""
    before, is_frozen = gc.get_threshold(), gc.get_freeze_count() > 0
    gc.collect()
    spare_the_collector()
    watch = LoopWatch(asyncio.get_running_loop())
    try:
        yield watch
    finally:
        watch.end()
        gc.set_threshold(*before)
        if not is_frozen:  # else the tests themselves are spared, and every collection after this would look at them
            gc.unfreeze()


async def least_hold(
    watch: LoopWatch,
    work: Callable[[], Awaitable[None]],
    most_s: float,
    before: Callable[[], Awaitable[None]] | None = None,
) -> float:
    """The longest time for which the work holds the loop, in seconds of a machine of a known pace. Work over `most_s`
    is repeated, and the least of all counts, because threads of a busy machine may run on while the loop's thread waits
    for a processor. `before` makes anew what the work uses up, unwatched."""
    least = float("inf")
    for _ in range(_REPETITIONS):
        if before is not None:
            await before()
        least = min(least, await _held_s(watch, work, most_s))
        if least < most_s:
            break
    return least


async def _held_s(watch: LoopWatch, work: Callable[[], Awaitable[None]], most_s: float) -> float:
    """Only work that seems too long is compared with the calculation, which costs time itself."""
    watch.take_process()
    await work()
    taken = watch.take_process()
    return taken if taken < most_s else usual_seconds(taken, (calculation_s(), calculation_s()))
