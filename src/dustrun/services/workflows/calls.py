"""Checks that the workflows and versions that `call-workflow` nodes name exist and are not archived."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import UNBOUND, Definition
from dustrun.errors import Code, Invalid, Problem
from dustrun.storage.db.statement import Tx
from dustrun.storage.workflows import versions, workflows
from dustrun.storage.workflows.versions import VersionRow

CALL: Final = "call-workflow"


def find_problems(tx: Tx, org_id: str, definition: Definition) -> Iterator[Problem]:
    """Yields a problem for every call of a constant workflow or version that cannot be called. A template is judged
    when the node runs."""
    for node_id, node in definition.nodes.items():
        if node.type == CALL:
            yield from _check(tx, org_id, node_id, node.payload)


def need_callable(tx: Tx, org_id: str, version: VersionRow) -> None:
    """Raises `Invalid` if a stored version names a workflow or version that cannot be called; keeps what it names."""
    if f" {CALL} " not in version.node_types:
        return
    nodes = exact_json.loads(version.definition)["nodes"]
    payloads = {node_id: node.get("payload") or {} for node_id, node in nodes.items() if node["type"] == CALL}
    for workflow_id, number in _pinned(payloads.values()):
        workflows.keep_draft(tx, org_id, workflow_id, number)
    found = [one for node_id, payload in payloads.items() for one in _check(tx, org_id, node_id, payload)]
    if found:
        message = "The definition calls a workflow that cannot be called."
        raise Invalid(message, code=Code.DEFINITION_INVALID, details=found)


def names_version(version: VersionRow, workflow_id: str, number: int) -> bool:
    """Whether a call of that version names this one."""
    if f" {CALL} " not in version.node_types:
        return False
    nodes = exact_json.loads(version.definition)["nodes"].values()
    return (workflow_id, number) in _pinned(node.get("payload") or {} for node in nodes if node["type"] == CALL)


def _pinned(payloads: Iterable[Mapping[str, Any]]) -> set[tuple[str, int]]:
    found = ((payload.get("workflowId"), payload.get("version")) for payload in payloads)
    return {
        (workflow_id, number)
        for workflow_id, number in found
        if isinstance(workflow_id, str) and isinstance(number, int)
    }


def _check(tx: Tx, org_id: str, node_id: str, payload: Mapping[str, Any]) -> Iterator[Problem]:
    workflow_id, version = payload.get("workflowId"), payload.get("version")
    if not isinstance(workflow_id, str) or "{{" in workflow_id or workflow_id.startswith(UNBOUND):
        return
    field = f"nodes.{node_id}.payload"
    row = workflows.find(tx, org_id, workflow_id)
    if row is None:
        message = f'There is no workflow "{workflow_id}" in this organisation; use an id from GET /v1/workflows.'
        yield Problem(f"{field}.workflowId", message, "unknown_workflow", node_id)
    elif row.status == "archived":
        message = f'The workflow "{row.name}" ({row.id}) is archived; unarchive it or call another one.'
        yield Problem(f"{field}.workflowId", message, "archived_workflow", node_id)
    elif isinstance(version, int) and versions.find(tx, row.id, version) is None:
        message = f'The workflow "{row.name}" ({row.id}) has no version {version}; its newest is {row.latest_version}.'
        yield Problem(f"{field}.version", message, "unknown_version", node_id)
