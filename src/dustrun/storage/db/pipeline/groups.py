"""Groups on PostgreSQL: everything queued is executed from the event loop, in few round trips, and committed."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice

from dustrun import clock
from dustrun.storage.db.database import Database
from dustrun.storage.db.group_commit import MAX_GROUP, GroupOutcome, Waiter, failure_of, note
from dustrun.storage.db.pipeline.session import Session
from dustrun.storage.db.pipeline.transaction import Transaction

# Tells the waiters of committed groups what became of their units.


_TOLD_AT_ONCE = 32


class Delivery:
    """Delivers outcomes to their waiters, a few at each round of the event loop. What five hundred do once told
    would keep the next group from its commit, and the database would wait."""

    def __init__(self, tell: Callable[[GroupOutcome], Iterable[None]]) -> None:
        self._tell = tell
        self._outcomes: deque[Iterator[None]] = deque()
        self._is_done = asyncio.Event()
        self._is_done.set()

    def add(self, outcome: GroupOutcome) -> None:
        """Tells what became of a group, after those before it."""
        self._outcomes.append(iter(self._tell(outcome)))
        if self._is_done.is_set():
            self._is_done.clear()
            asyncio.get_running_loop().call_soon(self._go_on)

    async def done(self) -> None:
        """Waits until all have been told."""
        await self._is_done.wait()

    def _go_on(self) -> None:
        told = 0
        try:
            while self._outcomes and told < _TOLD_AT_ONCE:
                told += sum(1 for _ in islice(self._outcomes[0], _TOLD_AT_ONCE - told))
                if told < _TOLD_AT_ONCE:
                    self._outcomes.popleft()
        except Exception:  # of a hook, not of a waiter
            self._outcomes.popleft()
            raise
        finally:
            if self._outcomes:
                asyncio.get_running_loop().call_soon(self._go_on)
            else:
                self._is_done.set()


_SLICE_S = 0.003
"""How long preparing may keep a commit's answer waiting."""


class UnitGroup:
    """Units on their way to one commit."""

    def __init__(self, waiters: list[Waiter], session: Session, database: Database) -> None:
        self.waiters = waiters
        self.started = clock.monotonic_s()
        self.outcome = GroupOutcome()
        self.transaction = Transaction(session, database, self.outcome)
        self.touched: set[Hashable] = set()
        """The rows that the added units touch."""

    def add(self, waiter: Waiter) -> None:
        """Adds a unit."""
        self.waiters.append(waiter)
        self.touched |= waiter.touches


class PipelinedGroups:
    """Queues units; `tell` is called with what became of each group."""

    def __init__(self, database: Database, tell: Callable[[GroupOutcome], Iterable[None]]) -> None:
        self._database = database
        self._delivery = Delivery(tell)
        self._session = Session(database)
        self._session.on_commit = self._commits if database.is_shared else self._begin_next
        self._session.on_void = self._take_back
        self._queue: deque[Waiter] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._in_doubt = False
        self._next: UnitGroup | None = None
        self._may_prepare = False
        self._will_prepare = False

    def start(self) -> None:
        """Begins to commit; call it on the event loop of the waiters."""
        self._loop = asyncio.get_running_loop()
        self._go_on()

    async def stop(self) -> None:
        """Commits everything queued, then closes the connection."""
        while self._task is not None:
            await self._task
        await self._delivery.done()
        await self._session.close()

    @property
    def backlog(self) -> int:
        """Number of queued units."""
        return len(self._queue)

    def put(self, waiter: Waiter) -> None:
        """Queues a unit."""
        self._queue.append(waiter)
        self._go_on()
        self._prepare_soon()

    def _go_on(self) -> None:
        if self._task is None and self._queue and self._loop is not None:
            # in no caller's context
            self._task = self._loop.create_task(self._work(), context=contextvars.Context())

    async def _work(self) -> None:
        """Commits group after group until nothing is queued."""
        while self._queue or self._next is not None:
            group = self._next or UnitGroup(self._take(), self._session, self._database)
            self._next = None
            if not all(waiter.is_separate for waiter in group.waiters):
                await self._delivery.done()  # such a unit may rely on what those before it have told
            self._delivery.add(await self._commit(group))
        self._task = None

    def _take(self) -> list[Waiter]:
        """The next group. A unit that touches what one before it touches stays queued."""
        taken: list[Waiter] = []
        kept: list[Waiter] = []
        touched: set[Hashable] = set()
        for _ in range(min(MAX_GROUP, len(self._queue))):
            waiter = self._queue.popleft()
            (taken if touched.isdisjoint(waiter.touches) else kept).append(waiter)
            touched |= waiter.touches
        self._queue.extendleft(reversed(kept))
        return taken

    def _begin_next(self) -> None:
        """Begins the next group behind a commit that has been posted, so that distance to the database costs one round
        trip less. Only units that may be repeated are begun, since that commit may fail."""
        assert self._next is None
        waiters = self._take()
        together = [waiter for waiter in waiters if waiter.is_separate]
        if not together:
            self._queue.extendleft(reversed(waiters))
            return
        group = UnitGroup(waiters, self._session, self._database)
        try:
            group.transaction.begin_ahead(together)
        except Exception:  # met again, and told, when the group is begun after the commit
            group.transaction.abandon()
            self._queue.extendleft(reversed(waiters))
            return
        self._next = group

    def _take_back(self) -> None:
        """Queues again, before all others, what was begun behind a commit and is void."""
        assert self._next is not None
        self._next.transaction.abandon()
        self._queue.extendleft(reversed(self._next.waiters))
        self._next = None

    async def _commit(self, group: UnitGroup) -> GroupOutcome:
        outcome = group.outcome
        try:
            left = await group.transaction.execute(group.waiters)
            self._queue.extendleft(reversed(left))
            outcome.is_settled, self._in_doubt = self._in_doubt, False
            if self._database.trouble.failing:
                self._database.trouble.end("writes")
        except Exception as error:
            self._session.drop()
            outcome = failure_of(group.waiters, error, self._database)
            self._in_doubt = self._in_doubt or outcome.is_doubtful
        finally:
            self._may_prepare = False
        note(group.waiters, group.started)
        return outcome

    def _commits(self) -> None:
        """A commit to a shared store is under way. Others write as soon as it is done, so the next group asks nothing
        before it has done all that it can without an answer: nobody's turn lasts longer than the database works."""
        self._may_prepare = True
        self._prepare_soon()

    def _prepare_soon(self) -> None:
        if self._may_prepare and self._queue and not self._will_prepare:
            self._will_prepare = True
            asyncio.get_running_loop().call_soon(self._prepare)

    def _prepare(self) -> None:
        """Has queued units take their first turn, in their order, for as long as they may hold the event loop."""
        self._will_prepare = False
        until = clock.monotonic_s() + _SLICE_S
        while self._may_prepare and self._queue and self._may_join(self._queue[0]):
            if self._next is None:
                self._next = UnitGroup([], self._session, self._database)
            waiter = self._queue.popleft()
            self._next.add(waiter)
            try:
                self._next.transaction.prepare(waiter)
            except Exception:  # met again, and told, when the group is begun after the commit
                self._may_prepare = False
                self._take_back()
            if clock.monotonic_s() > until:
                self._prepare_soon()
                return

    def _may_join(self, waiter: Waiter) -> bool:
        """Whether a unit can be in the group that is prepared."""
        if self._next is None:
            return waiter.is_separate
        is_apart = self._next.touched.isdisjoint(waiter.touches)
        return waiter.is_separate and is_apart and len(self._next.waiters) < MAX_GROUP
