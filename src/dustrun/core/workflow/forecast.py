"""Forecasts node inputs before a run: constants, the trigger payload if given, the items of loops over known lists.
Values that depend on a node's result, a variable or the time are unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any, Final

from dustrun.core.expression import ExpressionError, Reference, Template, parse_template
from dustrun.core.money.movements import Unknown, show_path
from dustrun.core.workflow.graph import TOP
from dustrun.core.workflow.program import Program, ProgramNode
from dustrun.records import dataclass

MAX_ITEMS: Final = 200
"""Loop items listed one by one; of the rest only their number is reported."""

_WHY: Final = {
    "$vars": "depends on a variable",
    "$now": "depends on the time",
    "$run": "depends on the run",
    "$env": "depends on the server's environment",
    "$workflow": "depends on the run",
    "$workflowId": "depends on the run",
}


@dataclass(frozen=True, slots=True)
class ForecastInput:
    """The caller's knowledge of the run: the trigger payload (None: not given) and the values of props."""

    payload: Mapping[str, Any] | None = None
    props: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forecast:
    """One execution of a node: its payload with `Unknown` for unknown values, and the enclosing loop indices, outermost
    first. `repeats` says why the number of executions is unknown, None when it runs once. `within` is the path of the
    call through which the node is reached, empty for the workflow itself. `connector_id`: its wallet or connector,
    `Unknown` if an expression names it that depends on the run.
    """

    node: ProgramNode
    indices: tuple[int, ...]
    wire: Mapping[str, Any]
    repeats: str | None
    within: str = ""
    connector_id: Any = None

    @property
    def path(self) -> str:
        """The node with its loop indices, for display: `each[3].pay` is `pay[3]`, and `call/pay[3]` in a called one."""
        name = self.node.id + "".join(f"[{index}]" for index in self.indices)
        return f"{self.within}/{name}" if self.within else name

    @property
    def unknowns(self) -> list[tuple[str, str]]:
        """(field, why) of every unknown value."""
        return [(show_path(path), found.why) for path, found in _unknown_at(self.wire, ())]


@dataclass(frozen=True, slots=True)
class _Frame:
    """One item of the enclosing loops: the values of its names."""

    names: Mapping[str, Any]
    indices: tuple[int, ...] = ()
    repeats: str | None = None


class _Roots:
    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names

    def root(self, name: str) -> Any:
        """The value of a root."""
        return self._names[name]


def forecast_nodes(program: Program, given: ForecastInput, node_ids: Iterable[str]) -> list[Forecast]:
    """Forecasts the executions of some nodes, in the order of the ids and of the loop items."""
    forecaster = _Forecaster(program, given)
    found = []
    for node_id in node_ids:
        node = program.nodes[node_id]
        for frame in forecaster.frames(program.graph.scope_of[node_id]):
            wire = forecaster.fill(node.node.payload, frame, node.spec.raw_fields)
            connector = node.node.connector
            connector_id = forecaster.fill({"id": connector.id}, frame)["id"] if connector is not None else None
            found.append(Forecast(node, frame.indices, wire, frame.repeats, connector_id=connector_id))
    return found


