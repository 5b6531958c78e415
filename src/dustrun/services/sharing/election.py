"""Work of only one of the processes that share a store: it begins where the lease is taken, and ends where it is
lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from dustrun import clock, log
from dustrun.errors import DustrunError, Temporary
from dustrun.storage.db.writer import Writer
from dustrun.storage.sharing import leases

_logger = log.get(__name__)
_LOOK_S = 1.0
_SHORTEST_S, _LONGEST_S = 0.01, 0.5
_PATIENCE_S = 30.0
"""More than it takes until a process that was killed or frozen counts as gone."""


class Leases:
    """The leases of this process."""

    def __init__(self, writer: Writer, holder: str) -> None:
        self.holder = holder
        self._writer = writer

    async def take(self, name: str) -> int | None:
        """Takes a lease, or keeps it; returns its fence, or None while a living process holds it."""
        return await self._writer.write(lambda tx: leases.take(tx, name, self.holder), repeatable=True)

    async def release(self, name: str) -> None:
        """Gives a lease back."""
        await self._writer.write(lambda tx: leases.release(tx, name, self.holder), repeatable=True)


@contextlib.asynccontextmanager
async def alone(leases: Leases | None, name: str) -> AsyncIterator[int]:
    """Waits until no other process holds the lease, and gives it back; the fence under which it is held. Raises
    `Temporary` if another one keeps it for long. Without leases there is no other process."""
    if leases is None:
        yield 0
        return
    fence = await _wait_for(leases, name)
    try:
        yield fence
    finally:
        with contextlib.suppress(DustrunError):  # it is free once this process ends
            await leases.release(name)


async def _wait_for(leases: Leases, name: str) -> int:
    until, wait_s = clock.monotonic_s() + _PATIENCE_S, _SHORTEST_S
    while (fence := await leases.take(name)) is None:
        if clock.monotonic_s() > until:
            raise Temporary("Another server is at it, and does not come to an end.", retry_after_s=2)
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_S)
    return fence


class Election:
    """Calls `begin` when this process is the one, and `end` when it is no longer. `end` must be quick."""

    def __init__(
        self, held: Leases, name: str, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]
    ) -> None:
        self._held = held
        self._name = name
        self._begin = begin
        self._end = end
        self.is_elected = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Stands for election."""
        await self._look()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Ends what was begun, and gives the lease back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.is_elected:
            self.is_elected = False
            await self._end()
            try:
                await self._held.release(self._name)
            except DustrunError as error:
                _logger.failed("a lease was not given back", error, lease=self._name)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look()
            except Exception as error:
                _logger.failed("a lease could not be looked at", error, lease=self._name)

    async def _look(self) -> None:
        is_ours = await self._held.take(self._name) is not None
        if is_ours and not self.is_elected:
            try:
                await self._begin()
            except BaseException:
                await self._end()  # the lease may pass to another process before the next attempt
                raise
            self.is_elected = True
        elif not is_ours and self.is_elected:
            self.is_elected = False
            await self._end()
