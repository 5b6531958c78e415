"""Advances runs in this process when it is asked to: the part of an engine of many machines that does the work.

Who asks, and which machine, is decided elsewhere. Asking twice is harmless here, and asking two machines ends with one:
the newer fence.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable

from dustrun import log
from dustrun.core.run.plan import Waiting
from dustrun.engine.run.recovery import take_up
from dustrun.engine.run.run_context import EngineDeps
from dustrun.engine.run.runner import Runner
from dustrun.errors import Temporary, Uncertain
from dustrun.services.runs.engine_port import Engine
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.storage.runs import advancing as rows

_logger = log.get(__name__)
_LOOK_EVERY_S = 1.0
_STOPPING = "The server is stopping; another one goes on with the run."


_AFTER_OTHERS_MS = 5_000
_NO_ROOM_MS = 15_000
_MOST_IN_LINE = 10_000


class HeldBack(Exception):
    """A limit holds the run back for now: try it again after so long, unless it is woken before."""

    def __init__(self, after_ms: int) -> None:
        super().__init__()
        self.after_ms = after_ms


class Advancer:
    """The runs that this process advances now. `process_id`: this one among those that share the store; `share`: among
    how many of them an organisation's limit is divided."""

    def __init__(
        self,
        deps: EngineDeps,
        programs: CompiledWorkflows,
        engine: Engine,
        process_id: str,
        share: Callable[[], int] = lambda: 1,
    ) -> None:
        self.process_id = process_id
        self._share = share
        self._deps = deps
        self._programs = programs
        self._engine = engine
        self._tasks: dict[int, asyncio.Task[Waiting | None]] = {}
        self._runners: dict[int, Runner] = {}
        self._simulations: Counter[int] = Counter()
        self._of_org: Counter[str] = Counter()
        self._lines: dict[str, dict[int, None]] = {}
        """The runs that their organisation's limit has held back here, in order."""
        self._look_task: asyncio.Task[None] | None = None
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, run_pk: int) -> bool:
        return run_pk in self._tasks

    def start(self) -> None:
        """Begins to look for signals and cancels of the runs that advance here."""
        self._look_task = asyncio.get_running_loop().create_task(self._keep_looking())

    async def stop(self, grace_s: float) -> None:
        """Starts no new nodes; running ones get `grace_s` seconds. Other machines take the runs up."""
        self._is_stopping = True
        if self._look_task is not None:
            self._look_task.cancel()
        tasks = list(self._tasks.values())
        for runner in self._runners.values():
            runner.stop()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, run_pk: int) -> asyncio.Task[Waiting | None]:
        """The task that advances a run until it waits or has ended (None): the one under way, or a new one. It raises
        `Temporary`, `Uncertain`, `Superseded` or `HeldBack` when the run must be advanced again later."""
        task = self._tasks.get(run_pk)
        if task is None:
            loop, context = asyncio.get_running_loop(), contextvars.Context()
            task = self._tasks[run_pk] = loop.create_task(self._drive(run_pk), context=context)
            task.add_done_callback(lambda done: self._left(run_pk, done))
        return task

    def _left(self, run_pk: int, task: asyncio.Task[Waiting | None]) -> None:
        if self._tasks.get(run_pk) is task:
            del self._tasks[run_pk]
        if not task.cancelled():
            task.exception()  # told to whoever asked, if anybody still does

    def poke(self, run_pk: int) -> bool:
        """A signal of the run is on disk; whether it advances here."""
        runner = self._runners.get(run_pk)
        if runner is not None:
            runner.poke()
        return runner is not None

    def cancel(self, run_pk: int) -> bool:
        """A request to cancel the run is on disk; whether it advances here."""
        runner = self._runners.get(run_pk)
        if runner is not None:
            runner.cancel()
        return runner is not None

    # --- one run ---

    async def _drive(self, run_pk: int) -> Waiting | None:
        if self._is_stopping:
            raise Temporary(_STOPPING)
        turn = await self._deps.database.read(lambda tx: rows.find_turn(tx, run_pk))
        if turn is None:
            return None
        if not turn.is_cancelled:
            if turn.is_after_others:
                raise HeldBack(_AFTER_OTHERS_MS)
            if not self._has_room(turn.org_id):
                self._put_in_line(turn.org_id, run_pk)
                raise HeldBack(_NO_ROOM_MS)
        self._of_org[turn.org_id] += 1
        try:
            return await self._take_up(run_pk)
        finally:
            self._make_room(turn.org_id)

    def _has_room(self, org_id: str) -> bool:
        most = self._deps.settings.max_running_runs_per_org // self._share()
        return self._of_org[org_id] < max(1, most)

    def _put_in_line(self, org_id: str, run_pk: int) -> None:
        line = self._lines.setdefault(org_id, {})
        if len(line) < _MOST_IN_LINE:  # the others come again by themselves
            line[run_pk] = None

    def _make_room(self, org_id: str) -> None:
        """A run of the organisation advances no more: the first in line has its turn."""
        self._of_org[org_id] -= 1
        if not self._of_org[org_id]:
            del self._of_org[org_id]
        line = self._lines.get(org_id)
        if line:
            run_pk = next(iter(line))
            del line[run_pk]
            if not line:
                del self._lines[org_id]
            self._engine.wake(run_pk)

    async def _take_up(self, run_pk: int) -> Waiting | None:
        runner = await take_up(
            self._deps, self._engine, self._programs, run_pk, lambda tx: rows.take_over(tx, run_pk, self.process_id)
        )
        if runner is None:
            return None
        self._runners[run_pk] = runner
        self._simulations[runner.facts.top_pk] += 1
        if self._is_stopping:
            runner.stop()
        try:
            answer = await runner.advance()
        finally:
            if self._runners.get(run_pk) is runner:
                del self._runners[run_pk]
            await self._leave_simulation(runner)
        if answer is None:
            raise Temporary(_STOPPING)
        if isinstance(answer, Waiting):
            return answer
        await self._wake_next(runner)
        return None

    async def _wake_next(self, runner: Runner) -> None:
        """Wakes the run that the workflow's limit held back until this one ended."""
        if runner.facts.concurrency_key is not None:
            found = await self._deps.database.read(lambda tx: rows.find_next_in_line(tx, runner.facts.pk))
            if found is not None:
                self._engine.wake(found)

    async def _leave_simulation(self, runner: Runner) -> None:
        """Drops the simulation from memory, since its next run may advance on another machine; it is in the tables."""
        top_pk = runner.facts.top_pk
        self._simulations[top_pk] -= 1
        if not self._simulations[top_pk]:
            del self._simulations[top_pk]
            if self._deps.spend is not None:
                await self._deps.spend.simulated_chains.forget(runner.facts)

    # --- what others did to these runs ---

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self.look()
            except (Temporary, Uncertain):
                continue
            except Exception as error:
                _logger.error("signals could not be read", exc_info=error)

    async def look(self) -> list[int]:
        """Reads from the tables which runs that advance here have signals or are to be cancelled. Returns those that
        should advance here, and do not."""
        own = await self._deps.database.read(lambda tx: rows.list_own(tx, self.process_id))
        for run in own:
            runner = self._runners.get(run.pk)
            if runner is not None and run.is_cancelled and not runner.is_cancelling:
                runner.cancel()
            elif runner is not None and run.has_signals:
                runner.poke()
        return [run.pk for run in own if run.pk not in self._tasks]
