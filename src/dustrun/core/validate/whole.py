"""check(definition, specs) → problems, each with code, node and field. Finds all of them, not just the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dustrun.core.expression import measure
from dustrun.core.validate.control import check_control
from dustrun.core.validate.links import check_branches, check_links, check_scopes, check_triggers
from dustrun.core.validate.model_tools import check_model_tools
from dustrun.core.validate.nodes import check_nodes
from dustrun.core.validate.references import check_templates
from dustrun.core.validate.spend_sources import check_sources
from dustrun.core.validate.variables import check_variable_node, check_variables
from dustrun.core.validate.words import problem
from dustrun.core.workflow import graph as graphs
from dustrun.core.workflow import variables
from dustrun.core.workflow.definition import Definition, Node
from dustrun.core.workflow.program import split_payload
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Problem

MAX_PROBLEMS = 100
MAX_EXPRESSIONS = 131_072
"""Characters of all expressions of a definition, without plain paths. Compiling them takes up to three seconds."""


def check(definition: Definition, specs: Specs) -> list[Problem]:
    """The problems of a definition; one without any of severity `error` can run.

    Finds all of them, but stops at `MAX_PROBLEMS` once the definition cannot run.
    """
    found: list[Problem] = []
    broken = False
    for one in _find(definition, specs):
        found.append(one)
        broken = broken or one.severity == "error"
        if broken and len(found) >= MAX_PROBLEMS:
            break
    return found


def _find(definition: Definition, specs: Specs) -> Iterator[Problem]:
    """Yields problem by problem, so that a caller that has enough does not pay for the rest."""
    work = sum(map(_expression_work, definition.nodes.values()))
    if work > MAX_EXPRESSIONS:
        message = f"The expressions of all nodes have {work} characters; the limit is {MAX_EXPRESSIONS}."
        yield Problem("nodes", message, "expressions_too_large")
        return
    yield from check_triggers(definition, specs)
    yield from check_nodes(definition, specs)
    for node_id, node in definition.nodes.items():
        yield from check_model_tools(node_id, node, specs)
    is_whole = True
    for one in check_links(definition):
        is_whole = is_whole and one.code != "unknown_child"
        yield one
    yield from check_variables(definition)
    cycle = graphs.find_cycle(definition.nodes)
    if cycle:
        message = f"The nodes form a cycle: {' → '.join(cycle)}. Remove one of these links."
        yield problem("cycle", cycle[0], "children", message)
        return
    for one in check_scopes(definition):
        is_whole = is_whole and one.code != "two_scopes"
        yield one
    if is_whole:
        yield from _check_graph(definition, graphs.build(definition, specs), specs)


def _expression_work(node: Node) -> int:
    templates, tests = split_payload(node)
    connector = measure(node.connector.id) if node.connector is not None else 0
    return measure(templates) + connector + sum(len(text) for text in _texts(tests))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _check_graph(definition: Definition, graph: graphs.Graph, specs: Specs) -> Iterator[Problem]:
    """Checks that are possible only when the links are valid."""
    yield from check_branches(definition, graph, specs)
    declared = variables.declared(definition)
    for node_id, node in definition.nodes.items():
        yield from check_control(node_id, node, graph, specs)
        if node.type in specs:
            yield from check_templates(node_id, node, graph, specs)
            yield from check_variable_node(node_id, node, declared)
    yield from check_sources(definition, specs)
