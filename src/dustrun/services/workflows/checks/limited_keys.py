"""Limits of what a key of some workflows may write into them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import UNBOUND
from dustrun.core.workflow.model_tools import raw_tools
from dustrun.errors import Forbidden, Invalid, Problem
from dustrun.services.access.principal import Principal
from dustrun.storage.data import connectors, managed_tables
from dustrun.storage.db.statement import Tx


def need_calls_within(principal: Principal, definition: str) -> None:
    """Raises `Forbidden` for a definition (JSON) that calls a workflow beyond the key's limits, or one that only the
    run will name: what is published runs without the key.
    """
    reach = principal.workflow_ids
    if reach is None:
        return
    for node_id, node in _nodes_of(definition):
        called = node.get("payload", {}).get("workflowId")
        if node["type"] == "call-workflow" and called not in reach:
            raise Forbidden(
                f'The key is limited to some workflows (workflowIds); it cannot publish the node "{node_id}", which '
                f'calls "{called}". Name a workflow within its limits, or publish with another key.'
            )


def need_objects_within(tx: Tx, principal: Principal, old: str, new: str) -> None:
    """Raises `Invalid` where a new definition (JSON) takes up a connector or table that workflows beyond the key's
    limits use: to the key these are not there. What the workflow used before may stay.
    """
    if principal.workflow_ids is None:
        return
    before = {(kind, name) for kind, name, _, _ in _objects_of(old)}
    problems = [
        Problem(field, f'there is no {kind} "{name}"', f"unknown_{kind}", node_id)
        for kind, name, field, node_id in _objects_of(new)
        if (kind, name) not in before and _is_of_others(tx, principal, kind, name)
    ]
    if problems:
        raise Invalid("The request body is not valid.", details=problems)


def need_connectors_within(principal: Principal, definition: str) -> None:
    """Raises `Invalid` for a definition (JSON) that names a connector beyond the key's limits, also one that was there
    before: who writes around it, or has triggers fire in their name, uses it."""
    problems = [
        Problem(field, f'there is no connector "{name}"', "unknown_connector", node_id)
        for kind, name, field, node_id in (() if principal.connector_ids is None else _objects_of(definition))
        if kind == "connector" and not name.startswith(UNBOUND) and not principal.may_use_connector(name)
    ]
    if problems:
        raise Invalid("The definition names connectors that the key cannot access.", details=problems)


def _objects_of(definition: str) -> Iterator[tuple[str, str, str, str]]:
    """Kind, name, field and node of every connector and table that a definition names."""
    for node_id, node in _nodes_of(definition):
        own = f"definition.nodes.{node_id}"
        for place, part in ((own, node), *((f"{own}.{at}", tool) for at, tool in raw_tools(node))):
            connector, table = part.get("connector"), (part.get("payload") or {}).get("table")
            if isinstance(connector, dict) and connector.get("type") != "wallet":
                yield "connector", str(connector.get("id")), f"{place}.connector.id", node_id
            if part.get("type") in ("read-table", "write-table", "table-row") and isinstance(table, str):
                yield "table", table, f"{place}.payload.table", node_id


def _is_of_others(tx: Tx, principal: Principal, kind: str, name: str) -> bool:
    own = principal.workflow_ids or frozenset()
    if kind == "connector":
        return connectors.is_used_by_others(tx, principal.org_id, name, own)
    found = managed_tables.find(tx, principal.org_id, name)
    return found is not None and managed_tables.is_used_by_others(tx, principal.org_id, found.id, own)


def _nodes_of(definition: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from exact_json.loads(definition)["nodes"].items()
