"""Advances one run: plan → nodes → record → plan, until it is done or only waits. The same code in every deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from dustrun import clock, ids, log
from dustrun.catalog import Catalog
from dustrun.core import retry
from dustrun.core.exact_json import dumps_text, loads, loads_own
from dustrun.core.journal import Execution, Journal, enclosing, frame_of
from dustrun.core.plan import Busy, Done, Holds, Next, Plan, Ready, Start, Waiting
from dustrun.core.program import Program, ProgramNode
from dustrun.core.state import Mode, NodeStatus, RunStatus
from dustrun.core.veil import Veil, hide
from dustrun.engine import answers, errands, loops
from dustrun.engine import node as nodes
from dustrun.engine.context import Inside, NodeContext, Reach, Scripts, idempotency_key
from dustrun.engine.errands import Call, Calls, Errand
from dustrun.engine.money import Money
from dustrun.engine.node import Carrier, Job
from dustrun.engine.observer import Observer
from dustrun.engine.outcome import CutOff, Failed, Opened, Outcome, PutDown, Settled, Unknown, of_error
from dustrun.engine.record import Recorder
from dustrun.engine.roots import NodeRoots
from dustrun.engine.secrets import Secrets
from dustrun.engine.tables import RunTables
from dustrun.engine.traces import Traces
from dustrun.errors import Code, DustrunError, Invalid, Temporary, Uncertain
from dustrun.sdk import Effect
from dustrun.sdk.context import Http
from dustrun.sdk.notice import Notifier
from dustrun.services.approvals import new_row
from dustrun.services.connections import Connections
from dustrun.services.hub import Hub
from dustrun.services.links import Links
from dustrun.services.ports import RunFacts
from dustrun.services.tables import Tables
from dustrun.services.unveiling import Unveiling
from dustrun.services.variables import Seen, Variables
from dustrun.settings import Settings
from dustrun.storage import journal as journal_rows
from dustrun.storage import runs as run_rows
from dustrun.storage.database import Database
from dustrun.storage.journal import Batch, Ending, StaleFence
from dustrun.storage.runs import Signal
from dustrun.storage.statement import Tx
from dustrun.storage.vault import Vault
from dustrun.storage.waits import Closed, Told, Waits
from dustrun.storage.writer import Writer

_logger = log.get(__name__)
N = NodeStatus
T = TypeVar("T")

INLINE_STEPS = 20
BATCH_LIMIT = 200
_DAY_MS = 86_400_000
_DUST_PLAN = "Dust test: what it is going to spend, as far as that is known now."
_PLAN_WITHIN_S = 30
_REWRITE_S = (0.05, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class World:
    """The parts that every run shares."""

    settings: Settings
    catalog: Catalog
    database: Database
    writer: Writer
    hub: Hub
    http: Http
    scripts: Scripts
    env: Mapping[str, str]
    variables: Variables
    links: Links
    connections: Connections
    calls: Calls
    tables: Tables
    notifier: Notifier
    vault: Vault
    money: Money | None = None
    traces: Traces | None = None


class Superseded(Exception):
    """Someone newer advances this run; nothing that is left here counts."""


class Runner:
    """One run in the hands of this process, under one fence."""

    def __init__(
        self, world: World, facts: RunFacts, program: Program, journal: Journal, plan: Plan, recorder: Recorder
    ) -> None:
        self.facts = facts
        self.recorder = recorder
        self.observer = recorder.observer = Observer(facts, program, world.traces)
        self.last_seq = 0
        self._world = world
        self._program = program
        self._journal = journal
        self._plan = plan
        self._secrets = Secrets(world.connections, facts, program)
        self._veil = recorder.batch.veil = Veil(facts.secrets)
        self._to_launch: list[Job] = []
        self._to_run: list[Errand] = []
        self._held_back: list[Start] = []
        self._deferred: list[tuple[Start, bool]] = []
        self._variables: Mapping[str, Seen] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._limits: dict[str, asyncio.TimerHandle] = {}
        self._late: set[str] = set()
        self._followed: set[str] = set()
        self._errands: dict[str, asyncio.Task[None]] = {}
        self._outcomes: list[tuple[Job | Errand, Outcome]] = []
        self._poked = True
        self._bytes = 0
        self._wake = asyncio.Event()
        self._cancelling = facts.cancel_requested_at is not None
        self._stopping = False
        self._error: dict[str, Any] | None = None
        self._simulated_now = max(
            (e.facts["clock"] for e in journal.by_path.values() if e.facts and "clock" in e.facts), default=0
        )
        self._assumed_where_it_counts = any(_counts_as_assumed(e) for e in journal.by_path.values())
        self._dust_told = False
        self._in_order = facts.mode is Mode.SIMULATE and any(map(_may_spend, program.nodes.values()))

    # --- what others ask of it ---

    def open(self) -> None:
        """Records the start of the first nodes that reach outside, so that it rides with the run's creation.
        Nothing is executed."""
        answer = self._plan.next(self._now(), self._room())
        starts = answer.starts if isinstance(answer, Ready) else ()
        if isinstance(answer, Ready):
            for path in answer.skipped:
                self._skip(path)
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
        return self._bytes + 1024 * len(self._journal.by_path)

    def go_on(self) -> None:
        """It waited in memory, and advances again."""
        self.recorder.run_status(RunStatus.RUNNING)
        self.note_resumed()
        self._poked = True

    def poke(self) -> None:
        """Someone left an answer for a waiting node: read the signals."""
        self._poked = True
        self._wake.set()

    def cancel(self) -> None:
        """Starts nothing new and interrupts what runs."""
        self._cancelling = True
        self._plan.cancel()
        for path, task in list(self._tasks.items()):
            if path not in self._followed:
                task.cancel()
        self._poked = True
        self._wake.set()

    def stop(self) -> None:
        """The server stops: starts nothing new; what runs may finish."""
        self._stopping = True
        self._wake.set()

    async def abandon(self) -> None:
        """Cuts off what still runs without recording anything: the next life decides by the journal."""
        tasks = [*self._tasks.values(), *self._errands.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the loop ---

    async def advance(self) -> Waiting | Done | None:
        """Advances until the run is done or waits; None when the server stops. Raises `Superseded`."""
        log.bind(run_id=self.facts.id, org_id=self.facts.org_id)
        if self._cancelling:
            self._plan.cancel()
        try:
            return await self._loop()
        finally:
            if self._tasks or self._errands:
                await self.abandon()

    async def _loop(self) -> Waiting | Done | None:
        while True:
            self._check_age()
            if self._poked:
                await self._use_signals()
            answer = self._plan_inline()
            if self._deferred and not self._stopping:
                await self._begin_deferred()
                continue
            if isinstance(answer, Done):
                self._end(answer)
                await self._flush()
                return answer
            if isinstance(answer, Waiting) and self._poked:
                continue  # what waits now may have been answered before it waited
            if isinstance(answer, Waiting):
                self._put_down(answer)
                await self._flush()
                return answer
            if answer is None:
                if len(self.recorder.batch.events) > BATCH_LIMIT:
                    await self._flush()
                await asyncio.sleep(0)
                continue
            if self._must_tell_dust():
                await self._tell_dust()
            await self._flush()
            if self._stopping and not self._tasks and not self._to_launch and not self._errands and not self._to_run:
                return None
            self._launch()
            await self._collect()

    def _plan_inline(self) -> Next | None:
        """Plans and carries out what needs no waiting; None when others should have a turn first."""
        held_back, self._held_back = self._held_back, []
        for start in held_back:
            self._begin(start)
        for _ in range(INLINE_STEPS):
            if self._stopping:
                return Busy()
            answer = self._plan.next(self._now(), self._room())
            if isinstance(answer, Busy) and self._waits_for_called():
                return Waiting(None)
            if not isinstance(answer, Ready):
                return answer
            for path in answer.cut_off:
                self._cut_off(path, "The run ended while this node waited.")
            for path in answer.skipped:
                self._skip(path)
            for path in answer.closed:
                self._close_loop(path)
            for start in answer.starts:
                self._begin(start)
        return None

    def _room(self) -> int:
        """How many nodes may begin now. A simulation that may spend does one thing after the other, in the planner's
        order, so that it always comes to the same."""
        begun = len(self._tasks) + len(self._to_launch)
        if not self._in_order:
            return max(0, self._world.settings.max_parallel_nodes - begun)
        others = len(self._errands) + len(self._to_run) + len(self._held_back) + len(self._deferred)
        return 0 if begun or others or self._called() else 1

    def _called(self) -> bool:
        """Whether a called run goes on."""
        executed = (self._journal.by_path[path] for path in self._plan.waiting)
        return any(execution.facts is not None and "child" in execution.facts for execution in executed)

    def _waits_for_called(self) -> bool:
        """Whether the called run's end is all that it waits for, although other nodes could begin."""
        idle = not (self._tasks or self._to_launch or self._errands or self._to_run or self._deferred)
        return self._in_order and idle and not self._stopping and self._called()

    def _must_tell_dust(self) -> bool:
        """Whether a dust test is about to spend for the first time."""
        if self.facts.mode is not Mode.DUST or self._dust_told or self._cancelling or self._stopping:
            return False
        begins = any(job.is_followed for job in self._to_launch)
        return begins and not any("spend" in (e.facts or {}) for e in self._journal.by_path.values())

    async def _tell_dust(self) -> None:
        """The plan is on disk before anything is signed. Each node asks for its prices again, so that one which could
        not be had now only leaves the plan without it."""
        self._dust_told = True
        first = next(job.start for job in self._to_launch if job.is_followed)
        payload = self._journal.by_path[self.facts.trigger_node_id].result["body"]
        told: dict[str, Any] = {"level": "info", "message": _DUST_PLAN}
        try:
            async with asyncio.timeout(_PLAN_WITHIN_S):
                told["data"] = {"dustPlan": await self._money.spending.dust_plan(self.facts, self._program, payload)}
        except TimeoutError:
            told |= {"level": "warning", "message": f"Dust test: no plan could be made within {_PLAN_WITHIN_S} s."}
        self._emit_now(first)("log", told)

    def _launch(self) -> None:
        """Starts the attempts whose start is on disk, each with its time limit; none when a cancel came meanwhile."""
        jobs, self._to_launch = self._to_launch, []
        loop = asyncio.get_running_loop()
        to_run, self._to_run = self._to_run, []
        for job in jobs:
            if job.is_followed:
                self._followed.add(job.start.path)
                self._tasks[job.start.path] = loop.create_task(self._follow(job))
        if self._cancelling:
            for begun in (*jobs, *to_run):
                if begun.start.path not in self._followed:
                    self._cut_off(begun.start.path, "The run was cancelled before this node began.")
                    self._wake.set()
            return
        for errand in to_run:
            self._errands[errand.start.path] = loop.create_task(self._run_errand(errand))
        for job in jobs:
            if job.start.path not in self._followed:
                self._launch_timed(job, loop)

    def _launch_timed(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        path = job.start.path
        timeout_ms = job.node.node.timeout_ms or self._world.settings.default_timeout_ms
        task = self._tasks[path] = loop.create_task(self._carry_out(job, timeout_ms))
        self._limits[path] = loop.call_later(timeout_ms / 1000, self._time_out, path, task)

    async def _follow(self, job: Job) -> None:
        """One step of a node that spends: the ledger keeps what it does, so a cancel does not interrupt it, and a
        node that only waited for its transactions goes on here. Under a cancel it signs nothing new."""
        start = job.start
        spending, context = self._money.spending, self._context(start.path, self._emit_later(start))
        try:
            context = await self._money_context(job)
            with log.hiding(self._hidden):
                outcome = await self._secrets.cover(
                    context, lambda: spending.carry_out(job, self.facts, context, lambda: self._cancelling)
                )
        except DustrunError as error:
            outcome = of_error(error)
        except Exception as error:
            with log.hiding(self._hidden):
                _logger.error("a spend failed unexpectedly", path=start.path, exc_info=error)
            outcome = await spending.after_defect(job, self.facts, context, error)
        finally:
            self._tasks.pop(start.path, None)
            self._followed.discard(start.path)
        self._outcomes.append((job, outcome))
        self._wake.set()

    def _time_out(self, path: str, task: asyncio.Task[None]) -> None:
        self._late.add(path)
        task.cancel()

    async def _carry_out(self, job: Job, timeout_ms: int) -> None:
        path = job.start.path
        log.bind(node=path)
        context = self._context(path, self._emit_later(job.start))
        context.notes.assumed = job.assumed
        try:
            if job.action.wants_wallet(job.input):
                context = await self._money_context(job)
            with log.hiding(self._hidden):
                outcome = await self._carried(job, context)
        except DustrunError as error:
            outcome = of_error(error)
        except asyncio.CancelledError:
            if path in self._late:
                outcome = nodes.timed_out(job, timeout_ms)
            elif self._cancelling:
                is_real = job.is_outside and job.carrier is not Carrier.REHEARSAL
                may = " What it had begun may have happened." if is_real else ""
                outcome = CutOff(f"The run was cancelled while this node ran.{may}", job.rehearsed)
            else:
                raise
        except Exception as error:
            outcome = nodes.defect(job, error)
        finally:
            self._limits.pop(path).cancel()
            self._late.discard(path)
            self._tasks.pop(path, None)
        if self.facts.mode is Mode.SIMULATE and self._world.money is not None:
            job.forks = self._world.money.rehearsals.forks(self.facts)
        self._outcomes.append((job, outcome))
        self._wake.set()

    async def _carried(self, job: Job, context: NodeContext) -> Outcome:
        if job.carrier is not Carrier.REHEARSAL:
            return await self._secrets.carry_out(job, context, self._world.http)
        return await self._secrets.cover(context, lambda: self._money.rehearsals.carry_out(job, self.facts, context))

    def _hidden(self, text: str) -> str:
        """A line of the log without what this run must not say."""
        return hide(self._veil.text(self._secrets.text(text)))

    async def _run_errand(self, errand: Errand) -> None:
        """Short, and not cut off by a cancel: what it comes to must be known to be undone."""
        log.bind(node=errand.start.path)
        world, start_child = self._world, self._world.calls.start_child
        run = errands.run if self._stopping else errands.run_patiently
        try:
            outcome = await run(errand, self.facts, self._program.definition, world.variables, start_child)
        except Temporary:
            return  # the server stops; the next life does it
        except Exception as error:
            _logger.error("errand failed unexpectedly", path=errand.start.path, exc_info=error)
            outcome = Failed("INTERNAL", f"It failed unexpectedly ({type(error).__name__}); see the server's log.")
        finally:
            self._errands.pop(errand.start.path, None)
            self._wake.set()
        if not self._stopping or not isinstance(outcome, Failed):
            self._outcomes.append((errand, outcome))

    async def _collect(self) -> None:
        """Waits until something happened, and applies every outcome that has come."""
        if not self._outcomes:
            await self._wake.wait()
        self._wake.clear()
        outcomes, self._outcomes = self._outcomes, []
        for job, outcome in outcomes:
            if isinstance(job, Job):
                self.recorder.batch.forks += job.forks
            self._apply(job.start, outcome)

    async def _flush(self) -> None:
        """Puts what was recorded on disk. While the store is unavailable it waits: results are kept in memory."""
        if self.recorder.batch.is_empty():
            return
        batch = self.recorder.take()

        def written(events: list[journal_rows.Event]) -> None:
            self._publish(events)
            self._tell_others(batch)

        tries = iter(_REWRITE_S)
        while True:
            try:
                await self._world.writer.write(lambda tx: self._write(tx, batch), written, repeatable=True)
                return
            except StaleFence:
                raise Superseded from None
            except Temporary:
                if self._stopping:
                    raise Superseded from None
                await asyncio.sleep(next(tries, _REWRITE_S[-1]))
            except Uncertain:
                events = await self._look(batch)
                if events is not None:
                    written(events)
                    return

    async def _look(self, batch: Batch) -> list[journal_rows.Event] | None:
        """After a commit of unknown outcome: the batch's events when it is on disk; None when it certainly is not.

        Results are in memory only, so a run is not taken up from the tables while they may still be written.
        """
        pk, after = self.facts.pk, self.last_seq
        return await self._patiently(
            lambda: self._world.writer.write(lambda tx: journal_rows.find_written(tx, pk, after, batch))
        )

    async def _patiently(self, look: Callable[[], Awaitable[T]]) -> T:
        """Looks something up, however long the store is unavailable: what is not written yet must not be lost."""
        tries = iter(_REWRITE_S)
        while True:
            try:
                return await look()
            except (Temporary, Uncertain):
                if self._stopping:
                    raise Superseded from None
                await asyncio.sleep(next(tries, _REWRITE_S[-1]))

    def _write(self, tx: Any, batch: Batch) -> list[journal_rows.Event]:
        facts = self.facts
        return journal_rows.write(
            tx, run_pk=facts.pk, org_id=facts.org_id, workflow_id=facts.workflow_id, fence=facts.fence, batch=batch
        )

    def _publish(self, events: list[journal_rows.Event]) -> None:
        if events:
            self.last_seq = events[-1].seq
        self._world.hub.publish(self.facts, events)

    def _tell_others(self, batch: Batch) -> None:
        """Wakes the caller of a run that has ended; cancels called runs that nobody waits for any longer."""
        if batch.ending is not None and batch.ending.told is not None:
            self._world.calls.wake(batch.ending.told.caller_pk)
        for pk in batch.waits.cancelled if batch.waits is not None else ():
            self._world.calls.cancel(pk)

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
        self._variables = await self._patiently(
            lambda: self._world.variables.read_for(self.facts, self._program.definition)
        )
        for start, again in deferred:
            if again:
                self._attempt_again(start)
            else:
                self._attempt(start)

    def _attempt(self, start: Start) -> None:
        """Makes an attempt; pure and control nodes come to their end here."""
        now = self._now()
        node = self._program.nodes[start.node_id]
        roots = self._roots(start.path, now)
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
        if self._cancelling:
            prepared = CutOff("The run was cancelled before this node ran.")
        self._carry_on(start, prepared)

    def _carry_on(self, start: Start, prepared: Job | Errand | Outcome) -> None:
        if isinstance(prepared, Call) and self._is_in_assumed_loop(start):
            prepared = replace(prepared, assumed=True)
        if isinstance(prepared, Errand):
            self._to_run.append(prepared)
        elif not isinstance(prepared, Job):
            self._apply(start, prepared)
        elif prepared.carrier is Carrier.REHEARSAL:
            prepared.assumed = prepared.assumed or self._is_in_assumed_loop(start)
            if prepared.assumed:
                self._journal.by_path[start.path].facts = dict(nodes.ASSUMED_INPUT)
                self._assumed_where_it_counts = True
            self._to_launch.append(prepared)
        elif prepared.effect is Effect.PURE and not prepared.action.is_async:
            context = self._context(start.path, self._emit_now(start))
            self._apply(start, nodes.run_pure(prepared, context))
        else:
            self._to_launch.append(prepared)

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
                self._apply(start, Unknown("The server ended while this node ran; it may have happened."))
                return
            if self._cancelling:
                may = "" if effect in (Effect.PURE, Effect.READ) else " It may have happened."
                self._apply(start, CutOff(f"The server ended while this node ran, and the run is cancelled.{may}"))
                return
        if node.reads_variables:
            self._deferred.append((start, True))
        else:
            self._attempt_again(start)

    def _attempt_again(self, start: Start) -> None:
        now = self._now()
        node = self._program.nodes[start.node_id]
        roots = self._roots(start.path, now)
        _, prepared = nodes.prepare(start, node, roots, self._world.catalog, self._world.settings, now)
        self._carry_on(start, prepared)

    def _go_on(self, start: Start) -> None:
        """The time that a waiting node waited for has come."""
        facts = self._journal.by_path[start.path].facts or {}
        if "spend" in facts:
            self._go_on_spending(start, self._journal.by_path[start.path])
        elif "child" in facts:
            self._beside().cancelled.append(facts["child"]["pk"])
            message = f"The called run {facts['child']['runId']} did not end in time (timeoutMs of the node)."
            self._apply(start, Failed("TIMEOUT", message, facts=facts))
        else:
            answerable = "wait" in facts or "approve" in facts
            self._apply(start, Settled(facts.get("result"), branch=facts.get("branch"), expired=answerable))

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
        self._to_launch.append(nodes.resumed(start, resumed, self._world.catalog, spend, mode))

    def _beside(self) -> Waits:
        """What the next batch does beside this run."""
        if self.recorder.batch.waits is None:
            self.recorder.batch.waits = Waits()
        return self.recorder.batch.waits

    def _close_question(self, execution: Execution, status: str) -> None:
        """A question that was asked of people is settled with its node; who decided has been noted already."""
        facts = execution.facts or {}
        asked = [facts["approvalId"]] if "approvalId" in facts else []
        if status == "cancelled":  # what binds a transaction is decided with it
            asked += facts.get("spend", {}).get("approvals", ())
        for approval_id in asked:
            self._beside().closed.append(Closed(approval_id, status, self._now()))

    def _pause(self, start: Start, execution: Execution, outcome: PutDown) -> None:
        execution.status, execution.wake_at, execution.facts = N.WAITING, outcome.until, outcome.facts
        note = None
        if outcome.asked is not None and outcome.until is not None:
            asked, message = outcome.asked, self._veil.text(outcome.asked.message)
            row = new_row(self.facts, start.path, start.attempt, message, asked.approvers, self._now(), outcome.until)
            self._beside().asked.append(row)
            execution.facts = {**(outcome.facts or {}), "approvalId": row.id}
            note = {"approval": {"id": row.id, "message": row.message}}
        if outcome.facts is not None and "child" in outcome.facts:
            note = {"child": {"runId": outcome.facts["child"]["runId"]}}
        note = outcome.note or note
        self.recorder.became(execution, note)
        self._plan.waits(Start(start.path, start.node_id, start.attempt, wake=True), outcome.until, outcome.holds)
        self._poked = self._poked or outcome.answerable

    def _apply(self, start: Start, outcome: Outcome) -> None:
        """Records what an attempt came to, and tells the plan."""
        execution = self._journal.by_path[start.path]
        if isinstance(outcome, Settled):
            self._veil.learn(outcome.secrets)
            self._succeed(execution, outcome)
        elif isinstance(outcome, Failed):
            self._fail(start, execution, outcome)
        elif isinstance(outcome, Unknown):
            self._doubt(start, execution, outcome)
        elif isinstance(outcome, PutDown):
            self._pause(start, execution, outcome)
        elif isinstance(outcome, Opened):
            execution.facts = {
                "items": outcome.items,
                "concurrency": outcome.concurrency,
                "onItemError": outcome.on_item_error,
            }
            execution.assumed = outcome.assumed
            self.recorder.changed(execution)
            self._plan.opened(start.path, len(outcome.items), outcome.concurrency, outcome.on_item_error)
        else:
            execution.facts = outcome.facts or execution.facts
            self._cut_off(start.path, outcome.message)

    def _succeed(self, execution: Execution, outcome: Settled, text: str | None = None) -> None:
        """`text` is the result as JSON, when it is known already."""
        try:
            plain = text if text is not None else dumps_text(outcome.result)
        except (TypeError, ValueError, RecursionError) as error:
            message = f"The result cannot be kept as JSON: {error}."
            self._settle_failure(execution, Failed("INTERNAL", message, facts=outcome.facts))
            return
        text = log.mask_links(plain)
        if text is not plain:
            outcome.result = loads_own(text)
        most = self._world.settings.max_result_bytes
        if len(text) > most or len(text.encode()) > most:
            size = len(text.encode())
            told = f"The result has {size} bytes, at most {most} are kept (setting max_result_bytes)."
            self._settle_failure(execution, Failed("LIMIT", told, facts=outcome.facts))
            return
        execution.status = outcome.status
        execution.result = outcome.result
        execution.branch = outcome.branch
        execution.assumed = outcome.assumed
        execution.facts = outcome.facts or execution.facts
        execution.wake_at = None
        execution.finished_at = self._now()
        if outcome.facts and "clock" in outcome.facts:
            self._simulated_now = max(self._simulated_now, outcome.facts["clock"])
        self._bytes += len(text)
        if _counts_as_assumed(execution):
            self._assumed_where_it_counts = True
        if outcome.expired:
            self._beside().expired.append(execution.path)
        self._close_question(execution, outcome.branch or "cancelled")
        self.recorder.batch.texts[(execution.path, execution.attempt)] = text
        self.recorder.became(execution, outcome.note)
        if outcome.stop is not None:
            if outcome.stop is RunStatus.FAILURE:
                self._note_error(execution, {"code": "STOPPED", "message": outcome.result["message"]})
            self._plan.stopped(outcome.stop)
        self._plan.settled(execution.path, outcome.status, outcome.branch)

    def _fail(self, start: Start, execution: Execution, outcome: Failed) -> None:
        at = self._retry_at(start, retryable=outcome.retryable, after_ms=outcome.after_ms)
        if at is not None:
            execution.facts = outcome.facts or execution.facts  # what it spent before it failed is spent
            self._schedule(start, execution, at, outcome.public())
        else:
            self._settle_failure(execution, outcome)

    def _retry_at(self, start: Start, *, retryable: bool, after_ms: int | None = None) -> int | None:
        """When the next attempt is due; None when there is none."""
        if self._cancelling:
            return None
        decision = retry.decide(
            self._program.nodes[start.node_id].node.retry,
            start.attempt,
            retryable=retryable,
            now=self._now(),
            jitter=ids.jitter(),
            after_ms=after_ms,
        )
        return decision.at if isinstance(decision, retry.RetryAt) else None

    def _is_idempotent(self, execution: Execution) -> bool:
        """Whether doing an attempt again under its key equals doing it once."""
        action = self._world.catalog.actions.get(self._program.nodes[execution.node_id].node.type)
        return action is not None and action.is_idempotent(execution.input)

    def _schedule(self, start: Start, execution: Execution, at: int, error: dict[str, Any] | None) -> None:
        """Puts the node down until its next attempt; in a simulation its clock moves on instead."""
        execution.status, execution.error, execution.finished_at = N.SCHEDULED, error, self._now()
        if self.facts.mode is Mode.SIMULATE:
            self._simulated_now, at = max(self._simulated_now, at), 0
        execution.wake_at = at
        self.recorder.became(execution)
        self._plan.waits(Start(start.path, start.node_id, start.attempt + 1), at)

    def _settle_failure(self, execution: Execution, outcome: Failed) -> None:
        execution.status = N.FAILURE
        execution.error = outcome.public()
        execution.facts = outcome.facts or execution.facts
        execution.wake_at = None
        execution.finished_at = self._now()
        on_error = self._program.nodes[execution.node_id].node.on_error
        execution.branch = "error" if on_error == "branch" else None
        if _counts_as_assumed(execution):
            self._assumed_where_it_counts = True
        if execution.error["code"] == Code.SIM_FORK_LOST.name:
            self._note_error(execution, execution.error)
            self._plan.stopped(RunStatus.FAILURE)
        if on_error == "fail":
            self._note_error(execution, execution.error)
        self.recorder.became(execution)
        self._plan.settled(execution.path, N.FAILURE, execution.branch)

    def _doubt(self, start: Start, execution: Execution, outcome: Unknown) -> None:
        """Nobody knows whether it happened: it is done again when the other side deduplicates, else the node's
        `onUncertain` decides, else a person."""
        policy = self._program.nodes[start.node_id].node.on_uncertain
        execution.facts = outcome.facts or execution.facts
        if self._is_idempotent(execution) and (at := self._retry_at(start, retryable=True)) is not None:
            error = {"code": "UNCERTAIN", "message": outcome.message, "retryable": True}
            self._schedule(start, execution, at, error)
        elif policy == "fail" and not self._cancelling:
            self._settle_failure(execution, Failed("UNCERTAIN", outcome.message, facts=execution.facts))
        elif policy == "retry" and not self._cancelling:
            error = {"code": "UNCERTAIN", "message": outcome.message, "retryable": True}
            self._schedule(start, execution, self._now(), error)
        else:
            execution.status = N.UNCERTAIN
            execution.error = {"code": "UNCERTAIN", "message": outcome.message, "retryable": False}
            self.recorder.became(execution)
            self._plan.waits(start, None, Holds.FAILURE)

    def _cut_off(self, path: str, message: str) -> None:
        execution = self._journal.by_path[path]
        was_uncertain = execution.status is N.UNCERTAIN
        execution.status, execution.wake_at, execution.finished_at = N.CANCELLED, None, self._now()
        if not was_uncertain:
            execution.error = {"code": "CUT_OFF", "message": message, "retryable": False}
        if execution.facts is not None and "pk" in execution.facts.get("child", ()):
            self._beside().cancelled.append(execution.facts["child"]["pk"])
        self._close_question(execution, "cancelled")
        self.recorder.became(execution)
        self._plan.settled(path, N.CANCELLED)

    def _skip(self, path: str) -> None:
        if path in self._journal.by_path:
            return  # a retry kept it; that it happened stays true
        now = self._now()
        node_id = path[len(frame_of(path)) :]
        execution = Execution(path, node_id, 1, N.SKIPPED, started_at=now, finished_at=now)
        self._journal.record(execution)
        self.recorder.batch.added[(path, 1)] = execution
        self.recorder.became(execution)

    def _close_loop(self, path: str) -> None:
        """Every item of a loop has ended: its result is the items' results, in the items' order."""
        execution = self._journal.by_path[path]
        assert execution.facts is not None
        count, most = len(execution.facts["items"]), self._world.settings.max_result_bytes
        found = loops.result_of(self._program, self._journal, path, count, most)
        status = self._plan.loop(path).outcome
        if status is N.FAILURE:
            first = found.failed
            where = f" Item {first['index']} failed first: {first['error']['message']}" if first else ""
            self._settle_failure(execution, Failed("ITEM_FAILED", f"An item of the loop failed.{where}"))
            return
        settled = Settled(found.result, status=status, assumed=found.assumed, facts=execution.facts)
        self._succeed(execution, settled, found.text)

    # --- the run ---

    async def _use_signals(self) -> None:
        """Applies the answers that waiting nodes were given; one that came before its node waits is kept."""
        self._poked = False
        if self._cancelling:
            self._abandon_spends()
        waiting, pk = self._plan.waiting, self.facts.pk
        if not waiting:
            return
        for signal in await self._patiently(lambda: self._world.database.read(lambda tx: self._signals(tx, pk))):
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
            self._apply(Start(execution.path, execution.node_id, execution.attempt), outcome)

    def _resolve(self, execution: Execution, signal: Signal) -> None:
        self.recorder.batch.signals_used.append(signal.id)
        answer = loads(signal.data)
        start = Start(execution.path, execution.node_id, execution.attempt)
        execution.error = None
        if answer["outcome"] == "happened":
            self._succeed(execution, Settled(answer.get("result"), note={"resolvedBy": answer["by"]}))
        else:
            message = "A person said that it had not happened; it is done again."
            error = {"code": "NOT_HAPPENED", "message": message, "retryable": True}
            self._schedule(start, execution, self._now(), error)

    def _check_age(self) -> None:
        days = self._world.settings.max_run_days
        if clock.now_ms() - self.facts.started_at > days * _DAY_MS and self._error is None:
            self._error = {"code": "LIMIT", "message": f"A run may last {days} days (setting max_run_days)."}
            self._plan.stopped(RunStatus.FAILURE)

    def _note_error(self, execution: Execution, error: dict[str, Any]) -> None:
        if self._error is None:
            self._error = {**error, "nodeId": execution.node_id, "path": execution.path}

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
        passed = answer.status is RunStatus.SUCCESS and not self._assumed_where_it_counts
        finished: dict[str, Any] = {"status": answer.status.value, "mode": self.facts.mode.value}
        error = self._error if answer.status is not RunStatus.SUCCESS else None
        if error is not None:
            finished["error"] = error
        if self.facts.mode is not Mode.LIVE:
            finished["passed"] = passed
        self.recorder.event("run_finished", finished, now)
        told = self._told(answer.status, passed, error)
        calls = any(node.node.type == "call-workflow" for node in self._program.nodes.values())
        self.observer.ended(answer.status, now, error)
        self.recorder.batch.ending = Ending(answer.status, now, passed, error, told, calls)
        if calls:
            self._beside()

    def _told(self, status: RunStatus, passed: bool, error: dict[str, Any] | None) -> Told | None:
        """What the run that called this one is told; None when nobody waits."""
        caller = self.facts.caller
        if caller is None or not caller.waits:
            return None
        ending = {"status": status.value, "passed": passed, "error": error, "clock": self._now()}
        data = answers.told(self.facts.id, self._program, self._journal, ending)
        return Told(caller.pk, caller.path, dumps_text(self._veil.value(data)))

    def _now(self) -> int:
        if self.facts.mode is Mode.SIMULATE:
            return max(clock.now_ms(), self._simulated_now)
        return clock.now_ms()

    def _roots(self, path: str, now: int) -> NodeRoots:
        world = self._world
        return NodeRoots(
            self.facts, self._program, self._journal, frame_of(path), now, world.env, self._variables, world.links
        )

    def _context(
        self, path: str, emit: Callable[[str, dict[str, Any]], None], reach: Reach | None = None
    ) -> NodeContext:
        world, facts, now = self._world, self.facts, self._now()
        if reach is None and world.money is not None:
            reach = world.money.reach(facts, now)
        http = self.observer.http(world.http, path, self._journal.by_path[path].attempt)
        key = partial(idempotency_key, facts.org_id, facts.root_run_id, path)
        return NodeContext(http, world.scripts, facts.org_id, key, now, emit, reach, self._inside)

    def _inside(self, context: NodeContext) -> Inside:
        tables = RunTables(self._world.tables, self.facts, context.idempotency_key, context.notes)
        return Inside(tables, self._world.notifier)

    @property
    def _money(self) -> Money:
        if self._world.money is None:
            raise Invalid("This server has no chains.")
        return self._world.money

    async def _money_context(self, job: Job) -> NodeContext:
        """The context of a node that has a wallet; raises `Invalid` or `NotFound` when it has none."""
        wallet = await self._money.wallet(self.facts, job.node.node.connector)
        reach = replace(self._money.reach(self.facts, self._now()), wallet=wallet)
        return self._context(job.start.path, self._emit_later(job.start), reach)

    def _emit_now(self, start: Start) -> Callable[[str, dict[str, Any]], None]:
        def emit(kind: str, data: dict[str, Any]) -> None:
            self.recorder.event(kind, {"nodeId": start.node_id, "path": start.path, **data}, clock.now_ms())

        return emit

    def _emit_later(self, start: Start) -> Callable[[str, dict[str, Any]], None]:
        """For a node that runs beside the loop: what it says is written soon, not with its end."""
        emit_now = self._emit_now(start)

        def emit(kind: str, data: dict[str, Any]) -> None:
            emit_now(kind, data)
            self._wake.set()

        return emit


def _counts_as_assumed(execution: Execution) -> bool:
    """Whether something that matters hangs on an assumed value: a branch that was taken, a called run, a spend."""
    facts = execution.facts or {}
    return execution.assumed and (execution.branch is not None or "child" in facts or "assumedInput" in facts)


def _may_spend(node: ProgramNode) -> bool:
    """Whether a node may change a simulated chain, by itself or by what it calls."""
    return node.node.type == "call-workflow" or node.spec.effect == Effect.SPEND.value
