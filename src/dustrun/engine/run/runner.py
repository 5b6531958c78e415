"""Advances one run: plan → execute → record → plan, until it is done or only waits. The same for every engine host.

`open_run` executes what a run begins with; `Signals` applies the signals of a run, such as a decision or a cancel.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dustrun import clock, log
from dustrun.core.run.journal import AHEAD, Execution, Journal
from dustrun.core.run.plan import Busy, Done, Next, Plan, Ready, Start, Waiting
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.stream_events import RUN_FINISHED, RUN_RESUMED, RUN_WAITING
from dustrun.core.values.exact_json import dumps_text
from dustrun.core.workflow.program import ProgramNode
from dustrun.engine.node.outcome import Outcome, encoded
from dustrun.engine.run import results as signal_outcomes
from dustrun.engine.run.attempts import Attempts
from dustrun.engine.run.commit import Committer
from dustrun.engine.run.node_inputs import NodeInputs
from dustrun.engine.run.recorder import Recorder
from dustrun.engine.run.results import Results
from dustrun.engine.run.run_context import EngineDeps, RunContext
from dustrun.engine.run.tasks import Tasks
from dustrun.sdk import Effect
from dustrun.sdk.threads import run_sized
from dustrun.services.runs.engine_port import Caller, Engine, NewRun
from dustrun.services.runs.start import Unsealing
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.journal import Ending
from dustrun.storage.runs.runs import Signal
from dustrun.storage.runs.waits import ChildResult

# Signals for one run's waiting nodes: from people, links, called runs and the chain.


"""Time for which signals are applied before others have a turn."""


class Signals:
    """Reads the signals of one run and applies them."""

    def __init__(self, run: RunContext, committer: Committer, results: Results, attempts: Attempts) -> None:
        self._run = run
        self._committer = committer
        self._results = results
        self._attempts = attempts

    async def read(self) -> None:
        """Applies the signals of waiting nodes; one that came before its node waits is kept."""
        self._run.state.is_poked = False
        if self._run.state.is_cancelling:
            self._abandon_spends()
        waiting, pk = self._run.plan.waiting, self._run.facts.pk
        if not waiting:
            return
        until = clock.monotonic_s() + _TURN_S
        for signal in await self._committer.patiently(lambda: self._find(pk)):
            execution = self._run.journal.by_path.get(signal.path)
            if execution is None or signal.id in self._run.recorder.batch.signals_used:
                continue
            outcome = await run_sized(signal.data, self._outcome_of, signal, execution)
            self._apply(signal, execution, outcome)
            if clock.monotonic_s() > until:
                await asyncio.sleep(0)
                until = clock.monotonic_s() + _TURN_S

    def _outcome_of(self, signal: Signal, execution: Execution) -> Outcome | None:
        """What a signal means for its node, with the result encoded: thousands of values take too long for the event
        loop."""
        outcome = signal_outcomes.outcome_of(signal, execution)
        return None if outcome is None else encoded(outcome, self._run.deps.settings.max_result_bytes)

    def _apply(self, signal: Signal, execution: Execution, outcome: Outcome | None) -> None:
        if signal.kind == "resolve":
            if execution.status is N.UNCERTAIN:
                self._resolve(execution, signal, outcome)
        elif execution.status is N.WAITING and signal.path in self._run.plan.waiting:
            self._answer(execution, signal, outcome)
        elif execution.is_settled:
            self._run.recorder.batch.signals_used.append(signal.id)  # too late

    async def _find(self, pk: int) -> list[Signal]:
        """The unused signals. Those of transactions say nothing but that there is news."""
        database = self._run.deps.database
        if all(self._may_spend(path) for path in self._run.plan.waiting):
            found = await database.look_up(lambda tx: run_rows.list_signals(tx, pk))
            if all(signal.kind == "transaction" for signal in found):
                return found
        return await database.read(lambda tx: self._list(tx, pk))

    def _may_spend(self, path: str) -> bool:
        return "spend" in (self._run.journal.by_path[path].facts or {})

    def _list(self, tx: Tx, pk: int) -> list[Signal]:
        """The unused signals, with the signatures that a called run returns in place of their marks."""
        unsealing = Unsealing(tx, self._run.deps.vault, self._run.facts.org_id)
        found = [replace(signal, data=unsealing.text(signal.data)) for signal in run_rows.list_signals(tx, pk)]
        self._run.redaction.learn(unsealing.secrets)
        return found

    def _abandon_spends(self) -> None:
        """After a cancel, each waiting spend abandons what is unsigned and follows the rest."""
        for path in sorted(self._run.plan.waiting):
            execution = self._run.journal.by_path[path]
            spend = (execution.facts or {}).get("spend")
            if execution.status is N.WAITING and spend is not None and spend["sent"] and not spend.get("abandoned"):
                start = Start(path, execution.node_id, execution.attempt, wake=True)
                self._run.plan.started(start)
                self._attempts.go_on_spending(start, execution)

    def _answer(self, execution: Execution, signal: Signal, outcome: Outcome | None) -> None:
        self._run.recorder.batch.signals_used.append(signal.id)
        if signal.kind == "transaction":
            if execution.path in self._run.plan.waiting and execution.facts is not None:
                start = Start(execution.path, execution.node_id, execution.attempt, wake=True)
                if "spend" in execution.facts:
                    self._run.plan.started(start)
                    self._attempts.go_on_spending(start, execution)
                elif AHEAD in execution.facts:
                    self._run.plan.started(start)
                    self._attempts.go_on_with_loop(start, execution)
            return
        if outcome is not None:
            self._results.apply(Start(execution.path, execution.node_id, execution.attempt), outcome)

    def _resolve(self, execution: Execution, signal: Signal, happened: Outcome | None) -> None:
        self._run.recorder.batch.signals_used.append(signal.id)
        start = Start(execution.path, execution.node_id, execution.attempt)
        execution.error = None
        if happened is not None:
            self._results.apply(start, happened)
        else:
            message = "A person said that it had not happened; it is done again."
            error = {"code": "NOT_HAPPENED", "message": message, "retryable": True}
            self._results.schedule(start, execution, self._run.state.now(), error)


N = NodeStatus

INLINE_STEPS = 20
BATCH_LIMIT = 200
_TURN_S = 0.01
"""Time for which a run begins attempts before other runs have a turn."""
_OPENING_ATTEMPTS = 30
"""Attempts that a run's creation may begin, each less than a millisecond: the answer to its caller waits for them."""
_UNTIMED_ATTEMPTS = 10
_OPENING_BYTES = 262_144
"""Results that a run's creation may take along."""
_DECIDING = frozenset({"if", "switch", "for-each", "stop", "respond"})
"""Control nodes that need nothing but their input."""
_DAY_MS = 86_400_000


