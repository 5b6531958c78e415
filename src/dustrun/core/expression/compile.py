"""Compiles a syntax tree into nested closures, once per template. A closure takes a `Frame` and returns a value."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from dustrun.core.expression import macros, operators, values
from dustrun.core.expression import values as access
from dustrun.core.expression.border import to_json
from dustrun.core.expression.fault import Fault, suggest
from dustrun.core.expression.functions import FUNCTIONS, HOST_VALUES
from dustrun.core.expression.functions.table import call
from dustrun.core.expression.logic import TYPES, fold_and, fold_else, fold_or, qualified_type
from dustrun.core.expression.operators import NO, OPERATORS, negate
from dustrun.core.expression.references import UnplacedReference, constant_key
from dustrun.core.expression.syntax import tree
from dustrun.core.expression.syntax.parse import RESERVED
from dustrun.core.expression.syntax.printer import short_text, step_text
from dustrun.core.expression.syntax.tree import Node
from dustrun.core.expression.values import Frame, Function, Lazy, Roots, Run, Take, kind, map_key


class Compiler:
    """Compiles one tree; `scope` maps the loop variables in scope to their slots."""

    def __init__(self) -> None:
        self.scope: dict[str, int] = {}
        self.depth = 0
        self.slots = 0

    def compile(self, node: Node) -> Run:
        """Compiles any node to a closure."""
        return _COMPILERS[type(node)](self, node)

    def all(self, nodes: tuple[Node, ...]) -> tuple[Run, ...]:
        """Compiles several nodes."""
        return tuple(self.compile(node) for node in nodes)

    def with_variables(
        self, names: tuple[str, ...], nodes: tuple[Node, ...]
    ) -> tuple[tuple[int, ...], tuple[Run, ...]]:
        """Compiles nodes with loop variables in scope; also returns the slots of the variables."""
        outer, first = self.scope, self.depth
        slots = tuple(range(first, first + len(names)))
        self.scope = {**outer, **dict(zip(names, slots, strict=True))}
        self.depth += len(names)
        self.slots = max(self.slots, self.depth)
        try:
            return slots, self.all(nodes)
        finally:
            self.scope, self.depth = outer, first

    def literal(self, node: tree.Literal) -> Run:
        value = node.value
        return lambda frame: value

    def name(self, node: tree.Name) -> Run:
        name, at = node.name, node.at
        if name in self.scope:
            slot = self.scope[name]
            return lambda frame: frame.variables[slot]
        if name in TYPES:
            found = TYPES[name]
            return lambda frame: found
        return lambda frame: access.take_root(frame, name, at)

    def member(self, node: tree.Member) -> Run:
        found = qualified_type(node) if "google" not in self.scope else None
        if found is not None:
            return lambda frame: found
        binding = macros.binding(node) if "cel" not in self.scope else None
        start = macros.bind(self, binding) if binding else self.compile(node.start)
        takes = tuple(self.step(node, number) for number in range(1 if binding else 0, len(node.steps)))
        if len(takes) == 1:
            only = takes[0]
            return lambda frame: only(frame, start(frame))

        def run(frame: Frame) -> Any:
            value = start(frame)
            for take in takes:
                value = take(frame, value)
            return value

        return run

    def step(self, node: tree.Member, number: int) -> Take:
        step = node.steps[number]
        if isinstance(step, tree.Method):
            return self.method(node, number, step)
        whole = functools.partial(_path_text, node, number + 1)
        before = functools.partial(_path_text, node, number)
        at = step.at
        key = constant_key(step)
        if isinstance(key, str):
            return _take_constant(key, whole, before, at)
        assert isinstance(step, tree.Index)
        index = self.compile(step.index)

        def take(frame: Frame, value: Any) -> Any:
            return access.take(value, index(frame), whole, before, at)

        return take

    def method(self, node: tree.Member, number: int, step: tree.Method) -> Take:
        if macros.is_loop(step):
            return macros.loop(self, step, functools.partial(_path_text, node, number))
        arguments = self.all(step.arguments)
        function = FUNCTIONS.get(step.name)
        if function is None:
            return self.host_method(node, number, step, arguments)
        function.check_count(len(arguments) + 1, step.at)

        def take(frame: Frame, value: Any) -> Any:
            return call(function, frame.meter, [value, *[argument(frame) for argument in arguments]], step.at)

        return take

    def host_method(self, node: tree.Member, number: int, step: tree.Method, arguments: tuple[Run, ...]) -> Take:
        """Compiles a call like `$run.resumeUrl('x')`: a host function stored under a key of a root."""
        if not (isinstance(node.start, tree.Name) and node.start.name not in self.scope):
            raise unknown_function(step.name, step.at)

        def take(frame: Frame, value: Any) -> Any:
            try:
                function = value.get(step.name) if isinstance(value, Lazy) else None
            except KeyError:
                function = None
            if not isinstance(function, Function):
                raise unknown_function(step.name, step.at)
            if function.arity != len(arguments):
                message = f"{step.name}() takes {function.arity} arguments, not {len(arguments)}"
                raise Fault("type", message, offset=step.at)
            return _call_host(frame, step, function, [argument(frame) for argument in arguments])

        return take

    def call(self, node: tree.Call) -> Run:
        if node.name == "has":
            return macros.has(self, node)
        at, name = node.at, node.name
        host = HOST_VALUES.get(name)
        if host is not None and not node.arguments:
            root, convert = host
            return lambda frame: convert(access.take_root(frame, root, at))
        function = FUNCTIONS.get(name)
        if function is None:
            raise unknown_function(name, at)
        function.check_count(len(node.arguments), at)
        arguments = self.all(node.arguments)
        return lambda frame: call(function, frame.meter, [argument(frame) for argument in arguments], at)

    def unary(self, node: tree.Unary) -> Run:
        operand, at = self.compile(node.operand), node.at

        def run(frame: Frame) -> Any:
            value = operand(frame)
            if node.operator == "!":
                if isinstance(value, bool):
                    return not value
                raise Fault("type", f"! needs a bool; {short_text(node.operand)} is a {kind(value)}", offset=at)
            if operators.is_number(value):
                return negate(frame.meter, value)
            raise Fault("type", f"- needs a number; {short_text(node.operand)} is a {kind(value)}", offset=at)

        return run

    def chain(self, node: tree.Chain) -> Run:
        first = self.compile(node.first)
        rest = tuple((OPERATORS[operator][1], self.compile(right)) for operator, right in node.rest)

        def run(frame: Frame) -> Any:
            value = first(frame)
            for number, (work, operand) in enumerate(rest):
                right = operand(frame)
                try:
                    result = work(frame.meter, value, right)
                except Fault as fault:
                    raise fault.at(node.at) from None
                if result is NO:
                    raise _unfit(node, number, value, right)
                value = result
            return value

        return run

    def logic(self, node: tree.Logic) -> Run:
        fold = {"&&": fold_and, "||": fold_or, "??": fold_else}[node.operator]
        return fold(self.all(node.parts), node)

    def choice(self, node: tree.Choice) -> Run:
        condition, then, otherwise = self.all((node.condition, node.then, node.otherwise))

        def run(frame: Frame) -> Any:
            value = condition(frame)
            if value is True:
                return then(frame)
            if value is False:
                return otherwise(frame)
            message = f"the condition of ? must be a bool; {short_text(node.condition)} is a {kind(value)}"
            raise Fault("type", message, offset=node.at)

        return run

    def list_of(self, node: tree.ListOf) -> Run:
        items = self.all(node.items)
        return lambda frame: [item(frame) for item in items]

    def map_of(self, node: tree.MapOf) -> Run:
        entries = tuple((key.at, self.compile(key), self.compile(value)) for key, value in node.entries)

        def run(frame: Frame) -> Any:
            found: dict[Any, Any] = {}
            for at, key, value in entries:
                mapped = map_key(key(frame))
                if mapped is None or isinstance(mapped, Decimal):
                    raise Fault("type", "a map key must be a string, an integer or a bool", offset=at)
                if mapped in found:
                    raise Fault("value", "a map has the same key twice", offset=at)
                found[mapped] = value(frame)
            return found

        return run


def _call_host(frame: Frame, step: tree.Method, function: Function, values: list[Any]) -> Any:
    """Calls the host function with JSON values only; an error becomes a fault without the host's message."""
    given = [to_json(frame.meter, value) for value in values]
    try:
        return function.call(*given)
    except (KeyError, ValueError, TypeError):
        raise Fault("value", f"{step.name}() does not accept these arguments", offset=step.at) from None


