"""Which spends in the body of a loop can be known before its first item begins, so that they are judged together.

A spend is known if its inputs depend only on items, constants, variables, the trigger, and steps that have ended
before the loop. One behind a decision that rests on something else is decided about item by item. A loop that lets time
pass, or calls workflows, is not known at all: windows of limits move on meanwhile, and so does what is there to
spend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final

from dustrun.core.expression import Reference
from dustrun.core.workflow.control import RESUMABLE
from dustrun.core.workflow.graph import ERROR_BRANCH, Edge
from dustrun.core.workflow.program import TESTS_ONLY, Program, ProgramNode
from dustrun.records import dataclass

LOOP: Final = "for-each"
_KNOWN: Final = frozenset(
    {
        "$item",
        "$index",
        "$parent_item",
        "$parent_index",
        "$for",
        "$trigger",
        "root",
        "$props",
        "$inputs",
        "$run",
        "$workflow",
        "$workflowId",
        "$env",
    }
)
_TAKES_TIME: Final = frozenset({"delay", "call-workflow", *RESUMABLE})
_WRITES: Final = frozenset({"set-variable", "increment-variable"})
Begins = bool | None
"""Whether a node begins; None: it depends on what is not known yet."""


@dataclass(frozen=True, slots=True)
class LoopForecast:
    """The facts known of a loop's body. `spends` and `loops` are node ids, in the body and in loops within it;
    `deciders`: the `if` and `switch` nodes whose tests can be evaluated; `orders`: the nodes of each scope, parents
    first; `reads`: the steps before the loop that they read. `unknown`: the spends that are judged item by item, and
    why."""

    spends: frozenset[str] = frozenset()
    loops: frozenset[str] = frozenset()
    deciders: frozenset[str] = frozenset()
    orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reads: frozenset[str] = frozenset()
    reads_variables: bool = False
    unknown: Mapping[str, str] = field(default_factory=dict)


def forecast_loop(program: Program, loop_id: str) -> LoopForecast:
    """The facts about a loop that can be known before its first item begins."""
    body = [program.nodes[node_id] for node_id in _body(program, loop_id)]
    spends = [node.id for node in body if node.spec.effect == "spend"]
    why = _why_not_at_all(program.nodes[loop_id], body) if spends else None
    if not spends or why is not None:
        return LoopForecast(unknown=dict.fromkeys(spends, why or ""))
    return _Finder(program, loop_id, body).find(spends)


def _body(program: Program, loop_id: str) -> Iterator[str]:
    for node_id in program.graph.scopes[loop_id].node_ids:
        yield node_id
        if node_id in program.graph.scopes:
            yield from _body(program, node_id)


def _why_not_at_all(loop: ProgramNode, body: Iterable[ProgramNode]) -> str | None:
    if loop.repeat is not None:
        return "whether the loop goes on is known only after each item"
    for node in body:
        if node.node.type in _TAKES_TIME:
            return f'"{node.id}" lets time pass, or may spend too, between items'
        if node.node.rate is not None:
            return f'the rate of "{node.id}" lets time pass between items'
    return None


class _Finder:
    def __init__(self, program: Program, loop_id: str, body: Sequence[ProgramNode]) -> None:
        self._program = program
        self._loop_id = loop_id
        graph = program.graph
        self._before = graph.ancestors(loop_id) - {loop_id, *graph.loops_around(loop_id)}
        self._writes = any(node.node.type in _WRITES for node in body)
        self._reads: set[str] = set()
        self._reads_variables = False

    def find(self, spends: Iterable[str]) -> LoopForecast:
        """The forecast of a loop that may be known."""
        unknown: dict[str, str] = {}
        loops, deciders, orders = set[str](), set[str](), dict[str, tuple[str, ...]]()
        scopes = [self._loop_id]
        for scope in scopes:
            orders[scope] = _order(self._program, scope)
            for node_id in orders[scope]:
                node = self._program.nodes[node_id]
                if node.node.type == LOOP and node.repeat is None and self._why_unknown(node) is None:
                    loops.add(node_id)
                    scopes.append(node_id)
                elif node.node.type in TESTS_ONLY and self._why_unknown(node) is None:
                    deciders.add(node_id)
        known = set[str]()
        for node_id in spends:
            node = self._program.nodes[node_id]
            around = self._program.graph.scope_of[node_id]
            why = self._why_unknown(node) if around in orders else f'the items of "{around}" are not known before'
            if why is None:
                known.add(node_id)
            else:
                unknown[node_id] = why
        if not known:
            return LoopForecast(unknown=unknown)
        reads = frozenset(self._reads)
        return LoopForecast(
            frozenset(known),
            frozenset(loops),
            frozenset(deciders),
            orders,
            reads,
            self._reads_variables,
            unknown,
        )

    def _why_unknown(self, node: ProgramNode) -> str | None:
        return next((why for one in node.references if (why := self._why_not(one)) is not None), None)

    def _why_not(self, reference: Reference) -> str | None:
        """Why a reference cannot be evaluated before the first item; notes what it reads otherwise."""
        root = reference.root
        if root in _KNOWN:
            return None
        if root == "$vars":
            self._reads_variables = True
            return "a step of the loop writes variables" if self._writes else None
        if root == "$nodes":
            root = str(reference.path[0]) if reference.path else ""
        if root in self._program.graph.triggers or root == "root":
            return None
        if root not in self._before:
            return f'it depends on "{root}"' if root in self._program.nodes else f"it depends on {reference.root}"
        self._reads.add(root)
        return None


def _order(program: Program, scope: str) -> tuple[str, ...]:
    """The nodes of a scope, parents first."""
    graph, inside = program.graph, program.graph.scopes[scope]
    open_edges = {node_id: len(graph.edges_into.get(node_id, ())) for node_id in inside.node_ids}
    found = list(inside.entries)
    for node_id in found:
        for edge in graph.edges_from.get(node_id, ()):
            open_edges[edge.child] -= 1
            if open_edges[edge.child] == 0:
                found.append(edge.child)
    return tuple(found)


def begins(edges: Iterable[Edge], parents: Mapping[str, Begins], branches: Mapping[str, str]) -> Begins:
    """Whether a node begins, if what comes before it succeeds. `branches`: the ones that deciders take. A node without
    edges is where its scope begins."""
    taken = [_takes(edge, parents[edge.parent], branches) for edge in edges]
    if not taken or True in taken:
        return True
    return None if None in taken else False


def _takes(edge: Edge, parent: Begins, branches: Mapping[str, str]) -> Begins:
    if not parent or edge.label is None:
        return parent
    if edge.parent in branches:
        return branches[edge.parent] == edge.label
    return False if edge.label == ERROR_BRANCH else None
