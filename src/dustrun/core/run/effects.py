"""Folds what a run did, or would do, into one report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dustrun.core.run import assumptions, chain_effects
from dustrun.core.run.assumptions import References
from dustrun.core.run.journal import Execution
from dustrun.core.run.state import Mode, NodeStatus
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.specs import Specs

_NO_SPEND = "No node spends, so nothing was scaled: every node ran with its own values."
_NOT_SO_FAR = "Nothing was scaled: no spending node has run so far."


def fold(
    executions: Iterable[Execution], nodes: Mapping[str, Node], specs: Specs, mode: Mode, references: References
) -> dict[str, Any]:
    """The report of one run. `requests` are the write requests in start order; `sent` says whether one left the server.

    The chain part (`core/run/chain_effects.py`) is empty for a graph without spending nodes.
    """
    ordered = _in_order(executions)
    chain = chain_effects.fold(ordered)
    chain_warnings = chain.pop("warnings")
    report: dict[str, Any] = {
        "mode": mode.value,
        **chain,
        "requests": [_request(execution, nodes, mode) for execution in ordered if _is_write(execution)],
        "variableWrites": [_variable(execution, mode) for execution in ordered if _fact(execution, "variable")],
        "tableWrites": [_table(execution, mode) for execution in ordered if _fact(execution, "tableWrite")],
        "children": [_child(execution) for execution in ordered if _fact(execution, "child")],
        "assumed": assumptions.list_assumed(ordered, nodes, specs, references),
        "uncertain": [execution.path for execution in ordered if execution.status is NodeStatus.UNCERTAIN],
        "warnings": [*_warnings(ordered, mode), *chain_warnings],
    }
    if mode is Mode.DUST:
        spends = any((spec := specs.get(node.type)) is not None and spec.effect == "spend" for node in nodes.values())
        report["dust"] = _dust(ordered, _NOT_SO_FAR if spends else _NO_SPEND)
    return report


def transactions_of(executions: Iterable[Execution]) -> list[Mapping[str, Any]]:
    """The facts of the transactions that a report shows, in its order."""
    return [facts for _, facts in chain_effects.raw(_in_order(executions))]


def _in_order(executions: Iterable[Execution]) -> list[Execution]:
    return sorted(executions, key=_moment)


def _moment(execution: Execution) -> tuple[int, int, str, int]:
    """Sort key: of two that started in the same millisecond, the one that ended first comes first."""
    started = execution.started_at or 0
    return started, execution.finished_at or started, execution.path, execution.attempt


def _dust(executions: Iterable[Execution], note: str) -> dict[str, Any]:
    """What a dust run scaled: original amount, dust, price and price source; `note` when nothing was."""
    scaled = [
        {"nodeId": execution.node_id, "path": execution.path, **entry}
        for execution in executions
        for entry in _fact(execution, "dust") or ()
    ]
    return {"scaled": scaled} if scaled else {"scaled": [], "note": note}


def _fact(execution: Execution, name: str) -> Any:
    return execution.facts.get(name) if execution.facts is not None else None


def _variable(execution: Execution, mode: Mode) -> dict[str, Any]:
    """One variable write; in a simulation it went to an overlay that only this run sees."""
    return {
        "nodeId": execution.node_id,
        "path": execution.path,
        **_fact(execution, "variable"),
        "written": mode is not Mode.SIMULATE,
    }


def _table(execution: Execution, mode: Mode) -> dict[str, Any]:
    """One row change; in a simulation it went to an overlay that only this run sees."""
    return {
        "nodeId": execution.node_id,
        "path": execution.path,
        **_fact(execution, "tableWrite"),
        "written": mode is not Mode.SIMULATE,
    }


def _child(execution: Execution) -> dict[str, Any]:
    """A called run, which has a report of its own."""
    child = _fact(execution, "child")
    shown = {name: child[name] for name in ("runId", "workflowId", "mode")}
    return {"nodeId": execution.node_id, "path": execution.path, **shown, "status": execution.status.value}


def _is_write(execution: Execution) -> bool:
    return execution.facts is not None and "request" in execution.facts


def _request(execution: Execution, nodes: Mapping[str, Node], mode: Mode) -> dict[str, Any]:
    assert execution.facts is not None
    return {
        "nodeId": execution.node_id,
        "path": execution.path,
        "attempt": execution.attempt,
        "action": nodes[execution.node_id].type,
        "request": execution.facts["request"],
        "sent": bool(execution.facts.get("sent")) and mode is not Mode.SIMULATE,
        "status": execution.status.value,
    }


def _warnings(executions: Iterable[Execution], mode: Mode) -> list[dict[str, Any]]:
    warnings = []
    for execution in executions:
        if execution.assumed and execution.branch is not None:
            message = "A branch depends on an assumed value; pin a result to make the simulation meaningful."
            warnings.append(_warning("ASSUMED_BRANCH", execution, message))
        if mode is Mode.DUST and _is_write(execution) and execution.facts and execution.facts.get("sent"):
            message = "This request was sent unchanged: a dust run scales only amounts that are spent."
            warnings.append(_warning("DUST_UNSCALED_WRITE", execution, message))
    return warnings


def _warning(code: str, execution: Execution, message: str) -> dict[str, Any]:
    return {"code": code, "nodeId": execution.node_id, "path": execution.path, "message": message}
