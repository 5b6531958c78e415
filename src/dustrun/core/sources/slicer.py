"""Finds the sources of every spend of a closure, by following data and decisions backwards from all nodes at once.

It is a fixed point over bit sets, as loops, calls and variables feed back. A *cell* is one set that grows: `data` (what
can change a node's result), `decides` (what chooses whether a node runs, or how often), and helpers of both. Whoever
reads a cell is computed again when it grows. Each rule is one method; `docs/concepts/sources.md` says them in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import reduce
from operator import or_
from typing import Any, Final

from dustrun.core.expression import Reference
from dustrun.core.expression.compile import quick_path
from dustrun.core.sources.inputs import (
    TESTS,
    Named,
    Steps,
    constant,
    group_references,
    outside,
    overlap,
    steps_of,
)
from dustrun.core.sources.kept import Parts, of_part
from dustrun.core.sources.source import ANY, Source, parse_source
from dustrun.core.workflow.graph import ERROR_BRANCH, TOP, Graph
from dustrun.core.workflow.model_tools import tool_nodes
from dustrun.core.workflow.program import Program, ProgramNode
from dustrun.core.workflow.specs import Specs
from dustrun.records import dataclass

Key = str
"""`<workflow>@<version>`: one member of a closure."""
Place = tuple[Key, str]
"""A node of a member."""
Path = tuple[str | int, ...]
Cell = tuple[Any, ...]
COMMENT: Final = "comment"
"""The part of an approval that is whatever the person writes."""
NOWHERE: Final[Place] = ("", "")
"""Stands for the node that read a table in another run."""

_DEPTH: Final = 3  # steps into an event or a result that are told apart
_MANY_NODES: Final = 2_000  # from here on, a definition is one source and not one for each field
_FEW_SPENDS: Final = 50
_DEEP: Final = 20  # cells that are computed within each other before the rest waits its turn
_WHOLE: Final = re.compile(r"\{\{(.*)\}\}", re.DOTALL)
_APART: Final = frozenset({"call-workflow", "set-variable", "log", "read-table", "approve"})
_CONSTANT_ROOTS: Final = frozenset({"$index", "$parent_index", "$workflowId"})
_WRITERS: Final = frozenset({"set-variable", "increment-variable"})


@dataclass(frozen=True, slots=True)
class ClosedPrograms:
    """A version with all that it calls. `resolve`: the member that a call runs, by workflow and version as the node
    names them (version None: the live one, else the draft). `tables`: names of tables by id, because nodes may name
    them by either. `ran`: of one run, what its nodes and those of the runs that it called were given; None: any run.
    `calls`: what its calls ran. `kept`: the results that were not its own work, each with the run and path that gave
    it. `simulated`: pinned results hold. `fired`: the trigger that started the run; None: any may have. `rows`: of one
    run, what shaped the rows that its nodes read.
    """

    root: Key
    programs: Mapping[Key, Program]
    resolve: Mapping[tuple[str, int | None], Key] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    ran: Mapping[Place, Sequence[Mapping[str, Any]]] | None = None
    calls: Mapping[Place, Sequence[Key]] = field(default_factory=dict)
    kept: Mapping[Place, Sequence[tuple[str, str]]] = field(default_factory=dict)
    simulated: bool = False
    fired: str | None = None
    rows: Mapping[Place, Parts] = field(default_factory=dict)


class Bits:
    """Gives each source its bit. Values of sources are made when asked for: they cost more than the sets."""

    def __init__(self) -> None:
        self._bits: dict[Named, int] = {}
        self._names: list[Named] = []
        self._by_run = 0

    def bit(self, *name: str) -> int:
        """The bit of a source: its kind, name and path."""
        found = self._bits.get(name)
        if found is None:
            found = self._bits[name] = 1 << len(self._names)
            self._names.append(name)
        return found

    def bit_of_run(self, name: Named, place: Place, part: str = "") -> int:
        """The bit of what only the run of a node says: a contract that its inputs name, the rows of a table that it
        reads; `part`: of these a column."""
        found = self.bit(*name, *place, part)
        self._by_run |= found
        return found

    def stored(self, bits: int, *, keeps_rows: bool) -> int:
        """A set as it comes out of a store: other runs may have written it, of which nothing is known here. A table
        keeps with its rows what rows of others shaped them; out of a variable come any."""
        found = bits & self._by_run
        if not found:
            return bits
        kept = bits ^ found
        for named in self._list(found):
            if named[0] != "table":
                kept |= self.bit("contract", ANY, ANY)
            elif keeps_rows:
                kept |= self.bit(*named[:2])
            else:
                kept |= self.bit_of_run(named[:2], NOWHERE, ANY)
        return kept

    def of_run(self, bits: int) -> Iterator[tuple[Source, Place, str]]:
        """The contracts and rows in a set that only runs of nodes say, with those nodes, and the columns of rows."""
        for named in self._list(bits & self._by_run):
            yield _source(named), (named[-3], named[-2]), named[-1]

    def where(self, test: Callable[[Source], bool]) -> int:
        """The set of all sources that pass a test: an intersection with it then judges a set at once."""
        return _union(1 << place for place, named in enumerate(self._names) if test(_source(named)))

    def named(self, bits: int) -> frozenset[Source]:
        """The sources of a set."""
        return frozenset(map(_source, self._list(bits)))

    def named_apart(self, bits: int) -> frozenset[Source]:
        """The sources of a set but for those that `of_run` gives."""
        return self.named(bits & ~self._by_run)

    def each(self, bits: int) -> Iterator[tuple[int, Source]]:
        """The sources of a set with their bits: of a table there is one for each place that reads it."""
        for named in self._list(bits):
            yield self._bits[named], _source(named)

    def _list(self, bits: int) -> Iterator[Named]:
        while bits:
            low = bits & -bits
            yield self._names[low.bit_length() - 1]
            bits ^= low


class Slicer:
    """The sets of one closure, solved. `data`, `decides` and `refs` may be asked for afterwards."""

    def __init__(self, closed: ClosedPrograms, specs: Specs) -> None:
        self.closed, self.bits = closed, Bits()
        self.spends: list[Place] = []
        self.writes: list[Place] = []
        self.order: list[Place] = []
        self.specs = specs
        self._values: dict[Cell, int] = {}
        self._readers: dict[Cell, dict[Cell, None]] = {}
        self._stack: list[Cell] = []
        self._dirty: dict[Cell, None] = {}
        self._rules: dict[str, Callable[..., int]] = {
            "data": self._data_of, "decides": self._decides_of, "refs": self._refs_of, "result": self._result_of,
            "item": self._item_of, "variable": self._variable_of, "everything": self._everything_of,
            "moved": self._moved_of, "paid": self._paid_of,
        }  # fmt: skip
        self._sites: dict[Key, list[Place]] = {key: [] for key in closed.programs}
        self._writers: dict[tuple[str, str], list[Place]] = {}
        self._table_writers: dict[str | None, list[Place]] = {}
        self._inputs: dict[Place, dict[Steps, list[Reference]]] = {}
        self._constant: dict[Place, int] = {}
        self._outside: dict[Place, int] = {}
        self._lasts: dict[Key, list[str]] = {}
        self._once: dict[Key, bool] = {}
        self._after: dict[Place, int] = {}
        self._is_coarse = sum(len(program.nodes) for program in closed.programs.values()) > _MANY_NODES
        for key, program in closed.programs.items():
            for node_id in _topological(program):
                self._prepare((key, node_id), program.nodes[node_id])
        self._numbered = {spend: 1 << number for number, spend in enumerate(self.spends)}
        self._solve(cell for place in self.order for cell in (("decides", place), ("data", place)))

    def settle(self) -> bool:
        """Solves what was asked for since; whether any of it may be more than was answered."""
        is_open = bool(self._dirty)
        self._solve(())
        return is_open

    # --- what a node has of its own ---

    def _prepare(self, place: Place, node: ProgramNode) -> None:
        self.order.append(place)
        given = self.given(place)
        if self._has_run(place):
            self._inputs[place] = group_references(node)
            self._constant[place] = self._written_in(place, node)
            self._outside[place] = _union(self._from_outside(place, node, one) for one in given)
        else:  # it gave nothing; that it did not run may still be somebody's choice
            self._inputs[place], self._constant[place], self._outside[place] = {}, 0, 0
        if node.spec.effect == "spend":
            self.spends.append(place)
        if node.node.type in _WRITERS or node.node.type == "write-table":
            self.writes.append(place)
        if node.node.type in _WRITERS:
            variable = (workflow_of(place[0]), str(node.node.payload.get("name")))
            self._writers.setdefault(variable, []).append(place)
        elif node.node.type == "write-table":
            for table in {self._table_name(one) for one in given}:
                self._table_writers.setdefault(table, []).append(place)
        elif node.node.type == "call-workflow":
            for callee in self._callees(place):
                self._sites[callee].append(place)

    def _has_run(self, place: Place) -> bool:
        return self.closed.ran is None or place in self.closed.ran

    def given(self, place: Place) -> list[dict[str, Any]]:
        """The inputs of a node: as the definition has them, or each time as the run resolved them."""
        payload = self.node(place).node.payload
        return [{**payload, **one} for one in (self.closed.ran or {}).get(place) or ({},)]

    def _written_in(self, place: Place, node: ProgramNode) -> int:
        key, node_id = place
        if self._is_coarse:
            return self.bits.bit("definition", key)
        names = [*node.node.payload, *(("connector",) if node.node.connector is not None else ())]
        if self.closed.simulated and node.node.is_pinned:
            names.append("pinned")
        own = _union(self.bits.bit("definition", key, node_id, name) for name in names)
        return own or self.bits.bit("definition", key, node_id)

    def _from_outside(self, place: Place, node: ProgramNode, payload: Mapping[str, Any]) -> int:
        key, node_id = place
        found = 0
        for named in map(self._aliased, outside(node, payload, self.specs)):
            is_of_run = named[0] == "contract" and ANY in named and not any(tool_nodes(node.node))
            if named[0] == "table":
                found |= self._rows_read(place, named[1])
            else:
                found |= self.bits.bit_of_run(named, place) if is_of_run else self.bits.bit(*named)
        if node.node.type in ("wait", "approve"):
            found |= self.bits.bit("resume" if node.node.type == "wait" else "approval", key, node_id)
        if node.node.type in ("wait", "approve", "delay"):
            found |= self.bits.bit("clock")
        if node.node.type == "call-workflow" and (self._is_computed(payload) or not self._callees(place)):
            found |= self.bits.bit("workflow", constant(payload.get("workflowId")) or ANY)
        return found | _union(self.bits.bit("result", *one) for one in self.closed.kept.get(place, ()))

    def _rows_read(self, place: Place, table: str, column: str = ANY) -> int:
        """The rows of a table that a node reads. The result of a write tells keys of any rows."""
        is_write = self.node(place).node.type == "write-table"
        kept = map(parse_source, of_part(self.closed.rows.get(place, {}), column))
        shaped = _union(self.bits.bit(one.kind, one.name, *one.path) for one in kept)
        return shaped | self.bits.bit_of_run(("table", table), NOWHERE if is_write else place, column)

    def _aliased(self, named: Named) -> Named:
        return ("table", self.closed.tables.get(named[1], named[1])) if named[0] == "table" else named

    def _table_name(self, payload: Mapping[str, Any]) -> str | None:
        """The table that a node names; None: any, as it is computed or an id whose name is not known."""
        name = constant(payload.get("table"))
        if name is not None and name not in self.closed.tables and name.startswith("tbl_"):
            return None
        return self.closed.tables.get(name, name) if name is not None else None

    def _called(self, payload: Mapping[str, Any]) -> list[Key]:
        """The members that a call may run; one that is computed may run all."""
        if self._is_computed(payload):
            return list(self.closed.programs)
        found = self.closed.resolve.get((payload.get("workflowId", ""), payload.get("version")))
        return [found] if found is not None and found in self.closed.programs else []

    @staticmethod
    def _is_computed(payload: Mapping[str, Any]) -> bool:
        workflow, version = payload.get("workflowId", ""), payload.get("version")
        return not isinstance(workflow, str) or "{{" in workflow or not isinstance(version, int | None)

    # --- the fixed point ---

    def _solve(self, cells: Iterable[Cell]) -> None:
        self._dirty |= dict.fromkeys(cells)
        while self._dirty:
            waiting, self._dirty = self._dirty, {}
            for cell in waiting:
                self._dirty.pop(cell, None)
                self._evaluate(cell)

    def _get(self, *cell: Any) -> int:
        """A set as far as it is known; whoever reads it is computed again when it grows."""
        if self._stack:
            self._readers.setdefault(cell, {})[self._stack[-1]] = None
        if cell not in self._values:
            if cell[0] in ("data", "decides") or len(self._stack) > _DEEP:
                self._dirty[cell] = None
                return 0
            self._evaluate(cell)
        return self._values[cell]

    def _evaluate(self, cell: Cell) -> None:
        known = self._values.setdefault(cell, 0)
        self._stack.append(cell)
        found = known | self._rules[cell[0]](*cell[1:])
        self._stack.pop()
        if found != known:
            self._values[cell] = found
            self._dirty |= self._readers.get(cell, {})

    def data(self, place: Place) -> int:
        """The sources that can change a node's result."""
        return self._get("data", place)

    def decides(self, place: Place) -> int:
        """The sources that can choose whether a node runs, or how often."""
        return self._get("decides", place)

    def refs(self, place: Place, prefix: Steps = ()) -> int:
        """All that the inputs read which lie at or below a path; without one, all inputs and tests."""
        return self._get("refs", place, prefix) if self._inputs[place] else 0

    # --- rule: a result depends on all inputs, constants, and the system asked ---

    def _data_of(self, place: Place) -> int:
        key, node_id = place
        if not self._has_run(place):
            return 0
        node = self.node(place)
        found = self._constant[place] | self._outside[place] | self.refs(place)
        if node_id in self._graph(key).triggers:
            return found | self._event(key, (), node_id)
        if node.node.type == "approve":
            return found | self.bits.bit("approval", key, node_id, COMMENT)
        if node.node.type == "for-each":
            scope = self._graph(key).scopes.get(node_id)
            found |= _union(self._either((key, one)) for one in (scope.node_ids if scope is not None else ()))
        elif node.node.type == "call-workflow":
            found |= _union(self._get("everything", callee) for callee in self._callees(place))
        elif node.node.type == "get-variable" or node.node.type in _WRITERS:  # a writer's result has `previous`
            found |= self._variable(key, str(node.node.payload.get("name")))
        elif node.node.type == "read-table":
            found |= _union(self._table(self._table_name(one)) for one in self.given(place))
        elif node.spec.effect == "spend" or any(
            one.kind in ("chain", "contract", "price") for one in node.spec.origins
        ):
            found |= self.moved_before(place)
        return found

    def _either(self, place: Place) -> int:
        return self.data(place) | self.decides(place)

    def _ended(self, place: Place) -> int:
        """The sources that can change whether a node ran and how it ended, and with that most of its result."""
        if self.node(place).node.type != "approve":
            return self._either(place)
        return self._constant[place] | self._outside[place] | self.refs(place) | self.decides(place)

    def _everything_of(self, key: Key) -> int:
        version = self.bits.bit("definition", key)
        return version | _union(self._either((key, one)) for one in self.closed.programs[key].nodes)

    # --- rule: labelled edges, error branches, loops and calls decide ---

    def _decides_of(self, place: Place) -> int:
        key, node_id = place
        graph = self._graph(key)
        found = self.bits.bit("definition", key)
        for edge in graph.edges_into.get(node_id, ()):
            parent = (key, edge.parent)
            found |= self.decides(parent)
            if edge.label == ERROR_BRANCH or graph.nodes[edge.parent].on_error == "branch":
                found |= self.data(parent)  # whoever makes it fail chooses, also against the branch of its success
            if edge.label not in (None, ERROR_BRANCH):
                found |= self.refs(parent, (TESTS,)) | self._constant[parent] | self._outside[parent]
        loop = graph.scope_of.get(node_id, TOP)
        if loop:
            around = (key, loop)
            return found | self.decides(around) | self._constant[around] | self.refs(around)
        for site in self._sites[key]:
            chosen = self.refs(site, ("workflowId",)) | self.refs(site, ("version",))
            found |= self.decides(site) | self._constant[site] | self._outside[site] | chosen
        return found

    # --- rule: a reference reads its own part ---

    def _refs_of(self, place: Place, prefix: Steps) -> int:
        inputs = self._inputs[place].items()
        return _union(
            self._read(place, one, steps[0] in (TESTS, "next"))
            for steps, found in inputs
            if _is_at(steps, prefix)
            for one in found
        )

    def _read(self, place: Place, reference: Reference, within: bool = False) -> int:
        """The sources that a reference reads; `within`: of a loop, inside its own iterations."""
        root, path, (key, node_id) = reference.root, reference.path, place
        bit = self.bits.bit
        if root in ("$trigger", "$inputs"):
            return self._event(key, path)
        if root == "$nodes" and path:
            root, path = str(path[0]), path[1:]
        if root == "root":  # the trigger that fired, whatever its id
            return self._event(key, path[1:]) | (0 if path[:1] == ("result",) else bit("run"))
        if root == "$props":
            return self._props(key, path)
        if root == "$vars":
            names = [str(path[0])] if path else [ANY, *(name for one, name in self._writers if one == workflow_of(key))]
            return _union(self._variable(key, name) for name in names)
        if root in ("$item", "$parent_item", "$for"):
            return self._items(place, root, path, within)
        if root in _CONSTANT_ROOTS:
            return 0
        if root == "$workflow":
            return bit("workflow", workflow_of(key), "name") if not path or path[0] == "name" else 0
        if root in ("$now", "$run"):
            return bit("clock" if root == "$now" else "run")
        if root == "$env":
            return bit("env", str(path[0]) if path else ANY)
        if root == "$nodes":
            return _union(self._either((key, one)) for one in self._graph(key).ancestors(node_id))
        return self._node_read((key, root), path, reference.guarded) if root in self._graph(key).nodes else 0

    # --- rule: absence is data ---

    def _node_read(self, target: Place, path: Path, guarded: bool) -> int:
        key, node_id = target
        if node_id in self._graph(key).triggers and path[:1] == ("result",):
            return self._event(key, path[1:], node_id)
        # a status, a whole node or a handled absence tells whether it ran; an unguarded missing result only fails
        absent = self._ended(target) if guarded or len(path) < 2 or path[0] != "result" else 0
        if path[:1] == ("input",) and len(path) > 1:
            return absent | self._constant[target] | self.refs(target, (str(path[1]),))
        if path[:1] == ("result",):
            return absent | self._result(target, path[1:])
        return absent | self.data(target)

    def _result(self, target: Place, path: Path) -> int:
        """A part of a result, of those node types whose parts are known apart."""
        if not path or self.node(target).node.type not in _APART:
            return self.data(target)
        return self._get("result", target, path[:_DEPTH])

    def _result_of(self, target: Place, path: Path) -> int:
        kind = self.node(target).node.type
        if kind == "call-workflow" and path[0] in ("result", "results"):
            return self._call_result(target, path)
        if kind == "set-variable" and path[0] == "value":
            return self._constant[target] | self._outside[target] | self.refs(target, ("value",))
        if kind == "log" and path[0] == "message":
            return self._constant[target] | self._outside[target] | self.refs(target, ("message",))
        if kind == "approve" and path[0] in ("decision", "branch", "message"):  # not what who decides says
            return self._ended(target)
        if kind == "read-table" and (column := _column_of(path)) is not None and self._has_run(target):
            names = {self._table_name(one) for one in self.given(target)}
            found = self._constant[target] | self.refs(target) | _union(self._table(name) for name in names)
            found |= _union(self.bits.bit("result", *one) for one in self.closed.kept.get(target, ()))
            return found | _union(self._rows_read(target, name or ANY, column) for name in names)
        return self.data(target)

    # --- rule: calls give back their last nodes ---

    def _call_result(self, target: Place, path: Path) -> int:
        chosen = self.refs(target, ("workflowId",)) | self.refs(target, ("version",))
        found = self._constant[target] | self._outside[target] | chosen
        for callee in self._callees(target):
            last_nodes = self._last_nodes(callee)
            asked = [one for one in last_nodes if path[0] == "result" or len(path) < 2 or one == path[1]]
            deeper = path[1:] if path[0] == "result" else path[2:]
            found |= self.bits.bit("definition", callee)
            for one in asked:
                found |= self._result((callee, one), deeper) | self.decides((callee, one))
            if len(last_nodes) > 1 or path[0] == "results" or self._branches(callee):  # which is last hangs on branches
                found |= _union(self._ended((callee, one)) for one in last_nodes)
        return found

    def _callees(self, place: Place) -> list[Key]:
        ran = self.closed.calls.get(place)
        named = ran if ran is not None else (key for one in self.given(place) for key in self._called(one))
        return list(dict.fromkeys(key for key in named if key in self.closed.programs))

    def _last_nodes(self, key: Key) -> list[str]:
        """The nodes that may be the last that succeeded. A `stop` can make any node the last."""
        if key not in self._lasts:
            graph = self._graph(key)
            stops = any(one.type == "stop" for one in graph.nodes.values())
            self._lasts[key] = [
                one
                for one in graph.scopes[TOP].node_ids
                if one not in graph.triggers and (stops or not self._is_surely_followed(key, one))
            ]
        return self._lasts[key]

    def _is_surely_followed(self, key: Key, node_id: str) -> bool:
        graph = self._graph(key)
        return any(
            edge.label is None
            and graph.nodes[edge.child].on_error == "fail"
            and len(graph.edges_into.get(edge.child, ())) == 1
            for edge in graph.edges_from.get(node_id, ())
        )

    def _branches(self, key: Key) -> bool:
        return any(edge.label for edges in self._graph(key).edges_from.values() for edge in edges)

    # --- where a member's event, properties and items come from ---

    def _event(self, key: Key, path: Path, node_id: str | None = None) -> int:
        """A part of the event that started a member: of the run itself, or of the calls of it."""
        if path[:1] == ("body",):
            path = path[1:]
        graph, found = self._graph(key), 0
        for one in ((node_id,) if node_id is not None else graph.triggers) if key == self.closed.root else ():
            if self.closed.fired not in (None, one):
                continue
            node = graph.nodes[one]
            found |= self.bits.bit("trigger", node.type, *(str(step) for step in path[:_DEPTH]))
            found |= self._constant[key, one] if node.payload else 0
            found |= self.bits.bit("connector", node.connector.id) if node.connector is not None else 0
        for site in self._sites[key]:
            prefix = steps_of(".".join(("payload", *(str(step) for step in path))))
            found |= self.written(site, "payload") | self.refs(site, prefix)
        return found

    def _props(self, key: Key, path: Path) -> int:
        found = self.bits.bit("props", str(path[0]) if path else ANY) if key == self.closed.root else 0
        for site in self._sites[key]:
            prefix = steps_of(".".join(("propValues", *(str(step) for step in path[:1]))))
            found |= self.written(site, "propValues") | self.refs(site, prefix)
        return found

    def _items(self, place: Place, root: str, path: Path, within: bool) -> int:
        loops = self.loops(place, within)
        if root != "$for":
            return self._item(loops, place, 0 if root == "$item" else 1, path)
        if len(path) > 1 and path[0] in loops and path[1] == "item":
            return self._item(loops, place, loops.index(str(path[0])), path[2:])
        return _union(self._item(loops, place, depth, ()) for depth in range(len(loops)))

    def _item(self, loops: Sequence[str], place: Place, depth: int, path: Path) -> int:
        if depth >= len(loops):
            return 0
        loop = (place[0], loops[depth])
        listed = self.node(loop).node.payload.get("array")
        plain = _WHOLE.fullmatch(listed.strip()) if isinstance(listed, str) else None
        quick = quick_path(plain.group(1)) if plain is not None and path else None
        if quick is not None:
            return self._constant[loop] | self._read(
                loop, Reference(quick.root, (*quick.keys, ANY, *path), 0, 0, False)
            )
        return self._get("item", loop)

    def _item_of(self, loop: Place) -> int:
        """The items of a loop: its list, or what `while` makes, which also says how long it goes on."""
        own = self._constant[loop] | self._outside[loop]
        tested = self.refs(loop, (TESTS,)) if self.node(loop).repeat is not None else 0
        return own | tested | _union(self.refs(loop, (name,)) for name in ("array", "first", "next"))

    def loops(self, place: Place, within: bool) -> tuple[str, ...]:
        """The loops whose items a node can see, innermost first; `while` and `next` are evaluated within their own,
        `first` and `array` outside of it."""
        around = self._graph(place[0]).loops_around(place[1])
        return (place[1], *around) if within and self.node(place).repeat is not None else around

    # --- rule: stores carry control ---

    def _variable(self, key: Key, name: str) -> int:
        return self._get("variable", key, name)

    def _variable_of(self, key: Key, name: str) -> int:
        workflow = workflow_of(key)
        declared = {one.name: one for one in self.closed.programs[key].definition.variable_defs}
        is_reset = name in declared and declared[name].lifetime == "reset"  # then no other run can have written it
        found = self.bits.bit("definition", key) if name in declared or name == ANY else 0
        found |= 0 if is_reset else self.bits.bit("variable", workflow, name)
        for writer in self._writers.get((workflow, name), ()):
            found |= self._constant[writer] | self.refs(writer) | self.decides(writer)
        return found if is_reset else self.bits.stored(found, keeps_rows=False)

    def _table(self, name: str | None) -> int:
        writers = (
            one
            for table, places in self._table_writers.items()
            if name is None or table is None or table == name
            for one in places
        )
        found = _union(self._constant[one] | self.refs(one) | self.decides(one) for one in writers)
        return self.bits.stored(found, keeps_rows=True)

    # --- rule: the chain is a store ---

    def moved_before(self, place: Place) -> int:
        """What earlier spends of the closure moved: all but those that can only follow, and a node itself while there
        are few (each difference is a set of its own)."""
        if not self.spends:
            return 0
        following = self._following(place) if self._is_once(place) else 0
        if following or len(self.spends) < _FEW_SPENDS:
            following |= self._numbered.get(place, 0) if self._is_once(place) else 0
        return self._get("moved", following)

    def _moved_of(self, following: int) -> int:
        return _union(self._get("paid", one) for one, bit in self._numbered.items() if not following & bit)

    def _paid_of(self, spend: Place) -> int:
        return self._constant[spend] | self.refs(spend) | self.decides(spend)

    def _is_once(self, place: Place) -> bool:
        """Whether a node surely runs at most once in a run and all that it calls."""
        key, node_id = place
        if self._graph(key).loops_around(node_id):
            return False
        if key not in self._once:
            sites = self._sites[key]
            self._once[key] = False  # also for calls in circles
            self._once[key] = not sites or (key != self.closed.root and len(sites) == 1 and self._is_once(sites[0]))
        return self._once[key]

    def _following(self, place: Place) -> int:
        """The spends that can only come after a node, in its own member."""
        if not self._after:
            for key, node_id in reversed(self.order):
                children = [(key, edge.child) for edge in self._graph(key).edges_from.get(node_id, ())]
                after = (self._after.get(one, 0) | self._numbered.get(one, 0) for one in children)
                self._after[key, node_id] = _union(after)
        return self._after[place]

    # --- what a spend asks for ---

    def written(self, place: Place, name: str) -> int:
        """An input as its author wrote it."""
        key, node_id = place
        return self._constant[place] if self._is_coarse else self.bits.bit("definition", key, node_id, name)

    def unnamed(self, place: Place, named: Sequence[Steps]) -> int:
        """The neighbours that the inputs read beside those named, such as another key of the same row."""
        beside = [one for one in self._inputs[place] if not any(overlap(one, steps) for steps in named)]
        return _union(self.refs(place, one) for one in beside if one[0] not in (TESTS, "connector"))

    def wallet(self, place: Place) -> int:
        """The sources that choose the wallet that pays."""
        if self.node(place).node.connector is None:
            return self.bits.bit("setting", "default-wallet")
        return self.written(place, "connector") | self.refs(place, ("connector",))

    def computed(self, place: Place) -> int:
        """The facts from the chain that an amount hangs on: its answers, and what was moved before."""
        return self._outside[place] | self.moved_before(place)

    # --- what a store is given ---

    def stores_of(self, place: Place) -> set[Source]:
        """The tables, or the variable, that a node writes to; `*`: any."""
        node = self.node(place).node
        if node.type in _WRITERS:
            return {Source("variable", workflow_of(place[0]), (str(node.payload.get("name")),))}
        return {Source("table", self._table_name(one) or ANY) for one in self.given(place)}

    def written_to(self, place: Place) -> dict[str, int]:
        """By column, what can change what a node writes there. `""`: which rows it writes, or to a variable; `*`:
        columns that are not told apart."""
        payload = self.node(place).node.payload
        at = 1 if isinstance(payload.get("rows"), Mapping) else 2
        columns: dict[str, set[Steps]] = {}
        for steps in self._inputs[place]:
            if steps[0] in ("rows", "values"):
                column = steps[1:2] if steps[0] == "values" else steps[at : at + 1]
                columns.setdefault(column[0] if column and column[0] else ANY, set()).add(steps)
        if self.node(place).node.type != "write-table":  # a variable
            return {"": self.refs(place)}
        shared = self.unnamed(place, [("rows",), ("values",)]) | self.refs(place, (TESTS,))
        return {"": shared} | {name: _union(self.refs(place, one) for one in found) for name, found in columns.items()}

    # --- what stops ---

    def stops(self, place: Place) -> int:
        """All that can fail or end before a node, beside it, or in a run that called it or that it is called from."""
        graph = self._graph(place[0])
        after: set[str] = set()
        queue = [place[1]] if not graph.loops_around(place[1]) else []
        while queue:
            fresh = [edge.child for edge in graph.edges_from.get(queue.pop(), ()) if edge.child not in after]
            after.update(fresh)
            queue += fresh
        return _union(self._either(one) for one in self.order if one[0] != place[0] or one[1] not in after)

    # --- helpers ---

    def node(self, place: Place) -> ProgramNode:
        """The compiled node of a place."""
        return self.closed.programs[place[0]].nodes[place[1]]

    def _graph(self, key: Key) -> Graph:
        return self.closed.programs[key].graph