class Runner:
    """One run that this process advances under one fence number."""

    def __init__(self, run: RunContext) -> None:
        self.facts = run.facts
        self.recorder = run.recorder
        self._run = run
        spend, program = run.deps.spend, run.program
        spends = spend is not None and run.mode.changes_outside and bool(program.wallets)
        outbox = spend.live.outbox if spend is not None and spends else None
        self._committer = Committer(run, outbox)
        self._inputs = NodeInputs(run)
        self._results = Results(run)
        self._tasks = Tasks(run, self._inputs, self._results)
        self.attempts = Attempts(run, self._committer, self._inputs, self._results, self._tasks)
        self._signals = Signals(run, self._committer, self._results, self.attempts)
        self._held_back: list[Start] = []
        self._too_old_at = run.facts.started_at + run.deps.settings.max_run_days * _DAY_MS
        self._in_order = run.mode.has_simulated_chains and any(map(_may_spend, program.nodes.values()))

    @property
    def last_seq(self) -> int:
        """The number of the newest event on disk."""
        return self._committer.last_seq

    @last_seq.setter
    def last_seq(self, seq: int) -> None:
        self._committer.last_seq = seq

    def open(self, *, executes: bool, begins: bool) -> None:
        """Records what commits with the run's creation: if it `executes`, the pure nodes that the run begins with,
        which may be the whole run; if it `begins`, the start of the first nodes that change something outside. Metrics
        and traces wait for `opened`."""
        log.bind(run_id=self.facts.id, org_id=self.facts.org_id)
        self._inputs.observer.hold()
        until = clock.monotonic_s() + _TURN_S
        answer = self._open_next(until, executes=executes, begins=begins)
        while executes and isinstance(answer, Ready) and self._may_open_more():
            answer = self._open_next(until, executes=executes, begins=begins)
        if executes and isinstance(answer, Done):
            self._record_end(answer)

    def _open_next(self, until: float, *, executes: bool, begins: bool) -> Next:
        answer = self._run.plan.next(self._run.state.now(), self._room())
        if isinstance(answer, Ready):
            self._settle(answer)
            for start in answer.starts:
                if self._may_open(start, executes=executes and not self._is_late(until), begins=begins):
                    self.attempts.begin(start)
                else:
                    self._held_back.append(start)
        return answer

    def _may_open(self, start: Start, *, executes: bool, begins: bool) -> bool:
        node = self._run.program.nodes[start.node_id]
        if node.reads_variables or self._run.plan.executions > _OPENING_ATTEMPTS:
            return False
        return executes if is_executed_by_creation(node) else begins and node.spec.kind == "action"

    def _is_late(self, until: float) -> bool:
        """Whether the opening has taken long; a few attempts cannot, whatever else the machine does meanwhile."""
        return self._run.plan.executions > _UNTIMED_ATTEMPTS and clock.monotonic_s() > until

    def _may_open_more(self) -> bool:
        is_small = self._results.kept_bytes <= _OPENING_BYTES
        return is_small and not self._held_back and not self.attempts.has_pending

    def opened(self, run_pk: int, last_seq: int) -> None:
        """Called when what was recorded is on disk."""
        self.facts.pk, self.last_seq = run_pk, last_seq
        self._inputs.observer.release()

    def note_resumed(self) -> None:
        """Records that the run resumes after a wait."""
        self.recorder.event(RUN_RESUMED, {}, clock.now_ms())

    @property
    def weight(self) -> int:
        """Approximate memory use in bytes."""
        return self._results.kept_bytes + 1024 * len(self._run.journal.by_path)

    def go_on(self) -> None:
        """Resumes a run that waited in memory."""
        self.recorder.run_status(RunStatus.RUNNING)
        self.note_resumed()
        self._run.state.is_poked = True

    @property
    def is_cancelling(self) -> bool:
        """Whether the run is being cancelled."""
        return self._run.state.is_cancelling

    def poke(self) -> None:
        """A signal for a waiting node is on disk: read it."""
        self._run.state.is_poked = True
        self._run.state.wake.set()

    def cancel(self) -> None:
        """Starts no new nodes and interrupts the running ones."""
        self._run.state.is_cancelling = True
        self._run.plan.cancel()
        self._tasks.interrupt()
        self._run.state.is_poked = True
        self._run.state.wake.set()

    def stop(self) -> None:
        """The server is stopping: starts no new nodes; running ones may finish."""
        self._run.state.is_stopping = True
        self._run.state.wake.set()

    async def advance(self) -> Waiting | Done | None:
        """Advances until the run is done or waits; None when the server stops. Raises `Superseded`."""
        log.bind(run_id=self.facts.id, org_id=self.facts.org_id)
        if self._run.state.is_cancelling:
            self._run.plan.cancel()
        try:
            return await self._loop()
        finally:
            await self._tasks.abandon()

    async def _loop(self) -> Waiting | Done | None:
        while True:
            self._check_age()
            if self._run.state.is_poked:
                await self._signals.read()
            answer = self._plan_inline()
            if self.attempts.has_pending and not self._run.state.is_stopping:
                await self.attempts.begin_deferred()
                await self.attempts.do_heavy()
                continue
            if answer is None:
                if len(self.recorder.batch.events) > BATCH_LIMIT:
                    await self._committer.flush()
                await asyncio.sleep(0)
                continue
            if not isinstance(answer, Busy):
                if isinstance(answer, Waiting) and self._run.state.is_poked:
                    continue  # a signal may have come before its node waited
                await self._conclude(answer)
                return answer
            if self._tasks.must_log_dust_plan():
                await self._tasks.log_dust_plan()
            if not self._tasks.may_begin_at_once:
                await self._committer.flush()
            if self._run.state.is_stopping and self._tasks.is_idle:
                return None
            self._tasks.launch()
            if self._committer.has_recorded:  # rarely: most that has ended by now is recorded by `collect`
                await self._committer.flush()
            await self._tasks.collect(answer.until)

    async def _conclude(self, answer: Waiting | Done) -> None:
        """Commits the end of the run, or that it waits."""
        if isinstance(answer, Done):
            await self._end(answer)
        else:
            self._put_down(answer)
        await self._committer.flush()

    def _plan_inline(self) -> Waiting | Done | Busy | None:
        """Plans and executes what needs no waiting; None when other runs should have a turn first."""
        until = clock.monotonic_s() + _TURN_S
        if self._held_back:
            held_back, self._held_back = self._held_back, []
            self._begin(held_back, until)
        for _ in range(INLINE_STEPS):
            if self._run.state.is_stopping:
                return Busy()
            if self._held_back or self.attempts.heavy or clock.monotonic_s() > until:
                return None
            answer = self._run.plan.next(self._run.state.now(), self._room())
            if isinstance(answer, Busy) and self._waits_for_called():
                return Waiting(None)
            if not isinstance(answer, Ready):
                return answer
            self._settle(answer)
            self._begin(answer.starts, until)
        return None

    def _settle(self, answer: Ready) -> None:
        """Records what the plan decided without an attempt."""
        for path in answer.cut_off:
            self._results.cut_off(path, "The run ended while this node waited.")
        for path in answer.skipped:
            self._results.skip(path)
        for path in answer.closed:
            self.attempts.close_loop(path)
        for path in answer.asked:
            self.attempts.decide_loop(path)

    def _begin(self, starts: Sequence[Start], until: float) -> None:
        """Begins attempts; those that are not begun by `until` are held back, so that others have a turn."""
        for number, start in enumerate(starts):
            if number and clock.monotonic_s() > until:
                self._held_back.extend(starts[number:])
                return
            self.attempts.begin(start)

    def _room(self) -> int:
        """How many nodes may begin now. A simulation that may spend executes one node at a time, in the planner's
        order, so that its result is always the same."""
        if not self._in_order:
            room = self._run.deps.settings.max_parallel_nodes - self._tasks.nodes_begun
            return room if room > 0 else 0
        is_idle = self._tasks.is_idle and not self._held_back and not self.attempts.has_pending
        return 1 if is_idle and not self._called() else 0

    def _called(self) -> bool:
        """Whether a called run has not ended yet."""
        executed = (self._run.journal.by_path[path] for path in self._run.plan.waiting)
        return any(execution.facts is not None and "child" in execution.facts for execution in executed)

    def _waits_for_called(self) -> bool:
        """Whether it waits only for a called run, although other nodes could begin."""
        if not self._in_order or self._run.state.is_stopping:
            return False
        return self._tasks.is_idle and not self.attempts.has_pending and self._called()

    def _check_age(self) -> None:
        if clock.now_ms() <= self._too_old_at:
            return
        days = self._run.deps.settings.max_run_days
        if self._run.state.error is None:
            self._run.state.error = {"code": "LIMIT", "message": f"A run may last {days} days (setting max_run_days)."}
            self._run.plan.stopped(RunStatus.FAILURE)

    def _put_down(self, answer: Waiting) -> None:
        until = None if answer.until is None else clock.to_rfc3339(answer.until)
        nodes = sorted(self._run.plan.waiting | self._run.plan.held)
        self.recorder.event(RUN_WAITING, {"until": until, "nodes": nodes}, clock.now_ms())
        self.recorder.run_status(RunStatus.WAITING, answer.until)

    async def _end(self, answer: Done) -> None:
        self._record_end(answer)
        ending, caller = self.recorder.batch.ending, self.facts.caller
        if ending is not None and caller is not None and caller.waits:
            self.recorder.batch.ending = replace(ending, child_result=await self._child_result(caller, ending))

    def _record_end(self, answer: Done) -> None:
        now = clock.now_ms()
        for execution in self._run.journal.by_path.values():
            if not execution.is_settled:
                execution.status, execution.finished_at = N.CANCELLED, now
                self.recorder.became(execution)
        passed = answer.status is RunStatus.SUCCESS and not self._run.state.is_assumed and self._run.mode.can_pass
        finished: dict[str, Any] = {"status": str(answer.status), "mode": str(self.facts.mode)}
        error = self._run.state.error if answer.status is not RunStatus.SUCCESS else None
        if error is not None:
            finished["error"] = error
        if self._run.mode.reports_passed:
            finished["passed"] = passed
        self.recorder.event(RUN_FINISHED, finished, now)
        calls = self._run.program.calls
        self._inputs.observer.ended(answer.status, now, error)
        summary = self._stop_message()
        self.recorder.batch.ending = Ending(answer.status, now, passed, error, None, calls, summary)
        if calls:
            self._results.beside()

    def _stop_message(self) -> str | None:
        """The message of the `stop` node that ended the run; None if none did, or it has none."""
        for execution in self._run.journal.by_path.values():
            if execution.facts is not None and "stop" in execution.facts and isinstance(execution.result, dict):
                message = execution.result.get("message")
                return message if isinstance(message, str) and message else None
        return None

    async def _child_result(self, caller: Caller, ending: Ending) -> ChildResult:
        """Result to signal to the waiting parent run."""
        state = self._run.state
        passed = ending.status is RunStatus.SUCCESS and not state.is_assumed
        result: dict[str, Any] = {"status": ending.status.value, "passed": passed, "error": ending.error}
        result |= {"clock": state.next_begin(), "assumed": state.is_assumed}
        most = self._run.deps.settings.max_result_bytes
        data = signal_outcomes.child_result(self.facts.id, self._run.program, self._run.journal, result, most)
        text = await run_sized(data, lambda: dumps_text(self._run.redaction.value(data)))
        return ChildResult(caller.pk, caller.path, text)


