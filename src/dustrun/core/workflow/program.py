"""A workflow version compiled once for the engine: graph, parsed templates, node specs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from dustrun.core.expression import (
    CompiledValue,
    Reference,
    Template,
    compile_value,
    parse_expression,
    parse_template,
)
from dustrun.core.workflow import graph as graphs
from dustrun.core.workflow.condition import Condition, parse_condition
from dustrun.core.workflow.definition import WALLET, ConnectorReference, Definition, Node
from dustrun.core.workflow.model_tools import with_tools
from dustrun.core.workflow.specs import NodeSpec, Specs
from dustrun.records import dataclass

TESTS_ONLY = frozenset({"if", "switch"})
"""Node types whose payload is tests."""
_REPEATED = frozenset({"while", "next"})
_NOTHING: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Repeat:
    """The part of a `while` loop's payload that is evaluated at the end of each iteration, inside it. `source` is that
    part as written."""

    test: Template
    following: CompiledValue
    source: Mapping[str, Any]

    @property
    def references(self) -> list[tuple[str, Reference]]:
        """(field, reference) of everything that it refers to."""
        tested = [("while", reference) for reference in self.test.references]
        return [*tested, *(("next", reference) for _, reference in self.following.references)]

    @property
    def reads_variables(self) -> bool:
        """Whether it refers to `$vars`, which must be loaded before."""
        return any(reference.root == "$vars" for _, reference in self.references)


@dataclass(frozen=True, slots=True)
class ProgramNode:
    """One compiled node. `choices` are the named tests of an `if` or `switch`, in order. `reads_variables`: it refers
    to `$vars`, which must be loaded before it starts. `wallet`: the expression that names its wallet.
    """

    id: str
    node: Node
    spec: NodeSpec
    payload: CompiledValue
    choices: tuple[tuple[str, Condition | Template], ...] = ()
    fallback: str | None = None
    reads_variables: bool = False
    repeat: Repeat | None = None
    wallet: Template | None = None

    @property
    def references(self) -> list[Reference]:
        """All that its payload, its tests and the expression of its wallet refer to."""
        tested = [reference for _, test in self.choices for reference in test.references]
        chosen = self.wallet.references if self.wallet is not None else ()
        return [*(reference for _, reference in self.payload.references), *tested, *chosen]


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled definition. `wallets`: the wallets that its spending nodes can use; None is the organisation's default
    wallet, `ANY_WALLET` each of them. `calls`: whether a node calls another workflow. `connectors`: those that its
    nodes and the tools of their models name, by id, without wallets.
    """

    definition: Definition
    graph: graphs.Graph
    nodes: Mapping[str, ProgramNode]
    wallets: frozenset[str | None] = frozenset()
    calls: bool = False
    connectors: Mapping[str, ConnectorReference] = field(default_factory=dict)


def compile_program(definition: Definition, specs: Specs) -> Program:
    """Compiles a definition in which `validate.check` found no error."""
    graph = graphs.build(definition, specs)
    nodes = {node_id: _compile_node(node_id, node, specs[node.type]) for node_id, node in definition.nodes.items()}
    calls = any(node.type == "call-workflow" for node in definition.nodes.values())
    return Program(definition, graph, nodes, _wallets_of(nodes.values()), calls, _connectors_of(definition))


def _connectors_of(definition: Definition) -> dict[str, ConnectorReference]:
    named = (node.connector for node in with_tools(definition.nodes.values()))
    return {one.id: one for one in named if one is not None and one.type != WALLET}


def _wallets_of(nodes: Iterable[ProgramNode]) -> frozenset[str | None]:
    spending = [node.node for node in nodes if node.spec.effect == "spend"]
    named = [node.connector.wallets if node.connector is not None else (None,) for node in spending]
    return frozenset(wallet for wallets in named for wallet in wallets)


def _compile_node(node_id: str, node: Node, spec: NodeSpec) -> ProgramNode:
    templates, tests = split_payload(node)
    payload = compile_value(templates, spec.raw_fields)
    choices, fallback = choices_of(node)
    repeat = _repeat(tests) if node.type == "for-each" and tests else None
    connector = node.connector
    wallet = parse_template(connector.id) if connector is not None and connector.is_expression else None
    compiled = ProgramNode(node_id, node, spec, payload, choices, fallback, repeat=repeat, wallet=wallet)
    reads_variables = node.type == "get-variable" or any(one.root == "$vars" for one in compiled.references)
    return replace(compiled, reads_variables=reads_variables)


def _repeat(tests: Mapping[str, Any]) -> Repeat:
    return Repeat(parse_test(tests["while"]), compile_value(tests.get("next")), tests)


def split_payload(node: Node) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Splits a payload into the part with templates and the part with tests, which have a syntax of their own."""
    if node.type in TESTS_ONLY:
        return _NOTHING, node.payload
    if node.type == "for-each" and isinstance(node.payload.get("while"), str):
        tests = {name: value for name, value in node.payload.items() if name in _REPEATED}
        return {name: value for name, value in node.payload.items() if name not in _REPEATED}, tests
    return node.payload, _NOTHING


def choices_of(node: Node) -> tuple[tuple[tuple[str, Condition | Template], ...], str | None]:
    """The named tests of an `if` or `switch`, in order, and the branch when none holds."""
    if node.type == "if":
        payload = node.payload
        if payload.get("expression") is not None:
            return (("then", parse_test(payload["expression"])),), "else"
        return (("then", parse_condition(payload.get("condition"))),), "else"
    if node.type == "switch":
        cases = tuple((case["name"], parse_test(case["expression"])) for case in node.payload.get("cases", ()))
        return cases, "default"
    return (), None


def start_of_test(text: str) -> int:
    """Where the expression of a test begins in its text."""
    start = len(text) - len(text.lstrip())
    stripped = text.strip()
    return start + 2 if stripped.startswith("{{") and stripped.endswith("}}") else start


def parse_test(text: str) -> Template:
    """Parses a test written as a bare expression, or as one whole template."""
    stripped = text.strip()
    if stripped.startswith("{{") and stripped.endswith("}}"):
        stripped = stripped[2:-2]
    return parse_expression(stripped)
