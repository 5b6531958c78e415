"""The engine of one of many machines: it takes new runs, and leaves to somebody else which machine advances them.

A new run is on disk before anybody is asked to advance it, and what the tables say is asked for again: so nothing that
is lost between the machines loses a run.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Protocol

from dustrun import clock, ids, log
from dustrun.engine.hosts.advancer import Advancer
from dustrun.engine.run.observer import note_start
from dustrun.engine.run.run_context import EngineDeps
from dustrun.engine.run.runner import open_for_others
from dustrun.errors import Temporary, Uncertain
from dustrun.services.runs.engine_port import CreatedRun, NewRun
from dustrun.services.sharing.bus import Bus
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.storage.db.database import Database
from dustrun.storage.runs import advancing as rows

# What an engine of many machines does besides advancing: it takes new runs, and asks for what must go on.
#
# `Asks` keeps what is to be asked of whoever decides where runs advance, until it is told. `Sweep` finds in the tables
# what nobody advances, so a lost wake-up, a machine that died and a wiped queue lose no run.


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
            await asyncio.sleep(SWEEP_EVERY_S * (0.75 + ids.jitter() / 2))  # apart from other processes

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


_MAX_WRITER_BACKLOG = 5000
_STOPPING = "The server is stopping; nothing was started."
_BUSY = "The server is busy; nothing was started."


class Dispatcher(Protocol):
    """Decides which machine advances a run."""

    @property
    def times_emptied(self) -> int:
        """How often it has lost all that it was asked."""
        ...

    async def send(self, run_pk: int, wakes: bool) -> None:
        """Has a run advanced somewhere, unless that is arranged already; `wakes`: even if it waits. Raises
        `Temporary`."""
        ...

    def serve_runs(self, advancer: Advancer, on_detached: Callable[[int], None], most: int, grace_s: float) -> None:
        """Has runs advanced here, at most so many at once."""
        ...

    async def stop(self) -> None:
        """Has nothing more done here."""
        ...


class ClusteredEngine:
    """Takes new runs; with `advances`, it also advances those that the dispatcher sends here. `share`: among how many
    engines a limit of all is divided."""

    def __init__(
        self,
        deps: EngineDeps,
        programs: CompiledWorkflows,
        dispatcher: Dispatcher,
        bus: Bus,
        share: Callable[[], int],
        *,
        advances: bool,
    ) -> None:
        self._deps = deps
        self._dispatcher = dispatcher
        self._bus = bus
        self._advances = advances
        self._asks = Asks(dispatcher.send)
        self._advancer = Advancer(deps, programs, self, deps.database.name, share)
        self._sweep = Sweep(deps.database, self._asks, self._advancer.look, lambda: dispatcher.times_emptied)
        self._refusing = False
        self._stopping = False

    # --- life ---

    async def start(self) -> None:
        """Begins to ask, and to advance."""
        self._deps.writer.on_settled.append(self._deps.hub.lose_all)
        self._asks.start()
        if not self._advances:
            return
        self._bus.on("wake", self._hear_wake)
        self._bus.on("cancel", self._hear_cancel)
        settings = self._deps.settings
        self._advancer.start()
        self._dispatcher.serve_runs(
            self._advancer, self._detached, settings.max_running_runs, settings.shutdown_grace_s
        )
        self._sweep.start()

    def refuse(self) -> None:
        """The server is about to stop: refuses new runs of callers."""
        self._refusing = True

    async def stop(self, grace_s: float) -> None:
        """Starts no new nodes; running ones get `grace_s` seconds. Other machines go on with the runs."""
        self._stopping = True
        await self._sweep.stop()
        await asyncio.gather(self._dispatcher.stop(), self._advancer.stop(grace_s))
        await self._asks.stop()

    @property
    def queued(self) -> int:
        """The number of runs for which nobody was asked yet."""
        return len(self._asks)

    @property
    def advancing(self) -> int:
        """The number of runs that advance here."""
        return len(self._advancer)

    @property
    def waiting(self) -> int:
        """No run waits in this process: waiting runs are in the tables alone."""
        return 0

    # --- the port ---

    def has_room(self) -> bool:
        """Whether new runs of callers are accepted."""
        return not (self._stopping or self._refusing or self._is_busy)

    @property
    def _is_busy(self) -> bool:
        is_full = len(self._asks) >= self._deps.settings.max_accepted_runs
        return is_full or self._deps.writer.backlog > _MAX_WRITER_BACKLOG

    async def submit(self, run: NewRun) -> CreatedRun:
        """Creates a run, and has it advanced. While nobody can be asked, it waits on disk."""
        if self._stopping or self._is_busy:
            raise Temporary(_STOPPING if self._stopping else _BUSY, retry_after_s=2)

        opened = open_for_others(self._deps, self, run)
        batch = run.batch if opened is None else opened.recorder.take()

        def created(done: CreatedRun) -> None:
            note_start(run.facts)
            if opened is not None:
                opened.opened(done.pk, len(batch.events))
            if batch.ending is None:
                self._asks.add(done.pk, wakes=False)
            if done.cancelled is not None:
                self.cancel(done.cancelled)

        return await run.write(batch, created)

    def wake(self, run_pk: int) -> None:
        """A signal for the run is on disk: whoever advances it reads it, or else somebody takes the run up."""
        if not self._advancer.poke(run_pk):
            self._bus.tell("wake", run_pk)
        self._asks.add(run_pk, wakes=True)

    def cancel(self, run_pk: int) -> None:
        """A request to cancel the run is on disk."""
        if not self._advancer.cancel(run_pk):
            self._bus.tell("cancel", run_pk)
        self._asks.add(run_pk, wakes=True)

    def _hear_wake(self, run_pk: int) -> None:
        self._advancer.poke(run_pk)

    def _hear_cancel(self, run_pk: int) -> None:
        self._advancer.cancel(run_pk)

    def _detached(self, run_pk: int) -> None:
        """A run advanced here that the dispatcher knows nothing of any more."""
        if not self._stopping:
            self._asks.add(run_pk, wakes=True)
