"""The types of hook events, and which of them a hook wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_ENDS: Final = {
    "success": "run.succeeded",
    "partial": "run.partial",
    "failure": "run.failed",
    "cancelled": "run.cancelled",
}
_OF_RUNS: Final = {"run_started": "run.started", "run_waiting": "run.waiting", "run_resumed": "run.resumed"}
_OF_NODES: Final = {
    f"node_{what}": f"node.{what}"
    for what in ("started", "waiting", "retrying", "succeeded", "failed", "skipped", "cancelled", "uncertain")
}
_STEPS: Final = (
    *("planned", "simulated", "asked", "refused", "held", "released", "signed", "sent", "delayed", "replaced"),
    *("cancelling", "mined", "reorged", "confirmed", "reverted", "cancelled", "displaced"),
)
PAUSED: Final = "workflow.paused"
TRIGGER_FAILED: Final = "trigger.failed"
TRIGGER_STALLED: Final = "trigger.stalled"
TRIGGER_RECOVERED: Final = "trigger.recovered"
LAUNCH_PROPOSED: Final = "launch.proposed"
REORGED: Final = "transaction.reorged"
DISABLED: Final = "hook.disabled"
PING: Final = "hook.ping"
"""Sent by a test of a hook, to that hook alone; nobody subscribes to it."""
ALERTS: Final = ("alert.proxy", "alert.second-opinion", "alert.price", "alert.allowance")
TYPES: Final = (
    *_OF_RUNS.values(),
    *_ENDS.values(),
    *_OF_NODES.values(),
    *(f"transaction.{step}" for step in _STEPS),
    PAUSED,
    TRIGGER_FAILED,
    TRIGGER_STALLED,
    TRIGGER_RECOVERED,
    LAUNCH_PROPOSED,
    DISABLED,
    *ALERTS,
)
PATTERNS: Final = ("*", "run.*", "node.*", "transaction.*", "workflow.*", "trigger.*", "launch.*", "hook.*", "alert.*")


def type_of(kind: str, data: Mapping[str, Any]) -> str | None:
    """The hook event that a run's event is; None for progress and logs, of which hooks are not told."""
    if kind == "run_finished":
        return _ENDS.get(str(data.get("status")))
    if kind == "transaction":
        found = f"transaction.{data.get('status')}"
        return found if found in TYPES else None
    return _OF_RUNS.get(kind) or _OF_NODES.get(kind)


def wants(wanted: Iterable[str], type_: str) -> bool:
    """Whether one of the types and patterns covers an event."""
    return any(one in (type_, "*") or (one.endswith(".*") and type_.startswith(one[:-1])) for one in wanted)


def wants_steps(wanted: Iterable[str]) -> bool:
    """Whether more is wanted of a run than its starts, waits and ends."""
    return any(one == "*" or one.startswith(("node.", "transaction.")) for one in wanted)


def is_known(wanted: str) -> bool:
    """Whether a hook can subscribe to it."""
    return wanted in TYPES or wanted in PATTERNS
