"""Finds what an expression refers to, without evaluating it."""

from __future__ import annotations

from collections.abc import Iterator

from dustrun.core.expression import macros
from dustrun.core.expression.functions import FUNCTIONS, HOST_VALUES
from dustrun.core.expression.logic import TYPES, qualified_type
from dustrun.core.expression.syntax import tree
from dustrun.core.expression.syntax.tree import Node
from dustrun.records import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """One path from a root: its parts up to the first computed one.

    `guarded`: a missing value is handled by `??`, `||` or `has()`. `span`: its characters in the template's text.
    """

    root: str
    path: Path
    line: int
    column: int
    guarded: bool
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class UnplacedReference:
    """A reference whose offset in the template is not known yet."""

    root: str
    path: Path
    at: int
    guarded: bool


@dataclass(frozen=True, slots=True)
class _Sight:
    """The static scope at a node: loop variables, whether a guard encloses it, paths proved by has()."""

    variables: frozenset[str] = frozenset()
    guarded: bool = False
    proved: frozenset[tuple[str, Path]] = frozenset()

    def guard(self) -> _Sight:
        return _Sight(self.variables, True, self.proved)

    def bind(self, name: str) -> _Sight:
        return _Sight(self.variables | {name}, self.guarded, self.proved)

    def prove(self, paths: frozenset[tuple[str, Path]]) -> _Sight:
        return _Sight(self.variables, self.guarded, self.proved | paths)


def find_references(node: Node) -> tuple[UnplacedReference, ...]:
    """Every reference of a tree, from left to right."""
    return tuple(_walk(node, _Sight()))


def _walk(node: Node, sight: _Sight) -> Iterator[UnplacedReference]:
    match node:
        case tree.Name():
            yield from _path(node, (), node.at, sight)
        case tree.Member():
            yield from _member(node, sight)
        case tree.Call(name="has"):
            yield from _all(node.arguments, sight.guard())
        case tree.Call():
            if node.name in HOST_VALUES and not node.arguments:
                yield UnplacedReference(HOST_VALUES[node.name][0], (), node.at, sight.guarded)
            yield from _all(node.arguments, sight)
        case tree.Unary():
            yield from _walk(node.operand, sight)
        case tree.Chain():
            yield from _all((node.first, *(right for _, right in node.rest)), sight)
        case tree.Logic():
            yield from _logic(node, sight)
        case tree.Choice():
            yield from _walk(node.condition, sight)
            yield from _walk(node.then, sight.prove(_proofs(node.condition)))
            yield from _walk(node.otherwise, sight)
        case tree.ListOf():
            yield from _all(node.items, sight)
        case tree.MapOf():
            yield from _all(tuple(part for entry in node.entries for part in entry), sight)


def _all(nodes: tuple[Node, ...], sight: _Sight) -> Iterator[UnplacedReference]:
    for node in nodes:
        yield from _walk(node, sight)


def _logic(node: tree.Logic, sight: _Sight) -> Iterator[UnplacedReference]:
    *earlier, last = node.parts
    if node.operator == "&&":
        for part in node.parts:
            yield from _walk(part, sight)
            sight = sight.prove(_proofs(part))
        return
    yield from _all(tuple(earlier), sight.guard())
    yield from _walk(last, sight)


def _member(node: tree.Member, sight: _Sight) -> Iterator[UnplacedReference]:
    if "google" not in sight.variables and qualified_type(node):
        return
    steps = node.steps
    binding = macros.binding(node) if "cel" not in sight.variables else None
    if binding:
        yield from _bind(binding, sight)
        steps = steps[1:]
    elif isinstance(node.start, tree.Name):
        yield from _path(node.start, _constant_steps(node), node.start.at, sight)
    else:
        yield from _walk(node.start, sight)
    for step in steps:
        if isinstance(step, tree.Index):
            yield from _walk(step.index, sight)
        elif isinstance(step, tree.Method):
            yield from _method(step, sight)


def _method(step: tree.Method, sight: _Sight) -> Iterator[UnplacedReference]:
    if macros.is_loop(step):
        count = macros.loop_variables(step)
        for name in macros.variable_names(step.arguments[:count], step):
            sight = sight.bind(name)
        yield from _all(step.arguments[count:], sight)
    else:
        yield from _all(step.arguments, sight)


def _bind(step: tree.Method, sight: _Sight) -> Iterator[UnplacedReference]:
    (name,) = macros.variable_names(step.arguments[:1], step)
    yield from _walk(step.arguments[1], sight)
    yield from _walk(step.arguments[2], sight.bind(name))


def _path(start: tree.Name, path: Path, at: int, sight: _Sight) -> Iterator[UnplacedReference]:
    if start.name in sight.variables or start.name in TYPES:
        return
    proved = any(root == start.name and path[: len(known)] == known for root, known in sight.proved)
    yield UnplacedReference(start.name, path, at, sight.guarded or proved)


def _constant_steps(node: tree.Member) -> Path:
    """The statically known steps: names, literal keys and numbers, a host function."""
    path: list[str | int] = []
    for step in node.steps:
        if isinstance(step, tree.Method) and step.name not in FUNCTIONS and not macros.is_loop(step):
            return (*path, step.name)
        key = constant_key(step)
        if key is None:
            break
        path.append(key)
    return tuple(path)


def constant_key(step: tree.Step) -> str | int | None:
    """The statically known key of a step, or None."""
    if isinstance(step, tree.Select):
        return step.name
    if isinstance(step, tree.Index) and isinstance(step.index, tree.Literal):
        value = step.index.value
        return value if isinstance(value, str | int) and not isinstance(value, bool) else None
    return None


def _proofs(condition: Node) -> frozenset[tuple[str, Path]]:
    """The paths that must exist wherever this condition holds."""
    if isinstance(condition, tree.Logic) and condition.operator == "&&":
        return frozenset().union(*map(_proofs, condition.parts))
    if isinstance(condition, tree.Call) and condition.name == "has" and len(condition.arguments) == 1:
        argument = condition.arguments[0]
        if isinstance(argument, tree.Member) and isinstance(argument.start, tree.Name):
            path = _constant_steps(argument)
            if len(path) == len(argument.steps):
                return frozenset({(argument.start.name, path)})
    return frozenset()
