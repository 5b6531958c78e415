"""Group commit: one thread does all writes of the process and commits everything queued in one transaction.

A violated constraint or stale fence fails only its own unit, because each unit runs in a savepoint. A savepoint costs
as
much as a unit, so repeatable units run without one; if a unit fails, the whole group runs again with savepoints.
Waiters and stream readers hear of a result only after the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from dustrun import clock, log, metrics
from dustrun.errors import Temporary, Uncertain
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

T = TypeVar("T")
Unit = Callable[[Tx], T]
_logger = log.get(__name__)

MAX_GROUP = 500
_UNITS = metrics.histogram(
    "dustrun_writer_group_units", "Units of work per commit.", bounds=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
_COMMIT_SECONDS = metrics.histogram(
    "dustrun_writer_commit_seconds", "Duration of a writer transaction, including its commit."
)
_FAILED = metrics.counter("dustrun_writer_failed_commits", "Writer transactions that failed as a whole.")


def _nothing() -> None:
    return None


class _Waiter:
    __slots__ = ("after", "future", "repeatable", "result", "unit")

    def __init__(
        self,
        unit: Callable[[Tx], Any],
        future: asyncio.Future[Any],
        after: Callable[[Any], None] | None,
        repeatable: bool,
    ) -> None:
        self.unit = unit
        self.future = future
        self.after = after
        self.repeatable = repeatable
        self.result: Any = None


class Writer:
    """Queues units of work for the writer's thread; `write` resolves once the unit is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: SimpleQueue[_Waiter | None] = SimpleQueue()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.on_doubt: Callable[[], None] = _nothing
        """Called on the event loop when a commit's outcome is unknown, before its waiters are told."""
        self.on_settled: Callable[[], None] = _nothing
        """Called on the event loop once that transaction has certainly ended, before any later result is delivered."""
        self.on_taken: Callable[[], None] = _nothing
        """Called on the event loop when another server has taken over the store: this one must stop."""
        self._in_doubt = False
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
        self._queue.put(_Waiter(unit, future, after, repeatable))
        return future

    def _work(self) -> None:
        """The thread's loop; None in the queue ends it and is always the last entry."""
        is_last = False
        while not is_last:
            group, is_last = self._take_group()
            if group:
                self._commit(group)
        self._database.close_writer()

    def _take_group(self) -> tuple[list[_Waiter], bool]:
        """Waits for a unit and takes all that are queued with it; also returns whether the queue has ended."""
        group: list[_Waiter] = []
        while len(group) < MAX_GROUP and not (group and self._queue.empty()):
            waiter = self._queue.get()
            if waiter is None:
                return group, True
            group.append(waiter)
        return group, False

    def _commit(self, group: list[_Waiter]) -> None:
        started = clock.monotonic_s()
        try:
            done, failed = self._execute(group)
        except Exception as error:
            _FAILED.add()
            translated = self._database.translate(error)
            _logger.error("commit failed", error=str(error), units=len(group))
            self._database.mend_writer()
            done, failed = [], [(waiter, translated) for waiter in group]
            if isinstance(translated, Uncertain):
                self._in_doubt = True
                self._tell(self.on_doubt)
            if self._database.is_taken:
                self._tell(self.on_taken)
        _COMMIT_SECONDS.observe(clock.monotonic_s() - started)
        _UNITS.observe(len(group))
        self.groups += 1
        self.units += len(done)
        self._tell(_answer, done, failed)

    def _tell(self, callback: Callable[..., None], *values: Any) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(callback, *values)

    def _execute(self, group: list[_Waiter]) -> tuple[list[_Waiter], list[tuple[_Waiter, Exception]]]:
        tx = self._begin()
        if len(group) == 1 or all(waiter.repeatable for waiter in group):
            error = self._run_bare(tx, group)
            if error is None:
                return group, []
            if len(group) == 1:
                return [], [(group[0], error)]
            tx = self._begin()
        return self._run_apart(tx, group)

    def _begin(self) -> Tx:
        tx = self._database.begin()
        if self._in_doubt:
            self._in_doubt = False
            self._tell(self.on_settled)
        return tx

    def _run_bare(self, tx: Tx, group: list[_Waiter]) -> Exception | None:
        """Runs all units without savepoints; returns the error of the first one that fails."""
        try:
            for waiter in group:
                waiter.result = waiter.unit(tx)
        except Exception as error:
            self._database.rollback()
            if self._database.is_fatal(error):
                raise
            return error
        self._database.commit()
        return None

    def _run_apart(self, tx: Tx, group: list[_Waiter]) -> tuple[list[_Waiter], list[tuple[_Waiter, Exception]]]:
        """Runs each unit in a savepoint, so that it fails alone."""
        done: list[_Waiter] = []
        failed: list[tuple[_Waiter, Exception]] = []
        for waiter in group:
            tx.raw("SAVEPOINT unit")
            try:
                waiter.result = waiter.unit(tx)
            except Exception as error:
                if self._database.is_fatal(error):
                    self._database.rollback()
                    raise
                tx.raw("ROLLBACK TO SAVEPOINT unit")
                failed.append((waiter, error))
            else:
                done.append(waiter)
            tx.raw("RELEASE SAVEPOINT unit")
        self._database.commit()
        return done, failed


def _answer(done: list[_Waiter], failed: list[tuple[_Waiter, Exception]]) -> None:
    for waiter in done:
        if waiter.after is not None:
            waiter.after(waiter.result)
        if not waiter.future.done():
            waiter.future.set_result(waiter.result)
    for waiter, error in failed:
        if not waiter.future.done():
            waiter.future.set_exception(error)
