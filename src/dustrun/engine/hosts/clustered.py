"""The engine of one of many machines: it takes new runs, and leaves to somebody else which machine advances them.

A new run is on disk before anybody is asked to advance it, and what the tables say is asked for again: so nothing that
is lost between the machines loses a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from dustrun.engine.hosts.advancer import Advancer
from dustrun.engine.hosts.dispatching import Asks, Sweep
from dustrun.engine.run.observer import note_start
from dustrun.engine.run.opening import open_for_others
from dustrun.engine.run.run_context import EngineDeps
from dustrun.errors import Temporary
from dustrun.services.runs.engine_port import Created, NewRun
from dustrun.services.sharing.bus import Bus
from dustrun.services.workflows.compiled import CompiledWorkflows

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
        self._deps.writer.on_settled = self._deps.hub.lose_all
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

    async def submit(self, run: NewRun) -> Created:
        """Creates a run, and has it advanced. While nobody can be asked, it waits on disk."""
        if self._stopping or self._is_busy:
            raise Temporary(_STOPPING if self._stopping else _BUSY, retry_after_s=2)

        opened = open_for_others(self._deps, self, run)
        batch = run.batch if opened is None else opened.recorder.take()

        def created(done: Created) -> None:
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
