"""The assumed values of a run, their origin, and why a rehearsal did not pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dustrun.core.run.journal import ReportedExecution, decides
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.program import Program
from dustrun.core.workflow.specs import Specs

Json = dict[str, Any]
References = Mapping[str, Sequence[str]]
_SKIPPED_OVER = (NodeStatus.FAILURE, NodeStatus.PARTIAL, NodeStatus.UNCERTAIN, NodeStatus.CANCELLED)


def references_of(program: Program) -> dict[str, list[str]]:
    """The nodes that each node's payload and conditions refer to."""
    found: dict[str, list[str]] = {}
    for node_id, node in program.nodes.items():
        repeated = [reference for _, reference in node.repeat.references] if node.repeat is not None else []
        named = [_node_of(one.root, one.path) for one in (*node.references, *repeated)]
        found[node_id] = sorted({name for name in named if name is not None and name in program.nodes})
    return found


def _node_of(root: str, path: Sequence[Any]) -> str | None:
    if root == "$nodes":
        return str(path[0]) if path else None
    return root


def list_assumed(
    executions: Iterable[ReportedExecution], nodes: Mapping[str, Node], specs: Specs, references: References
) -> list[Json]:
    """Every result that rests on an assumed value: `source` says where it came from, `dependsOn` through which nodes,
    `decides` what important part depends on it, so that the simulation does not pass.
    """
    ordered = [execution for execution in executions if execution.assumed]
    assumed = {execution.node_id for execution in ordered}
    return [
        _assumed(one, nodes, specs, [n for n in references.get(one.node_id, ()) if n in assumed]) for one in ordered
    ]


def _assumed(execution: ReportedExecution, nodes: Mapping[str, Node], specs: Specs, depends_on: list[str]) -> Json:
    source, why = _source(execution, nodes[execution.node_id], specs)
    shown: Json = {**execution.place, "source": source, "why": why}
    return shown | {"dependsOn": depends_on, "decides": decides(execution)}


def _source(execution: ReportedExecution, node: Node, specs: Specs) -> tuple[str, str]:
    facts, spec = execution.facts or {}, specs.get(node.type)
    if "child" in facts:
        return "child", "the called run rests on assumed values, or did not pass"
    if "request" in facts and spec is not None and not node.is_pinned:
        return "example", "not sent: the result is the action's example"
    if node.type in ("wait", "approve") and execution.branch is not None:
        return "example", "nobody answers a simulation: it continued with an example"
    if "assumedEnd" in facts:
        return "branch", "whether the loop goes on depends on an assumed value; it ended here"
    if execution.branch is not None:
        return "branch", "the taken branch depends on an assumed value"
    if "assumedInput" in facts:
        return "input", "what it spends depends on an assumed value"
    if spec is not None and spec.effect == "spend":
        return "signature", "a simulation does not sign: a placeholder replaces the signature"
    return "input", "depends on an assumed value"


def why_not_passed(
    path: str, status: str, executions: Iterable[ReportedExecution], assumed: Iterable[Mapping[str, Any]]
) -> list[Json]:
    """Why one finished rehearsal did not pass; `path` is that of its call, empty for the reported run."""
    reasons: list[Json] = []
    if status != RunStatus.SUCCESS.value:
        which = "The called run" if path else "The run"
        reasons.append({"code": "RUN_STATUS", "path": path or None, "message": f'{which} ended as "{status}".'})
        newest = {execution.path: execution for execution in executions}
        reasons += [_failed(one) for one in newest.values() if one.status in _SKIPPED_OVER and one.error is not None]
    reasons += [_hangs(one) for one in assumed if one["decides"]]
    return reasons


def _failed(execution: ReportedExecution) -> Json:
    error = execution.error or {}
    message = f"{error.get('code')}: {error.get('message')}"
    return {"code": "NODE_FAILED", "path": execution.path, "message": message}


def _hangs(one: Mapping[str, Any]) -> Json:
    names = ", ".join(f'"{name}"' for name in one["dependsOn"])
    mend = f" Pin a result of {names}." if names else " Pin its result."
    return {"code": "ASSUMED", "path": one["path"], "message": f"{one['why'][0].upper()}{one['why'][1:]}.{mend}"}
