"""Checks one node by itself: its type, its connector, and the constant part of its payload."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dustrun.core.text.wording import explain
from dustrun.core.validate.words import field_path, has, problem, seen_location, suggest
from dustrun.core.workflow.control import RESULTS
from dustrun.core.workflow.definition import UNBOUND, WALLET, ConnectorReference, Definition, Node
from dustrun.core.workflow.program import TESTS_ONLY
from dustrun.core.workflow.specs import NodeSpec, Specs, api_of, comparable
from dustrun.errors import Problem
from dustrun.log import NAMES_OF_SECRETS

# Warns of secrets in the headers of a definition, which everybody who may read the workflow sees.


_OF_HEADERS: Final = "auth|authorisation|token|passwd|(auth|access|session|subscription)-key"
_SECRET: Final = re.compile(f"(^|-)({NAMES_OF_SECRETS}|{_OF_HEADERS})$", re.I)
_NO_SECRET: Final = frozenset({"x-csrf-token", "x-xsrf-token"})


def check_headers(node_id: str, node: Node, spec: NodeSpec) -> Iterator[Problem]:
    """A warning for each constant header that looks like a credential, where a connector could hold it."""
    headers = node.payload.get("headers")
    if not spec.connectors or not isinstance(headers, Mapping):
        return
    for name, value in headers.items():
        if isinstance(value, str) and value and _looks_secret(str(name)) and _is_constant(spec, value):
            message = (
                f'The header "{str(name)[:100]}" is part of the definition, which everybody with workflow:read sees. '
                f"Keep its secret in a connector, and name that in the node's `connector`: types {_types(spec)}."
            )
            yield problem("secret_in_header", node_id, f"payload.headers.{name}", message, "warning")


def _looks_secret(name: str) -> bool:
    return _SECRET.search(name) is not None and name.lower() not in _NO_SECRET


def _is_constant(spec: NodeSpec, value: str) -> bool:
    """Whether it is sent as it is written; a trigger resolves no templates."""
    return spec.kind == "trigger" or "{{" not in value


def _types(spec: NodeSpec) -> str:
    first = [name for name in spec.connectors if name.startswith("http-")] or list(spec.connectors)
    return ", ".join(first)


# Checks pinned results: they stand for what the node would give, so they must look like it.


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


def check_nodes(definition: Definition, specs: Specs) -> Iterator[Problem]:
    for node_id, node in definition.nodes.items():
        yield from _check_bound(node_id, node)
        spec = specs.get(node.type)
        if spec is None:
            where = "/v1/actions" if api_of(node.type) is None else "/v1/catalog/operations"
            hint = suggest(node.type, comparable(node.type, specs))
            message = f'There is no node type "{node.type}".{hint} See GET {where}.'
            yield problem("unknown_type", node_id, "type", message)
            continue
        if spec.kind == "trigger" and node_id not in definition.trigger_node_ids:
            message = f'"{node_id}" is a trigger; add it to triggerNodeIds or change its type.'
            yield problem("trigger_not_named", node_id, "type", message)
        if spec.kind == "trigger" and node.rate is not None:
            message = "A trigger begins once in a run, so a rate has no effect here."
            yield problem("rate_without_effect", node_id, "rate", message, "warning")
        yield from check_connector(node_id, node, spec)
        yield from check_headers(node_id, node, spec)
        yield from _check_payload(node_id, node, spec)
        yield from check_pinned(node_id, node, spec)


def _check_bound(node_id: str, node: Node) -> Iterator[Problem]:
    """Reports import placeholders that are not bound yet."""
    if node.connector is not None:
        places = [
            ("id", node.connector.id),
            *((f"oneOf[{i}]", one) for i, one in enumerate(node.connector.one_of or ())),
        ]
        yield from (_unbound(node_id, f"connector.{name}", one) for name, one in places if one.startswith(UNBOUND))
    stack: list[tuple[str, Any]] = [("payload", node.payload)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, str):
            if value.startswith(UNBOUND):
                yield _unbound(node_id, path, value)
        elif isinstance(value, dict):
            stack.extend((f"{path}.{key}", item) for key, item in value.items())
        elif isinstance(value, list | tuple):
            stack.extend((f"{path}[{index}]", item) for index, item in enumerate(value))


def _unbound(node_id: str, field: str, value: str) -> Problem:
    name = value.removeprefix(UNBOUND)[:100]
    return problem(
        "unbound", node_id, field, (f'"{name}" is a placeholder of an import and is not bound yet; put its value here.')
    )


def check_connector(node_id: str, node: Node, spec: NodeSpec) -> Iterator[Problem]:
    given = node.connector.type if node.connector is not None else None
    if node.connector is not None:
        yield from _check_expression(node_id, node.connector)
    if given == WALLET and spec.kind != "trigger":
        return  # whether an action takes a wallet is checked elsewhere
    takes = ", ".join(f'"{name}"' for name in spec.connectors)
    if given is None and spec.connector_required:
        yield problem("connector_missing", node_id, "connector", f"This action needs a connector of type {takes}.")
    elif given is None and spec.connector_instead_of and node.payload.get(spec.connector_instead_of) is None:
        message = f"This action needs a connector of type {takes}, or payload.{spec.connector_instead_of}."
        yield problem("connector_missing", node_id, "connector", message)
    elif given is not None and spec.connectors and given not in spec.connectors:
        kind = "trigger" if spec.kind == "trigger" else "action"
        message = f'This {kind} takes no connector of type "{given}", only {takes}.{suggest(given, spec.connectors)}'
        yield problem("connector_type", node_id, "connector.type", message)
    elif given is not None and not spec.connectors:
        message = f'A node of type "{node.type}" uses no connector; remove it.'
        yield problem("connector_unused", node_id, "connector", message, "warning")


def _check_expression(node_id: str, connector: ConnectorReference) -> Iterator[Problem]:
    if connector.is_expression and connector.type != WALLET:
        message = "Only a wallet may be named by an expression; put the id of a connector here."
        yield problem("connector_expression", node_id, "connector.id", message)
    elif connector.one_of is not None and not connector.is_expression:
        message = "oneOf limits the wallets that an expression in `id` may give; this id is none. Remove oneOf."
        yield problem("connector_expression", node_id, "connector.oneOf", message)


def _check_payload(node_id: str, node: Node, spec: NodeSpec) -> Iterator[Problem]:
    """Checks what is constant: fields with a template are checked when it is resolved. Tests of `if` and `switch`, and
    settings of triggers, are parsed as they are, never resolved.
    """
    is_resolved = spec.kind != "trigger" and node.type not in TESTS_ONLY
    try:
        spec.payload.model_validate(node.payload)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            kind, location = found["type"], found["loc"]
            if is_resolved and kind != "extra_forbidden" and holds_template(value_at(node.payload, location)):
                continue
            where = field_path(seen_location(node.payload, location, kind))
            message = explain(kind, found["msg"])
            if kind == "extra_forbidden":
                message += suggest(str(location[-1]), field_names(spec))
            yield problem("payload_invalid", node_id, f"payload.{where}" if where else "payload", message)


def field_names(spec: NodeSpec) -> list[str]:
    return [info.alias or name for name, info in spec.payload.model_fields.items()]


def value_at(value: Any, location: Iterable[int | str]) -> Any:
    for part in location:
        if not has(value, part):
            return value if isinstance(value, str) else None
        value = value[part]
    return value


def holds_template(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value
    if isinstance(value, Mapping):
        return any(holds_template(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(holds_template(item) for item in value)
    return False
