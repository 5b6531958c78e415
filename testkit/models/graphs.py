"""Random workflows with scripted outcomes, and a naive interpreter that says what must become of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from dustrun.core.run.journal import item_frame
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.values.fields import Fields
from dustrun.core.workflow.control import CONTROL
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.graph import ERROR_BRANCH, Graph, build
from dustrun.core.workflow.specs import NodeSpec, Specs

N = NodeStatus


class Anything(Fields):
    """A payload without fields."""


SPECS: Specs = {
    **CONTROL,
    "manual": NodeSpec("manual", "trigger", "pure", Anything),
    "step": NodeSpec("step", "action", "pure", Anything),
}


@dataclass
class Script:
    """What each path comes to: (status, branch); loops: number of items."""

    outcomes: dict[str, tuple[NodeStatus, str | None]] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)


def random_definition(rng: random.Random, *, failing: bool, loops: bool = True) -> Definition:
    """A random graph of up to 14 nodes with branches, joins, error paths and nested loops."""
    nodes: dict[str, dict[str, Any]] = {"root": {"type": "manual", "children": []}}
    _grow(rng, nodes, ["root"], "n", rng.randint(1, 8), failing, 2 if loops else 0)
    return Definition.model_validate({"nodes": nodes})


def _grow(
    rng: random.Random,
    nodes: dict[str, dict[str, Any]],
    scope: list[str],
    prefix: str,
    count: int,
    failing: bool,
    depth: int,
) -> None:
    for number in range(count):
        name = f"{prefix}{number}"
        kind = rng.choice(["step", "step", "step", "if", "wait", *(["for-each"] if depth else [])])
        node: dict[str, Any] = {"type": kind, "children": [], "join": rng.choice(["all", "all", "any"])}
        if kind == "if":
            node["payload"] = {"expression": "true"}
        if kind == "wait":
            node["payload"] = {"timeoutMs": 1000}
        node["onError"] = rng.choice(["continue", "branch", *(["fail"] if failing else [])])
        parents = rng.sample(scope, min(len(scope), rng.randint(1, 2))) if scope else []
        labels = [label for parent in parents for label in _labels(nodes[parent])]
        if labels and rng.random() < 0.7:
            node["branch"] = rng.choice(labels)
        for parent in parents:
            nodes[parent]["children"].append(name)
        nodes[name] = node
        scope.append(name)
        if kind == "for-each":
            on_item_error = rng.choice(["fail", "continue", "stop"]) if failing else "fail"
            node["payload"] = {"array": [], "concurrency": rng.randint(1, 3), "onItemError": on_item_error}
            body: list[str] = []
            _grow(rng, nodes, body, f"{name}_", rng.randint(1, 3), failing, depth - 1)
            parented = {child for inner in body for child in nodes[inner]["children"]}
            node["loopBody"] = [inner for inner in body if inner not in parented]


def with_whiles(rng: random.Random, definition: Definition) -> Definition:
    """The definition with some of its loops as `while` loops."""
    document = definition.model_dump(by_alias=True, exclude_unset=True)
    for node in document["nodes"].values():
        if node["type"] == "for-each" and rng.random() < 0.4:
            node["payload"] = {"while": "true", "concurrency": 1, "onItemError": node["payload"]["onItemError"]}
    return Definition.model_validate(document)


BRANCHES = {"if": ["then", "else"], "wait": ["resumed", "timed_out"]}


def _labels(node: dict[str, Any]) -> list[str]:
    labels = BRANCHES.get(node["type"], [])
    return [*labels, ERROR_BRANCH] if node.get("onError") == "branch" else labels


def random_outcome(rng: random.Random, graph: Graph, node_id: str) -> tuple[NodeStatus, str | None]:
    """What one attempt of a node comes to: mostly success."""
    node = graph.nodes[node_id]
    if rng.random() < 0.2:
        return N.FAILURE, ERROR_BRANCH if node.on_error == "branch" else None
    return N.SUCCESS, rng.choice(BRANCHES[node.type]) if node.type in BRANCHES else None


class Naive:
    """Interprets a graph by the book, without any notion of order; only for graphs in which nothing ends a run."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.graph = graph
        self.seed = seed
        self.statuses: dict[str, NodeStatus] = {}

    def outcome(self, path: str, node_id: str) -> tuple[NodeStatus, str | None]:
        """The scripted outcome of a path: depends on nothing but seed and path."""
        return random_outcome(random.Random(f"{self.seed}:{path}"), self.graph, node_id)

    def items(self, path: str) -> int:
        """The scripted number of a loop's items; a `while` has at least one."""
        count = random.Random(f"{self.seed}:items:{path}").randint(0, 3)
        return max(1, count) if "while" in self.graph.nodes[path.rpartition(".")[2]].payload else count

    def run(self) -> RunStatus:
        """The whole run."""
        partial = self._scope("", "", dict.fromkeys(self.graph.triggers, (N.SUCCESS, None)))
        return RunStatus.PARTIAL if partial else RunStatus.SUCCESS

    def _scope(self, loop: str, frame: str, known: dict[str, tuple[NodeStatus, str | None]]) -> bool:
        partial = False
        pending = [node_id for node_id in self.graph.scopes[loop].node_ids if node_id not in known]
        while pending:
            node_id = next(n for n in pending if all(e.parent in known for e in self.graph.edges_into.get(n, ())))
            pending.remove(node_id)
            edges = self.graph.edges_into.get(node_id, ())
            if edges and not any(
                self._taken(e.label, self.graph.nodes[e.parent].on_error, *known[e.parent]) for e in edges
            ):
                known[node_id] = (N.SKIPPED, None)
            else:
                known[node_id] = self._execute(frame, node_id)
            self.statuses[frame + node_id] = known[node_id][0]
            on_error = self.graph.nodes[node_id].on_error
            partial |= known[node_id][0] is N.PARTIAL
            partial |= known[node_id][0] is N.FAILURE and on_error == "continue"
        return partial

    def _execute(self, frame: str, node_id: str) -> tuple[NodeStatus, str | None]:
        path = frame + node_id
        if self.graph.nodes[node_id].type != "for-each":
            return self.outcome(path, node_id)
        partial = False
        for index in range(self.items(path)):
            partial |= self._scope(node_id, item_frame(path, index), {})
        return (N.PARTIAL if partial else N.SUCCESS), None

    @staticmethod
    def _taken(label: str | None, on_error: str, status: NodeStatus, branch: str | None) -> bool:
        if status in (N.SUCCESS, N.PARTIAL):
            return label in (None, branch)
        if status is N.FAILURE:
            return label == ERROR_BRANCH if on_error == "branch" else on_error == "continue" and label is None
        return False


def graph_of(definition: Definition) -> Graph:
    """The graph under the test's specs."""
    return build(definition, SPECS)
