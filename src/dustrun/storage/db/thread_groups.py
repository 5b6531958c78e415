"""Groups on PostgreSQL: a thread takes everything queued, executes and commits it, and takes the next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from dustrun.storage.db.database import Database
from dustrun.storage.db.group_commit import MAX_GROUP, GroupCommit, Outcome, Waiter


class ThreadGroups:
    """Queues units for the thread; `tell` is called on the event loop with what became of each group."""

    def __init__(self, database: Database, tell: Callable[[Outcome], None]) -> None:
        self._database = database
        self._tell = tell
        self._group_commit = GroupCommit(database)
        self._queue: SimpleQueue[Waiter | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread; call it on the event loop of the waiters."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, args=(loop,), name="writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Commits everything queued, then ends the thread."""
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    @property
    def backlog(self) -> int:
        """Number of queued units."""
        return self._queue.qsize()

    def put(self, waiter: Waiter) -> None:
        """Queues a unit."""
        self._queue.put(waiter)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """The thread's loop; None in the queue ends it and is always the last entry."""
        is_last = False
        while not is_last:
            group, is_last = self._take_group()
            if group:
                loop.call_soon_threadsafe(self._tell, self._group_commit.commit(group))
        self._database.close_writer()

    def _take_group(self) -> tuple[list[Waiter], bool]:
        """Waits for a unit and takes all that are queued with it; also returns whether the queue has ended."""
        group: list[Waiter] = []
        while len(group) < MAX_GROUP and not (group and self._queue.empty()):
            waiter = self._queue.get()
            if waiter is None:
                return group, True
            group.append(waiter)
        return group, False
