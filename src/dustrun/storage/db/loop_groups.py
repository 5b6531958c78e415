"""Groups on SQLite: the event loop executes the statements, and only the commit, which waits for the disk, is in a
thread.

Handing the interpreter back and forth for each statement costs more than the statement. Only repeatable units are
executed here, since they are short; a group with others, one in which a unit fails, and one that finds the store busy
is executed in the thread as a whole.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue

from dustrun import clock
from dustrun.storage.db.database import Database
from dustrun.storage.db.group_commit import MAX_GROUP, GroupCommit, Outcome, Waiter

SLICE_S = 0.01
"""How long a group's statements may hold the event loop; the units that are left go into the next group."""
_LINGER_S = 0.004
"""How long units that may wait do so for others, if they come fast. Measured at 500 webhooks a second: a fifth less
processor time, because a commit costs as much as what one webhook changes."""
_FAST_S = 0.01
"""What comes within this of the one before comes fast."""
_FEW = 16
"""With so many units, a group begins at once."""


class LoopGroups:
    """Queues units for the event loop and the thread; `tell` is called with what became of each group."""

    def __init__(self, database: Database, tell: Callable[[Outcome], Iterable[None]]) -> None:
        self._database = database
        self._tell = tell
        self._group_commit = GroupCommit(database)
        self._queue: deque[Waiter] = deque()
        self._jobs: SimpleQueue[Callable[[], Outcome] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_busy = False
        self._idle = asyncio.Event()
        self._lingering: asyncio.TimerHandle | None = None
        self._came_at = 0.0
        self._comes_fast = False

    def start(self) -> None:
        """Starts the thread; call it on the event loop of the waiters."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, args=(self._loop,), name="writer", daemon=True)
        self._thread.start()
        self._schedule()

    async def stop(self) -> None:
        """Commits everything queued, then ends the thread."""
        if self._thread is not None:
            await self._idle.wait()
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    @property
    def backlog(self) -> int:
        """Number of queued units."""
        return len(self._queue)

    def put(self, waiter: Waiter) -> None:
        """Queues a unit."""
        self._queue.append(waiter)
        if waiter.may_wait:
            now = clock.monotonic_s()
            self._comes_fast, self._came_at = now - self._came_at < _FAST_S, now
        if self._lingering is not None and (not waiter.may_wait or len(self._queue) >= _FEW):
            self._lingering.cancel()
            self._begin_soon()
        elif not self._is_busy and self._loop is not None:
            self._schedule()

    def _schedule(self) -> None:
        """The next group begins after whatever is ready now, which may add to it, or a little later if it is only of
        units that may wait."""
        assert self._loop is not None
        self._is_busy = True
        self._idle.clear()
        is_patient = self._comes_fast and 0 < len(self._queue) < _FEW and all(one.may_wait for one in self._queue)
        if is_patient:
            context = contextvars.Context()
            self._lingering = self._loop.call_later(_LINGER_S, self._begin, context=context)
        else:
            self._begin_soon()

    def _begin_soon(self) -> None:
        assert self._loop is not None
        self._lingering = None
        self._loop.call_soon(self._begin, context=contextvars.Context())  # not that of one caller

    def _begin(self) -> None:
        self._lingering = None
        group = [self._queue.popleft() for _ in range(min(MAX_GROUP, len(self._queue)))]
        if group:
            self._jobs.put(self._job_of(group))
        else:
            self._is_busy = False
            self._idle.set()

    def _job_of(self, group: list[Waiter]) -> Callable[[], Outcome]:
        """What is left for the thread to do for a group."""
        if not all(waiter.repeatable for waiter in group):
            return partial(self._group_commit.commit, group)
        started = clock.monotonic_s()
        done = self._group_commit.begin_bare(group, started + SLICE_S)
        if done == 0:
            return partial(self._group_commit.commit, group, apart=True)
        self._queue.extendleft(reversed(group[done:]))
        return partial(self._group_commit.commit_bare, group[:done], started)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """The thread's loop; None ends it."""
        while (job := self._jobs.get()) is not None:
            loop.call_soon_threadsafe(self._end, job())
        self._database.close_writer()

    def _end(self, outcome: Outcome) -> None:
        try:
            for _ in self._tell(outcome):
                pass
        finally:  # whatever happens there, the writer goes on
            self._schedule()
