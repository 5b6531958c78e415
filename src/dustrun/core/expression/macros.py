"""CEL's macros: `has()` and the comprehensions over lists and maps. Every iteration is metered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.data import group_by_keys, sort_by_keys, unique_by_keys
from dustrun.core.expression.logic import absorb
from dustrun.core.expression.syntax import tree
from dustrun.core.expression.syntax.printer import short_text
from dustrun.core.expression.values import Frame, Lazy, Run, Take, from_key, kind, map_key, read_all

if TYPE_CHECKING:
    from dustrun.core.expression.compile import Compiler

Text = Callable[[], str]


def has(compiler: Compiler, node: tree.Call) -> Run:
    """Compiles `has(a.b)`: whether the path exists; a missing step on the way is not an error."""
    argument = node.arguments[0] if len(node.arguments) == 1 else None
    if not isinstance(argument, tree.Member) or isinstance(argument.steps[-1], tree.Method):
        raise Fault("syntax", "has() takes one path, like has($trigger.body.name)", offset=node.at)
    path = compiler.compile(argument)

    def run(frame: Frame) -> bool:
        try:
            path(frame)
        except Fault as fault:
            if fault.kind != "missing":
                raise
            return False
        return True

    return run


class Loop:
    """A comprehension: its variables, its bodies, and the iteration over a value."""

    def __init__(self, compiler: Compiler, step: tree.Method, text: Text) -> None:
        count = _LOOPS[step.name, len(step.arguments)][0]
        names, bodies = variable_names(step.arguments[:count], step), step.arguments[count:]
        self.step, self.text, self.nodes = step, text, bodies
        self.slots, self.runs = compiler.with_variables(names, bodies)
        self.weight = 1 + sum(body.weight for body in bodies)

    def rounds(self, frame: Frame, value: Any) -> Iterator[Any]:
        """Iterates the items (keys of a map; with two variables, index or key and item), binding the variables;
        metered.
        """
        variables, charge, weight = frame.variables, frame.meter.charge, self.weight
        if len(self.slots) == 2:
            first, second = self.slots
            for key, item in self.pairs(value):
                charge(weight)
                variables[first], variables[second] = key, item
                yield key
            return
        (slot,) = self.slots
        for item in self.items(value):
            charge(weight)
            variables[slot] = item
            yield item

    def pairs(self, value: Any) -> Iterable[tuple[Any, Any]]:
        """(index, item) of a list, (key, value) of a map."""
        if isinstance(value, list):
            return enumerate(value)
        if isinstance(value, dict):
            return [(from_key(key), item) for key, item in value.items()]
        if isinstance(value, Lazy):
            return read_all(value).items()
        raise self.unfit(value)

    def items(self, value: Any) -> list[Any]:
        """The items of a list, or the keys of a map."""
        if isinstance(value, list):
            return value
        if isinstance(value, dict):
            return [from_key(key) for key in value]
        if isinstance(value, Lazy):
            return list(value.keys())
        raise self.unfit(value)

    def unfit(self, value: Any) -> Fault:
        """The fault for a value that is neither a list nor a map."""
        message = f"{self.step.name}() iterates a list or a map; {self.text()} is a {kind(value)}"
        return Fault("type", message, offset=self.step.at)

    def test(self, frame: Frame) -> bool:
        """Evaluates the first body, which must be a bool."""
        value = self.runs[0](frame)
        if value is True or value is False:
            return bool(value)
        body = self.nodes[0]
        raise Fault("type", f"{self.step.name}() needs a bool; {short_text(body)} is a {kind(value)}", offset=body.at)


def _decide(loop: Loop, deciding: bool) -> Take:
    """`all` and `exists`: one deciding item is enough, even if others fail."""

    def take(frame: Frame, value: Any) -> bool:
        failure: Fault | None = None
        for _ in loop.rounds(frame, value):
            try:
                if loop.test(frame) is deciding:
                    return deciding
            except Fault as fault:
                failure = failure or absorb(fault)
        if failure is not None:
            raise failure
        return not deciding

    return take


def _all(loop: Loop) -> Take:
    return _decide(loop, False)


def _exists(loop: Loop) -> Take:
    return _decide(loop, True)


def _exists_one(loop: Loop) -> Take:
    return lambda frame, value: sum(loop.test(frame) for _ in loop.rounds(frame, value)) == 1


def _filter(loop: Loop) -> Take:
    return lambda frame, value: [item for item in loop.rounds(frame, value) if loop.test(frame)]


def _map(loop: Loop) -> Take:
    body = loop.runs[0]
    return lambda frame, value: [body(frame) for _ in loop.rounds(frame, value)]


def _map_some(loop: Loop) -> Take:
    body = loop.runs[1]
    return lambda frame, value: [body(frame) for _ in loop.rounds(frame, value) if loop.test(frame)]


def _map_of(loop: Loop) -> Take:
    body = loop.runs[-1]
    everything = len(loop.runs) == 1

    def take(frame: Frame, value: Any) -> dict[Any, Any]:
        rounds = loop.rounds(frame, value)
        return {map_key(key): body(frame) for key in rounds if everything or loop.test(frame)}

    return take


def _by_key(work: Callable[..., Any]) -> Callable[[Loop], Take]:
    """Compiles a function over the items and a computed key of each."""

    def macro(loop: Loop) -> Take:
        body = loop.runs[0]

        def take(frame: Frame, value: Any) -> Any:
            keyed = [(body(frame), item) for item in loop.rounds(frame, value)]
            try:
                return work(frame.meter, keyed)
            except Fault as fault:
                raise fault.at(loop.step.at) from None

        return take

    return macro


# (name, number of arguments) → (how many of them are variables, implementation)
_LOOPS: dict[tuple[str, int], tuple[int, Callable[[Loop], Take]]] = {
    ("all", 2): (1, _all),
    ("all", 3): (2, _all),
    ("exists", 2): (1, _exists),
    ("exists", 3): (2, _exists),
    ("exists_one", 2): (1, _exists_one),
    ("existsOne", 2): (1, _exists_one),
    ("existsOne", 3): (2, _exists_one),
    ("filter", 2): (1, _filter),
    ("map", 2): (1, _map),
    ("map", 3): (1, _map_some),
    ("transformList", 3): (2, _map),
    ("transformList", 4): (2, _map_some),
    ("transformMap", 3): (2, _map_of),
    ("transformMap", 4): (2, _map_of),
    ("sortBy", 2): (1, _by_key(sort_by_keys)),
    ("groupBy", 2): (1, _by_key(group_by_keys)),
    ("unique", 2): (1, _by_key(unique_by_keys)),
}
NAMES = frozenset({name for name, _ in _LOOPS} | {"has", "cel.bind"})


def variable_names(arguments: tuple[tree.Node, ...], step: tree.Method) -> tuple[str, ...]:
    """The variable names declared by a macro's first arguments."""
    names = [node.name for node in arguments if isinstance(node, tree.Name) and not node.name.startswith("$")]
    if len(names) != len(arguments) or len(set(names)) != len(names):
        what = "is the name of the loop variable" if len(arguments) == 1 else "are the names of two loop variables"
        what = f"argument of {step.name}() {what}" if len(arguments) == 1 else f"arguments of {step.name}() {what}"
        raise Fault("syntax", f"the first {what}, like item", offset=step.at)
    return tuple(names)


