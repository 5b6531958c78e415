"""A pool of warm processes, so that a call costs about a millisecond; limits how many scripts run concurrently.

A process serves one organisation for its whole life and returns to the pool only after a clean call, so that a script
cannot affect other organisations through its process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from dustrun.errors import Temporary
from dustrun.sandbox.limits import SandboxLimits
from dustrun.sandbox.process import Broken, Process, TooSlow

# Fair queueing when all slots are taken: organisations take turns, so that one with many scripts delays only itself.


class FairSlots:
    """A semaphore with one queue per organisation, served round-robin. For one event loop."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    async def acquire(self, tenant: str) -> None:
        """Takes a slot, waiting for this organisation's turn."""
        if self._free and not self._queues:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Releases a slot to the oldest waiter of the next organisation."""
        self._free += 1
        while self._free and self._queues:
            turn = self._next_turn()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def _next_turn(self) -> asyncio.Future[None]:
        tenant = next(iter(self._queues))
        queue = self._queues.pop(tenant)
        turn = queue.popleft()
        if queue:
            self._queues[tenant] = queue
        return turn


MAX_CALLS = 1000
START_ATTEMPTS = 3


class Pool:
    """Starts processes on demand, keeps the clean ones and kills the others."""

    def __init__(self, limits: SandboxLimits, command: Callable[[], Sequence[str]]) -> None:
        self._limits = limits
        self._command = command
        self._turns = FairSlots(limits.processes)
        self._idle: list[Process] = []
        self._live: set[Process] = set()
        self._endings: set[asyncio.Task[int]] = set()
        self._stopped = False

    @property
    def live(self) -> frozenset[Process]:
        """The processes that were not killed."""
        return frozenset(self._live)

    async def acquire(self, tenant: str) -> Process:
        """A process that is ready for a job of this organisation; waits while all slots are taken. Raises
        `Temporary`."""
        await self._turns.acquire(tenant)
        try:
            return await self._take(tenant)
        except BaseException:
            self._turns.release()
            raise

    def release(self, process: Process, *, clean: bool) -> None:
        """Returns a process to the pool; `clean` means that its answer was complete and well-formed."""
        self._turns.release()
        worn = process.calls >= MAX_CALLS or process.busy_s >= self._limits.life_busy_s
        if clean and not worn and not self._stopped:
            self._idle.append(process)
        else:
            self._end(process)

    async def stop(self) -> None:
        """Kills all processes and waits for their end; running calls fail."""
        self._stopped = True
        self._idle.clear()
        for process in self.live:
            self._end(process)
        await asyncio.gather(*self._endings)

    async def _take(self, tenant: str) -> Process:
        while process := self._find_idle(tenant):
            if await self._becomes_ready(process) is None:
                process.tenant = tenant
                return process
        why = ""
        for _ in range(START_ATTEMPTS):
            process = await self._start()
            problem = await self._becomes_ready(process)
            if problem is None:
                process.tenant = tenant
                return process
            why = problem
        raise Temporary(f"The sandbox cannot start a process: {why}.")

    def _find_idle(self, tenant: str) -> Process | None:
        """The most recently used idle process of this organisation; removes dead ones."""
        for process in reversed(self._idle[:]):
            if not process.alive:
                self._idle.remove(process)
                self._end(process)
            elif process.tenant == tenant:
                self._idle.remove(process)
                return process
        return None

    async def _start(self) -> Process:
        if self._stopped:
            raise Temporary("The sandbox is stopping.")
        # As many processes may idle as may run, so that organisations that take turns reuse them.
        if len(self._live) >= 2 * self._limits.processes and self._idle:
            self._end(self._idle.pop(0))
        try:
            process = await Process.start(self._command())
        except OSError as error:
            raise Temporary(f"The sandbox cannot start a process: {error.strerror}.") from None
        self._live.add(process)
        return process

    async def _becomes_ready(self, process: Process) -> str | None:
        """None if it can take a job, else why it was killed."""
        ready = False
        try:
            await process.ready()
            ready = not self._stopped
            return None if ready else "the sandbox is stopping"
        except Broken as error:
            return str(error)
        except TooSlow:
            return "it did not become ready in time"
        finally:
            if not ready:
                self._end(process)

    def _end(self, process: Process) -> None:
        process.kill()
        if process in self._live:
            self._live.remove(process)
            ending = asyncio.get_running_loop().create_task(process.ended())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
