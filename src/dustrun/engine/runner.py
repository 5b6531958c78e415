"""Advances one run: plan → nodes → record → plan, until it is done or only waits. The same code in every deployment."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from dustrun import clock, log
from dustrun.core.exact_json import dumps_text, loads
from dustrun.core.journal import Execution, Journal, enclosing, frame_of
from dustrun.core.plan import Busy, Done, Next, Plan, Ready, Start, Waiting
from dustrun.core.program import Program, ProgramNode
from dustrun.core.state import Mode, NodeStatus, RunStatus
from dustrun.core.veil import Veil
from dustrun.engine import answers
from dustrun.engine import node as nodes
from dustrun.engine.carrying import Carrying
from dustrun.engine.contexts import Contexts
from dustrun.engine.errands import Call, Errand
from dustrun.engine.flushing import Flusher
from dustrun.engine.node import Carrier, Job
from dustrun.engine.outcome import CutOff, Failed, Outcome, Settled, Unknown
from dustrun.engine.record import Recorder
from dustrun.engine.settling import Settling, counts_as_assumed
from dustrun.engine.world import Course, World
from dustrun.sdk import Effect
from dustrun.services.ports import RunFacts
from dustrun.services.unveiling import Unveiling
from dustrun.storage import runs as run_rows
from dustrun.storage.journal import Ending
from dustrun.storage.runs import Signal
from dustrun.storage.statement import Tx
from dustrun.storage.waits import Told

N = NodeStatus

INLINE_STEPS = 20
BATCH_LIMIT = 200
_DAY_MS = 86_400_000


class Runner:
    """One run in the hands of this process, under one fence."""

    def __init__(
        self, world: World, facts: RunFacts, program: Program, journal: Journal, plan: Plan, recorder: Recorder
    ) -> None:
        self.facts = facts
        self.recorder = recorder
        self._world = world
        self._program = program
        self._journal = journal
        self._plan = plan
        self._veil = veil = recorder.batch.veil = Veil(facts.secrets)
        self._course = course = _course_of(facts, journal)
        spends = world.money is not None and facts.mode is not Mode.SIMULATE and bool(program.wallets)
        ledger = world.money.spending.ledger if world.money is not None and spends else None
        self._flusher = Flusher(world, facts, recorder, course, ledger)
        self._contexts = contexts = Contexts(world, facts, program, journal, recorder, course)
        self._settling = settling = Settling(world, facts, program, journal, plan, recorder, veil, course)
        self._carrying = Carrying(world, facts, program, journal, recorder, veil, course, contexts, settling)
        self._held_back: list[Start] = []
        self._deferred: list[tuple[Start, bool]] = []
        self._in_order = facts.mode is Mode.SIMULATE and any(map(_may_spend, program.nodes.values()))

    @property
    def last_seq(self) -> int:
        """The number of the newest event on disk."""
        return self._flusher.last_seq

    @last_seq.setter
    def last_seq(self, seq: int) -> None:
        self._flusher.last_seq = seq

    def open(self) -> None:
        """Records the start of the first nodes that reach outside, so that it rides with the run's creation.
        Nothing is executed."""
        answer = self._plan.next(self._course.now(), self._room())
        starts = answer.starts if isinstance(answer, Ready) else ()
        if isinstance(answer, Ready):
            for path in answer.skipped:
                self._settling.skip(path)
        for start in starts:
            node = self._program.nodes[start.node_id]
            reaches_out = node.spec.kind == "action" and node.spec.effect != Effect.PURE.value
            if reaches_out and not node.reads_variables:
                self._begin(start)
            else:
                self._held_back.append(start)

    def note_resumed(self) -> None:
        """The run waited, and goes on."""
        self.recorder.event("run_resumed", {}, clock.now_ms())

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return self._settling.kept_bytes + 1024 * len(self._journal.by_path)

    def go_on(self) -> None:
        """It waited in memory, and advances again."""
        self.recorder.run_status(RunStatus.RUNNING)
        self.note_resumed()
        self._course.is_poked = True

    def poke(self) -> None:
        """Someone left an answer for a waiting node: read the signals."""
        self._course.is_poked = True
        self._course.wake.set()

    def cancel(self) -> None:
        """Starts nothing new and interrupts what runs."""
        self._course.is_cancelling = True
        self._plan.cancel()
        self._carrying.interrupt()
        self._course.is_poked = True
        self._course.wake.set()

    def stop(self) -> None:
        """The server stops: starts nothing new; what runs may finish."""
        self._course.is_stopping = True
        self._course.wake.set()

    async def advance(self) -> Waiting | Done | None:
        """Advances until the run is done or waits; None when the server stops. Raises `Superseded`."""
        log.bind(run_id=self.facts.id, org_id=self.facts.org_id)
        if self._course.is_cancelling:
            self._plan.cancel()
        try:
            return await self._loop()
        finally:
            await self._carrying.abandon()

    async def _loop(self) -> Waiting | Done | None:
        while True:
            self._check_age()
            if self._course.is_poked:
                await self._use_signals()
            answer = self._plan_inline()
            if self._deferred and not self._course.is_stopping:
                await self._begin_deferred()
                continue
            if isinstance(answer, Done):
                self._end(answer)
                await self._flusher.flush()
                return answer
            if isinstance(answer, Waiting) and self._course.is_poked:
                continue  # what waits now may have been answered before it waited
            if isinstance(answer, Waiting):
                self._put_down(answer)
                await self._flusher.flush()
                return answer
            if answer is None:
                if len(self.recorder.batch.events) > BATCH_LIMIT:
                    await self._flusher.flush()
                await asyncio.sleep(0)
                continue
            if self._carrying.must_tell_dust():
                await self._carrying.tell_dust()
            if not self._carrying.may_begin_at_once:
                await self._flusher.flush()
            if self._course.is_stopping and self._carrying.is_idle:
                return None
            self._carrying.launch()
            await self._flusher.flush()
            await self._carrying.collect()

    def _plan_inline(self) -> Next | None:
        """Plans and carries out what needs no waiting; None when others should have a turn first."""
        held_back, self._held_back = self._held_back, []
        for start in held_back:
            self._begin(start)
        for _ in range(INLINE_STEPS):
            if self._course.is_stopping:
                return Busy()
            answer = self._plan.next(self._course.now(), self._room())
            if isinstance(answer, Busy) and self._waits_for_called():
                return Waiting(None)
            if not isinstance(answer, Ready):
                return answer
            for path in answer.cut_off:
                self._settling.cut_off(path, "The run ended while this node waited.")
            for path in answer.skipped:
                self._settling.skip(path)
            for path in answer.closed:
                self._settling.close_loop(path)
            for start in answer.starts:
                self._begin(start)
        return None

    def _room(self) -> int:
        """How many nodes may begin now. A simulation that may spend does one thing after the other, in the planner's
        order, so that it always comes to the same."""
        if not self._in_order:
            return max(0, self._world.settings.max_parallel_nodes - self._carrying.nodes_begun)
        is_idle = self._carrying.is_idle and not self._held_back and not self._deferred
        return 1 if is_idle and not self._called() else 0

    def _called(self) -> bool:
        """Whether a called run goes on."""
        executed = (self._journal.by_path[path] for path in self._plan.waiting)
        return any(execution.facts is not None and "child" in execution.facts for execution in executed)

    def _waits_for_called(self) -> bool:
        """Whether the called run's end is all that it waits for, although other nodes could begin."""
        is_idle = self._carrying.is_idle and not self._deferred
        return self._in_order and is_idle and not self._course.is_stopping and self._called()

    # --- one node ---

    def _begin(self, start: Start) -> None:
        """Begins an attempt, or goes on with a node that waited; what looks at variables is put off until they are
        read."""
        self._plan.started(start)
        kept = self._journal.by_path.get(start.path)
        if start.wake:
            self._go_on(start)
        elif kept is not None and kept.attempt == start.attempt:
            self._take_kept(start, kept)
        elif self._program.nodes[start.node_id].reads_variables:
            self._deferred.append((start, False))
        else:
            self._attempt(start)

    def _take_kept(self, start: Start, kept: Execution) -> None:
        """A retry kept it from the run before, and only now is its turn: it is not done twice."""
        if kept.is_settled:
            self._plan.settled(start.path, kept.status, kept.branch)
        else:
            assert kept.facts is not None
            loop = kept.facts
            self._plan.opened(start.path, len(loop["items"]), loop["concurrency"], loop["onItemError"])

    async def _begin_deferred(self) -> None:
        deferred, self._deferred = self._deferred, []
        self._contexts.variables = await self._flusher.patiently(
            lambda: self._world.variables.read_for(self.facts, self._program.definition)
        )
        for start, again in deferred:
            if again:
                self._attempt_again(start)
            else:
                self._attempt(start)

    def _attempt(self, start: Start) -> None:
        """Makes an attempt; pure and control nodes come to their end here."""
        now = self._course.now()
        node = self._program.nodes[start.node_id]
        roots = self._contexts.roots(start.path, now)
        resolved, prepared = nodes.prepare(start, node, roots, self._world.catalog, self._world.settings, now)
        shown = nodes.shown_input(node, self._world.catalog, roots.masked(resolved))
        execution = Execution(start.path, start.node_id, start.attempt, N.RUNNING, input=shown, started_at=now)
        execution.assumed = roots.assumed
        self._journal.record(execution)
        self.recorder.started(execution, node.node.type)
        if self._plan.executions > self._world.settings.max_executions:
            most = self._world.settings.max_executions
            prepared = Failed("LIMIT", f"A run may execute at most {most} nodes (setting max_executions).")
            self._plan.stopped(RunStatus.FAILURE)
        if self._course.is_cancelling:
            prepared = CutOff("The run was cancelled before this node ran.")
        self._carry_on(start, prepared)

    def _carry_on(self, start: Start, prepared: Job | Errand | Outcome) -> None:
        if isinstance(prepared, Call) and self._is_in_assumed_loop(start):
            prepared = replace(prepared, assumed=True)
        if isinstance(prepared, Errand):
            self._carrying.errands.append(prepared)
        elif not isinstance(prepared, Job):
            self._settling.apply(start, prepared)
        elif prepared.carrier is Carrier.REHEARSAL:
            prepared.assumed = prepared.assumed or self._is_in_assumed_loop(start)
            if prepared.assumed:
                self._journal.by_path[start.path].facts = dict(nodes.ASSUMED_INPUT)
                self._course.is_assumed = True
            self._carrying.jobs.append(prepared)
        elif prepared.effect is Effect.PURE and not prepared.action.is_async:
            context = self._contexts.context(start.path, self._contexts.emit_now(start))
            self._settling.apply(start, nodes.run_pure(prepared, context))
        else:
            self._carrying.jobs.append(prepared)

    def _is_in_assumed_loop(self, start: Start) -> bool:
        """Whether the items of a loop around are assumed, so that nobody knows how often it happens."""
        return any(self._journal.by_path[loop].assumed for loop, _ in enclosing(frame_of(start.path)))

    def begin_again(self, execution: Execution) -> None:
        """Goes on with an attempt that an earlier life of the server began and did not end."""
        start = Start(execution.path, execution.node_id, execution.attempt)
        node = self._program.nodes[execution.node_id]
        if self.facts.mode is not Mode.SIMULATE and node.spec.kind == "action":
            action = self._world.catalog.actions[node.node.type]
            effect = nodes.resolved_effect(action, execution.input)
            if effect is Effect.SPEND:
                self._go_on_spending(start, execution)
                return
            if effect is Effect.WRITE and not action.is_idempotent(execution.input):
                self._settling.apply(start, Unknown("The server ended while this node ran; it may have happened."))
                return
            if self._course.is_cancelling:
                may = "" if effect in (Effect.PURE, Effect.READ) else " It may have happened."
                self._settling.apply(
                    start, CutOff(f"The server ended while this node ran, and the run is cancelled.{may}")
                )
                return
        if node.reads_variables:
            self._deferred.append((start, True))
        else:
            self._attempt_again(start)

    def _attempt_again(self, start: Start) -> None:
        now = self._course.now()
        node = self._program.nodes[start.node_id]
        roots = self._contexts.roots(start.path, now)
        _, prepared = nodes.prepare(start, node, roots, self._world.catalog, self._world.settings, now)
        self._carry_on(start, prepared)

    def _go_on(self, start: Start) -> None:
        """The time that a waiting node waited for has come."""
        facts = self._journal.by_path[start.path].facts or {}
        if "spend" in facts:
            self._go_on_spending(start, self._journal.by_path[start.path])
        elif "child" in facts:
            self._settling.beside().cancelled.append(facts["child"]["pk"])
            message = f"The called run {facts['child']['runId']} did not end in time (timeoutMs of the node)."
            self._settling.apply(start, Failed("TIMEOUT", message, facts=facts))
        else:
            answerable = "wait" in facts or "approve" in facts
            self._settling.apply(start, Settled(facts.get("result"), branch=facts.get("branch"), expired=answerable))

    def _go_on_spending(self, start: Start, execution: Execution) -> None:
        """Something happened to the transactions of a node, or an earlier life left it in the middle: its next step
        begins. It is running again on disk before that, so that nobody need remember to wake it."""
        if execution.facts is None or "spend" not in execution.facts:
            node = self._program.nodes[start.node_id]
            if node.reads_variables:
                self._deferred.append((start, True))
            else:
                self._attempt_again(start)
            return
        execution.status, execution.wake_at = N.RUNNING, None
        self.recorder.changed(execution)
        resumed = self._program.nodes[start.node_id]
        spend, mode = execution.facts["spend"], self.facts.mode
        self._carrying.jobs.append(nodes.resumed(start, resumed, self._world.catalog, spend, mode))

    # --- the run ---

    async def _use_signals(self) -> None:
        """Applies the answers that waiting nodes were given; one that came before its node waits is kept."""
        self._course.is_poked = False
        if self._course.is_cancelling:
            self._abandon_spends()
        waiting, pk = self._plan.waiting, self.facts.pk
        if not waiting:
            return
        database = self._world.database
        for signal in await self._flusher.patiently(lambda: database.read(lambda tx: self._signals(tx, pk))):
            execution = self._journal.by_path.get(signal.path)
            if execution is None or signal.id in self.recorder.batch.signals_used:
                continue
            if signal.kind == "resolve":
                if execution.status is N.UNCERTAIN:
                    self._resolve(execution, signal)
            elif execution.status is N.WAITING and signal.path in waiting:
                self._answer(execution, signal)
            elif execution.is_settled:
                self.recorder.batch.signals_used.append(signal.id)  # it came too late

    def _signals(self, tx: Tx, pk: int) -> list[Signal]:
        """The answers that lie ready, with the signatures that a called run hands back."""
        unveiling = Unveiling(tx, self._world.vault, self.facts.org_id)
        found = [replace(signal, data=unveiling.text(signal.data)) for signal in run_rows.list_signals(tx, pk)]
        self._veil.learn(unveiling.secrets)
        return found

    def _abandon_spends(self) -> None:
        """Under a cancel, whoever waits for transactions gives up what is not signed and follows the rest."""
        for path in sorted(self._plan.waiting):
            execution = self._journal.by_path[path]
            spend = (execution.facts or {}).get("spend")
            if execution.status is N.WAITING and spend is not None and spend["sent"] and not spend.get("abandoned"):
                start = Start(path, execution.node_id, execution.attempt, wake=True)
                self._plan.started(start)
                self._go_on_spending(start, execution)

    def _answer(self, execution: Execution, signal: Signal) -> None:
        self.recorder.batch.signals_used.append(signal.id)
        if signal.kind == "transaction":
            if execution.path in self._plan.waiting and execution.facts is not None and "spend" in execution.facts:
                start = Start(execution.path, execution.node_id, execution.attempt, wake=True)
                self._plan.started(start)
                self._go_on_spending(start, execution)
            return
        outcome = answers.outcome_of(signal, execution)
        if outcome is not None:
            self._settling.apply(Start(execution.path, execution.node_id, execution.attempt), outcome)

    def _resolve(self, execution: Execution, signal: Signal) -> None:
        self.recorder.batch.signals_used.append(signal.id)
        answer = loads(signal.data)
        start = Start(execution.path, execution.node_id, execution.attempt)
        execution.error = None
        if answer["outcome"] == "happened":
            self._settling.succeed(execution, Settled(answer.get("result"), note={"resolvedBy": answer["by"]}))
        else:
            message = "A person said that it had not happened; it is done again."
            error = {"code": "NOT_HAPPENED", "message": message, "retryable": True}
            self._settling.schedule(start, execution, self._course.now(), error)

    def _check_age(self) -> None:
        days = self._world.settings.max_run_days
        if clock.now_ms() - self.facts.started_at > days * _DAY_MS and self._course.error is None:
            self._course.error = {"code": "LIMIT", "message": f"A run may last {days} days (setting max_run_days)."}
            self._plan.stopped(RunStatus.FAILURE)

    def _put_down(self, answer: Waiting) -> None:
        until = None if answer.until is None else clock.to_rfc3339(answer.until)
        self.recorder.event("run_waiting", {"until": until, "nodes": sorted(self._plan.waiting)}, clock.now_ms())
        self.recorder.run_status(RunStatus.WAITING, answer.until)

    def _end(self, answer: Done) -> None:
        now = clock.now_ms()
        for execution in self._journal.by_path.values():
            if not execution.is_settled:
                execution.status, execution.finished_at = N.CANCELLED, now
                self.recorder.became(execution)
        passed = answer.status is RunStatus.SUCCESS and not self._course.is_assumed
        finished: dict[str, Any] = {"status": answer.status.value, "mode": self.facts.mode.value}
        error = self._course.error if answer.status is not RunStatus.SUCCESS else None
        if error is not None:
            finished["error"] = error
        if self.facts.mode is not Mode.LIVE:
            finished["passed"] = passed
        self.recorder.event("run_finished", finished, now)
        told = self._told(answer.status, passed, error)
        calls = any(node.node.type == "call-workflow" for node in self._program.nodes.values())
        self._contexts.observer.ended(answer.status, now, error)
        self.recorder.batch.ending = Ending(answer.status, now, passed, error, told, calls)
        if calls:
            self._settling.beside()

    def _told(self, status: RunStatus, passed: bool, error: dict[str, Any] | None) -> Told | None:
        """What the run that called this one is told; None when nobody waits."""
        caller = self.facts.caller
        if caller is None or not caller.waits:
            return None
        ending = {"status": status.value, "passed": passed, "error": error, "clock": self._course.now()}
        data = answers.told(self.facts.id, self._program, self._journal, ending)
        return Told(caller.pk, caller.path, dumps_text(self._veil.value(data)))


def _course_of(facts: RunFacts, journal: Journal) -> Course:
    """How a run goes that was taken up."""
    executions = journal.by_path.values()
    return Course(
        facts.mode,
        is_cancelling=facts.cancel_requested_at is not None,
        is_assumed=any(map(counts_as_assumed, executions)),
        simulated_now=max((e.facts["clock"] for e in executions if e.facts and "clock" in e.facts), default=0),
    )


def _may_spend(node: ProgramNode) -> bool:
    """Whether a node may change a simulated chain, by itself or by what it calls."""
    return node.node.type == "call-workflow" or node.spec.effect == Effect.SPEND.value