def loop_variables(step: tree.Method) -> int:
    """How many of a comprehension's first arguments are variables."""
    return _LOOPS[step.name, len(step.arguments)][0]


def is_loop(step: tree.Method) -> bool:
    """Whether a method is a comprehension macro, whose first argument is a variable."""
    if (step.name, len(step.arguments)) not in _LOOPS:
        return False
    # `rows.sortBy("amount", "desc")` is the plain function of the same name.
    first = step.arguments[0]
    is_name = isinstance(first, tree.Name) and not first.name.startswith("$")
    return is_name or step.name not in ("sortBy", "groupBy", "unique")


def loop(compiler: Compiler, step: tree.Method, text: Text) -> Take:
    """Compiles a comprehension macro."""
    return _LOOPS[step.name, len(step.arguments)][1](Loop(compiler, step, text))


def binding(node: tree.Member) -> tree.Method | None:
    """The first step of `cel.bind(name, value, expression)`, which binds a value to a name."""
    step = node.steps[0]
    is_bind = isinstance(node.start, tree.Name) and node.start.name == "cel" and isinstance(step, tree.Method)
    return step if is_bind and step.name == "bind" and len(step.arguments) == 3 else None  # type: ignore[union-attr,return-value]


def bind(compiler: Compiler, step: tree.Method) -> Run:
    """Compiles `cel.bind`: the value is computed once."""
    names = variable_names(step.arguments[:1], step)
    value = compiler.compile(step.arguments[1])
    (slot,), (body,) = compiler.with_variables(names, step.arguments[2:])

    def run(frame: Frame) -> Any:
        frame.variables[slot] = value(frame)
        return body(frame)

    return run
