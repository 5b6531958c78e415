"""Group commit: all writes of the process go through one connection, and everything queued commits in one transaction.

Waiters and stream readers hear of a result only after the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from dustrun.errors import Temporary
from dustrun.storage.db.database import Database
from dustrun.storage.db.group_commit import GroupCommit, Outcome, Waiter
from dustrun.storage.db.statement import Tx

T = TypeVar("T")
Unit = Callable[[Tx], T]

MAX_GROUP = 500


def _nothing() -> None:
    return None


class Writer:
    """Queues units of work for the writer's thread; `write` resolves once the unit is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._group_commit = GroupCommit(database)
        self._queue: SimpleQueue[Waiter | None] = SimpleQueue()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.on_doubt: Callable[[], None] = _nothing
        """Called on the event loop when a commit's outcome is unknown, before its waiters are told."""
        self.on_settled: Callable[[], None] = _nothing
        """Called on the event loop once that transaction has certainly ended, before any later result is delivered."""
        self.on_taken: Callable[[], None] = _nothing
        """Called on the event loop when another server has taken over the store: this one must stop."""
        self.groups = 0
        self.units = 0

    def start(self) -> None:
        """Starts the thread; call it on the event loop of the waiters."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Commits everything queued, then ends the thread."""
        self._stopping = True
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    @property
    def backlog(self) -> int:
        """Number of units waiting for the next commit."""
        return self._queue.qsize()

    def write(
        self, unit: Unit[T], after: Callable[[T], None] | None = None, *, repeatable: bool = False
    ) -> asyncio.Future[T]:
        """Runs `unit` in the next group; the future gets its result once the group is committed.

        `after(result)` is called on the event loop just before the future is set, in commit order. `repeatable`: the
        unit's side effects outside the store are idempotent.
        """
        if self._stopping or self._loop is None:
            raise Temporary("The server is stopping; nothing was started.", retry_after_s=2)
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Waiter(unit, future, after, repeatable))
        return future

    def _work(self) -> None:
        """The thread's loop; None in the queue ends it and is always the last entry."""
        assert self._loop is not None
        is_last = False
        while not is_last:
            group, is_last = self._take_group()
            if group:
                outcome = self._group_commit.commit(group)
                self._loop.call_soon_threadsafe(self._tell, outcome)
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

    def _tell(self, outcome: Outcome) -> None:
        """Tells what became of a group; on the event loop."""
        self.groups += 1
        self.units += len(outcome.done)
        if outcome.is_settled:
            self.on_settled()
        if outcome.is_doubtful:
            self.on_doubt()
        if outcome.is_taken:
            self.on_taken()
        outcome.answer()
