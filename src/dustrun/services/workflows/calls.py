"""Checks that the workflows and versions that `call-workflow` nodes name exist and are not archived."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import UNBOUND, Definition
from dustrun.errors import Code, Invalid, Problem
from dustrun.services.access.principal import Principal
from dustrun.storage.db.statement import Tx
from dustrun.storage.workflows import versions, workflows
from dustrun.storage.workflows.versions import VersionRow
from dustrun.storage.workflows.workflows import WorkflowRow

CALL: Final = "call-workflow"


def find_problems(tx: Tx, principal: Principal, definition: Definition) -> Iterator[Problem]:
    """Yields a problem for every call of a constant workflow or version that cannot be called, in words that the caller
    may read. A template is judged when the node runs."""
    for node_id, node in definition.nodes.items():
        if node.type == CALL:
            yield from _check(tx, principal, node_id, node.payload)


def need_callable(tx: Tx, principal: Principal, version: VersionRow) -> None:
    """Raises `Invalid` if a stored version names a workflow or version that cannot be called; keeps what it names."""
    if f" {CALL} " not in version.node_types:
        return
    payloads = _payloads(version)
    for workflow_id, number in _pinned(payloads.values()):
        workflows.keep_draft(tx, principal.org_id, workflow_id, number)
    found = [one for node_id, payload in payloads.items() for one in _check(tx, principal, node_id, payload)]
    if found:
        message = "The definition calls a workflow that cannot be called."
        raise Invalid(message, code=Code.DEFINITION_INVALID, details=found)


def names_version(version: VersionRow, workflow_id: str, number: int) -> bool:
    """Whether a call of that version names this one."""
    return (workflow_id, number) in _pinned(_payloads(version).values())


def names_workflow(version: VersionRow, workflow_id: str) -> bool:
    """Whether a call of that version names the workflow, in any version."""
    return any(payload.get("workflowId") == workflow_id for payload in _payloads(version).values())


def _payloads(version: VersionRow) -> dict[str, dict[str, Any]]:
    """Those of its calls, by node."""
    if f" {CALL} " not in version.node_types:
        return {}
    nodes = exact_json.loads(version.definition)["nodes"]
    return {node_id: node.get("payload") or {} for node_id, node in nodes.items() if node["type"] == CALL}


def _pinned(payloads: Iterable[Mapping[str, Any]]) -> set[tuple[str, int]]:
    found = ((payload.get("workflowId"), payload.get("version")) for payload in payloads)
    return {
        (workflow_id, number)
        for workflow_id, number in found
        if isinstance(workflow_id, str) and isinstance(number, int)
    }


def _check(tx: Tx, principal: Principal, node_id: str, payload: Mapping[str, Any]) -> Iterator[Problem]:
    workflow_id, version = payload.get("workflowId"), payload.get("version")
    if not isinstance(workflow_id, str) or "{{" in workflow_id or workflow_id.startswith(UNBOUND):
        return
    field = f"nodes.{node_id}.payload"
    row = workflows.find(tx, principal.org_id, workflow_id)
    is_archived = row is not None and row.status == "archived"
    if row is not None and not is_archived and not _lacks(tx, row, version):
        return
    if row is None or not principal.may_use_workflow(row.id):
        message = f'There is no workflow "{workflow_id}" in this organisation; use an id from GET /v1/workflows.'
        yield Problem(f"{field}.workflowId", message, "unknown_workflow", node_id)
        return
    name = f'"{row.name}" ({row.id})' if principal.may_read_workflow(row.id) else f'"{row.id}"'
    if is_archived:
        message = f"The workflow {name} is archived; unarchive it or call another one."
        yield Problem(f"{field}.workflowId", message, "archived_workflow", node_id)
    else:
        message = f"The workflow {name} has no version {version}; its newest is {row.latest_version}."
        yield Problem(f"{field}.version", message, "unknown_version", node_id)


def _lacks(tx: Tx, row: WorkflowRow, version: Any) -> bool:
    return isinstance(version, int) and versions.find(tx, row.id, version) is None
