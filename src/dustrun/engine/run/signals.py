"""Signals for one run's waiting nodes: from people, links, called runs and the chain."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dustrun import clock
from dustrun.core.run.journal import Execution
from dustrun.core.run.plan import Start
from dustrun.core.run.state import NodeStatus
from dustrun.engine.node.outcome import Outcome, encoded
from dustrun.engine.run import signal_outcomes
from dustrun.engine.run.attempts import Attempts
from dustrun.engine.run.commit import Committer
from dustrun.engine.run.results import Results
from dustrun.engine.run.run_context import RunContext
from dustrun.sdk.threads import run_sized
from dustrun.services.runs.unsealing import Unsealing
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.runs import Signal

N = NodeStatus
_TURN_S = 0.01
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
            if execution.path in self._run.plan.waiting and execution.facts is not None and "spend" in execution.facts:
                start = Start(execution.path, execution.node_id, execution.attempt, wake=True)
                self._run.plan.started(start)
                self._attempts.go_on_spending(start, execution)
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
