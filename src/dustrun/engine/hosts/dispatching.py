"""What an engine of many machines does besides advancing: it takes new runs, and asks for what must go on.

`Asks` keeps what is to be asked of whoever decides where runs advance, until it is told. `Sweep` finds in the tables
what nobody advances, so a lost wake-up, a machine that died and a wiped queue lose no run.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable

from dustrun import clock, log
from dustrun.errors import Temporary, Uncertain
from dustrun.storage.db.database import Database
from dustrun.storage.runs import advancing as rows

_logger = log.get(__name__)
_AT_ONCE = 32
_MOST_ASKED = 200_000
_AGAIN_S = (0.1, 0.5, 1.0, 2.0)
SWEEP_EVERY_S = 4.0
_ASK_AGAIN_S = 30.0
_ASK_LOST_AGAIN_S = 8.0
"""For a run whose process is lost: Temporal may have forgotten what it was asked. One that nobody has advanced yet is
more likely to be in a queue, which asking makes no shorter."""
_ASK_AGAIN_AT_MOST_S = 600.0


class Asks:
    """Runs for which `send(run_pk, wakes)` is still to be called. `wakes`: also if the run waits."""

    def __init__(self, send: Callable[[int, bool], Awaitable[None]]) -> None:
        self._send = send
        self._asked: dict[int, bool] = {}
        self._sending = 0
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failed_times = 0
        """How often in a row sending has failed."""

    def __len__(self) -> int:
        return len(self._asked) + self._sending

    def add(self, run_pk: int, *, wakes: bool) -> None:
        """Asks soon; what is too much for memory is left to the sweep."""
        if len(self._asked) < _MOST_ASKED:
            self._asked[run_pk] = self._asked.get(run_pk, False) or wakes
            self._woken.set()

    def start(self) -> None:
        """Begins to send."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Stops; the sweep of another process finds the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._asked:
                first = list(itertools.islice(self._asked, _AT_ONCE))
                some = [(run_pk, self._asked.pop(run_pk)) for run_pk in first]
                self._sending = len(some)
                sent = await asyncio.gather(*(self._try(*one) for one in some))
                self._sending = 0
                if all(sent):
                    self.failed_times = 0
                else:
                    await asyncio.sleep(_AGAIN_S[min(self.failed_times, len(_AGAIN_S) - 1)])
                    self.failed_times += 1

    async def _try(self, run_pk: int, wakes: bool) -> bool:
        try:
            await self._send(run_pk, wakes)
            return True
        except Temporary:
            self._asked.clear()
        except Exception as error:
            _logger.error("a run could not be handed on", run_pk=run_pk, exc_info=error)
        self.add(run_pk, wakes=wakes)
        return False


class Sweep:
    """Asks for every run that is due and that no living process advances. `own` finds those that advance here;
    `times_emptied`: how often all that was asked has been lost."""

    def __init__(
        self,
        database: Database,
        asks: Asks,
        own: Callable[[], Awaitable[list[int]]],
        times_emptied: Callable[[], int],
    ) -> None:
        self._database = database
        self._asks = asks
        self._own = own
        self._times_emptied = times_emptied
        self._emptied_before = 0
        self._own_before: set[int] = set()
        self._asked: dict[int, tuple[float, float]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweeps now and again and again."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                await self.sweep()
            except (Temporary, Uncertain):
                pass
            except Exception as error:
                _logger.error("runs that nobody advances could not be read", exc_info=error)
            await asyncio.sleep(SWEEP_EVERY_S * (0.75 + random.random() / 2))  # noqa: S311 - apart from other processes

    async def sweep(self) -> None:
        """Asks for runs that were not asked for lately; for the same run less and less often. When all requests have
        been lost, it starts over: else a run whose request is lost several times would wait for minutes."""
        if (emptied := self._times_emptied()) != self._emptied_before:
            self._emptied_before = emptied
            self._asked.clear()
        forsaken = await self._database.read(rows.list_forsaken)
        found = {run.pk: run.is_waiting for run in forsaken}
        lost = {run.pk for run in forsaken if run.was_taken}
        own = set(await self._own())
        for run_pk in own & self._own_before:  # else it may just be beginning, or ending
            found[run_pk] = True
            lost.add(run_pk)
        self._own_before = own
        now = clock.monotonic_s()
        kept, self._asked = self._asked, {}
        for run_pk, wakes in found.items():
            at, pause = kept.get(run_pk, (0.0, 0.0))
            if now >= at:
                self._asks.add(run_pk, wakes=wakes or pause > 0)
                least = _ASK_LOST_AGAIN_S if run_pk in lost else _ASK_AGAIN_S
                pause = min(max(least, pause * 2), _ASK_AGAIN_AT_MOST_S)
                at = now + pause
            self._asked[run_pk] = (at, pause)
