"""A watchdog beside an event loop: the longest processor time for which the loop kept it waiting."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator


class LoopWatch:
    """Asks the loop for a sign of life all the time, and reads the clock of its thread before and after.

    The clock counts processor time, so that neither other processes nor other threads matter.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._ends = threading.Event()
        self.longest_s = 0.0

    def watch(self) -> None:
        """Runs in a thread until `end`."""
        while not self._ends.is_set():
            alive = threading.Event()
            before = time.clock_gettime(self._clock)
            self._loop.call_soon_threadsafe(alive.set)
            alive.wait()
            self.longest_s = max(self.longest_s, time.clock_gettime(self._clock) - before)
            self._ends.wait(0.005)

    def take(self) -> float:
        """The longest time so far, in seconds; then starts anew."""
        taken, self.longest_s = self.longest_s, 0.0
        return taken

    def end(self) -> None:
        """Stops after the next sign of life."""
        self._ends.set()


@contextlib.contextmanager
def watched() -> Iterator[LoopWatch]:
    """Watches the running loop."""
    watch = LoopWatch(asyncio.get_running_loop())
    thread = threading.Thread(target=watch.watch, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
