"""Begins attempts of one run's nodes: the first time, again after a restart, and when a wait is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from dustrun.core.expression import DEFAULT_LIMITS, TRIAL, EvaluationLimits, ExpressionError, OverTrial
from dustrun.core.run.journal import AHEAD, KEPT_FROM, OPENS_AGAIN, Execution, enclosing, frame_of, item_frame
from dustrun.core.run.plan import Start
from dustrun.core.run.retry import Rate
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.workflow.loop_forecast import LoopForecast, forecast_loop
from dustrun.core.workflow.program import Repeat
from dustrun.engine.node import node as nodes
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.loop_items import LoopItems
from dustrun.engine.node.node import Preparation
from dustrun.engine.node.outcome import (
    ASSUMED_INPUT,
    Carrier,
    Failed,
    Interrupted,
    Job,
    LoopRefusal,
    OpenedLoop,
    Outcome,
    Settled,
    Unknown,
    encoded,
)
from dustrun.engine.node.roots import NodeRoots
from dustrun.engine.node.store_effects import StoreEffect
from dustrun.engine.node.time_limits import call_timed_out
from dustrun.engine.run.commit import Committer
from dustrun.engine.run.node_inputs import NodeInputs
from dustrun.engine.run.results import Results
from dustrun.engine.run.run_context import RunContext
from dustrun.engine.run.tasks import Tasks
from dustrun.engine.spend.loop_spends import LoopStart, opened_of, waiting_loop
from dustrun.sdk import Effect
from dustrun.sdk.threads import run_beside

N = NodeStatus

_MOST_KEPT_BYTES = 65_536
"""Results of a run in bytes of JSON that the event loop may encode at once."""


class Attempts:
    """Begins attempts, and settles them or hands them to `Tasks`. `deferred` attempts need the variables read first;
    `heavy` work is too much for the event loop and is done in a thread, while nothing else of the run begins."""

    def __init__(
        self, run: RunContext, committer: Committer, inputs: NodeInputs, results: Results, tasks: Tasks
    ) -> None:
        self.deferred: list[Callable[[], None]] = []
        self.heavy: list[Callable[[], Awaitable[None]]] = []
        self._rates: dict[str, Rate] = {}
        self._forecasts: dict[str, LoopForecast] = {}
        self._run = run
        self._committer = committer
        self._inputs = inputs
        self._results = results
        self._tasks = tasks

    def begin(self, start: Start) -> None:
        """Begins an attempt, or resumes a node that waited; a node that reads variables is deferred until they are
        read."""
        kept = self._run.journal.by_path.get(start.path)
        is_kept = kept is not None and kept.attempt == start.attempt
        now = self._run.state.next_begin()
        if not (start.wake or is_kept) and self._is_held(start, now):
            return
        self._run.plan.started(start)
        if start.wake:
            self._go_on(start)
        elif kept is not None and is_kept:
            self._take_kept(start, kept)
        elif kept is not None and OPENS_AGAIN in (kept.facts or {}):
            self._open_once_more(start, kept)
        elif self._run.program.nodes[start.node_id].reads_variables:
            self.deferred.append(partial(self._attempt, start))
        else:
            self._attempt(start, max(now, self._run.state.simulated_now))  # the time that its rate limit counted

    def _is_held(self, start: Start, now: int) -> bool:
        """Whether the node's rate limit holds the attempt back; a simulated clock advances instead."""
        limit = self._run.program.nodes[start.node_id].node.rate
        if limit is None:
            return False
        rate = self._rates.get(start.node_id)
        if rate is None:
            rate = self._rates[start.node_id] = Rate(limit.count, limit.per_ms, self._begun_of(start.node_id))
        state = self._run.state
        due = rate.due(now)
        if due > now and not self._run.mode.has_simulated_clock:
            self._run.plan.hold(start, due)
            return True
        state.simulated_now = max(state.simulated_now, due)
        rate.note(due)
        return False

    def _begun_of(self, node_id: str) -> list[int]:
        """When this run began the attempts of a node, as far as its journal knows."""
        found = (one for one in self._run.journal.by_path.values() if one.node_id == node_id)
        own = (one for one in found if one.status is not N.SKIPPED and KEPT_FROM not in (one.facts or {}))
        return [one.started_at for one in own if one.started_at is not None]

    def _take_kept(self, start: Start, kept: Execution) -> None:
        """A retry kept this execution from the previous run: it is not executed again."""
        if kept.is_settled:
            self._run.plan.settled(start.path, kept.status, kept.branch)
        else:
            self._open_again(start, kept)

    def _open_again(self, start: Start, kept: Execution) -> None:
        """A retry goes on with the items of a loop: what is left of them is judged together, as at first."""
        assert kept.facts is not None
        opened = replace(opened_of(kept.facts), assumed=kept.assumed)
        if not self._begin_loop(start, opened):
            self._results.apply(start, opened)

    def _open_once_more(self, start: Start, kept: Execution) -> None:
        """Another attempt of a loop that a retry goes on with: with the same items too."""
        now = self._run.state.next_begin()
        self._run.state.began(now)
        again = replace(kept, attempt=start.attempt, status=N.RUNNING, started_at=now)
        again.error = again.wake_at = again.finished_at = None
        self._run.journal.by_path[start.path] = again
        self._run.recorder.started(again, self._run.program.nodes[start.node_id].node.type)
        self._open_again(start, again)

    @property
    def has_pending(self) -> bool:
        """Whether something waits for the variables or for a thread."""
        return bool(self.deferred or self.heavy)

    async def begin_deferred(self) -> None:
        """Reads the variables, and begins the attempts deferred for them."""
        if not self.deferred:
            return
        deferred, self.deferred = self.deferred, []
        self._inputs.variables = await self._committer.patiently(
            lambda: self._run.deps.variables.read_for(self._run.facts, self._run.program.definition)
        )
        for go_on in deferred:
            go_on()

    async def do_heavy(self) -> None:
        """Does the work that is too much for the event loop."""
        while self.heavy and not self._run.state.is_stopping:
            await self.heavy.pop(0)()

    def close_loop(self, path: str) -> None:
        """Closes a loop whose items have all ended."""
        if self._results.kept_bytes <= _MOST_KEPT_BYTES:
            self._results.close_loop(path, self._results.loop_result(path))
        else:
            self.heavy.append(partial(self._close_large_loop, path))

    async def _close_large_loop(self, path: str) -> None:
        self._results.close_loop(path, await run_beside(self._results.loop_result, path))

    def decide_loop(self, path: str) -> None:
        """An iteration of a `while` has ended: its test, evaluated inside that iteration, decides."""
        repeat = self._repeat_of(path)
        if repeat.reads_variables:
            self.deferred.append(partial(self._decide_loop, path, repeat))
        else:
            self._decide_loop(path, repeat)

    def _repeat_of(self, path: str) -> Repeat:
        repeat = self._run.program.nodes[self._run.journal.by_path[path].node_id].repeat
        assert repeat is not None, "only a `while` is asked"
        return repeat

    def _decide_loop(self, path: str, repeat: Repeat) -> None:
        facts = self._run.journal.by_path[path].facts
        assert facts is not None
        roots = self._inputs.roots(item_frame(path, len(facts["items"]) - 1), self._run.state.now())
        try:
            self._apply_decision(path, roots, _decision(repeat, roots, TRIAL))
        except OverTrial:
            self.heavy.append(partial(self._decide_in_thread, path, repeat, roots))

    async def _decide_in_thread(self, path: str, repeat: Repeat, roots: NodeRoots) -> None:
        self._apply_decision(path, roots, await run_beside(_decision, repeat, roots, DEFAULT_LIMITS))

    def _apply_decision(self, path: str, roots: NodeRoots, decided: Failed | tuple[Any, Any]) -> None:
        facts = self._run.journal.by_path[path].facts
        if isinstance(decided, Failed):
            self._results.fail_loop(path, replace(decided, facts=facts))
            return
        goes_on, item = decided
        if not isinstance(goes_on, bool):
            message = "The test of the loop (`while`) gives neither true nor false."
            self._results.fail_loop(path, Failed("INVALID_INPUT", message, facts=facts))
        elif roots.assumed:
            self._results.end_assumed_loop(path)
        elif goes_on:
            self._results.grow_loop(path, item)
        else:
            self._run.plan.ended(path)

    def _attempt(self, start: Start, at: int | None = None) -> None:
        """Begins an attempt, now unless `at` is given; pure and control nodes settle here."""
        now = self._run.state.next_begin() if at is None else at
        self._run.state.began(now)
        self._prepare(start, now, self._begin_prepared)

    def _begin_prepared(
        self, given: Preparation, shown: Any, prepared: Job | StoreEffect | Outcome, *, is_heavy: bool
    ) -> None:
        """Records an attempt that begins, and carries on."""
        start = given.start
        execution = Execution(start.path, start.node_id, start.attempt, N.RUNNING, input=shown, started_at=given.now)
        execution.assumed = given.roots.assumed
        self._run.journal.by_path[start.path] = execution
        weight = given.weight if not is_heavy and given.node.repeat is None else None  # whose input holds its tests too
        self._run.recorder.started(execution, given.node.node.type, weight=weight)
        if self._run.plan.executions > self._run.deps.settings.max_executions:
            most = self._run.deps.settings.max_executions
            prepared = Failed("LIMIT", f"A run may execute at most {most} nodes (setting max_executions).")
            self._run.plan.stopped(RunStatus.FAILURE)
        if self._run.state.is_cancelling:
            prepared = Interrupted("The run was cancelled before this node ran.")
        self._carry_on(start, given.now, prepared, is_heavy=is_heavy)

    def _prepare(self, start: Start, now: int, then: Callable[..., None]) -> None:
        """Prepares an attempt, then calls `then`: at once, or after a thread has done what is too much for the event
        loop."""
        deps, node = self._run.deps, self._run.program.nodes[start.node_id]
        roots = self._inputs.roots(start.path, now)
        given = Preparation(start, node, roots, self._run.mode, deps.catalog, deps.settings, now, TRIAL)
        try:
            shown, prepared = nodes.prepare(given)
        except OverTrial:
            self.heavy.append(partial(self._prepare_in_thread, replace(given, limits=DEFAULT_LIMITS), then))
            return
        then(given, shown, prepared, is_heavy=False)

    async def _prepare_in_thread(self, given: Preparation, then: Callable[..., None]) -> None:
        most = self._run.deps.settings.max_result_bytes
        shown, prepared = await run_beside(_prepare_and_encode, given, most)
        then(given, shown, prepared, is_heavy=True)

    async def _run_pure_in_thread(self, start: Start, job: Job, context: NodeContext) -> None:
        most = self._run.deps.settings.max_result_bytes
        self._results.apply(start, await run_beside(lambda: encoded(nodes.run_pure(job, context), most)))

    def _carry_on(self, start: Start, now: int, prepared: Job | StoreEffect | Outcome, *, is_heavy: bool) -> None:
        if isinstance(prepared, Job) and prepared.effect is Effect.SPEND:
            prepared.refusal = self._refusal_of(start.path)
        if isinstance(prepared, StoreEffect):
            self._tasks.store_effects.append(prepared)
        elif isinstance(prepared, OpenedLoop) and self._begin_loop(start, prepared):
            pass
        elif not isinstance(prepared, Job):
            self._results.apply(start, prepared)
        elif prepared.carrier is Carrier.SIMULATION:
            if prepared.assumed:
                self._run.journal.by_path[start.path].facts = dict(ASSUMED_INPUT)
                self._run.state.is_assumed = True
            self._tasks.jobs.append(prepared)
        elif prepared.effect is Effect.PURE and not prepared.action.is_async:
            context = self._inputs.context(start.path, self._inputs.emit_now(start), begun_at=now)
            if is_heavy:
                self.heavy.append(partial(self._run_pure_in_thread, start, prepared, context))
            else:
                self._results.apply(start, nodes.run_pure(prepared, context))
        else:
            self._tasks.jobs.append(prepared)

    def _begin_loop(self, start: Start, opened: OpenedLoop) -> bool:
        """Whether the spends of a loop are judged before its first item begins: those that are known then, if no loop
        around it has judged them."""
        if not self._run.program.wallets or not opened.items or self._run.state.is_cancelling:
            return False
        forecast = self._forecast_of(start.node_id)
        around = self._run.program.graph.loops_around(start.node_id)
        if not forecast.spends or any(start.node_id in self._forecast_of(loop).loops for loop in around):
            return False
        begin = partial(self._look_ahead, start, opened, forecast)
        if forecast.reads_variables:
            self.deferred.append(begin)
        else:
            begin()
        return True

    def _forecast_of(self, loop_id: str) -> LoopForecast:
        found = self._forecasts.get(loop_id)
        if found is None:
            found = self._forecasts[loop_id] = forecast_loop(self._run.program, loop_id)
        return found

    def _look_ahead(self, start: Start, opened: OpenedLoop, forecast: LoopForecast) -> None:
        deps, now = self._run.deps, self._run.state.now()
        node, roots = self._run.program.nodes[start.node_id], self._inputs.roots(start.path, now)
        given = Preparation(start, node, roots, self._run.mode, deps.catalog, deps.settings, now)
        items = LoopItems(given, self._run.journal, forecast)
        if items.is_known():
            self._tasks.loops.append(LoopStart(start, opened, items))
        else:
            self._results.apply(start, opened)

    def go_on_with_loop(self, start: Start, execution: Execution) -> None:
        """A person has decided about a loop, the time for that is over, or the server restarted meanwhile."""
        assert execution.facts is not None
        execution.status, execution.wake_at = N.RUNNING, None
        self._run.recorder.changed(execution)
        self._tasks.loops.append(waiting_loop(start, execution.facts))

    def _refusal_of(self, path: str) -> LoopRefusal | None:
        """Why a spend was refused before the loop around it began, in this run."""
        for loop_path, _ in enclosing(frame_of(path)):
            facts = self._run.journal.by_path[loop_path].facts or {}
            if path in facts.get("refused", ()):
                return LoopRefusal.of(facts["refused"][path])
        return None

    def begin_again(self, execution: Execution) -> None:
        """Resumes an attempt that began before the server restarted and did not end."""
        start = Start(execution.path, execution.node_id, execution.attempt)
        node = self._run.program.nodes[execution.node_id]
        if AHEAD in (execution.facts or {}):
            self.go_on_with_loop(start, execution)
            return
        if OPENS_AGAIN in (execution.facts or {}):
            self._open_again(start, execution)
            return
        if self._run.mode.changes_outside and node.spec.kind == "action":
            action = self._run.deps.catalog.actions[node.node.type]
            effect = nodes.resolved_effect(action, execution.input)
            if effect is Effect.SPEND:
                self.go_on_spending(start, execution)
                return
            is_once = effect is Effect.WRITE and not action.is_idempotent(execution.input)
            if is_once and action.effect_by is None:
                self._results.apply(start, Unknown("The server ended while this node ran; it may have happened."))
                return
            if self._run.state.is_cancelling:
                may = "" if effect in (Effect.PURE, Effect.READ) else " It may have happened."
                self._results.apply(
                    start, Interrupted(f"The server ended while this node ran, and the run is cancelled.{may}")
                )
                return
        if node.reads_variables:
            self.deferred.append(partial(self._attempt_again, start))
        else:
            self._attempt_again(start)

    def _attempt_again(self, start: Start) -> None:
        self._prepare(start, self._run.state.now(), self._carry_on_prepared)

    def _carry_on_prepared(
        self, given: Preparation, _shown: Any, prepared: Job | StoreEffect | Outcome, *, is_heavy: bool
    ) -> None:
        """Carries on with an attempt that the journal has already."""
        if isinstance(prepared, Job) and prepared.effect is Effect.WRITE and prepared.action.effect_by is not None:
            prepared.has_begun = True
        self._carry_on(given.start, given.now, prepared, is_heavy=is_heavy)

    def _go_on(self, start: Start) -> None:
        """The wait of a node has timed out or elapsed."""
        facts = self._run.journal.by_path[start.path].facts or {}
        if "spend" in facts:
            self.go_on_spending(start, self._run.journal.by_path[start.path])
        elif AHEAD in facts:
            self.go_on_with_loop(start, self._run.journal.by_path[start.path])
        elif "child" in facts:
            self._results.beside().cancelled.append(facts["child"]["pk"])
            self._results.apply(start, call_timed_out(facts, facts["child"]["runId"]))
        else:
            answerable = "wait" in facts or "approve" in facts
            self._results.apply(start, Settled(facts.get("result"), branch=facts.get("branch"), expired=answerable))

    def go_on_spending(self, start: Start, execution: Execution) -> None:
        """Begins the next step of a spend: a transaction changed, or the server restarted in the middle. The node is
        recorded as running first, so that a crash resumes it without a wake-up."""
        if execution.facts is None or "spend" not in execution.facts:
            node = self._run.program.nodes[start.node_id]
            if node.reads_variables:
                self.deferred.append(partial(self._attempt_again, start))
            else:
                self._attempt_again(start)
            return
        execution.status, execution.wake_at = N.RUNNING, None
        self._run.recorder.changed(execution)
        resumed = self._run.program.nodes[start.node_id]
        spend, mode = execution.facts["spend"], self._run.mode
        self._tasks.jobs.append(nodes.resumed(start, resumed, self._run.deps.catalog, spend, mode))


def _prepare_and_encode(given: Preparation, most_bytes: int) -> tuple[Any, Job | StoreEffect | Outcome]:
    """The preparation that `nodes.prepare` returns, with a result that may be large already encoded."""
    shown, prepared = nodes.prepare(given)
    return shown, encoded(prepared, most_bytes) if isinstance(prepared, Settled) else prepared


def _decision(repeat: Repeat, roots: NodeRoots, limits: EvaluationLimits) -> Failed | tuple[Any, Any]:
    """The outcome of a `while`'s test, and the next item if it is true."""
    try:
        goes_on = repeat.test.evaluate(roots, limits)
        return goes_on, roots.masked(repeat.following.evaluate(roots, limits)) if goes_on is True else None
    except ExpressionError as error:
        return nodes.expression_failure(error)
