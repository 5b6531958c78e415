"""The engine of one process: a task per advancing run, one timer loop, recovery at start. In a shared store it advances
the runs that it has claimed.

A run advances as soon as its creation has committed. Only when a limit is reached does it wait in a queue, round robin
over organisations.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from dustrun import clock, log
from dustrun.core.run.plan import Done, Waiting
from dustrun.core.values.exact_json import loads
from dustrun.engine.hosts.claims import Claims
from dustrun.engine.run.observer import note_start
from dustrun.engine.run.recovery import LoadedRun, begin, load_new, take_up
from dustrun.engine.run.run_context import EngineDeps, Superseded
from dustrun.engine.run.runner import Runner, open_for_others, open_run, runner_of
from dustrun.errors import Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.services.runs.engine_port import CreatedRun, NewRun, RunFacts
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.settings import Settings
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import claims as claim_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.claims import Rooms
from dustrun.storage.runs.journal import Batch
from dustrun.storage.runs.runs import OpenRun

# Wakes runs at given times, with one loop for all of them.


class Timers:
    """The times at which `wake` is called with a run."""

    def __init__(self, wake: Callable[[int], None]) -> None:
        self._wake = wake
        self._timers: list[tuple[int, int]] = []
        self._moved = asyncio.Event()

    def set(self, at: int, run_pk: int) -> None:
        """Schedules a wake-up of a run at `at`, in milliseconds UTC."""
        heapq.heappush(self._timers, (at, run_pk))
        if self._timers[0] == (at, run_pk):
            self._moved.set()

    async def keep(self) -> None:
        """Wakes every run when its time comes; never returns."""
        while True:
            now = clock.now_ms()
            while self._timers and self._timers[0][0] <= now:
                self._wake(heapq.heappop(self._timers)[1])
            wait_s = (self._timers[0][0] - now) / 1000 if self._timers else 3600.0
            try:
                async with asyncio.timeout(min(wait_s, 3600.0)):
                    await self._moved.wait()
            except TimeoutError:
                continue
            self._moved.clear()


# The unfinished runs of this process, and the queue of those that a limit holds back.


Group = tuple[str, str | None]
"""A workflow and a value of its concurrency key."""


@dataclass(slots=True)
class AdmittedRun:
    """An unfinished run of this process."""

    org_id: str
    group: Group | None
    max_open: int | None
    runner: Runner | None = None
    loaded: LoadedRun | None = None
    task: asyncio.Task[None] | None = None
    queued: bool = False
    again: bool = False
    is_cancelling: bool = False


class Admission:
    """Begins runs while there is room, round robin over organisations; `drive` advances one and calls `left` at its
    end. `share`: among how many processes an organisation's limit is divided."""

    def __init__(
        self,
        settings: Settings,
        drive: Callable[[int, AdmittedRun], Coroutine[Any, Any, None]],
        share: Callable[[], int] = lambda: 1,
    ) -> None:
        self.known: dict[int, AdmittedRun] = {}
        self.queued = 0
        self.advancing = 0
        self._settings = settings
        self._share = share
        self._drive = drive
        self._groups: dict[Group, dict[int, None]] = {}
        self._queues: dict[str, deque[int]] = {}
        self._advancing: dict[str, int] = {}

    def enqueue(self, run_pk: int, known: AdmittedRun) -> None:
        """Queues a run; it begins at once if there is room."""
        known.queued = True
        self.queued += 1
        self._queues.setdefault(known.org_id, deque()).append(run_pk)
        self.admit()

    def begin(self, run_pk: int, known: AdmittedRun) -> None:
        """Begins a run now."""
        self.advancing += 1
        self._advancing[known.org_id] = self._advancing.get(known.org_id, 0) + 1
        known.task = asyncio.get_running_loop().create_task(self._drive(run_pk, known))

    def left(self, known: AdmittedRun) -> None:
        """A run no longer advances."""
        self.advancing -= 1
        self._advancing[known.org_id] -= 1
        if not self._advancing[known.org_id]:
            del self._advancing[known.org_id]
        known.task = None

    def register(self, run_pk: int, known: AdmittedRun) -> None:
        """Adds an unfinished run."""
        self.known[run_pk] = known
        if known.group is not None:
            self._groups.setdefault(known.group, {})[run_pk] = None

    def forget(self, run_pk: int) -> None:
        """Removes a run that has ended."""
        known = self.known.pop(run_pk)
        if known.group is not None:
            runs = self._groups[known.group]
            runs.pop(run_pk, None)
            if not runs:
                del self._groups[known.group]

    def has_room(self, org_id: str) -> bool:
        """Whether a run of this organisation may begin at once."""
        settings = self._settings
        return (
            self.queued == 0
            and self.advancing < settings.max_running_runs
            and self._advancing.get(org_id, 0) < self.most_of_org
        )

    @property
    def most_of_org(self) -> int:
        """How many runs of one organisation may advance at once."""
        return max(1, self._settings.max_running_runs_per_org // self._share())

    def known_of_orgs(self) -> dict[str, int]:
        """How many runs of each organisation advance or are queued."""
        found = dict(self._advancing)
        for org_id, queue in self._queues.items():
            found[org_id] = found.get(org_id, 0) + len(queue)
        return found

    def admit(self) -> None:
        """Begins queued runs while there is room, round robin over organisations."""
        settings = self._settings
        progress = True
        while progress and self.advancing < settings.max_running_runs:
            progress = False
            for org_id in list(self._queues):
                if self._advancing.get(org_id, 0) < self.most_of_org:
                    progress = self._admit_one(org_id) or progress
                if self.advancing >= settings.max_running_runs:
                    return

    def _admit_one(self, org_id: str) -> bool:
        """Begins the organisation's first queued run that is within its workflow's own limit."""
        queue = self._queues[org_id]
        for run_pk in queue:
            known = self.known.get(run_pk)
            if known is None or self._is_first(run_pk, known):
                queue.remove(run_pk)
                self.queued -= 1
                del self._queues[org_id]
                if queue:
                    self._queues[org_id] = queue  # behind the others: the next place is theirs
                if known is not None:
                    known.queued = False
                    self.begin(run_pk, known)
                return True
        return False

    def _is_first(self, run_pk: int, known: AdmittedRun) -> bool:
        """Whether fewer than the workflow's limit of unfinished runs are older than this one."""
        if known.max_open is None or known.group is None:
            return True
        for position, other in enumerate(self._groups.get(known.group, ())):
            if position >= known.max_open:
                return False
            if other == run_pk:
                return True
        return False


_logger = log.get(__name__)
_TRY_AGAIN_S = 0.5
_MAX_WRITER_BACKLOG = 5000
_MANY_NEW = 20
"""With so many runs being created at once, a process that only answers calls leaves what they begin with to engines."""
_MAX_RESTING = 67_108_864
_MAX_RESTING_RUNS = 200


@dataclass(slots=True)
class RunOpening:
    """A run about to be created. `runner`: None if others advance it, and its creation executes nothing."""

    facts: RunFacts
    batch: Batch
    runner: Runner | None
    rides: bool
    max_open: int | None
    is_handed: bool = False
    """Engines execute what it begins with, although this process could."""


class EmbeddedEngine:
    """Advances every unfinished run of the store in this process, or with `claims` those that are its own."""

    def __init__(self, deps: EngineDeps, programs: CompiledWorkflows, claims: Claims | None = None) -> None:
        self._deps = deps
        self._programs = programs
        self._claims = claims
        self._holder = claims.holder if claims is not None else None
        self._admission = Admission(deps.settings, self._drive, claims.share if claims is not None else lambda: 1)
        self._known = self._admission.known
        self._resting: dict[int, int] = {}
        self._timers = Timers(self.wake)
        self._timer_task: asyncio.Task[None] | None = None
        self._refusing = False
        self._unconfirmed: dict[tuple[str, str], RunOpening] = {}
        self._creating = 0
        self._handing = 0
        self._must_reconcile = False
        self._reconcile_task: asyncio.Task[None] | None = None
        self._stopping = False

    # --- life ---

    async def start(self) -> None:
        """Recovers every unfinished run; in a shared store as they are claimed."""
        self._timer_task = asyncio.get_running_loop().create_task(self._timers.keep())
        self._deps.writer.on_doubt.append(self._reconcile_soon)
        self._deps.writer.on_settled.append(self._deps.hub.lose_all)
        if self._claims is not None:
            self._claims.start(self)
        else:
            self.adopt(await self._deps.database.read(run_rows.list_open))

    def load_new(self, tx: Tx, found: list[OpenRun]) -> dict[int, LoadedRun]:
        """Reads those of newly claimed runs that may begin at once."""
        assert self._holder is not None
        return load_new(tx, self._deps, [run.pk for run in found if run.status == "running"], self._holder)

    def adopt(self, found: list[OpenRun], loaded: Mapping[int, LoadedRun] = MappingProxyType({})) -> None:
        """Adds the runs that this process does not know yet; wakes or cancels the others as the tables say. `loaded`:
        those that have been read with the fence that they have now."""
        for run in found:
            known = self._known.get(run.pk)
            opening = self._unconfirmed.pop((run.org_id, run.id), None)
            # of a shared store only what rides was created as this process's own; else it has been claimed since
            if known is None and opening is not None and (opening.rides or self._claims is None):
                self._opened(opening, run.pk)
                continue
            if known is None:
                group = (run.workflow_id, run.concurrency_key) if run.workflow_id is not None else None
                is_limited = run.concurrency and self._claims is None
                limit = loads(run.concurrency)["max"] if is_limited and run.concurrency else None
                self._admission.register(run.pk, AdmittedRun(run.org_id, group, limit, loaded=loaded.get(run.pk)))
            elif run.cancel_requested_at is not None:
                self.cancel(run.pk)
                continue
            if known is not None:
                is_due = run.has_signals
            else:
                is_due = run.status == "running" or run.cancel_requested_at is not None or run.has_signals
            if is_due:
                self.wake(run.pk)
            elif known is None and run.wake_at is not None:
                self._timers.set(run.wake_at, run.pk)

    def refuse(self) -> None:
        """The server is about to stop: refuses new runs of callers; unfinished runs continue for now."""
        self._refusing = True

    def _reconcile_soon(self) -> None:
        """A commit's outcome is unknown: reads from the tables what it may have created, cancelled or signalled."""
        self._must_reconcile = True
        if self._reconcile_task is None or self._reconcile_task.done():
            self._reconcile_task = asyncio.get_running_loop().create_task(self._reconcile())

    async def _reconcile(self) -> None:
        while self._must_reconcile and not self._stopping:
            self._must_reconcile = False
            try:
                await self._deps.writer.write(self._list_open, self._reconciled)
                self._deps.hub.lose_all()
            except (Temporary, Uncertain):
                self._must_reconcile = True
                await asyncio.sleep(_TRY_AGAIN_S)

    def _reconciled(self, found: list[OpenRun]) -> None:
        self.adopt(found)
        self._unconfirmed.clear()  # the others are not on disk

    def _list_open(self, tx: Tx) -> list[OpenRun]:
        return run_rows.list_open(tx) if self._holder is None else claim_rows.list_own(tx, self._holder)

    async def stop(self, grace_s: float) -> None:
        """Starts no new nodes; running ones get `grace_s` seconds, the rest resume at the next start."""
        self._stopping = True
        if self._claims is not None:
            await self._claims.stop()
        if self._timer_task is not None:
            self._timer_task.cancel()
        if self._reconcile_task is not None:
            self._reconcile_task.cancel()
        tasks = [known.task for known in self._known.values() if known.task is not None]
        for known in self._known.values():
            if known.runner is not None:
                known.runner.stop()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    @property
    def queued(self) -> int:
        """The number of queued runs."""
        return self._admission.queued

    @property
    def advancing(self) -> int:
        """The number of runs that advance now."""
        return self._admission.advancing

    @property
    def waiting(self) -> int:
        """The number of unfinished runs that neither advance nor queue."""
        return len(self._known) - self._admission.advancing - self._admission.queued

    # --- the port ---

    def has_room(self) -> bool:
        """Whether new runs of callers are accepted."""
        is_full = self._claims is not None and self._claims.is_full
        return not (self._stopping or self._refusing or self._is_busy or is_full)

    @property
    def _advances(self) -> bool:
        return self._claims is None or self._claims.advances

    @property
    def _is_busy(self) -> bool:
        is_full = self._admission.queued >= self._deps.settings.max_accepted_runs
        return is_full or self._deps.writer.backlog > _MAX_WRITER_BACKLOG

    async def submit(self, run: NewRun) -> CreatedRun:
        """Creates a run and advances it, or queues it."""
        opening = self._open(run)

        def created(done: CreatedRun) -> None:
            self._opened(opening, done.pk)
            if done.cancelled is not None:
                self.cancel(done.cancelled)

        self._creating += 1
        self._handing += opening.is_handed
        try:
            return await run.write(opening.batch, created)
        except Uncertain:
            # If the run is on disk, its first nodes have not begun, which the tables alone could not tell.
            self._unconfirmed[(run.facts.org_id, run.facts.id)] = opening
            self._reconcile_soon()
            raise
        finally:
            self._creating -= 1
            self._handing -= opening.is_handed

    def _open(self, run: NewRun) -> RunOpening:
        """Plans the first steps of a new run; raises `Temporary` when too many runs are queued."""
        if self._stopping:
            raise Temporary("The server is stopping; nothing was started.", retry_after_s=2)
        if self._is_busy:
            raise Temporary("The server is busy; nothing was started.", retry_after_s=2)
        facts = run.facts
        facts.fence = 1
        if not self._advances:
            return self._open_for_others(run)
        runner = runner_of(self._deps, self, run)
        rides = run.max_open is None and self._admission.has_room(facts.org_id)
        facts.claimed_by = self._holder if rides else None
        if rides:
            open_run(runner, begins=True)
        return RunOpening(facts, runner.recorder.take(), runner, rides, run.max_open)

    def _open_for_others(self, run: NewRun) -> RunOpening:
        is_handed = self._hands_over
        runner = None if is_handed else open_for_others(self._deps, self, run)
        batch = run.batch if runner is None else runner.recorder.take()
        return RunOpening(run.facts, batch, runner, rides=False, max_open=run.max_open, is_handed=is_handed)

    @property
    def _hands_over(self) -> bool:
        """Whether engines should execute what a new run begins with: this process has much to do, and they have not."""
        is_busy = self._creating >= _MANY_NEW
        return is_busy and self._claims is not None and self._claims.may_hand_over(self._handing)

    def _opened(self, opening: RunOpening, run_pk: int) -> None:
        """The run is on disk: begin, or queue, unless it has ended already."""
        facts = opening.facts
        note_start(facts)
        if opening.runner is not None:
            opening.runner.opened(run_pk, len(opening.batch.events))
        if opening.batch.ending is not None:
            return
        if self._claims is not None and not opening.rides:
            self._claims.handed(run_pk)
            return
        group = (facts.workflow_id, facts.concurrency_key) if facts.workflow_id is not None else None
        known = AdmittedRun(facts.org_id, group, opening.max_open, opening.runner)
        self._admission.register(run_pk, known)
        if opening.rides:
            self._admission.begin(run_pk, known)
        else:
            self.wake(run_pk)

    def wake(self, run_pk: int) -> None:
        """A signal for the run is on disk: advance it."""
        known = self._known.get(run_pk)
        if known is None and self._claims is not None:
            self._claims.pass_on("wake", run_pk)
        if known is None or self._stopping:
            return
        if known.task is not None:
            known.again = True
            if known.runner is not None:
                known.runner.poke()
        elif not known.queued:
            self._admission.enqueue(run_pk, known)

    def cancel(self, run_pk: int) -> None:
        """A request to cancel the run is on disk."""
        known = self._known.get(run_pk)
        if known is None and self._claims is not None:
            self._claims.pass_on("cancel", run_pk)
        if known is None:
            return
        if known.task is not None and known.runner is not None:
            known.again = True  # it may be recording that it waits, and look at nothing more
            known.runner.cancel()
        else:
            self._resting.pop(run_pk, None)
            known.runner = None
            known.max_open = None
            known.is_cancelling = True  # its rows may be loading, read before the request
            self.wake(run_pk)

    # --- what other processes of a shared store tell ---

    @property
    def room(self) -> int:
        """How many more runs may begin now."""
        return 0 if self._stopping else self._deps.settings.max_running_runs - self.advancing - self.queued

    def rooms(self, most: int, coming: Mapping[str, int] = MappingProxyType({})) -> Rooms:
        """How many more runs of each organisation may begin now, as far as it is fewer than `most`. `coming`: how many
        of each come soon."""
        most_of_org, known = self._admission.most_of_org, Counter(self._admission.known_of_orgs())
        known.update(coming)
        named = {org_id: max(0, most_of_org - count) for org_id, count in known.items() if most_of_org - count < most}
        return Rooms(min(most, most_of_org), named)

    def hear_wake(self, run_pk: int) -> bool:
        """A signal for a run is on disk; whether the run is known here."""
        if run_pk in self._known:
            self.wake(run_pk)
        return run_pk in self._known

    def hear_cancel(self, run_pk: int) -> bool:
        """A request to cancel a run is on disk; whether the run is known here."""
        if run_pk in self._known:
            self.cancel(run_pk)
        return run_pk in self._known

    # --- one run ---

    async def _drive(self, run_pk: int, known: AdmittedRun) -> None:
        again_after: float | None = None
        answer: Waiting | Done | None = None
        try:
            answer = await self._advance(run_pk, known)
            await self._end_simulation(known, answer)
        except Superseded:
            again_after = _TRY_AGAIN_S
        except (Temporary, Uncertain):
            again_after = _TRY_AGAIN_S
        except Exception as error:
            _logger.error("run stopped unexpectedly", run_pk=run_pk, exc_info=error)
            again_after = _TRY_AGAIN_S * 20
        finally:
            if again_after is not None:
                await self._forget_simulation(known)
            self._admission.left(known)
            if self._claims is not None:
                self._claims.left()
            if isinstance(answer, Waiting):
                self._rest(run_pk, known)
            else:
                known.runner = None
        self._after(run_pk, known, answer, again_after)

    async def _advance(self, run_pk: int, known: AdmittedRun) -> Waiting | Done | None:
        if self._resting.pop(run_pk, None) is not None and known.runner is not None:
            known.runner.go_on()
        if known.loaded is not None:
            loaded, known.loaded = known.loaded, None
            known.runner = await begin(self._deps, self, self._programs, loaded)
        elif known.runner is None:
            known.runner = await take_up(self._deps, self, self._programs, run_pk, partial(self._take, run_pk))
        if known.runner is None:
            self._resting.pop(run_pk, None)
            self._admission.forget(run_pk)
            return None
        if known.is_cancelling:
            known.runner.cancel()
        return await known.runner.advance()

    def _take(self, run_pk: int, tx: Tx) -> int | None:
        if self._holder is None:
            return run_rows.take_up(tx, run_pk)
        return claim_rows.take_up(tx, run_pk, self._holder)

    async def _end_simulation(self, known: AdmittedRun, answer: Waiting | Done | None) -> None:
        """Frees the chains of a simulation that has ended."""
        if isinstance(answer, Done) and known.runner is not None and self._deps.spend is not None:
            await self._deps.spend.simulated_chains.end(known.runner.facts)

    async def _forget_simulation(self, known: AdmittedRun) -> None:
        """A write failed: drops the simulation from memory, where it may be ahead of the tables."""
        if known.runner is not None and self._deps.spend is not None:
            await self._deps.spend.simulated_chains.forget(known.runner.facts)

    def _rest(self, run_pk: int, known: AdmittedRun) -> None:
        """Keeps a waiting run in memory, so that a wake-up need not read it again; drops the oldest ones beyond the
        limits."""
        assert known.runner is not None
        self._resting[run_pk] = known.runner.weight
        total = sum(self._resting.values())
        for oldest in list(self._resting):
            if total <= _MAX_RESTING and len(self._resting) <= _MAX_RESTING_RUNS:
                break
            total -= self._resting.pop(oldest)
            self._known[oldest].runner = None

    def _after(self, run_pk: int, known: AdmittedRun, answer: Waiting | Done | None, again_after: float | None) -> None:
        if isinstance(answer, Done):
            self._resting.pop(run_pk, None)
            self._admission.forget(run_pk)
            if self._claims is not None and known.group is not None and known.group[1] is not None:
                self._claims.freed()  # the next run of the workflow's limit
        elif again_after is not None:
            self._timers.set(clock.now_ms() + int(again_after * 1000), run_pk)
        elif known.again:
            known.again = False
            self.wake(run_pk)
        elif isinstance(answer, Waiting) and answer.until is not None:
            self._timers.set(answer.until, run_pk)
        if self._admission.queued and not self._stopping:
            self._admission.admit()
