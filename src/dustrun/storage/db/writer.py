"""Group commit: all writes of the process go through one connection, and everything queued commits in one transaction.
On PostgreSQL look-ups share round trips as writes do.

Waiters and stream readers hear of a result only after the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Protocol, TypeVar

from dustrun.errors import Temporary
from dustrun.listeners import Listeners
from dustrun.storage.db.database import Database
from dustrun.storage.db.group_commit import GroupOutcome, LoopGroups, Waiter
from dustrun.storage.db.statement import Tx

T = TypeVar("T")
Unit = Callable[[Tx], T]


class _Groups(Protocol):
    """Queues units, executes them in groups, and says what became of each group."""

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def backlog(self) -> int: ...

    def put(self, waiter: Waiter) -> None: ...


class _LookUps(Protocol):
    """Reads rows without a thread."""

    async def run(self, query: Callable[[Tx], T]) -> T: ...

    async def close(self) -> None: ...


def _look_ups_of(database: Database) -> _LookUps | None:
    if database.is_sqlite:
        return None
    from dustrun.storage.db.pipeline.look_ups import PipelinedLookUps  # slow import: PostgreSQL's driver

    return PipelinedLookUps(database)


def _groups_of(database: Database) -> Callable[[Database, Callable[[GroupOutcome], Iterator[None]]], _Groups]:
    if database.is_sqlite:
        return LoopGroups
    from dustrun.storage.db.pipeline.groups import PipelinedGroups  # slow import: PostgreSQL's driver

    return PipelinedGroups


class Writer:
    """Queues units of work; `write` resolves once the unit is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._groups = _groups_of(database)(database, self._tell)
        self._look_ups = _look_ups_of(database)
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_doubt: Listeners[[]] = Listeners()
        """Called on the event loop when a commit's outcome is unknown, before its waiters are told."""
        self.on_settled: Listeners[[]] = Listeners()
        """Called on the event loop once that transaction has certainly ended, before any later result is delivered."""
        self.on_taken: Listeners[[]] = Listeners()
        """Called on the event loop when another server has taken over the store: this one must stop."""
        self.groups = 0
        self.units = 0

    def start(self) -> None:
        """Begins to write; call it on the event loop of the waiters."""
        self._loop = asyncio.get_running_loop()
        self._groups.start()
        self._database.look_ups_of_server = self._look_ups

    async def stop(self) -> None:
        """Commits everything queued, and closes the writer's connection."""
        self._stopping = True
        await self._groups.stop()
        self._database.look_ups_of_server = None
        if self._look_ups is not None:
            await self._look_ups.close()

    @property
    def backlog(self) -> int:
        """Number of units waiting for the next commit."""
        return self._groups.backlog

    def write(
        self,
        unit: Unit[T],
        after: Callable[[T], None] | None = None,
        *,
        repeatable: bool = False,
        is_separate: bool = False,
        may_wait: bool = False,
        touches: Collection[Hashable] = (),
    ) -> asyncio.Future[T]:
        """Runs `unit` in the next group; the future gets its result once the group is committed.

        `after(result)` is called on the event loop just before the future is set, in commit order. `repeatable`: the
        unit's side effects outside the store are idempotent, and it takes no longer than a few milliseconds.
        `is_separate`: it is repeatable, and neither reads nor changes a row that another such unit changes, except
        what belongs to things that both name in `touches`: such units are never in one group.
        `may_wait`: nobody minds a few milliseconds, so that many such units share a commit.
        """
        if self._stopping or self._loop is None:
            raise Temporary("The server is stopping; nothing was started.", retry_after_s=2)
        future: asyncio.Future[T] = self._loop.create_future()
        self._groups.put(Waiter(unit, future, after, repeatable, is_separate, may_wait, frozenset(touches)))
        return future

    def _tell(self, outcome: GroupOutcome) -> Iterator[None]:
        """Tells what became of a group, one waiter at each step; on the event loop."""
        self.groups += 1
        self.units += len(outcome.done)
        if outcome.is_settled:
            self.on_settled()
        if outcome.is_doubtful:
            self.on_doubt()
        if outcome.is_taken:
            self.on_taken()
        yield from outcome.answers()
