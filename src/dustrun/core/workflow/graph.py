"""Builds the graph of a definition: scopes (the top and each loop's body), edges with branch labels, order,
ancestors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field

from dustrun.core.workflow.definition import Definition, Node
from dustrun.core.workflow.specs import Specs
from dustrun.records import dataclass

ERROR_BRANCH = "error"
TOP = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge from parent to child. `label` is the branch that the parent must take, None for any success."""

    parent: str
    child: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Scope:
    """One level of the graph: the top, or the body of the loop named `loop`."""

    loop: str
    node_ids: tuple[str, ...]
    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """A valid definition's graph. `scope_of` maps a node to its loop (`TOP` outside of loops)."""

    nodes: Mapping[str, Node]
    triggers: tuple[str, ...]
    scopes: Mapping[str, Scope]
    scope_of: Mapping[str, str]
    edges_from: Mapping[str, tuple[Edge, ...]]
    edges_into: Mapping[str, tuple[Edge, ...]]
    _ancestors: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def ancestors(self, node_id: str) -> frozenset[str]:
        """Every node that has run or been skipped before this one: in its scope and around its loops."""
        found = self._ancestors.get(node_id)
        return found if found is not None else self._collect_ancestors(node_id)

    def _collect_ancestors(self, node_id: str) -> frozenset[str]:
        """Computes and caches ancestors bottom-up; iterative, because chains may be long."""
        known = self._ancestors
        stack = [node_id]
        while stack:
            current = stack[-1]
            before = self._directly_before(current) if current not in known else []
            unknown = [name for name in before if name not in known]
            if unknown:
                stack.extend(unknown)
                continue
            stack.pop()
            if current not in known:
                known[current] = frozenset(before).union(*(known[name] for name in before))
        return known[node_id]

    def _directly_before(self, node_id: str) -> list[str]:
        loop = self.scope_of.get(node_id, TOP)
        parents = [edge.parent for edge in self.edges_into.get(node_id, ())]
        return [*parents, loop] if loop else parents

    def loops_around(self, node_id: str) -> tuple[str, ...]:
        """The enclosing loops of a node, innermost first."""
        loops = []
        loop = self.scope_of.get(node_id, TOP)
        while loop:
            loops.append(loop)
            loop = self.scope_of.get(loop, TOP)
        return tuple(loops)


def reachable(nodes: Mapping[str, Node], starts: Iterable[str]) -> list[str]:
    """The existing nodes reachable from `starts` through `children`, in breadth-first order."""
    seen: dict[str, None] = dict.fromkeys(start for start in starts if start in nodes)
    queue = list(seen)
    for node_id in queue:
        for child in nodes[node_id].children:
            if child in nodes and child not in seen:
                seen[child] = None
                queue.append(child)
    return queue


def find_scopes(definition: Definition) -> tuple[dict[str, Scope], dict[str, list[str]]]:
    """Every scope, and for each node the scopes it was found in (more than one is an error)."""
    nodes = definition.nodes
    scopes: dict[str, Scope] = {}
    found_in: dict[str, list[str]] = {}
    pending = [(TOP, tuple(definition.trigger_node_ids))]
    while pending:
        loop, starts = pending.pop()
        if loop in scopes:
            continue
        inside = reachable(nodes, starts)
        for node_id in inside:
            found_in.setdefault(node_id, []).append(loop)
            if nodes[node_id].loop_body or nodes[node_id].type == "for-each":  # one without a body has an empty scope
                pending.append((node_id, nodes[node_id].loop_body))
        has_parent = {child for node_id in inside for child in nodes[node_id].children}
        entries = tuple(node_id for node_id in inside if node_id not in has_parent)
        scopes[loop] = Scope(loop, tuple(inside), entries)
    return scopes, found_in


def find_cycle(nodes: Mapping[str, Node]) -> list[str] | None:
    """One cycle through `children` and `loopBody`, as the ids along it, or None. Iterative: users control the depth."""
    done: set[str] = set()
    for start in nodes:
        if start in done:
            continue
        trail: list[str] = [start]
        on_trail = {start}
        iterators = [iter((*nodes[start].children, *nodes[start].loop_body))]
        while iterators:
            following = next(iterators[-1], None)
            if following is None:
                iterators.pop()
                done.add(trail[-1])
                on_trail.discard(trail.pop())
            elif following in on_trail:
                return [*trail[trail.index(following) :], following]
            elif following in nodes and following not in done:
                trail.append(following)
                on_trail.add(following)
                iterators.append(iter((*nodes[following].children, *nodes[following].loop_body)))
    return None


def labels_of(node: Node, specs: Specs) -> tuple[str, ...]:
    """The branches that a node's children may name."""
    spec = specs.get(node.type)
    own = spec.branches(node.payload) if spec is not None and spec.branches is not None else ()
    return (*own, ERROR_BRANCH) if node.on_error == "branch" else tuple(own)


def build(definition: Definition, specs: Specs) -> Graph:
    """The graph of a valid definition."""
    nodes = definition.nodes
    scopes, found_in = find_scopes(definition)
    labels = {node_id: labels_of(node, specs) for node_id, node in nodes.items()}
    edges = [
        Edge(parent, child, nodes[child].branch if nodes[child].branch in labels[parent] else None)
        for parent, node in nodes.items()
        for child in dict.fromkeys(node.children)
    ]
    return Graph(
        nodes=nodes,
        triggers=tuple(definition.trigger_node_ids),
        scopes=scopes,
        scope_of={node_id: loops[0] for node_id, loops in found_in.items()},
        edges_from=_grouped(edges, lambda edge: edge.parent),
        edges_into=_grouped(edges, lambda edge: edge.child),
    )


def _grouped(edges: list[Edge], key: Callable[[Edge], str]) -> dict[str, tuple[Edge, ...]]:
    groups: dict[str, list[Edge]] = {}
    for edge in edges:
        groups.setdefault(key(edge), []).append(edge)
    return {name: tuple(group) for name, group in groups.items()}
