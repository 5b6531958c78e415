"""Executes a group of units in one transaction of the writer's connection.

A violated constraint or stale fence fails only its own unit, because each unit runs in a savepoint. A savepoint costs
as much as a unit, so repeatable units run without one; if a unit fails, the whole group runs again with savepoints.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import field
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from dustrun import clock, log, metrics
from dustrun.errors import StoreUnavailable, Uncertain
from dustrun.records import dataclass
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

_logger = log.get(__name__)
MAX_GROUP = 500
_UNASKED = 16
_UNITS = metrics.histogram(
    "dustrun_writer_group_units", "Units of work per commit.", bounds=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
_COMMIT_SECONDS = metrics.histogram(
    "dustrun_writer_commit_seconds", "Duration of a writer transaction, including its commit."
)
_FAILED = metrics.counter("dustrun_writer_failed_commits", "Writer transactions that failed as a whole.")


class Waiter:
    """A unit of work and the future of its result."""

    __slots__ = ("after", "future", "is_separate", "may_wait", "repeatable", "result", "touches", "unit")

    def __init__(
        self,
        unit: Callable[[Tx], Any],
        future: asyncio.Future[Any],
        after: Callable[[Any], None] | None,
        repeatable: bool,
        is_separate: bool = False,
        may_wait: bool = False,
        touches: frozenset[Hashable] = frozenset(),
    ) -> None:
        self.unit = unit
        self.future = future
        self.after = after
        self.repeatable = repeatable
        self.is_separate = is_separate
        self.may_wait = may_wait
        self.touches = touches
        self.result: Any = None


@dataclass(slots=True)
class GroupOutcome:
    """The outcome of a group's units."""

    done: list[Waiter] = field(default_factory=list)
    failed: list[tuple[Waiter, Exception]] = field(default_factory=list)
    is_settled: bool = False
    """An earlier transaction of unknown outcome has certainly ended."""
    is_doubtful: bool = False
    """The outcome of this transaction is unknown."""
    is_taken: bool = False
    """Another server has taken over the store."""

    def answers(self) -> Iterator[None]:
        """Tells the waiters, one at each step; on the event loop, after the commit."""
        for waiter in self.done:
            _tell(waiter)
            yield
        for waiter, error in self.failed:
            if not waiter.future.done():
                waiter.future.set_exception(error)
            yield


def _tell(waiter: Waiter) -> None:
    """Tells of a committed unit; a defect in its callback is its own, and the others are told all the same."""
    try:
        if waiter.after is not None:
            waiter.after(waiter.result)
    except Exception as error:
        _logger.error("a callback failed after its commit", exc_info=error)
        if not waiter.future.done():
            waiter.future.set_exception(error)
    if not waiter.future.done():
        waiter.future.set_result(waiter.result)


class GroupCommit:
    """Executes groups one after another; used by one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._in_doubt = False

    def commit(self, group: list[Waiter], *, apart: bool = False) -> GroupOutcome:
        """Executes a group and commits it; errors are in the outcome. `apart`: a unit of it is known to fail."""
        started, outcome = clock.monotonic_s(), GroupOutcome()
        try:
            self._execute(group, outcome, apart=apart)
            if self._database.trouble.failing:
                self._database.trouble.end("writes")
        except Exception as error:
            outcome = self._fail(group, error)
        note(group, started)
        return outcome

    def begin_bare(self, group: list[Waiter], until: float) -> int:
        """Executes units of a group without savepoints; returns how many, and `commit_bare` must follow. 0: the store
        is busy, or a unit failed; then nothing is left of it. `until`: a time of `clock.monotonic_s`, asked for after
        every few units.

        Never waits for another process, so that the event loop can call it (SQLite)."""
        begun, done = False, 0
        try:
            tx, begun = self._database.begin(waits=False), True
            tx.gather_counts()
            for waiter in group:
                waiter.result = waiter.unit(tx)
                done += 1
                if done % _UNASKED == 0 and clock.monotonic_s() > until:
                    break
            tx.write_counts()
        except Exception:  # `commit` meets it again, and tells it
            done = 0
            if begun:
                self._database.rollback()
        return done

    def commit_bare(self, group: list[Waiter], started: float) -> GroupOutcome:
        """Commits what `begin_bare` has executed; errors are in the outcome."""
        outcome = GroupOutcome()
        try:
            self._database.commit()
            if self._database.trouble.failing:
                self._database.trouble.end("writes")
            outcome.done = group
        except Exception as error:
            outcome = self._fail(group, error)
        note(group, started)
        return outcome

    def _fail(self, group: list[Waiter], error: Exception) -> GroupOutcome:
        """The transaction failed as a whole."""
        outcome = failure_of(group, error, self._database)
        self._database.mend_writer()
        self._in_doubt = self._in_doubt or outcome.is_doubtful
        return outcome

    def _execute(self, group: list[Waiter], outcome: GroupOutcome, *, apart: bool) -> None:
        tx = self._begin(outcome)
        if len(group) == 1 or (not apart and all(waiter.repeatable for waiter in group)):
            error = self._run_bare(tx, group)
            if error is None:
                outcome.done = group
                return
            if len(group) == 1:
                outcome.failed = [(group[0], error)]
                return
            tx = self._begin(outcome)
        self._run_apart(tx, group, outcome)

    def _begin(self, outcome: GroupOutcome) -> Tx:
        tx = self._database.begin()
        outcome.is_settled = outcome.is_settled or self._in_doubt
        self._in_doubt = False
        return tx

    def _run_bare(self, tx: Tx, group: list[Waiter]) -> Exception | None:
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

    def _run_apart(self, tx: Tx, group: list[Waiter], outcome: GroupOutcome) -> None:
        """Runs each unit in a savepoint, so that it fails alone."""
        for waiter in group:
            tx.raw("SAVEPOINT unit")
            try:
                waiter.result = waiter.unit(tx)
            except Exception as error:
                if self._database.is_fatal(error):
                    self._database.rollback()
                    raise
                tx.raw("ROLLBACK TO SAVEPOINT unit")
                outcome.failed.append((waiter, error))
            else:
                outcome.done.append(waiter)
            tx.raw("RELEASE SAVEPOINT unit")
        self._database.commit()


def failure_of(group: list[Waiter], error: Exception, database: Database) -> GroupOutcome:
    """The outcome of a transaction that failed as a whole."""
    _FAILED.add()
    translated = database.translate(error)
    if isinstance(translated, StoreUnavailable):
        database.trouble.meet(error, "writes")
    else:
        _logger.error("commit failed", error=str(error), units=len(group))
    return GroupOutcome(
        failed=[(waiter, translated) for waiter in group],
        is_doubtful=isinstance(translated, Uncertain),
        is_taken=database.is_taken,
    )


def note(group: list[Waiter], started: float) -> None:
    """Counts a group in the metrics."""
    _COMMIT_SECONDS.observe(clock.monotonic_s() - started)
    _UNITS.observe(len(group))


# Groups on SQLite: the event loop executes the statements, and only the commit, which waits for the disk, is in a
# thread.
#
# Handing the interpreter back and forth for each statement costs more than the statement. Only repeatable units are
# executed here, since they are short; a group with others, one in which a unit fails, and one that finds the store busy
# is executed in the thread as a whole.


SLICE_S = 0.01
"""How long a group's statements may hold the event loop; the units that are left go into the next group."""
_LINGER_S = 0.004
"""How long units that may wait do so for others, if they come fast. Measured at 500 webhooks a second: a fifth less
processor time, because a commit costs as much as what one webhook changes."""
_FAST_S = 0.01
"""The time within which a commit follows another one fast."""
_FEW = 16
"""With so many units, a group begins at once."""


