"""Sources of the spends of a closure, kept by the versions that it has: the slices of `core/sources`, and from them
the things whose writers are asked."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from dustrun.core.sources.slicer import ClosedPrograms
from dustrun.core.sources.source import ANY, Source
from dustrun.core.sources.spend_slice import SpendSlice, slice_closure
from dustrun.core.workflow.program import Program
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Temporary
from dustrun.records import dataclass
from dustrun.services.workflows.closure import FOLLOWERS, Closure, Lookup, key_of, version_called
from dustrun.storage.data import managed_tables

Thing = tuple[str, str]
"""A thing that a hand has written: `definition` with `<workflow>@<version>`, or one of the kinds of stored hands with
its name (`version`: the choice of the version that calls of a workflow run; `guards`: what that one requires); also
`called`, what a computed call may run, `finished`, the runs after which a workflow runs, and `resume`, `approval` and
`comment`, a `wait` or `approve` that goes on, and what is said with that: who may answer it is decided then."""

Writes = Mapping[tuple[str, str], SpendSlice]
"""By place, the slices of nodes that write to tables and variables."""

_KEPT = 500
_FEW_NODES = 60
"""Nodes that are sliced within the turn of the event loop: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sources of one spending node of a closure. `slice`: those by money field; None in a version that does not
    compile, which can run nothing."""

    member: tuple[str, int]
    node_id: str
    wallets: tuple[str | None, ...]
    things: frozenset[Thing]
    slice: SpendSlice | None = None


class ClosureUnsliced(Temporary):
    """The closure must be sliced first, which takes longer than a transaction may."""

    def __init__(self, closure: Closure, closed: ClosedVersions) -> None:
        super().__init__(
            "What the workflow calls has changed this moment; nothing was done. Try again.", retry_after_s=1
        )
        self.closure = closure
        self.closed = closed


@dataclass(frozen=True, slots=True)
class ClosedVersions:
    """The identity of a closure: its members, what each call runs, and the names of tables by id. `unsaved`: the hash
    of the first member's definition, if that is of no version. `ran` and `fired`: see `Closure`."""

    members: tuple[tuple[str, int], ...]
    resolve: tuple[tuple[tuple[str, int | None], str], ...]
    tables: tuple[tuple[str, str], ...]
    unsaved: str = ""
    ran: tuple[tuple[tuple[str, str], tuple[str, ...]], ...] = ()
    fired: str | None = None


class ProgramSource(Protocol):
    """Where programs of versions come from."""

    async def find(self, workflow_id: str, version: int) -> Any:
        """The compiled version, or None."""

    async def compile_text(self, org_id: str, text: str) -> Any:
        """The compiled definition, which is of no version."""


class Shapes:
    """A cache of shapes."""

    def __init__(self, specs: Specs, programs: ProgramSource) -> None:
        self._specs = specs
        self._programs = programs
        self._kept: OrderedDict[ClosedVersions, tuple[tuple[Shape, ...], Writes]] = OrderedDict()

    def get(self, lookup: Lookup, closure: Closure) -> tuple[Shape, ...]:
        """The shapes of all spends; raises `ClosureUnsliced` if they are not known yet."""
        return self._find(lookup, closure)[0]

    def writes(self, lookup: Lookup, closure: Closure) -> Writes:
        """The slices of all nodes that write to tables and variables; raises `ClosureUnsliced` if they are not known
        yet."""
        return self._find(lookup, closure)[1]

    def _find(self, lookup: Lookup, closure: Closure) -> tuple[tuple[Shape, ...], Writes]:
        closed = _closed(lookup, closure)
        found = self._kept.get(closed)
        if found is None:
            raise ClosureUnsliced(closure, closed)
        self._kept.move_to_end(closed)
        return found

    async def add(self, missing: ClosureUnsliced) -> None:
        """Finds the shapes of a closure."""
        programs: dict[str, Program] = {}
        for member in missing.closure.members:
            text = missing.closure.unsaved if member is missing.closure.root else None
            org_id = missing.closure.root.workflow.org_id
            find = self._programs.find(*member.key) if text is None else self._programs.compile_text(org_id, text)
            compiled = await find
            if compiled is not None and compiled.program is not None:
                programs[key_of(*member.key)] = compiled.program
        closure, closed = missing.closure, missing.closed
        if sum(len(program.nodes) for program in programs.values()) <= _FEW_NODES:
            shapes = _shapes(closure, closed, programs, self._specs)
        else:
            shapes = await asyncio.to_thread(_shapes, closure, closed, programs, self._specs)
        self._kept[closed] = shapes
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)


def _coarse_shapes(
    closure: Closure, closed: ClosedVersions, slices: Mapping[tuple[str, str], SpendSlice]
) -> Iterator[Shape]:
    """All that the members are and read, for each spend: one of them does not compile, so everything in it counts."""
    things = {("definition", key_of(*member.key)) for member in closure.members}
    for member in closure.members:
        workflow = member.workflow.id
        things |= {
            ("variable", f"{workflow}/{ANY}") if kind == "variable" else (kind, name)
            for kind, name in member.content.reads
        }
    things |= _of_start(closure) | ({("called", ANY)} if closure.calls_any else set())
    whole = [*things, *_choices(closed, things)]
    for member, node in closure.spends():
        found = slices.get((key_of(*member.key), node.node_id))
        all_things = frozenset([*whole, *_guards(closed, things, member.workflow.id)])
        yield Shape(member.key, node.node_id, node.wallets, all_things, found)


