"""The slice of a spend, or of a write to a table: the sources of each of its fields, and of whether it happens at
all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from dustrun.core.expression.compile import quick_path
from dustrun.core.sources.inputs import computed_fields, group_references, money_fields, outside, overlap
from dustrun.core.sources.slicer import Bits, ClosedPrograms, Place, Slicer
from dustrun.core.sources.source import Source
from dustrun.core.workflow.graph import TOP, Graph
from dustrun.core.workflow.program import Program
from dustrun.core.workflow.specs import Specs

# The money fields of a spend that an `approve` node shows: who decides then stands for what shaped them.


Path = tuple[str | int, ...]
_TEMPLATE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_OF_LOOPS: Final = frozenset({"$item", "$index", "$parent_item", "$parent_index", "$for"})
_CHANGES: Final = frozenset({"$vars", "$now"})  # what is shown may differ from what is paid later


def shown_fields(program: Program, spend: str) -> dict[str, frozenset[str]]:
    """The money fields that each `approve` node shows which must be approved before the spend. A field is shown if each
    reference in it stands alone in a template of the message, by itself or as part of what is shown."""
    found = {}
    for name, node in program.graph.nodes.items():
        if node.type == "approve" and _must_be_approved(program.graph, name, spend):
            fields = frozenset(_shown(program, spend, name))
            if fields:
                found[name] = fields
    return found


def _must_be_approved(graph: Graph, approve: str, spend: str) -> bool:
    """Whether the spend is out of reach without the branch `approved`."""
    scope = graph.scope_of.get(approve, TOP)
    around = [spend, *graph.loops_around(spend)]
    target = next((one for one in around if graph.scope_of.get(one, TOP) == scope), None)
    if target is None or scope not in graph.scopes:
        return False
    seen: dict[str, None] = dict.fromkeys(graph.scopes[scope].entries)
    queue = list(seen)
    for one in queue:
        for edge in graph.edges_from.get(one, ()):
            if not (one == approve and edge.label == "approved") and edge.child not in seen:
                seen[edge.child] = None
                queue.append(edge.child)
    return target not in seen


def _shown(program: Program, spend: str, approve: str) -> Iterator[str]:
    shown = set(_paths_shown(str(program.nodes[approve].node.payload.get("message", ""))))
    is_beside = program.graph.scope_of.get(spend) == program.graph.scope_of.get(approve)
    before = program.graph.ancestors(approve)
    for money, paths in _paths_used(program, spend).items():
        usable = all(_is_same(program, path, is_beside, before) for path in paths)
        if paths and usable and all(any(path[: len(one)] == one for one in shown) for path in paths):
            yield money


def _paths_shown(message: str) -> Iterator[Path]:
    for text in _TEMPLATE.findall(message):
        quick = quick_path(text)
        if quick is not None:
            yield _plain((quick.root, *quick.keys))


def _paths_used(program: Program, spend: str) -> Mapping[str, set[Path]]:
    """The sources that each money field reads; none for those that the action computes from the chain."""
    node = program.nodes[spend]
    references = group_references(node)
    found: dict[str, set[Path]] = {}
    inputs = [*money_fields(node.spec, node.node.payload), ("wallet", ("connector",))]
    for money, steps in inputs:
        read = {_plain((one.root, *one.path)) for at, them in references.items() if overlap(at, steps) for one in them}
        found.setdefault(money, set()).update(read)
    computed = computed_fields(node.spec, node.node.payload)
    return {money: paths for money, paths in found.items() if money not in computed}


def _plain(path: Path) -> Path:
    """One spelling of a path: a node's without `$nodes`, an event's from `$trigger.body`."""
    if path[0] == "$nodes" and len(path) > 1:
        path = path[1:]
    if path[0] == "$inputs":
        return ("$trigger", "body", *path[1:])
    if path[:2] == ("root", "result"):
        return ("$trigger", *path[2:])
    return path


def _is_same(program: Program, path: Path, is_beside: bool, before: frozenset[str]) -> bool:
    """Whether a path gives the spend the value that the message showed."""
    if path[0] in _OF_LOOPS:
        return is_beside
    return path[0] not in _CHANGES and (path[0] not in program.nodes or path[0] in before)


class SpendSlice:
    """The sources of one spending node, on three levels that are never mixed. `fields`: what can change a money field
    (`recipient`, `amount`, `asset`, `chain`, `calldata`, `limits`, `wallet`). `decides`: what chooses whether or how
    often it happens. `stops`: what can only prevent it. Sets stay bits until they are asked for; `bits` has the ones of
    the fields, `deciding` that of `decides`, to judge many spends with `Bits.where`.
    """

    def __init__(self, slicer: Slicer, place: Place, bits: Mapping[str, int], deciding: int) -> None:
        self.place = place
        self.type = slicer.node(place).node.type
        self.bits = bits
        self.deciding = deciding
        self.names: Bits = slicer.bits
        self._slicer = slicer

    @cached_property
    def fields(self) -> Mapping[str, frozenset[Source]]:
        """The sources of each money field."""
        return {money: self.names.named(bits) for money, bits in self.bits.items()}

    def places_of(self, sources: Iterable[Source]) -> set[Place]:
        """The nodes that sources come from: those whose inputs were written, which wait for people, or which start the
        run."""
        root = self._slicer.closed.root
        triggers = self._slicer.closed.programs[root].graph.triggers
        found = {(one.name, one.node) for one in sources if one.node is not None}
        kinds = {one.name for one in sources if one.kind == "trigger"}
        return found | {(root, one) for one in triggers if self._slicer.node((root, one)).node.type in kinds}

    def contracts(self, place: Place, given: Any) -> Iterator[Source]:
        """The contracts that a node asks with these inputs; `*` for one that they do not say."""
        node = self._slicer.node(place)
        payload = {**node.node.payload, **given} if isinstance(given, dict) else node.node.payload
        for named in outside(node, payload, self._slicer.specs):
            if named[0] == "contract":
                yield Source(named[0], named[1], named[2:])

    @property
    def stores(self) -> set[str]:
        """The tables, or the variable, that a node writes to, as sources."""
        return {str(one) for one in self._slicer.stores_of(self.place)}

    def is_in_loop(self, place: Place) -> bool:
        """Whether a node of the closure runs once for each item of a loop."""
        return bool(self._slicer.loops(place, within=False))

    @cached_property
    def data(self) -> frozenset[Source]:
        """The sources of all money fields."""
        return frozenset().union(*self.fields.values())

    @cached_property
    def decides(self) -> frozenset[Source]:
        """The sources that choose whether it happens, or how often."""
        return self.names.named(self.deciding)

    @cached_property
    def stops(self) -> frozenset[Source]:
        """The sources that can fail or end the run before it, those that decide included."""
        return self.names.named(self._slicer.stops(self.place))

    @cached_property
    def shown(self) -> Mapping[Source, frozenset[str]]:
        """The `approve` nodes that must be approved before it, each with the money fields that its message shows."""
        key, node_id = self.place
        found = shown_fields(self._slicer.closed.programs[key], node_id)
        return {Source("approval", key, (approve,)): fields for approve, fields in found.items()}


def slices_of(closed: ClosedPrograms, specs: Specs) -> list[SpendSlice]:
    """The slice of every spending node of a closure; with `ran`, of those that ran."""
    return slice_closure(closed, specs)[0]


def slice_closure(closed: ClosedPrograms, specs: Specs) -> tuple[list[SpendSlice], list[SpendSlice]]:
    """The slices of every spending node of a closure, and of every node that writes to a store, whose fields are
    columns: `""` which rows, or the variable; `*` what is not told apart."""
    slicer = Slicer(closed, specs)
    found = list(_slices(slicer)), list(_writes(slicer))  # asks for sets that no node needed
    return (list(_slices(slicer)), list(_writes(slicer))) if slicer.settle() else found


def _writes(slicer: Slicer) -> Iterator[SpendSlice]:
    for place in slicer.writes if slicer.closed.ran is None else ():
        yield SpendSlice(slicer, place, slicer.written_to(place), slicer.decides(place))


def _slices(slicer: Slicer) -> Iterator[SpendSlice]:
    for place in slicer.spends:
        if slicer.closed.ran is None or place in slicer.closed.ran:
            deciding = slicer.decides(place) | slicer.bits.bit("definition", slicer.closed.root)
            yield SpendSlice(slicer, place, _fields_of(slicer, place), deciding)


def _fields_of(slicer: Slicer, place: Place) -> dict[str, int]:
    node, found = slicer.node(place), dict[str, int]()
    inputs = [(money, steps) for money, steps in money_fields(node.spec, node.node.payload)]
    for money, steps in inputs:
        bits = slicer.refs(place, steps) | slicer.written(place, steps[0])
        found[money] = found.get(money, 0) | bits
    unnamed = slicer.unnamed(place, [steps for _, steps in inputs])
    if unnamed:
        found["calldata"] = found.get("calldata", 0) | unnamed
    found["wallet"] = slicer.wallet(place)
    for money in {one for given in slicer.given(place) for one in computed_fields(node.spec, given)}:
        found[money] = found.get(money, 0) | slicer.computed(place)
    return found
