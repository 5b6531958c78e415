"""The types of hook events, and which of them a hook wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dustrun.core.stream_events import RUN_FINISHED, RUN_RESUMED, RUN_STARTED, RUN_WAITING, TRANSACTION
from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass

_ENDS: Final = {
    "success": "run.succeeded",
    "partial": "run.partial",
    "failure": "run.failed",
    "cancelled": "run.cancelled",
}
_OF_RUNS: Final = {RUN_STARTED: "run.started", RUN_WAITING: "run.waiting", RUN_RESUMED: "run.resumed"}
_OF_NODES: Final = {
    f"node_{what}": f"node.{what}"
    for what in ("started", "waiting", "retrying", "succeeded", "failed", "skipped", "cancelled", "uncertain")
}
_STEPS: Final = (
    *("planned", "simulated", "asked", "voted", "refused", "held", "released", "signed", "sent", "delayed", "replaced"),
    *("cancelling", "mined", "reorged", "confirmed", "reverted", "cancelled", "displaced"),
)
PAUSED: Final = "workflow.paused"
TRIGGER_FAILED: Final = "trigger.failed"
TRIGGER_STALLED: Final = "trigger.stalled"
TRIGGER_RECOVERED: Final = "trigger.recovered"
CONNECTOR_FAILED: Final = "connector.failed"
CONNECTOR_RECOVERED: Final = "connector.recovered"
LAUNCH_PROPOSED: Final = "launch.proposed"
REORGED: Final = "transaction.reorged"
DISABLED: Final = "hook.disabled"
DISK_LOW: Final = "server.disk-low"
DISK_RECOVERED: Final = "server.disk-recovered"
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
    CONNECTOR_FAILED,
    CONNECTOR_RECOVERED,
    LAUNCH_PROPOSED,
    DISABLED,
    DISK_LOW,
    DISK_RECOVERED,
    *ALERTS,
)
PATTERNS: Final = (
    *("*", "run.*", "node.*", "transaction.*", "workflow.*", "trigger.*", "connector.*", "launch.*", "hook.*"),
    *("alert.*", "server.*"),
)


def type_of(kind: str, data: Mapping[str, Any]) -> str | None:
    """The hook event that a run's event is; None for progress and logs, of which hooks are not told."""
    if kind == RUN_FINISHED:
        return _ENDS.get(str(data.get("status")))
    if kind == TRANSACTION:
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


# What a hook is told of an event: small, with links to the rest. Results of nodes stay in the run.


_TOLD: Final = frozenset(
    [
        *("nodeId", "path", "attempt", "status", "nodeType", "branch", "assumed", "wakeAt", "until", "nodes"),
        *("nodeCount", "triggerNodeId", "triggerSource", "passed", "item", "about", "chainId", "transactionId"),
        *("signatureId", "from", "to", "value", "nonce", "hash", "replaces", "generation", "blockNumber", "blockHash"),
        *(
            "isSuccess",
            "gasUsed",
            "fee",
            "confirmations",
            "confirmationsNeeded",
            "approvalId",
            "quorum",
            "message",
            "reason",
            "wasFinal",
        ),
        *("name", "hookId", "connectorId", "connectorType"),
    ]
)
_MOST_CHARS: Final = 500
_MOST_ITEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Subject:
    """The run that an event is of; of a workflow's event, the workflow alone."""

    org_id: str
    workflow_id: str | None = None
    run_id: str | None = None
    workflow_name: str | None = None
    version: int | None = None
    mode: str | None = None


def body_of(type_: str, event_id: str, at: str, subject: Subject, data: Mapping[str, Any], base_url: str) -> str:
    """The body of a delivery, as JSON text; `at` is the time of the event."""
    told: dict[str, Any] = {"eventId": event_id, "organizationId": subject.org_id}
    named = {
        "runId": subject.run_id,
        "workflowId": subject.workflow_id,
        "workflowName": subject.workflow_name,
        "version": subject.version,
        "mode": subject.mode,
    }
    told |= {name: value for name, value in named.items() if value is not None}
    told |= _small(data)
    told["links"] = _links(subject, told, base_url)
    return dumps_text({"type": type_, "timestamp": at, "data": told})


def _small(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: _cut(value) for name, value in data.items() if name in _TOLD and value is not None}
    error = data.get("error")
    if isinstance(error, Mapping):
        found["error"] = {name: _cut(error[name]) for name in ("code", "message") if error.get(name) is not None}
    return found


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _MOST_CHARS else value[: _MOST_CHARS - 1] + "…"
    if isinstance(value, list):
        return [_cut(item) for item in value[:_MOST_ITEMS] if isinstance(item, str | int)]
    return None if isinstance(value, Mapping) else value


def _links(subject: Subject, told: Mapping[str, Any], base_url: str) -> dict[str, str]:
    links = {}
    if subject.run_id is not None:
        links["run"] = f"{base_url}/v1/runs/{subject.run_id}"
    if subject.workflow_id is not None:
        links["workflow"] = f"{base_url}/v1/workflows/{subject.workflow_id}"
    if told.get("approvalId"):
        links["approval"] = f"{base_url}/v1/approvals/{told['approvalId']}"
    if told.get("transactionId"):
        links["transaction"] = f"{base_url}/v1/transactions/{told['transactionId']}"
    return links


# When a delivery is tried again, and when a receiver that fails is left in peace. Times in milliseconds.


_CALM_AFTER: Final = 3
_LONGEST_PAUSE_MS: Final = 60_000
_MOST_RETRY_AFTER_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Schedule:
    """The operator's delays between attempts, in seconds, and the days of failures after which a hook is disabled (0:
    never)."""

    delays_s: Sequence[float]
    disable_after_days: float

    def next_ms(self, attempts: int, max_retries: int, jitter: float, retry_after_s: int | None) -> int | None:
        """Milliseconds until the attempt after `attempts` failed ones; None if there is none. `jitter` in [0, 1)
        spreads attempts by a tenth."""
        if attempts > min(max_retries, len(self.delays_s)):
            return None
        delay_s = self.delays_s[attempts - 1] * (1 + jitter / 10)
        asked_s = min(retry_after_s or 0, _MOST_RETRY_AFTER_S)
        return int(max(delay_s, asked_s) * 1000)

    def pause_ms(self, failures: int) -> int:
        """How long nothing is sent to a receiver that failed so many times in a row."""
        if failures < _CALM_AFTER:
            return 0
        longest = min(_LONGEST_PAUSE_MS, int(max(self.delays_s, default=0) * 1000))
        return min(longest, 1000 << min(failures - _CALM_AFTER, 10))

    def is_hopeless(self, failing_since: int, now: int) -> bool:
        """Whether a receiver has failed for so long that the hook is disabled."""
        return 0 < self.disable_after_days <= (now - failing_since) / 86_400_000


def is_probed(failures: int) -> bool:
    """Whether the receiver fails so often that it gets one attempt at a time."""
    return failures >= _CALM_AFTER
