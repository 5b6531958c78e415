"""The asyncio tasks of one run: actions with their time limits, steps of spends, and store effects."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Coroutine
from functools import partial
from typing import Any

from dustrun import log
from dustrun.core.stream_events import LOG
from dustrun.core.text.masking import hide
from dustrun.core.values.exact_json import is_large
from dustrun.core.workflow.model_tools import LLM
from dustrun.engine.node import node as nodes
from dustrun.engine.node import store_effects
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.model_tools import RunModelTools
from dustrun.engine.node.outcome import (
    Carrier,
    Failed,
    Interrupted,
    Job,
    Outcome,
    Settled,
    encoded,
    of_error,
    request_facts,
)
from dustrun.engine.node.roots import ASK_AGAIN_S
from dustrun.engine.node.secrets import Secrets
from dustrun.engine.node.store_effects import StoreEffect
from dustrun.engine.node.time_limits import Alarm, limit_ms, timed_out
from dustrun.engine.run.node_inputs import NodeInputs
from dustrun.engine.run.results import Results
from dustrun.engine.run.run_context import RunContext
from dustrun.engine.spend.loop_spends import LoopSpends, LoopStart
from dustrun.errors import CommitUnknown, DustrunError, StoreUnavailable, Temporary
from dustrun.sdk import Effect
from dustrun.sdk.threads import run_beside
from dustrun.services.preview.rehearsal_guard import find_answer

_logger = log.get(__name__)
_DUST_PLAN = "Dust test: the planned spending, as far as it is known now."
_PLAN_WITHIN_S = 30
_NOT_BEGUN = "The run was cancelled before this node began."


class Tasks:
    """Begins `jobs` and `store_effects` once their start is on disk, and applies their outcomes."""

    def __init__(self, run: RunContext, inputs: NodeInputs, results: Results) -> None:
        self.jobs: list[Job] = []
        self.store_effects: list[StoreEffect] = []
        self.loops: list[LoopStart] = []
        self._run = run
        self._inputs = inputs
        self._results = results
        self._secrets = Secrets(run.deps.connections, run.facts, run.program, run.mode)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._alarm = Alarm()
        self._followed: set[str] = set()
        self._stored: set[str] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._outcomes: list[tuple[Job | StoreEffect | LoopStart, Outcome]] = []
        self._dust_plan_logged = False

    @property
    def nodes_begun(self) -> int:
        """How many nodes run or are about to run."""
        return len(self._tasks) + len(self.jobs)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or is about to run."""
        return not (self._tasks or self.jobs or self._running or self.store_effects or self.loops)

    @property
    def may_begin_at_once(self) -> bool:
        """Whether nothing that is about to begin changes anything outside: its start need not be on disk first, because
        recovery simply repeats it. An answer of the rehearsal is for the input that is on disk; and what shaped a spend
        is read from there, also where it is simulated."""
        if not self.jobs or self.store_effects:
            return False
        return not any(
            job.may_have_happened or job.effect is Effect.SPEND or self._repeats_rehearsal(job) for job in self.jobs
        )

    def _repeats_rehearsal(self, job: Job) -> bool:
        return self._run.mode.repeats_rehearsals and job.action.repeats_rehearsal(job.input)

    def interrupt(self) -> None:
        """Cancels running actions, but not spends, since the outbox stores every step of them, and not writes into the
        store, whose outcome must be known. A task that is cancelled before its first step never runs its coroutine, so
        its end is recorded here."""
        for path, task in list(self._tasks.items()):
            if path in self._followed or (path in self._stored and _has_begun(task)):
                continue
            task.cancel()
            if not _has_begun(task):
                del self._tasks[path]
                self._alarm.forget(path)
                self._stored.discard(path)
                self._results.cut_off(path, _NOT_BEGUN)

    async def abandon(self) -> None:
        """Stops what still runs without recording anything: recovery decides by the journal."""
        self._alarm.stop()
        tasks = [*self._tasks.values(), *self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def launch(self) -> None:
        """Starts the attempts whose start is on disk, each with its time limit; none when a cancel came meanwhile."""
        jobs, self.jobs = self.jobs, []
        loop = asyncio.get_running_loop()
        to_run, self.store_effects = self.store_effects, []
        looping, self.loops = self.loops, []
        is_only = len(jobs) == 1
        for job in jobs:
            if job.is_followed:
                self._followed.add(job.start.path)
                self._tasks[job.start.path] = loop.create_task(self._follow(job))
        if self._run.state.is_cancelling:
            for begun in (*jobs, *to_run, *looping):
                if begun.start.path not in self._followed:
                    self._results.cut_off(begun.start.path, _NOT_BEGUN)
                    self._run.state.wake.set()
            return
        for effect in to_run:
            self._running[effect.start.path] = loop.create_task(self._run_store_effect(effect))
        for one in looping:
            self._tasks[one.start.path] = loop.create_task(self._begin_loop(one))
        for job in jobs:
            if job.start.path not in self._followed:
                self._launch_timed(job, loop, is_only=is_only)

    def _launch_timed(self, job: Job, loop: asyncio.AbstractEventLoop, *, is_only: bool) -> None:
        """`is_only`: no other attempt begins, so this one need not wait for its turn."""
        path = job.start.path
        coroutine = self._carry_out(job)
        task = _begin_at_once(coroutine, loop) if is_only else loop.create_task(coroutine)
        if task.done():
            return
        self._tasks[path] = task
        if job.is_stored:
            self._stored.add(path)
            return
        self._alarm.watch(path, task, limit_ms(job, self._run.deps.settings))

    async def _follow(self, job: Job) -> None:
        """One step of a spend. The outbox stores it, so a cancel does not interrupt it but signs nothing new; a node
        that waited for its transactions resumes here."""
        path, outcome = job.start.path, None
        try:
            while outcome is None:
                outcome = await self._followed_step(job)
        finally:
            self._tasks.pop(path, None)
            self._followed.discard(path)
        self._outcomes.append((job, outcome))
        self._run.state.wake.set()

    async def _followed_step(self, job: Job) -> Outcome | None:
        """None, after a moment, if the store was away: the step is then repeated, since the node could not even fail
        before the store is back."""
        spend, facts = self._inputs.spend.live, self._run.facts
        try:
            context = await self._inputs.wallet_context(job)
            with log.hiding(self._hidden):
                return await self._secrets.cover(
                    context, lambda: spend.carry_out(job, facts, context, lambda: self._run.state.is_cancelling)
                )
        except (StoreUnavailable, CommitUnknown):
            await asyncio.sleep(ASK_AGAIN_S)
            return None
        except DustrunError as error:
            return of_error(error)
        except Exception as error:
            with log.hiding(self._hidden):
                _logger.error("a spend failed unexpectedly", path=job.start.path, exc_info=error)
            return await spend.after_defect(job, facts, error)

    async def _begin_loop(self, loop: LoopStart) -> None:
        """Judges the spends of a loop before its first item begins."""
        path, outcome, run = loop.start.path, None, self._run
        log.bind(node=path)
        spends = LoopSpends(self._inputs.spend, run.facts, run.mode, self._inputs, run.deps.settings)
        try:
            while outcome is None:
                try:
                    outcome = await spends.begin(loop, run.state.now())
                except (StoreUnavailable, CommitUnknown):
                    await asyncio.sleep(ASK_AGAIN_S)
        except asyncio.CancelledError:
            if not run.state.is_cancelling:
                raise
            outcome = Interrupted("The run was cancelled before the loop began.")
        except Exception as error:
            _logger.error("a loop failed unexpectedly", path=path, exc_info=error)
            outcome = Failed("INTERNAL", f"It failed unexpectedly ({type(error).__name__}); see the server's log.")
        finally:
            self._tasks.pop(path, None)
        self._outcomes.append((loop, outcome))
        self._run.state.wake.set()

    async def _carry_out(self, job: Job) -> None:
        path = job.start.path
        log.bind(node=path)
        context = self._inputs.context(path, self._inputs.emit_later(job.start))
        context.notes.assumed = job.assumed
        try:
            if job.action.wants_wallet(job.input):
                context = await self._inputs.wallet_context(job)
            with log.hiding(self._hidden):
                outcome = await self._encoded(await self._carried(job, context))
        except DustrunError as error:
            outcome = of_error(error)
        except asyncio.CancelledError:
            if self._alarm.is_late(path):
                outcome = timed_out(job, self._run.deps.settings)
            elif self._run.state.is_cancelling:
                may = " What it had begun may have happened." if job.may_have_happened else ""
                facts = job.simulated_facts or (
                    request_facts(job, sent=True) if job.carrier is Carrier.ACTION else None
                )
                outcome = Interrupted(f"The run was cancelled while this node ran.{may}", facts)
            else:
                raise
        except Exception as error:
            outcome = nodes.defect(job, error)
        finally:
            self._alarm.forget(path)
            self._stored.discard(path)
            self._tasks.pop(path, None)
        if self._run.mode.has_simulated_chains and self._run.deps.spend is not None:
            job.forks = self._run.deps.spend.simulated_chains.forks(self._run.facts)
        self._outcomes.append((job, outcome))
        self._run.state.wake.set()

    async def _encoded(self, outcome: Outcome) -> Outcome:
        """The outcome; a large result is encoded in a thread."""
        if not isinstance(outcome, Settled) or outcome.is_small or not is_large(outcome.result):
            return outcome
        return await run_beside(encoded, outcome, self._run.deps.settings.max_result_bytes)

    async def _carried(self, job: Job, context: NodeContext) -> Outcome:
        if self._repeats_rehearsal(job):
            run_id, result = await find_answer(self._run.deps.database, self._run.facts, job.start.path)
            return Settled(result, assumed=job.assumed, note={"rehearsalRunId": run_id})
        if job.carrier is not Carrier.SIMULATION:
            deps = self._run.deps
            if job.node.node.type == LLM:
                emit = self._inputs.emit_later(job.start)
                again = partial(self._inputs.context, job.start.path, emit)
                tools = RunModelTools(deps.catalog, self._secrets, deps.http, deps.notifier, job, context, again)
                context.offer(tools)
            return await self._secrets.carry_out(job, context, deps.http, deps.notifier)
        simulated_chains = self._inputs.spend.simulated_chains
        return await self._secrets.cover(context, lambda: simulated_chains.carry_out(job, self._run.facts, context))

    def _hidden(self, text: str) -> str:
        """A line of the log with this run's secrets masked."""
        return hide(self._run.redaction.text(self._secrets.text(text)))

    async def _run_store_effect(self, effect: StoreEffect) -> None:
        """Not interrupted by a cancel: its outcome must be known."""
        log.bind(node=effect.start.path)
        deps = self._run.deps
        start_child = partial(deps.called_runs.start, submit=self._run.engine.submit)
        run = store_effects.run if self._run.state.is_stopping else store_effects.run_patiently
        try:
            outcome = await run(effect, self._run.facts, self._run.program.definition, deps.variables, start_child)
        except Temporary:
            return  # the server is stopping; recovery repeats it
        except Exception as error:
            _logger.error("store effect failed unexpectedly", path=effect.start.path, exc_info=error)
            outcome = Failed("INTERNAL", f"It failed unexpectedly ({type(error).__name__}); see the server's log.")
        finally:
            self._running.pop(effect.start.path, None)
            self._run.state.wake.set()
        if not self._run.state.is_stopping or not isinstance(outcome, Failed):
            self._outcomes.append((effect, outcome))

    async def collect(self, until: int | None) -> None:
        """Waits for a wake-up, or until a time of the run's clock at which a node may begin beside those that run, and
        applies all outcomes that are ready."""
        if not self._outcomes:
            await self._wait(until)
        self._run.state.wake.clear()
        outcomes, self._outcomes = self._outcomes, []
        for job, outcome in outcomes:
            if isinstance(job, Job) and job.forks:
                self._run.recorder.batch.forks += job.forks
            self._results.apply(job.start, outcome)

    async def _wait(self, until: int | None) -> None:
        wake = self._run.state.wake
        if until is None:
            await wake.wait()
            return
        in_s = max(0, until - self._run.state.now()) / 1000
        alarm = asyncio.get_running_loop().call_later(in_s, wake.set)
        try:
            await wake.wait()
        finally:
            alarm.cancel()

    def must_log_dust_plan(self) -> bool:
        """Whether a dust test is about to spend for the first time."""
        if not self._run.mode.logs_dust_plan or self._dust_plan_logged:
            return False
        if self._run.state.is_cancelling or self._run.state.is_stopping:
            return False
        begins = any(job.is_followed for job in self.jobs)
        return begins and not any("spend" in (e.facts or {}) for e in self._run.journal.by_path.values())

    async def log_dust_plan(self) -> None:
        """Logs the dust plan, which commits before anything is signed. Each node fetches its prices again, so a price
        that is missing now is only missing in the plan."""
        self._dust_plan_logged = True
        first = next(job.start for job in self.jobs if job.is_followed)
        payload = self._run.journal.by_path[self._run.facts.trigger_node_id].result["body"]
        event: dict[str, Any] = {"level": "info", "message": _DUST_PLAN}
        try:
            async with asyncio.timeout(_PLAN_WITHIN_S):
                event["data"] = {
                    "dustPlan": await self._inputs.spend.live.dust_plan(self._run.facts, self._run.program, payload)
                }
        except TimeoutError:
            event |= {"level": "warning", "message": f"Dust test: no plan could be made within {_PLAN_WITHIN_S} s."}
        self._inputs.emit_now(first)(LOG, event)


def _begin_at_once(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    """A task that has already run until it first waits, where Python can do that; one that does not wait has ended."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
    return loop.create_task(coroutine)


def _has_begun(task: asyncio.Task[None]) -> bool:
    coroutine = task.get_coro()
    return not inspect.iscoroutine(coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
