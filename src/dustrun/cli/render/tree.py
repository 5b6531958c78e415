"""The current view of a run, folded from its events; no I/O, no rendering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from dustrun.core.stream_events import (
    LOG,
    NODE_CANCELLED,
    NODE_FAILED,
    NODE_PROGRESS,
    NODE_RETRYING,
    NODE_SKIPPED,
    NODE_STARTED,
    NODE_SUCCEEDED,
    NODE_UNCERTAIN,
    NODE_WAITING,
    RUN_FINISHED,
    RUN_RESPONDED,
    RUN_RESUMED,
    RUN_STARTED,
    RUN_WAITING,
)
from dustrun.records import dataclass

_STATUS_OF = {
    NODE_STARTED: "running",
    NODE_WAITING: "waiting",
    NODE_SUCCEEDED: "success",
    NODE_FAILED: "failure",
    NODE_RETRYING: "retrying",
    NODE_SKIPPED: "skipped",
    NODE_CANCELLED: "cancelled",
    NODE_UNCERTAIN: "uncertain",
}
_MAX_LOGS = 3


@dataclass(slots=True)
class NodeView:
    """A node of the run, or one iteration of it in a loop."""

    path: str
    type: str = ""
    status: str = "running"
    attempt: int = 1
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: str | None = None
    result: Any = None
    has_result: bool = False
    error: dict[str, Any] | None = None
    wake_at: str | None = None
    branch: str | None = None
    remark: str | None = None
    logs: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """Duration of the last attempt in seconds; None while it runs."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(slots=True)
class RunView:
    """The run's state, with its nodes by path in order of their first event."""

    run_id: str = ""
    workflow_id: str | None = None
    version: int | None = None
    mode: str = "live"
    status: str = "running"
    until: str | None = None
    passed: bool | None = None
    answered: int | None = None
    """Status code that a `respond` node answered with."""
    error: dict[str, Any] | None = None
    nodes: dict[str, NodeView] = field(default_factory=dict)
    started_at: datetime | None = None
    ended_at: datetime | None = None

    def apply(self, event: Mapping[str, Any]) -> None:
        """Applies one event."""
        kind = event["type"]
        if kind in _STATUS_OF:
            self._node(event, kind)
        elif kind in (NODE_PROGRESS, LOG):
            self._remark(event, kind)
        elif kind.startswith("run_"):
            self._run(event, kind)

    @property
    def uncertain(self) -> list[str]:
        """The paths of nodes whose outcome is unknown."""
        return [node.path for node in self.nodes.values() if node.status == "uncertain"]

    def _run(self, event: Mapping[str, Any], kind: str) -> None:
        if kind == RUN_STARTED:
            self.run_id = event.get("runId", "")
            self.workflow_id, self.version = event.get("workflowId"), event.get("version")
            self.mode = event.get("mode", "live")
            self.started_at = _moment(event)
        elif kind == RUN_WAITING:
            self.status, self.until = "waiting", event.get("until")
        elif kind == RUN_RESUMED:
            self.status, self.until = "running", None
        elif kind == RUN_RESPONDED:
            self.answered = event["status"]
        elif kind == RUN_FINISHED:
            self.status, self.ended_at = event["status"], _moment(event)
            self.passed, self.error = event.get("passed"), event.get("error")

    def _node(self, event: Mapping[str, Any], kind: str) -> None:
        node = self._view(event)
        node.status = event.get("status", "success") if kind == NODE_SUCCEEDED else _STATUS_OF[kind]
        node.attempt = event.get("attempt", node.attempt)
        node.error = event.get("error")
        node.wake_at = event.get("wakeAt")
        node.branch = event.get("branch", node.branch)
        node.remark = _remark_of(event)
        if kind == NODE_STARTED:
            node.type = event.get("nodeType", node.type)
            node.started_at, node.ended_at, node.progress = _moment(event), None, None
            if self.status == "waiting":
                self.status, self.until = "running", None
        else:
            node.ended_at = _moment(event)
        if "result" in event:
            node.result, node.has_result = event["result"], True

    def _remark(self, event: Mapping[str, Any], kind: str) -> None:
        if "path" not in event:
            return
        node = self._view(event)
        message = str(event.get("message", ""))
        if kind == "log":
            node.logs = [*node.logs, message][-_MAX_LOGS:]
            return
        percent = event.get("percent")
        node.progress = message if percent is None else f"{message} ({percent} %)"

    def _view(self, event: Mapping[str, Any]) -> NodeView:
        path = event["path"]
        return self.nodes.setdefault(path, NodeView(path))


def _moment(event: Mapping[str, Any]) -> datetime | None:
    at = event.get("at")
    return datetime.fromisoformat(at) if isinstance(at, str) else None


def _remark_of(event: Mapping[str, Any]) -> str | None:
    if event.get("pinned"):
        return "pinned"
    if event.get("assumed"):
        return "assumed"
    if "dust" in event:
        return f"dust: {event['dust']}"
    return None


@dataclass(slots=True)
class Branch:
    """A branch of the displayed tree: a node or one loop item, with its children."""

    label: str
    node: NodeView | None = None
    inside: dict[str, Branch] = field(default_factory=dict)


def nest(nodes: Mapping[str, NodeView]) -> Branch:
    """Builds the tree from the nodes' paths: `each[3].pay` belongs to item 3 of `each`."""
    root = Branch("")
    for path, node in nodes.items():
        place = root
        for step in _steps(path):
            place = place.inside.setdefault(step, Branch(step))
        place.node = node
    return root


def _steps(path: str) -> list[str]:
    """Splits a path: `each[3].pay` → `each`, `[3]`, `pay`."""
    return [step for step in path.replace("[", ".[").split(".") if step]
