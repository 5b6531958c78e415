"""Warns where a model, or a tool of somebody else's server, decides a spend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dustrun.core.expression import Reference, read_value
from dustrun.core.validate.words import problem
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.graph import Graph
from dustrun.core.workflow.program import split_payload
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Problem

CODE: Final = "MODEL_DECIDES_SPEND"
SOURCES: Final = frozenset({"llm", "mcp-tool"})
_OF_LOOPS: Final = frozenset({"$item", "$index", "$parent_item", "$parent_index", "$for"})
_VARIABLES: Final = "$vars"


def check_models(graph: Graph, specs: Specs) -> Iterator[Problem]:
    """One warning for each field of a spend that hangs on what a model said, also through nodes between them."""
    if not any(node.type in SOURCES for node in graph.nodes.values()):
        return
    read = {name: list(_references(node, specs)) for name, node in graph.nodes.items()}
    decided = _decided(graph, read)
    for name, node in graph.nodes.items():
        spec = specs.get(node.type)
        if spec is None or spec.effect != "spend":
            continue
        for field, reference in read[name]:
            source = next((one for one in _read_from(name, reference, graph, decided) if one in decided), None)
            if source is not None:
                message = (
                    f'"{field}" hangs on "{decided[source]}": what it says may be wrong, or written by others. Limit '
                    "it by the wallet's policy, or ask a person with `approve` before."
                )
                yield problem(CODE, name, field, message, "warning")


def _references(node: Node, specs: Specs) -> Iterator[tuple[str, Reference]]:
    spec = specs.get(node.type)
    templates, _ = split_payload(node)
    errors, found = read_value(templates, spec.raw_fields if spec is not None else frozenset())
    if not errors:
        yield from ((f"payload.{field}", reference) for field, reference in found)
    if node.connector is not None and node.connector.is_expression:
        errors, found = read_value(node.connector.id)
        if not errors:
            yield from (("connector.id", reference) for _, reference in found)


def _decided(graph: Graph, read: Mapping[str, list[tuple[str, Reference]]]) -> dict[str, str]:
    """The nodes whose results hang on a model, each with that model's node."""
    decided = {name: name for name, node in graph.nodes.items() if node.type in SOURCES}
    while True:
        fresh = {
            name: decided[source]
            for name, references in read.items()
            if name not in decided
            for _, reference in references
            for source in _read_from(name, reference, graph, decided)
            if source in decided
        }
        if not fresh:
            return decided
        decided |= fresh


def _read_from(name: str, reference: Reference, graph: Graph, decided: Mapping[str, str]) -> Iterator[str]:
    """The nodes that a reference reads: what it names, the loops around, or whoever set a variable."""
    if reference.root == "$nodes":
        yield from (str(reference.path[0]),) if reference.path else decided
    elif reference.root in _OF_LOOPS:
        yield from graph.loops_around(name)
    elif reference.root == _VARIABLES:
        yield from (one for one in decided if graph.nodes[one].type == "set-variable")
    else:
        yield reference.root
