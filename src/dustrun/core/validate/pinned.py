"""Checks pinned results: they stand for what the node would give, so they must look like it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel, ValidationError

from dustrun.core.text.wording import explain
from dustrun.core.validate.words import field_path, problem, suggest
from dustrun.core.workflow.control import RESULTS
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.specs import NodeSpec
from dustrun.errors import Problem

_MOST: Final = 10
_INTERPRETED: Final = ("if", "switch", "wait", "approve")
"""Control nodes that read their pinned value themselves: a branch, a decision, or the data of a resume."""
_DECISIONS: Final = ("timed_out", "approved", "rejected")


def check_pinned(node_id: str, node: Node, spec: NodeSpec) -> Iterator[Problem]:
    """Warns of a pinned result that the node could not have. What is missing is no problem: expressions that use it
    say so. No error, since a live run does not use it."""
    if not node.is_pinned or spec.kind == "trigger":
        return
    if node.type == "approve":
        yield from _check_decision(node_id, node)
    result = spec.result or RESULTS.get(node.type)
    if result is None or node.type in _INTERPRETED:
        return
    try:
        result.model_validate(node.pinned)
    except ValidationError as error:
        found = [one for one in error.errors(include_url=False, include_input=False) if one["type"] != "missing"]
        for one in found[:_MOST]:
            where = field_path(one["loc"])
            message = _explain(node, result, one["type"], one["msg"], where)
            yield problem("pinned_result", node_id, f"pinned.{where}".rstrip("."), message, "warning")


def _explain(node: Node, result: type[BaseModel], kind: str, message: str, where: str) -> str:
    names = [info.alias or name for name, info in result.model_fields.items()]
    if not where:
        return f'The result of "{node.type}" is an object with {", ".join(names)}; this one is not.'
    if kind == "extra_forbidden":
        return f'The result of "{node.type}" has no "{where}".{suggest(where, names)} It has {", ".join(names)}.'
    return f'The result of "{node.type}" could not be this: {explain(kind, message)}'


def _check_decision(node_id: str, node: Node) -> Iterator[Problem]:
    pinned = node.pinned
    decision = pinned.get("decision", pinned.get("branch")) if isinstance(pinned, Mapping) else pinned
    if decision not in _DECISIONS:
        message = f'The pinned result of an approve is one of {", ".join(_DECISIONS)}, or has it as "decision".'
        yield problem("pinned_result", node_id, "pinned", message, "warning")
