"""Groups on PostgreSQL: everything queued is executed from the event loop, in few round trips, and committed."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable

from dustrun import clock
from dustrun.storage.db.database import Database
from dustrun.storage.db.group_commit import MAX_GROUP, Outcome, Waiter, failure_of, note
from dustrun.storage.db.pipeline.session import Session
from dustrun.storage.db.pipeline.transaction import Transaction


class PipelinedGroups:
    """Queues units; `tell` is called with what became of each group."""

    def __init__(self, database: Database, tell: Callable[[Outcome], None]) -> None:
        self._database = database
        self._tell = tell
        self._session = Session(database)
        self._queue: deque[Waiter] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._in_doubt = False

    def start(self) -> None:
        """Begins to commit; call it on the event loop of the waiters."""
        self._loop = asyncio.get_running_loop()
        self._go_on()

    async def stop(self) -> None:
        """Commits everything queued, then closes the connection."""
        while self._task is not None:
            await self._task
        await self._session.close()

    @property
    def backlog(self) -> int:
        """Number of queued units."""
        return len(self._queue)

    def put(self, waiter: Waiter) -> None:
        """Queues a unit."""
        self._queue.append(waiter)
        self._go_on()

    def _go_on(self) -> None:
        if self._task is None and self._queue and self._loop is not None:
            # in no caller's context
            self._task = self._loop.create_task(self._work(), context=contextvars.Context())

    async def _work(self) -> None:
        """Commits group after group until nothing is queued."""
        loop = asyncio.get_running_loop()
        while self._queue:
            group = [self._queue.popleft() for _ in range(min(MAX_GROUP, len(self._queue)))]
            outcome = await self._commit(group)
            loop.call_soon(self._tell, outcome)  # an error in one waiter's callback must not stop the writer
        self._task = None

    async def _commit(self, group: list[Waiter]) -> Outcome:
        started, outcome = clock.monotonic_s(), Outcome()
        try:
            left = await Transaction(self._session, self._database, outcome).execute(group)
            self._queue.extendleft(reversed(left))
            outcome.is_settled, self._in_doubt = self._in_doubt, False
        except Exception as error:
            self._session.drop()
            outcome = failure_of(group, error, self._database)
            self._in_doubt = self._in_doubt or outcome.is_doubtful
        note(group, started)
        return outcome
