"""Collects what happens in a run as the next batch to commit: executions and events together."""

from __future__ import annotations

from typing import Any

from dustrun import clock
from dustrun.core.run.journal import Execution
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.stream_events import (
    NODE_CANCELLED,
    NODE_FAILED,
    NODE_RETRYING,
    NODE_SKIPPED,
    NODE_STARTED,
    NODE_SUCCEEDED,
    NODE_UNCERTAIN,
    NODE_WAITING,
)
from dustrun.core.values.exact_json import dumps_text
from dustrun.engine.run.observer import Observer
from dustrun.log import LINK, mask_links
from dustrun.storage.runs.journal import Batch

MAX_RESULT_IN_EVENT = 65_536

_EVENT_OF = {
    NodeStatus.SUCCESS: NODE_SUCCEEDED,
    NodeStatus.PARTIAL: NODE_SUCCEEDED,
    NodeStatus.FAILURE: NODE_FAILED,
    NodeStatus.SKIPPED: NODE_SKIPPED,
    NodeStatus.CANCELLED: NODE_CANCELLED,
    NodeStatus.UNCERTAIN: NODE_UNCERTAIN,
    NodeStatus.WAITING: NODE_WAITING,
    NodeStatus.SCHEDULED: NODE_RETRYING,
}


class Recorder:
    """Collects the changes of one run between two commits."""

    def __init__(self, batch: Batch | None = None) -> None:
        self.batch = batch or Batch()
        self.observer: Observer | None = None

    def take(self) -> Batch:
        """The batch collected so far; a new one begins."""
        taken, self.batch = self.batch, Batch(status=self.batch.status, redaction=self.batch.redaction)
        return taken

    def event(self, kind: str, data: dict[str, Any], at: int) -> None:
        """Adds one event."""
        batch = self.batch
        text = dumps_text(batch.redaction.value(data) if batch.redaction.secrets else data)
        batch.events.append((kind, at, mask_links(text) if LINK in text else text))

    def started(self, execution: Execution, node_type: str, *, weight: int | None = None) -> None:
        """A node began an attempt. `weight`: of its input, if that was weighed."""
        key = (execution.path, execution.attempt)
        if weight is not None:
            self.batch.input_weights[key] = weight
        self.batch.added[key] = execution
        self.batch.executed += execution.attempt == 1
        assert execution.started_at is not None
        self.event(NODE_STARTED, {**_about(execution), "nodeType": node_type}, execution.started_at)

    def changed(self, execution: Execution) -> None:
        """An attempt changed, without an event."""
        key = (execution.path, execution.attempt)
        if key not in self.batch.added:
            self.batch.changed[key] = execution

    def became(self, execution: Execution, note: dict[str, Any] | None = None) -> None:
        """An attempt ended or waits: adds its event."""
        self.changed(execution)
        if self.observer is not None:
            self.observer.became(execution)
        key = (execution.path, execution.attempt)
        data = _about(execution)
        data["status"] = str(execution.status)
        if execution.status in (NodeStatus.SUCCESS, NodeStatus.PARTIAL):
            self._add_result(data, key, execution)
        if execution.error is not None:
            data["error"] = execution.error
        if execution.branch is not None:
            data["branch"] = execution.branch
        if execution.assumed:
            data["assumed"] = True
        if execution.wake_at is not None:
            data["wakeAt"] = clock.to_rfc3339(execution.wake_at)
        if note:
            data.update(note)
        at = execution.finished_at if execution.finished_at is not None else clock.now_ms()
        self.event(_EVENT_OF[execution.status], data, at)

    def _add_result(self, data: dict[str, Any], key: tuple[str, int], execution: Execution) -> None:
        text = self.batch.texts.get(key)
        if text is not None and len(text) > MAX_RESULT_IN_EVENT:
            data["resultOmitted"] = True
            data["resultBytes"] = len(text.encode())
        else:
            data["result"] = execution.result

    def run_status(self, status: RunStatus, wake_at: int | None = None) -> None:
        """Sets the run's status as of this batch; `wake_at` in milliseconds UTC."""
        self.batch.status = status
        self.batch.wake_at = wake_at
        self.batch.sets_status = True


def _about(execution: Execution) -> dict[str, Any]:
    return {"nodeId": execution.node_id, "path": execution.path, "attempt": execution.attempt}
