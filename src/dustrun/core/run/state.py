"""The states of runs and nodes and their allowed transitions, as tables; nothing else changes a status."""

from __future__ import annotations

import enum


class RunStatus(enum.StrEnum):
    """Status of a run."""

    RUNNING = "running"
    WAITING = "waiting"
    SUCCESS = "success"
    PARTIAL = "partial"
    FAILURE = "failure"
    CANCELLED = "cancelled"


class NodeStatus(enum.StrEnum):
    """Status of a node in one run."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCESS = "success"
    PARTIAL = "partial"
    FAILURE = "failure"
    UNCERTAIN = "uncertain"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class Mode(enum.StrEnum):
    """How effects are executed."""

    LIVE = "live"
    SIMULATE = "simulate"
    DUST = "dust"


R = RunStatus
N = NodeStatus

RUN_OPEN = frozenset({R.RUNNING, R.WAITING})
RUN_FINAL = frozenset({R.SUCCESS, R.PARTIAL, R.FAILURE, R.CANCELLED})
RUN_RETRYABLE = frozenset({R.FAILURE, R.PARTIAL, R.CANCELLED})

RUN_TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    R.RUNNING: frozenset({R.WAITING}) | RUN_FINAL,
    R.WAITING: frozenset({R.RUNNING}) | RUN_FINAL,
    R.SUCCESS: frozenset(),
    R.PARTIAL: frozenset(),
    R.FAILURE: frozenset(),
    R.CANCELLED: frozenset(),
}

NODE_SETTLED = frozenset({N.SUCCESS, N.PARTIAL, N.FAILURE, N.SKIPPED, N.CANCELLED})

NODE_TRANSITIONS: dict[NodeStatus, frozenset[NodeStatus]] = {
    N.PENDING: frozenset({N.SCHEDULED, N.RUNNING, N.SKIPPED, N.CANCELLED, N.FAILURE}),
    N.SCHEDULED: frozenset({N.RUNNING, N.CANCELLED}),
    N.RUNNING: frozenset({N.WAITING, N.SCHEDULED, N.UNCERTAIN}) | NODE_SETTLED,
    N.WAITING: frozenset({N.RUNNING}) | NODE_SETTLED,
    N.UNCERTAIN: frozenset({N.SUCCESS, N.FAILURE, N.SCHEDULED, N.CANCELLED}),
    N.SUCCESS: frozenset(),
    N.PARTIAL: frozenset(),
    N.FAILURE: frozenset(),
    N.SKIPPED: frozenset(),
    N.CANCELLED: frozenset(),
}


def run_may_become(now: RunStatus, then: RunStatus) -> bool:
    """Whether a run may change from one status to another."""
    return then in RUN_TRANSITIONS[now]


def node_may_become(now: NodeStatus, then: NodeStatus) -> bool:
    """Whether a node may change from one status to another."""
    return then in NODE_TRANSITIONS[now]
