"""Rules for control nodes: nesting of loops, awaited triggers, pinned branches, time limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from dustrun.core.text.wording import explain
from dustrun.core.validate.words import field_path, problem, suggest
from dustrun.core.workflow import graph as graphs
from dustrun.core.workflow.control import CONTROL, RESUMABLE
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Problem

MAX_NESTING = 10
_TIMED = frozenset({"call-workflow"})


def check_control(node_id: str, node: Node, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    """Checks nesting, awaited triggers, pinned branches and time limits."""
    if node.type == "for-each":
        yield from _check_loop(node_id, node, graph)
    if node.type == "wait":
        yield from _check_awaited(node_id, node, specs)
    if node.is_pinned and node.type in ("if", "switch"):
        labels = specs[node.type].branches
        offered = labels(node.payload) if labels is not None else ()
        branch = node.pinned.get("branch") if isinstance(node.pinned, Mapping) else None
        if branch not in offered:
            message = f'The pinned result needs a "branch", one of: {", ".join(offered)}.'
            yield problem("pinned_branch", node_id, "pinned", message)
    if node.timeout_ms is not None and node.type in CONTROL and node.type not in _TIMED:
        message = f'A "{node.type}" takes no time of its own, so timeoutMs has no effect here.'
        if node.type in RESUMABLE:
            message = f'A "{node.type}" takes its time limit from payload.timeoutMs.'
        yield problem("timeout_without_effect", node_id, "timeoutMs", message, "warning")


def _check_loop(node_id: str, node: Node, graph: graphs.Graph) -> Iterator[Problem]:
    if len(graph.loops_around(node_id)) >= MAX_NESTING:
        message = f'"{node_id}" would nest {MAX_NESTING + 1} loops; the limit is {MAX_NESTING}.'
        yield problem("loops_too_deep", node_id, "type", message)
    if not node.loop_body:
        message = "The loop has no body: list its first nodes in loopBody."
        yield problem("loop_body_missing", node_id, "loopBody", message, "warning")


def _check_awaited(node_id: str, node: Node, specs: Specs) -> Iterator[Problem]:
    kind = node.payload.get("triggerType")
    if not isinstance(kind, str) or "{{" in kind:
        return
    spec = specs.get(kind)
    if spec is None or spec.kind != "trigger" or kind != "manual":
        known = [name for name, found in specs.items() if found.kind == "trigger" and name == "manual"]
        message = f'A wait cannot wait for "{kind}", only for: {", ".join(known)}.{suggest(kind, known)}'
        yield problem("trigger_not_awaitable", node_id, "payload.triggerType", message)
        return
    config = node.payload.get("triggerConfig")
    try:
        spec.payload.model_validate(config if config is not None else {})
    except ValidationError as error:
        for found in error.errors(include_url=False):
            where = field_path(("triggerConfig", *found["loc"]))
            yield problem("payload_invalid", node_id, f"payload.{where}", explain(found["type"], found["msg"]))
