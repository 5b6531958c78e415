"""Work on names when they are due: several names at once, and each by one worker at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dustrun import clock
from dustrun.trigger_host.alarms import Alarms

LOOK_AGAIN_MS = 1_000
"""When a name is worked on again that waits for something, or whose work could not be written."""
_LONGEST_REST_S = 0.05


class DueWork:
    """Calls `work(name)` once a name is due. `work` returns when the name is due again, None: not by itself.

    Thousands of names may be due at the same moment. After each, a worker rests for as long as that took, so that the
    requests of callers do not wait for all of them: the busier the process, the longer both.
    """

    def __init__(self, work: Callable[[str], Awaitable[int | None]], at_once: int) -> None:
        self._work = work
        self._at_once = at_once
        self._alarms = Alarms(self.set_due)
        self._ready: asyncio.Queue[str | None] = asyncio.Queue()
        self._busy: set[str] = set()
        self._workers: list[asyncio.Task[None]] = []

    def set(self, name: str, at_ms: int) -> None:
        """Sets when a name is due."""
        self._alarms.set(name, at_ms)

    def set_due(self, name: str) -> None:
        """The name is due now."""
        self._ready.put_nowait(name)

    def drop(self, name: str) -> None:
        """The name is not due any more."""
        self._alarms.drop(name)

    def start(self) -> None:
        """Starts the workers, and the loop that waits for the next time."""
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._keep_working()) for _ in range(self._at_once)]
        self._alarms.start()

    async def stop(self) -> None:
        """Begins nothing more; what is being done is finished. Safe to call twice: a stop signal that no worker takes
        would end a worker of the next start."""
        await self._alarms.stop()
        workers, self._workers = self._workers, []
        for _ in workers:
            self._ready.put_nowait(None)
        await asyncio.gather(*workers, return_exceptions=True)

    async def _keep_working(self) -> None:
        while (name := await self._ready.get()) is not None:
            if name in self._busy:
                self._alarms.set(name, clock.now_ms() + LOOK_AGAIN_MS)
                continue
            self._busy.add(name)
            begun = clock.monotonic_s()
            due_at = await self._work(name)
            self._busy.discard(name)
            if due_at is not None:
                self._alarms.set(name, due_at)
            await asyncio.sleep(min(clock.monotonic_s() - begun, _LONGEST_REST_S))
