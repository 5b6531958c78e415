"""Checks that templates and tests parse, and that what they refer to can exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dustrun.core.expression import ExpressionError, Reference, read_value
from dustrun.core.validate.words import problem, suggest
from dustrun.core.workflow import graph as graphs
from dustrun.core.workflow.condition import find_condition_errors, parse_condition
from dustrun.core.workflow.control import RESUMABLE
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.program import parse_test, split_payload, start_of_test
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Problem

ROOTS = frozenset(
    (
        "$trigger",
        "$nodes",
        "root",
        "$props",
        "$inputs",
        "$vars",
        "$item",
        "$index",
        "$parent_item",
        "$parent_index",
        "$for",
        "$workflow",
        "$run",
        "$now",
        "$env",
        "$workflowId",
    )
)
_LOOP_ROOTS = {"$item": 1, "$index": 1, "$parent_item": 2, "$parent_index": 2}
_NODE_FIELDS = frozenset({"result", "error", "status", "input"})
_RESUME_URL = re.compile(r"""\bresumeUrl\(\s*(?:'([^']*)'|"([^"]*)")\s*\)""")
Read = Callable[[], tuple[Iterable[ExpressionError], Iterable[Reference]]]


def check_templates(node_id: str, node: Node, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    spec = specs[node.type]
    templates, tests = split_payload(node)
    errors, references = read_value(templates, spec.raw_fields)
    for error in errors:
        yield _expression_problem(node_id, f"payload.{error.field}" if error.field else "payload", error)
    if not errors:
        for field, reference in references:
            yield from check_reference(node_id, f"payload.{field}", reference, graph, specs)
    yield from _check_connector(node_id, node, graph, specs)
    if tests:
        yield from _check_tests(node_id, node, graph, specs)
    yield from _check_links_to_waits(node_id, node, graph)


def _check_connector(node_id: str, node: Node, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    if node.connector is None or not node.connector.is_expression:
        return
    errors, references = read_value(node.connector.id)
    for error in errors:
        yield _expression_problem(node_id, "connector.id", error)
    for _, reference in references if not errors else ():
        yield from check_reference(node_id, "connector.id", reference, graph, specs)


def _check_tests(node_id: str, node: Node, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    in_body = node.type == "for-each"
    for field, read in _tests_of(node):
        errors, references = read()
        for error in errors:
            inner = getattr(error, "field", None)
            yield _expression_problem(node_id, f"{field}.{inner}" if inner else field, error)
        for reference in references:
            yield from check_reference(node_id, field, reference, graph, specs, in_body=in_body)


def _tests_of(node: Node) -> Iterator[tuple[str, Read]]:
    payload = node.payload
    if node.type == "if" and isinstance(payload.get("expression"), str):
        yield "payload.expression", _reader(payload["expression"])
    elif node.type == "if" and isinstance(payload.get("condition"), Mapping):
        yield "payload.condition", _condition_reader(payload["condition"])
    if node.type == "for-each":
        yield "payload.while", _reader(payload["while"])
        yield "payload.next", _value_reader(payload.get("next"))
    cases = payload.get("cases") if node.type == "switch" else None
    for position, case in enumerate(cases if isinstance(cases, list | tuple) else ()):
        if isinstance(case, Mapping) and isinstance(case.get("expression"), str):
            yield f"payload.cases[{position}].expression", _reader(case["expression"])


def _reader(text: str) -> Read:
    start = start_of_test(text)

    def read() -> tuple[Iterable[ExpressionError], Iterable[Reference]]:
        try:
            return (), [replace(one, span=_moved(one.span, start)) for one in parse_test(text).references]
        except ExpressionError as error:
            error.span = _moved(error.span, start)
            return (error,), ()

    return read


def _moved(span: tuple[int, int] | None, by: int) -> tuple[int, int] | None:
    return (span[0] + by, span[1] + by) if span is not None else None


def _within(reference: Reference, field: str) -> Reference:
    """A reference whose problem names the whole setting: its characters are those of a text inside of it."""
    return replace(reference, span=None) if field else reference


def _value_reader(value: Any) -> Read:
    def read() -> tuple[Iterable[ExpressionError], Iterable[Reference]]:
        errors, references = read_value(value)
        return (errors, ()) if errors else ((), [_within(one, field) for field, one in references])

    return read


def _condition_reader(condition: Any) -> Read:
    def read() -> tuple[Iterable[ExpressionError], Iterable[Reference]]:
        errors = find_condition_errors(condition)
        return (errors, ()) if errors else ((), [_within(one, "?") for one in parse_condition(condition).references])

    return read


def _expression_problem(node_id: str, field: str, error: ExpressionError) -> Problem:
    return replace(problem("expression_invalid", node_id, field, str(error)), span=error.span)


def check_reference(
    node_id: str, field: str, reference: Reference, graph: graphs.Graph, specs: Specs, *, in_body: bool = False
) -> Iterator[Problem]:
    """The problem of one reference of a node, as far as it can be known before the run. `in_body`: it is evaluated at
    the end of an iteration of this loop."""
    for found in _reference_problems(node_id, field, reference, graph, specs, in_body):
        yield replace(found, span=reference.span)


def _reference_problems(
    node_id: str, field: str, reference: Reference, graph: graphs.Graph, specs: Specs, in_body: bool
) -> Iterator[Problem]:
    around = (node_id, *graph.loops_around(node_id)) if in_body else graph.loops_around(node_id)
    body = graph.scopes[node_id].node_ids if in_body and node_id in graph.scopes else ()
    root, path = reference.root, reference.path
    where = f" (line {reference.line}, column {reference.column})"
    if root == "root" and "root" not in graph.nodes:
        return
    if root in _LOOP_ROOTS and len(around) < _LOOP_ROOTS[root]:
        message = f'"{root}" exists only inside {"a loop" if _LOOP_ROOTS[root] == 1 else "two loops"}{where}.'
        yield problem("reference_outside_loop", node_id, field, message)
    elif root == "$for" and path and path[0] not in around:
        hint = suggest(str(path[0]), around)
        yield problem(
            "reference_outside_loop", node_id, field, (f'There is no enclosing loop "{path[0]}"{where}.{hint}')
        )
    elif root == "$nodes":
        if path:
            target, inner = str(path[0]), path[1:]
            yield from _check_node_reference(node_id, field, target, inner, reference, graph, specs, body)
    elif root in graph.nodes and root != "root":
        yield from _check_node_reference(node_id, field, root, path, reference, graph, specs, body)
    elif root not in ROOTS and root != "root":
        message = f'"{root}" is neither a root nor a node{where}.{suggest(root, [*ROOTS, *graph.nodes])}'
        yield problem("unknown_root", node_id, field, message)


def _check_node_reference(
    node_id: str,
    field: str,
    target: str,
    path: tuple[str | int, ...],
    reference: Reference,
    graph: graphs.Graph,
    specs: Specs,
    body: Sequence[str] = (),
) -> Iterator[Problem]:
    where = f" (line {reference.line}, column {reference.column})"
    if target not in graph.nodes:
        yield problem(
            "unknown_node", node_id, field, f'There is no node "{target}"{where}.{suggest(target, graph.nodes)}'
        )
        return
    if target not in graph.ancestors(node_id) and target not in body:
        message = f'"{target}" cannot have run before "{node_id}"{where}. Make it an ancestor.'
        yield problem("reference_not_before", node_id, field, message)
        return
    if path and path[0] not in _NODE_FIELDS:
        message = f'A node has {", ".join(sorted(_NODE_FIELDS))}, not "{path[0]}"{where}.'
        yield problem("unknown_node_field", node_id, field, message)
        return
    spec = specs.get(graph.nodes[target].type)
    known = spec.result_fields if spec is not None else None
    if known and len(path) > 1 and path[0] == "result" and path[1] not in known and not reference.guarded:
        message = f'The result of "{target}" has no "{path[1]}"{where}.{suggest(str(path[1]), known)}'
        severity = "warning" if target in graph.triggers else "error"
        yield problem("unknown_result_field", node_id, field, message, severity)


def _check_links_to_waits(node_id: str, node: Node, graph: graphs.Graph) -> Iterator[Problem]:
    """Checks `$run.resumeUrl('x')` calls with a literal name."""
    for field, text in _texts("payload", node.payload):
        for match in _RESUME_URL.finditer(text) if "{{" in text or node.type in ("if", "switch") else ():
            target = match.group(1) if match.group(1) is not None else match.group(2)
            found = graph.nodes.get(target)
            waits = [name for name, other in graph.nodes.items() if other.type in RESUMABLE]
            if found is None or found.type not in RESUMABLE:
                message = f'resumeUrl: "{target}" is not a `wait` or `approve` node.{suggest(target, waits)}'
                yield problem("resume_url_unknown", node_id, field, message)
            elif not set(graph.loops_around(target)) <= set(graph.loops_around(node_id)):
                message = (
                    f'resumeUrl: "{target}" is in a loop that does not enclose this node; call it inside that loop.'
                )
                yield problem("resume_url_outside_loop", node_id, field, message)


def _texts(field: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(f"{field}.{key}", item)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _texts(f"{field}[{position}]", item)