Job = Callable[[], GroupOutcome]
End = Callable[[GroupOutcome], None]


class Jobs(Protocol):
    """Runs jobs one after another beside the event loop, and calls `end` on the loop with what became of each."""

    def put(self, job: Job) -> None:
        """Queues a job."""
        ...

    async def stop(self, last: Callable[[], None]) -> None:
        """Runs `last` after all jobs, and ends."""
        ...


class WriterThread:
    """Jobs in a thread of their own. Not an executor: its futures would make a commit cost half as much again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, end: End) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._last: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._work, args=(loop, end), name="writer", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queues a job."""
        self._queue.put(job)

    async def stop(self, last: Callable[[], None]) -> None:
        """Runs `last` after all jobs, and ends the thread."""
        self._last = last
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self, loop: asyncio.AbstractEventLoop, end: End) -> None:
        while (job := self._queue.get()) is not None:
            loop.call_soon_threadsafe(end, job())
        self._last()


_make_jobs: Callable[[asyncio.AbstractEventLoop, End], Jobs] = WriterThread


@contextlib.contextmanager
def jobs_made_by(make: Callable[[asyncio.AbstractEventLoop, End], Jobs]) -> Iterator[None]:
    """Context manager: writers that start inside run their jobs by `make` instead of in a thread. For simulations."""
    global _make_jobs
    before, _make_jobs = _make_jobs, make
    try:
        yield
    finally:
        _make_jobs = before


class LoopGroups:
    """Queues units for the event loop and the thread; `tell` is called with what became of each group."""

    def __init__(self, database: Database, tell: Callable[[GroupOutcome], Iterable[None]]) -> None:
        self._database = database
        self._tell = tell
        self._group_commit = GroupCommit(database)
        self._queue: deque[Waiter] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: Jobs | None = None
        self._is_busy = False
        self._idle = asyncio.Event()
        self._lingering: asyncio.TimerHandle | None = None
        self._came_at = 0.0
        self._comes_fast = False

    def start(self) -> None:
        """Starts the thread; call it on the event loop of the waiters."""
        self._loop = asyncio.get_running_loop()
        self._jobs = _make_jobs(self._loop, self._end)
        self._schedule()

    async def stop(self) -> None:
        """Commits everything queued, then ends the thread."""
        if self._jobs is not None:
            await self._idle.wait()
            await self._jobs.stop(self._database.close_writer)

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
            assert self._jobs is not None
            self._jobs.put(self._job_of(group))
        else:
            self._is_busy = False
            self._idle.set()

    def _job_of(self, group: list[Waiter]) -> Job:
        """The rest of a group's work, for the thread."""
        if not all(waiter.repeatable for waiter in group):
            return partial(self._group_commit.commit, group)
        started = clock.monotonic_s()
        done = self._group_commit.begin_bare(group, started + SLICE_S)
        if done == 0:
            return partial(self._group_commit.commit, group, apart=True)
        self._queue.extendleft(reversed(group[done:]))
        return partial(self._group_commit.commit_bare, group[:done], started)

    def _end(self, outcome: GroupOutcome) -> None:
        try:
            for _ in self._tell(outcome):
                pass
        finally:  # whatever happens there, the writer goes on
            self._schedule()
