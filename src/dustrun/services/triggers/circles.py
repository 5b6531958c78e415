"""Workflows that start each other by their ends: such a chain must not lead back to itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dustrun.core.values.exact_json import loads
from dustrun.errors import Code, Invalid, Problem
from dustrun.services.access.principal import Principal
from dustrun.storage.db.statement import Tx
from dustrun.storage.triggers import subscriptions
from dustrun.storage.workflows import workflows
from dustrun.storage.workflows.workflows import WorkflowRow

TYPE = "workflow-finished"


def check(tx: Tx, principal: Principal, row: WorkflowRow, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `Invalid` if a `workflow-finished` trigger (`configs`: by node) waits for a workflow that is not there, or
    for one that the end of this one leads to."""
    problems: list[Problem] = []
    started = _started_by(tx, row)
    for node_id, config in configs.items():
        for index, workflow_id in enumerate(config["workflowIds"]):
            field = f"nodes.{node_id}.payload.workflowIds[{index}]"
            known = principal.may_use_workflow(workflow_id) and workflows.find(tx, row.org_id, workflow_id)
            if not known:
                problems.append(Problem(field, f'there is no workflow "{workflow_id}"', "unknown_workflow", node_id))
            elif workflow_id in started:
                message = f'the end of this workflow starts "{workflow_id}", so they would start each other for ever'
                problems.append(Problem(field, message, "trigger_circle", node_id))
    if problems:
        raise Invalid("The definition is invalid.", code=Code.DEFINITION_INVALID, details=problems)


def _started_by(tx: Tx, row: WorkflowRow) -> set[str]:
    """The workflow itself, and those that its end starts, directly or through others."""
    waits = [
        (sub.workflow_id, frozenset(loads(sub.config)["workflowIds"]))
        for sub in subscriptions.list_armed_of(tx, row.org_id, TYPE)
    ]
    found, open_ids = {row.id}, [row.id]
    while open_ids:
        ended = open_ids.pop()
        reached = {workflow_id for workflow_id, of in waits if ended in of} - found
        found |= reached
        open_ids += sorted(reached)
    return found