def _take_constant(key: str, whole: Callable[[], str], before: Callable[[], str], at: int) -> Take:
    def take(frame: Frame, value: Any) -> Any:
        if type(value) is dict and key in value:
            return value[key]
        return access.take(value, key, whole, before, at)

    return take


def _path_text(node: tree.Member, steps: int) -> str:
    return short_text(node.start) + "".join(step_text(step) for step in node.steps[:steps])


def unknown_function(name: str, at: int) -> Fault:
    """The fault for an unknown function name."""
    known = [*FUNCTIONS, *macros.NAMES]
    return Fault("syntax", f'there is no function "{name}"', offset=at, hint=lambda: suggest(name, known))


def _unfit(node: tree.Chain, number: int, left: Any, right: Any) -> Fault:
    """The fault for incompatible operand types; never quotes the values, which may be secret."""
    operator, right_node = node.rest[number]
    left_text = short_text(node.first) if number == 0 else "the value so far"
    verb = OPERATORS[operator][0]
    message = f"cannot {verb} {left_text} ({kind(left)}) and {short_text(right_node)} ({kind(right)}) with {operator}"
    if {kind(left), kind(right)} in ({"string", "int"}, {"string", "decimal"}):
        message += "; use int() or dec() to turn text into a number, string() to turn a number into text"
    return Fault("type", message, offset=node.at)