def is_executed_by_creation(node: ProgramNode) -> bool:
    """Whether a run that begins with a node has it executed by its creation."""
    if node.reads_variables:
        return False
    if node.spec.kind == "action":
        return node.spec.effect == Effect.PURE
    return node.node.type in _DECIDING


def _may_spend(node: ProgramNode) -> bool:
    """Whether a node may change a simulated chain, itself or through a called workflow."""
    return node.node.type == "call-workflow" or node.spec.effect == Effect.SPEND


# What commits together with a run's creation: the pure nodes that it begins with, often the whole run.


def runner_of(deps: EngineDeps, engine: Engine, run: NewRun) -> Runner:
    """The runner of a run that is not on disk yet; what it records is added to the run's batch."""
    facts, program, batch = run.facts, run.program, run.batch
    journal = Journal.of(batch.added.values())
    plan = Plan(program.graph, facts.trigger_node_id)
    kept = plan.restore(journal.by_path.values()) if len(journal.by_path) > 1 else []  # by a retry
    runner = Runner(RunContext(deps, engine, facts, program, journal, plan, Recorder(batch)))
    for loop in kept:
        runner.attempts.begin_again(loop)
    return runner


def open_for_others(deps: EngineDeps, engine: Engine, run: NewRun) -> Runner | None:
    """Executes the pure nodes that a run begins with, which may be all of it, where others advance what follows. None
    if there is nothing to execute before somebody advances the run: it begins with other nodes, waits for its turn, or
    is a retry or called."""
    if run.max_open is not None or run.facts.root_run_id != run.facts.id:
        return None
    nodes = run.program.nodes
    children = nodes[run.facts.trigger_node_id].node.children
    if children and not any(is_executed_by_creation(nodes[child]) for child in children):
        return None
    runner = runner_of(deps, engine, run)
    open_run(runner, begins=False)
    return runner


def open_run(runner: Runner, *, begins: bool) -> None:
    """Executes what a run begins with. `begins`: this process carries out what follows, so that the start of the first
    nodes that change something outside is written too."""
    facts = runner.facts
    # A retry is answered with the run as it begins, and a called run's end is told by its own task.
    executes = facts.root_run_id == facts.id
    contextvars.Context().run(runner.open, executes=executes, begins=begins)  # not in the context of the request
