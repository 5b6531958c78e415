"""The money fields of a spend that an `approve` node shows: who decides then stands for what shaped them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from dustrun.core.expression.quick_path import quick_path
from dustrun.core.sources.inputs import computed_fields, group_references, money_fields, overlap
from dustrun.core.workflow.graph import TOP, Graph
from dustrun.core.workflow.program import Program

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
    """What each money field reads; none for those that the action computes from the chain."""
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
