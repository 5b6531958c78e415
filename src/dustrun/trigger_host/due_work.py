"""Work on names when they are due: several names at once, and each by one worker at a time.

`Alarms` says when the time of a name has come.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable

from dustrun import clock, log

# A heap of times at which something is due. One loop waits for the earliest.


_logger = log.get(__name__)
_LONGEST_S = 1.0
"""How long the loop sleeps at most: the clock may be set, and a machine may sleep."""


class Alarms:
    """Calls `due(name)` on the event loop once the time set for a name has come; a new time replaces the old one."""

    def __init__(self, due: Callable[[str], None]) -> None:
        self._due = due
        self._at: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._at)

    def set(self, name: str, at_ms: int) -> None:
        """Sets when a name is due."""
        self._at[name] = at_ms
        heapq.heappush(self._heap, (at_ms, name))
        if self._heap[0][1] == name:
            self._changed.set()

    def drop(self, name: str) -> None:
        """The name is not due any more."""
        self._at.pop(name, None)

    def start(self) -> None:
        """Starts the loop."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Stops the loop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take_due(self, now: int) -> list[str]:
        """Removes and returns the names that are due, earliest first."""
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            at, name = heapq.heappop(self._heap)
            if self._at.get(name) == at:
                del self._at[name]
                found.append(name)
        return found

    async def _keep(self) -> None:
        while True:
            for name in self.take_due(clock.now_ms()):
                try:
                    self._due(name)
                except Exception as error:
                    _logger.error("a due trigger could not begin", subscription=name, exc_info=error)
            self._changed.clear()
            longest_s = clock.look_around_s(_LONGEST_S)
            left = (self._heap[0][0] - clock.now_ms()) / 1000 if self._heap else longest_s
            try:
                async with asyncio.timeout(min(max(left, 0.0), longest_s)):
                    await self._changed.wait()
            except TimeoutError:
                pass


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
