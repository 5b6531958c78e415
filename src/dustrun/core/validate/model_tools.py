"""Checks the tools of an `llm` node: each is an action that only computes or reads, with inputs that fit it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pydantic import ValidationError

from dustrun.core.text.wording import explain
from dustrun.core.validate.nodes import check_connector, field_names, holds_template, value_at
from dustrun.core.validate.words import field_path, problem, seen_location, suggest
from dustrun.core.workflow.definition import WALLET, Node
from dustrun.core.workflow.model_tools import LLM, MOST_TOOLS, ModelTool, raw_tools, tool_nodes
from dustrun.core.workflow.specs import NodeSpec, Specs
from dustrun.errors import Problem

READS: Final = frozenset({"pure", "read"})
_WRITTEN_OUT: Final = ("type", "name", "description", "hosts", "connector")


def check_model_tools(node_id: str, node: Node, specs: Specs) -> Iterator[Problem]:
    """The problems of one node's tools."""
    if node.type != LLM or node.payload.get("tools") is None:
        return
    if not isinstance(node.payload["tools"], list | tuple):
        yield _problem(node_id, "payload.tools", "Write the tools out: a list of objects with a `type` each.")
        return
    if len(node.payload["tools"]) > MOST_TOOLS:
        yield _problem(node_id, "payload.tools", f"A model may have at most {MOST_TOOLS} tools.")
        return
    yield from _check_names(node_id, node)
    for place, tool in tool_nodes(node):
        if not holds_template(tool.type):
            yield from _check_tool(node_id, place, tool, specs)
    yield from _check_hosts(node_id, node, specs)


def _check_names(node_id: str, node: Node) -> Iterator[Problem]:
    """Requires that what a run cannot decide is written out, and that no two tools share a name."""
    seen: set[str] = set()
    for place, one in raw_tools({"type": node.type, "payload": node.payload}):
        for field in _WRITTEN_OUT:
            if holds_template(one.get(field)):
                yield _problem(node_id, f"{place}.{field}", f"`{field}` cannot be an expression; write it out.")
        kind, name = one.get("type"), one.get("name")
        if isinstance(kind, str) and (name is None or isinstance(name, str)):
            called = ModelTool.model_construct(type=kind, name=name).called
            if called in seen:
                yield _problem(node_id, f"{place}.name", f'Two tools are called "{called}"; give one another `name`.')
            seen.add(called)


def _check_tool(node_id: str, place: str, tool: Node, specs: Specs) -> Iterator[Problem]:
    spec = specs.get(tool.type)
    if spec is None:
        message = f'There is no action "{tool.type}".{suggest(tool.type, specs)} See GET /v1/actions.'
        yield problem("unknown_type", node_id, f"{place}.type", message)
        return
    why = _refusal(spec)
    if why is not None:
        yield _problem(node_id, f"{place}.type", f'"{tool.type}" cannot be a tool: {why}.')
        return
    if tool.connector is not None and tool.connector.type == WALLET:
        yield _problem(node_id, f"{place}.connector", "A tool uses no wallet; let the model give the address.")
    else:
        for one in check_connector(node_id, tool, spec):
            yield replace(one, field=one.field.replace("connector", f"{place}.connector", 1))
    yield from _check_fixed(node_id, place, tool, spec)


def _refusal(spec: NodeSpec) -> str | None:
    """Why a node type cannot be a tool."""
    if spec.kind != "action":
        return "only actions can"
    if "." in spec.type:
        return "operations of imported documents are for nodes; give the model an `http-request`"
    if spec.type == LLM:
        return "a model may not ask a model, whose cost would be its own"
    if spec.effect not in READS and not spec.narrows:
        return "a model may only call what computes or reads, and this changes something outside"
    return None


def _check_fixed(node_id: str, place: str, tool: Node, spec: NodeSpec) -> Iterator[Problem]:
    """Checks the inputs that are fixed, as far as they are constant. What is missing, the model gives."""
    try:
        spec.payload.model_validate(tool.payload)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            kind, location = found["type"], found["loc"]
            is_given = bool(location) and location[0] in tool.payload
            if kind == "missing" or not is_given or holds_template(value_at(tool.payload, location)):
                continue
            where = field_path(seen_location(tool.payload, location, kind))
            message = explain(kind, found["msg"])
            if kind == "extra_forbidden":
                message += suggest(str(location[-1]), field_names(spec))
            yield _problem(node_id, f"{place}.payload.{where}".rstrip("."), message)


def _check_hosts(node_id: str, node: Node, specs: Specs) -> Iterator[Problem]:
    """A model chooses an address only on hosts that are named."""
    places = dict(raw_tools({"type": node.type, "payload": node.payload}))
    for place, tool in tool_nodes(node):
        spec = specs.get(tool.type)
        free = sorted(spec.url_fields - tool.payload.keys()) if spec is not None else ()
        if free and not places[place].get("hosts"):
            message = (
                f'Give "{free[0]}" in the tool\'s `payload`, or name in `hosts` where the model may choose it, like '
                '["https://api.example.com"].'
            )
            yield _problem(node_id, f"{place}.hosts", message)


def _problem(node_id: str, field: str, message: str) -> Problem:
    return problem("model_tool", node_id, field, message)