def workflow_of(key: Key) -> str:
    """The workflow of a member."""
    return key.rpartition("@")[0]


def _source(named: Named) -> Source:
    path = named[2:3] if named[0] == "contract" else () if named[0] == "table" else named[2:]
    return Source(named[0], named[1] if len(named) > 1 else "", path)


def _column_of(path: Path) -> str | None:
    """The column of a part of what `read-table` gives; None: all of its rows."""
    found = path[1:2] if path[0] == "first" else path[2:3] if path[0] == "rows" else ()
    return str(found[0]) if found and found[0] != ANY and isinstance(found[0], str) else None


def _is_at(steps: Steps, prefix: Steps) -> bool:
    if prefix and TESTS in (steps[0], prefix[0]):
        return steps[0] == prefix[0]
    return overlap(steps, prefix)


def _union(sets: Iterable[int]) -> int:
    return reduce(or_, sets, 0)


def _topological(program: Program) -> Iterator[str]:
    """Parents first: then most sets are complete when they are first read."""
    seen: dict[str, None] = {}
    for scope in program.graph.scopes.values():
        degree = {one: len(program.graph.edges_into.get(one, ())) for one in scope.node_ids}
        queue = [one for one, count in degree.items() if not count]
        for one in queue:
            seen[one] = None
            for edge in program.graph.edges_from.get(one, ()):
                degree[edge.child] -= 1
                if not degree[edge.child]:
                    queue.append(edge.child)
    return iter([*seen, *(one for one in program.nodes if one not in seen)])
