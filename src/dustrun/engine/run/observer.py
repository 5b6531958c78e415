"""Metrics and traces of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dustrun import metrics
from dustrun.core.run.journal import Execution
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.workflow.program import Program
from dustrun.engine.node.mode import RunMode
from dustrun.engine.run.traces import Traces
from dustrun.sdk.context import Http
from dustrun.services.runs.engine_port import RunFacts

_STARTED = metrics.counter("dustrun_runs_started", "Runs that were started.", "mode", "source")
_FINISHED = metrics.counter("dustrun_runs_finished", "Runs that have ended.", "mode", "status")
_EXECUTED = metrics.counter("dustrun_node_executions", "Attempts of nodes that came to something.", "type", "status")
_SECONDS = metrics.histogram("dustrun_node_seconds", "How long attempts of nodes took, with their waits.", "type")
_WAITS = frozenset({NodeStatus.WAITING, NodeStatus.RUNNING})


class Observer:
    """Reports one run to metrics and, where enabled, to traces."""

    __slots__ = ("_facts", "_held", "_mode", "_nodes", "_traces")

    def __init__(self, facts: RunFacts, mode: RunMode, program: Program, traces: Traces | None) -> None:
        self._facts = facts
        self._mode = mode
        self._nodes = program.nodes
        self._traces = traces
        self._held: list[Callable[[], None]] | None = None

    def hold(self) -> None:
        """Keeps what follows until `release`: the run does not exist before its creation has committed."""
        self._held = []

    def release(self) -> None:
        """Reports what was held."""
        held, self._held = self._held, None
        for report in held or ():
            report()

    def became(self, execution: Execution) -> None:
        """An attempt ended."""
        if self._held is not None:
            self._held.append(partial(self.became, execution))
            return
        status = execution.status
        if status in _WAITS:
            return
        node_type = self._nodes[execution.node_id].node.type
        _EXECUTED.add(node_type, str(status))
        started, finished = execution.started_at, execution.finished_at
        if started is not None and finished is not None and status is not NodeStatus.SKIPPED:
            if not self._mode.has_simulated_clock:
                _SECONDS.observe((finished - started) / 1000, node_type)
            if self._traces is not None:
                self._traces.attempt_ended(self._facts, execution, node_type)

    def ended(self, status: RunStatus, at: int, error: Mapping[str, Any] | None) -> None:
        """The run ended."""
        if self._held is not None:
            self._held.append(partial(self.ended, status, at, error))
            return
        _FINISHED.add(str(self._facts.mode), str(status))
        if self._traces is not None:
            self._traces.run_ended(self._facts, status, at, error)

    def http(self, http: Http, path: str, attempt: int) -> Http:
        """The client for an attempt of a node."""
        return http if self._traces is None else self._traces.http_for(http, self._facts, path, attempt)


def note_start(facts: RunFacts) -> None:
    """A run was started and is on disk."""
    _STARTED.add(str(facts.mode), facts.trigger_source)