_COMPILERS: dict[type, Callable[[Compiler, Any], Run]] = {
    tree.Literal: Compiler.literal,
    tree.Name: Compiler.name,
    tree.Member: Compiler.member,
    tree.Call: Compiler.call,
    tree.Unary: Compiler.unary,
    tree.Chain: Compiler.chain,
    tree.Logic: Compiler.logic,
    tree.Choice: Compiler.choice,
    tree.ListOf: Compiler.list_of,
    tree.MapOf: Compiler.map_of,
}


# A fast path for the most common expression, a plain path like `$nodes.a.result.price`: no parser, no compiler.
#
# Same semantics as the compiled form: anything but a plain hit falls back to it.


_PATH = re.compile(
    r"\s*(\$?[A-Za-z_][A-Za-z0-9_]*)((?:\.[A-Za-z_][A-Za-z0-9_]*|\[(?:0|[1-9][0-9]{0,8})\])*)\s*", re.ASCII
)
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+)\]")
_WORDS = frozenset({"true", "false", "null", "in"})
_MAX_LENGTH = 500


class QuickPath:
    """A root and constant keys."""

    __slots__ = ("found", "keys", "places", "root")

    def __init__(self, root: str, at: int, steps: list[re.Match[str]], base: int) -> None:
        self.root = root
        self.keys = tuple(m.group(1) or int(m.group(2)) for m in steps)
        self.places = tuple(base + m.start() + (1 if m.group(1) else 0) for m in steps)
        self.found = UnplacedReference(root, self.keys, at, False)

    def fetch(self, roots: Roots) -> Any:
        """The value if every step is a plain hit; otherwise None, and `run` gives the definite answer."""
        try:
            value = roots.root(self.root)
            for key in self.keys:
                value = value[key] if type(value) is dict else _step(value, key)
        except (KeyError, IndexError):
            return None
        return value

    def run(self, frame: Frame) -> Any:
        """The value, or the fault of the first missing step."""
        value = values.take_root(frame, self.root, self.found.at)
        for number, key in enumerate(self.keys):
            whole, before = functools.partial(self._text, number + 1), functools.partial(self._text, number)
            value = values.take(value, key, whole, before, self.places[number])
        return value

    def _text(self, steps: int) -> str:
        parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys[:steps])
        return self.root + "".join(parts)


def _step(value: Any, key: Any) -> Any:
    if isinstance(value, Lazy) and type(key) is str:
        return value.get(key)
    if type(value) is list and type(key) is int:
        return value[key]
    raise KeyError(key)


def quick_path(text: str) -> QuickPath | None:
    """Recognises an expression that is only a path; None otherwise."""
    match = _PATH.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        return None
    root, rest = match.groups()
    if root in _WORDS or root in RESERVED or root in TYPES or root == "google":
        return None
    return QuickPath(root, match.start(1), list(_STEP.finditer(rest)), match.start(2))
