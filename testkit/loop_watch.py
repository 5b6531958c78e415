"""A watchdog beside an event loop: the longest processor time for which the loop kept it waiting."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

from dustrun.app.process import spare_the_collector


class LoopWatch:
    """Asks the loop for a sign of life all the time, and reads two clocks before and after.

    Both count processor time, so that other processes do not matter. `longest_s` is of the loop's own thread;
    `longest_process_s` is of the whole process, so it also shows calls that keep the interpreter from the loop while
    another thread makes them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._ends = threading.Event()
        self.longest_s = 0.0
        self.longest_process_s = 0.0

    def watch(self) -> None:
        """Runs in a thread until `end`."""
        while not self._ends.is_set():
            alive = threading.Event()
            before, process = time.clock_gettime(self._clock), time.process_time()
            self._loop.call_soon_threadsafe(alive.set)
            alive.wait()
            self.longest_s = max(self.longest_s, time.clock_gettime(self._clock) - before)
            self.longest_process_s = max(self.longest_process_s, time.process_time() - process)
            self._ends.wait(0.005)

    def take(self) -> float:
        """The longest time of the loop's thread so far, in seconds; then starts anew."""
        taken, self.longest_s = self.longest_s, 0.0
        return taken

    def take_process(self) -> float:
        """The longest time of the process so far, in seconds; then starts anew."""
        taken, self.longest_s, self.longest_process_s = self.longest_process_s, 0.0, 0.0
        return taken

    def end(self) -> None:
        """Stops after the next sign of life."""
        self._ends.set()


@contextlib.contextmanager
def watched() -> Iterator[LoopWatch]:
    """Watches the running loop, with the garbage collector as a server sets it."""
    watch = LoopWatch(asyncio.get_running_loop())
    thread = threading.Thread(target=watch.watch, daemon=True)
    before = gc.get_threshold()
    gc.collect()
    spare_the_collector()
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        gc.set_threshold(*before)
        gc.unfreeze()


async def least_hold(watch: LoopWatch, work: Callable[[], Awaitable[None]], most_s: float) -> float:
    """The longest time for which the work holds the loop, in seconds; work over `most_s` is repeated, and the least of
    three counts, because threads of a busy machine may run on while the loop's thread waits for a processor."""
    least = float("inf")
    for _ in range(3):
        watch.take_process()
        await work()
        least = min(least, watch.take_process())
        if least < most_s:
            break
    return least
