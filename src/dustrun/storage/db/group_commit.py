"""Executes a group of units in one transaction of the writer's connection.

A violated constraint or stale fence fails only its own unit, because each unit runs in a savepoint. A savepoint costs
as much as a unit, so repeatable units run without one; if a unit fails, the whole group runs again with savepoints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator
from dataclasses import field
from typing import Any

from dustrun import clock, log, metrics
from dustrun.errors import Uncertain
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
class Outcome:
    """What became of a group's units."""

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

    def commit(self, group: list[Waiter], *, apart: bool = False) -> Outcome:
        """Executes a group and commits it; errors are in the outcome. `apart`: a unit of it is known to fail."""
        started, outcome = clock.monotonic_s(), Outcome()
        try:
            self._execute(group, outcome, apart=apart)
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

    def commit_bare(self, group: list[Waiter], started: float) -> Outcome:
        """Commits what `begin_bare` has executed; errors are in the outcome."""
        outcome = Outcome()
        try:
            self._database.commit()
            outcome.done = group
        except Exception as error:
            outcome = self._fail(group, error)
        note(group, started)
        return outcome

    def _fail(self, group: list[Waiter], error: Exception) -> Outcome:
        """The transaction failed as a whole."""
        outcome = failure_of(group, error, self._database)
        self._database.mend_writer()
        self._in_doubt = self._in_doubt or outcome.is_doubtful
        return outcome

    def _execute(self, group: list[Waiter], outcome: Outcome, *, apart: bool) -> None:
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

    def _begin(self, outcome: Outcome) -> Tx:
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

    def _run_apart(self, tx: Tx, group: list[Waiter], outcome: Outcome) -> None:
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


def failure_of(group: list[Waiter], error: Exception, database: Database) -> Outcome:
    """The outcome of a transaction that failed as a whole."""
    _FAILED.add()
    translated = database.translate(error)
    _logger.error("commit failed", error=str(error), units=len(group))
    return Outcome(
        failed=[(waiter, translated) for waiter in group],
        is_doubtful=isinstance(translated, Uncertain),
        is_taken=database.is_taken,
    )


def note(group: list[Waiter], started: float) -> None:
    """Counts a group in the metrics."""
    _COMMIT_SECONDS.observe(clock.monotonic_s() - started)
    _UNITS.observe(len(group))
