"""Finds triggers whose runs may spend nothing under `enforceRehearsal`: no simulation had their payloads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Problem
from dustrun.services.workflows.calls import CALL
from dustrun.services.workflows.closure import Closures, Lookup, call_of, spends, version_called
from dustrun.storage.workflows.workflows import WorkflowRow


def find_problems(
    lookup: Lookup,
    closures: Closures,
    definition: Definition,
    row: WorkflowRow,
    triggers: Mapping[str, Any],
    specs: Specs,
) -> Iterator[Problem]:
    """Yields a warning for every trigger of a guarded workflow that fires by itself, live, if the workflow can spend.
    No refusal: who knows the next payload can simulate it before."""
    if row.enforce_rehearsal is None or not _can_spend(lookup, closures, definition, specs):
        return
    for node_id in definition.trigger_node_ids:
        node = definition.nodes.get(node_id)
        trigger = triggers.get(node.type) if node is not None else None
        if node is None or trigger is None or not trigger.is_armed or node.payload.get("mode") == "simulate":
            continue
        message = (
            f'enforceRehearsal refuses all spends of runs that "{node.type}" starts: each has a payload of its own, '
            "with which nothing was simulated. Remove enforceRehearsal (requireRehearsal may stay), or set its "
            "`mode` to `simulate`."
        )
        yield Problem(f"nodes.{node_id}.type", message, "spends_never_rehearsed", node_id, "warning")


def _can_spend(lookup: Lookup, closures: Closures, definition: Definition, specs: Specs) -> bool:
    return any(
        spends({"type": node.type}, specs) or (node.type == CALL and _reaches_spend(lookup, closures, node.payload))
        for node in definition.nodes.values()
    )


def _reaches_spend(lookup: Lookup, closures: Closures, payload: Mapping[str, Any]) -> bool:
    called = call_of({"payload": payload})
    if called is None:
        return True  # it computes what it calls
    row = lookup.find(called[0])
    closure = closures.resolve(lookup, row, called[1] or version_called(row)) if row is not None else None
    return closure is not None and closure.can_spend