class _Forecaster:
    def __init__(self, program: Program, given: ForecastInput) -> None:
        self._program = program
        self._frames: dict[str, list[_Frame]] = {TOP: [_Frame(_names_of(given))]}

    def frames(self, loop_id: str) -> list[_Frame]:
        """The items of a loop, for each item of its enclosing loops."""
        if loop_id not in self._frames:
            around = self.frames(self._program.graph.scope_of[loop_id])
            inner = [frame for outer in around for frame in self._open(loop_id, outer)]
            if len(inner) > MAX_ITEMS:
                why = f'it happens once per item of "{loop_id}", and there are {len(inner)}'
                inner = [_Frame(frame.names, frame.indices, why) for frame in inner[:MAX_ITEMS]]
            self._frames[loop_id] = inner
        return self._frames[loop_id]

    def _open(self, loop_id: str, outer: _Frame) -> list[_Frame]:
        array = self.fill({"array": self._program.nodes[loop_id].node.payload.get("array")}, outer)["array"]
        parent = {f"$parent_{name[1:]}": outer.names[name] for name in ("$item", "$index") if name in outer.names}
        if not isinstance(array, list) or any(_unknown_at(array, ())):
            why = f'it happens once per item of "{loop_id}", whose items are unknown'
            hidden = {name: value for name, value in outer.names.items() if name not in ("$item", "$index")}
            return [_Frame({**hidden, **parent}, outer.indices, why)]
        loops = outer.names.get("$for", {})
        return [
            _Frame(
                {
                    **outer.names,
                    **parent,
                    "$item": item,
                    "$index": index,
                    "$for": {**loops, loop_id: {"item": item, "index": index}},
                },
                (*outer.indices, index),
                outer.repeats,
            )
            for index, item in enumerate(array)
        ]

    def fill(self, payload: Mapping[str, Any], frame: _Frame, raw: frozenset[str] = frozenset()) -> dict[str, Any]:
        """A payload with its templates evaluated as far as possible."""
        roots = _Roots(frame.names)
        return {
            name: value if name in raw else self._fill(value, roots, frame.names) for name, value in payload.items()
        }

    def _fill(self, value: Any, roots: _Roots, names: Mapping[str, Any]) -> Any:
        if isinstance(value, str) and "{{" in value:
            return self._evaluate(value, roots, names)
        if isinstance(value, dict):
            return {key: self._fill(item, roots, names) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item, roots, names) for item in value]
        return value

    def _evaluate(self, text: str, roots: _Roots, names: Mapping[str, Any]) -> Any:
        try:
            template: Template = parse_template(text)
            missing = next((one for one in template.references if one.root not in names), None)
            if missing is not None:
                return Unknown(self._why(missing))
            unknown = next((found for one in template.references for found in _unknown_in(names, one)), None)
            return template.evaluate(roots) if unknown is None else unknown
        except ExpressionError as error:
            return Unknown(f"cannot be evaluated: {error.message}")

    def _why(self, reference: Reference) -> str:
        root, first = reference.root, reference.path[0] if reference.path else None
        if root in ("$trigger", "$inputs", "root") or (root == "$nodes" and first in ("root", *self._triggers())):
            return "depends on the trigger's payload; send it as `payload`"
        if root == "$props":
            return "depends on a prop; send it in `propValues`"
        if root == "$nodes":
            return f'depends on the result of "{first}"' if first is not None else "depends on results"
        if root in self._program.nodes:
            return f'depends on the result of "{root}"'
        return _WHY.get(root, "depends on an item of a loop")

    def _triggers(self) -> tuple[str, ...]:
        return self._program.graph.triggers


def _unknown_in(names: Mapping[str, Any], reference: Reference) -> Iterator[Unknown]:
    """The unknown values that a reference reads: a caller may know a payload only in part."""
    value: Any = names[reference.root]
    for step in reference.path:
        try:
            value = value[step]
        except (TypeError, LookupError):  # what there is so far decides
            break
    yield from (found for _, found in _unknown_at(value, ()))


def _names_of(given: ForecastInput) -> dict[str, Any]:
    names: dict[str, Any] = {"$props": dict(given.props)}
    if given.payload is not None:
        body = dict(given.payload)
        event = {**body, "body": body}
        names |= {"$trigger": event, "$inputs": body, "root": {"result": event}}
    return names


def _unknown_at(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Unknown]]:
    if isinstance(value, Unknown):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unknown_at(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _unknown_at(item, (*path, index))


def find_readers(program: Program, sources: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """For every node that reads the result of a source, directly or through nodes and variables: the places (field,
    what it reads), including conditions.
    """
    nodes, variables = set(sources), set[str]()
    found: dict[str, list[tuple[str, str]]] = {}
    is_growing = True
    while is_growing:
        is_growing = False
        for node_id, node in program.nodes.items():
            loops = _loops_around(program, node_id)
            places = [place for place in _references(node) if _reads(place[1], nodes, variables, loops)]
            if places and node_id not in found:
                found[node_id] = [(where, _reference_text(reference)) for where, reference in places]
                is_growing = True
                nodes.add(node_id)
                if node.node.type == "set-variable" and isinstance(node.node.payload.get("name"), str):
                    variables.add(node.node.payload["name"])
    return found


def _references(node: ProgramNode) -> list[tuple[str, Reference]]:
    tests = [(name, reference) for name, test in node.choices for reference in test.references]
    repeated = node.repeat.references if node.repeat is not None else []
    chosen = [("connector.id", reference) for reference in node.wallet.references] if node.wallet is not None else []
    return [*node.payload.references, *tests, *repeated, *chosen]


def _loops_around(program: Program, node_id: str) -> list[str]:
    """The enclosing loops of a node, innermost first."""
    loops = []
    while (loop := program.graph.scope_of[node_id]) != TOP:
        loops.append(loop)
        node_id = loop
    return loops


def _reads(reference: Reference, nodes: set[str], variables: set[str], loops: list[str]) -> bool:
    first = reference.path[0] if reference.path else None
    if reference.root in ("$item", "$parent_item"):
        depth = 0 if reference.root == "$item" else 1
        return len(loops) > depth and loops[depth] in nodes
    if reference.root == "$for":
        return any(loop in nodes for loop in loops)
    if reference.root == "$vars":
        return bool(variables) and (first is None or first in variables)
    if reference.root == "$nodes":
        return first is None or first in nodes
    return reference.root in nodes


def _reference_text(reference: Reference) -> str:
    return show_path((reference.root, *reference.path))