def _choices(closed: ClosedVersions, things: set[Thing]) -> Iterator[Thing]:
    """Of which of the called versions somebody decides that calls run them: the calls name none."""
    for (workflow_id, version), key in closed.resolve:
        if version is None and ("definition", key) in things:
            yield "version", workflow_id
    yield from (("version", name) for kind, name in things if kind == "called")


def _guards(closed: ClosedVersions, things: set[Thing], paying: str) -> Iterator[Thing]:
    """The called workflows whose guards shape a spend: a call that they refuse has failed, which may lead to a branch.
    Those of the workflow that pays itself can only stop it."""
    for workflow_id, version in closed.members[1:]:
        if workflow_id != paying and ("definition", key_of(workflow_id, version)) in things:
            yield "guards", workflow_id
    yield from (("guards", name) for kind, name in things if kind == "called")


def _of_start(closure: Closure) -> set[Thing]:
    """The things that decide when the version runs, beside keys that may spend: webhooks, ends of other runs."""
    found = {("webhook", f"{closure.root.workflow.id}/{node_id}") for node_id in closure.root.content.webhooks}
    found |= {("table", name) for name in closure.root.content.watched}
    if closure.root.content.follows:
        found.add(("finished", closure.root.workflow.id))
    return found


def _shapes(
    closure: Closure, closed: ClosedVersions, programs: dict[str, Program], specs: Specs
) -> tuple[tuple[Shape, ...], Writes]:
    root = key_of(*closed.members[0])
    given = ClosedPrograms(
        root, programs, dict(closed.resolve), dict(closed.tables), calls=dict(closed.ran), fired=closed.fired
    )
    slices, writes = slice_closure(given, specs) if root in programs else ([], [])
    written = {one.place: one for one in writes}
    if len(programs) < len(closure.members):
        return tuple(_coarse_shapes(closure, closed, {one.place: one for one in slices})), written
    masks = _masks(slices)
    start = _of_start(closure)
    wallets = {(key_of(*member.key), node.node_id): (member.key, node.wallets) for member, node in closure.spends()}
    found = []
    for one in slices:
        key, paying = wallets[one.place]
        bits = one.deciding
        for more in one.bits.values():
            bits |= more
        things = {*start, *(thing for thing, mask in masks.items() if bits & mask)}
        beside = [*_choices(closed, things), *_guards(closed, things, key[0])]
        found.append(Shape(key, one.place[1], paying, frozenset([*things, *beside]), one))
    return tuple(found), written


def _masks(slices: list[SpendSlice]) -> dict[Thing, int]:
    """By thing, the set of the sources that its writers stand behind."""
    masks: dict[Thing, int] = {}
    every = 0
    for one in slices:
        every |= one.deciding
        for more in one.bits.values():
            every |= more
    for bit, source in slices[0].names.each(every) if slices else ():
        thing = thing_of(source)
        if thing is not None:
            masks[thing] = masks.get(thing, 0) | bit
    return masks


def thing_of(source: Source) -> Thing | None:
    """The written thing that a source comes from; None for systems, which policies judge, for what the run's
    starter gives, and for what only the run knows."""
    kind, name = source.kind, source.name
    if kind in ("definition", "connector", "import", "table"):
        return kind, name
    if kind in ("model", "mcp"):
        return "connector", name
    if kind == "variable":
        return kind, f"{name}/{source.path[0]}"
    if kind == "setting" and name == "default-wallet":
        return kind, name
    if kind == "workflow":
        return ("name", name) if source.path else ("called", name)
    if kind == "approval" and source.path[1:]:
        return "comment", f"{name}#{source.path[0]}"
    if kind in ("resume", "approval"):
        return kind, f"{name}#{source.path[0]}"
    if kind == "trigger" and name in FOLLOWERS:
        return "finished", name
    return None


def _closed(lookup: Lookup, closure: Closure) -> ClosedVersions:
    members = tuple(member.key for member in closure.members)
    present, resolve = set(members), dict[tuple[str, int | None], str]()
    for member in closure.members:
        for workflow_id, version in member.content.calls:
            row = lookup.find(workflow_id)
            run = (workflow_id, version or version_called(row)) if row is not None else None
            if run in present:
                assert run is not None
                resolve[workflow_id, version] = key_of(*run)
    unsaved = "" if closure.unsaved is None else closure.root.content.hash
    called = tuple(sorted(resolve.items(), key=str))
    return ClosedVersions(members, called, _tables(lookup, closure), unsaved, closure.ran, closure.fired)


def _tables(lookup: Lookup, closure: Closure) -> tuple[tuple[str, str], ...]:
    """Nodes may name a table by its id or its name."""
    named = {name for member in closure.members for name in member.content.tables if "{{" not in name}
    found = (managed_tables.find(lookup.tx, lookup.org_id, name) for name in sorted(named))
    return tuple(sorted({(row.id, row.name) for row in found if row is not None}))
