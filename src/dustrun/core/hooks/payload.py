"""What a hook is told of an event: small, with links to the rest. Results of nodes stay in the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass

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
            "message",
            "reason",
            "wasFinal",
        ),
        *("name", "hookId"),
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
