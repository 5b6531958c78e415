"""CEL's macros: `has()` and the loops over lists and maps. A loop always ends and pays for every round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dustrun.core.expression import tree
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.frame import Frame, Run, Take
from dustrun.core.expression.functions.data import group_by_keys, sort_by_keys, unique_by_keys
from dustrun.core.expression.logic import absorb
from dustrun.core.expression.printer import brief
from dustrun.core.expression.values import Lazy, from_key, kind

if TYPE_CHECKING:
    from dustrun.core.expression.compile import Compiler

Text = Callable[[], str]


def has(compiler: Compiler, node: tree.Call) -> Run:
    """`has(a.b)`: whether the path leads somewhere; never an error for what is missing on the way."""
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
    """A loop macro: its variable, its bodies, and the rounds over a value."""

    def __init__(self, compiler: Compiler, step: tree.Method, text: Text) -> None:
        variable, *bodies = step.arguments
        if not isinstance(variable, tree.Name) or variable.name.startswith("$"):
            message = f"the first argument of {step.name}() is the name of the loop variable, like item"
            raise Fault("syntax", message, offset=step.at)
        self.step, self.text, self.nodes = step, text, bodies
        (self.slot,), self.runs = compiler.with_variables((variable.name,), tuple(bodies))
        self.weight = 1 + sum(body.weight for body in bodies)

    def rounds(self, frame: Frame, value: Any) -> Iterator[Any]:
        """Every item, set as the variable and paid for."""
        variables, slot, charge, weight = frame.variables, self.slot, frame.meter.charge, self.weight
        for item in self.items(value):
            charge(weight)
            variables[slot] = item
            yield item

    def items(self, value: Any) -> list[Any]:
        """What the loop runs over: the items of a list, the keys of a map."""
        if isinstance(value, list):
            return value
        if isinstance(value, dict):
            return [from_key(key) for key in value]
        if isinstance(value, Lazy):
            return list(value.keys())
        message = f"{self.step.name}() runs over a list or a map; {self.text()} is a {kind(value)}"
        raise Fault("type", message, offset=self.step.at)

    def test(self, frame: Frame) -> bool:
        """The first body as the bool it must be."""
        value = self.runs[0](frame)
        if value is True or value is False:
            return bool(value)
        body = self.nodes[0]
        raise Fault("type", f"{self.step.name}() needs a bool; {brief(body)} is a {kind(value)}", offset=body.at)


def _decide(loop: Loop, deciding: bool) -> Take:
    """`all` and `exists`: one deciding item settles it, whatever fails for others."""

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


def _by_key(work: Callable[..., Any]) -> Callable[[Loop], Take]:
    """A function over the items and one key for each."""

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


#: (name, number of arguments) → what the loop does
_LOOPS: dict[tuple[str, int], Callable[[Loop], Take]] = {
    ("all", 2): _all,
    ("exists", 2): _exists,
    ("exists_one", 2): _exists_one,
    ("existsOne", 2): _exists_one,
    ("filter", 2): _filter,
    ("map", 2): _map,
    ("map", 3): _map_some,
    ("sortBy", 2): _by_key(sort_by_keys),
    ("groupBy", 2): _by_key(group_by_keys),
    ("unique", 2): _by_key(unique_by_keys),
}
NAMES = frozenset({name for name, _ in _LOOPS} | {"has"})


def is_loop(step: tree.Method) -> bool:
    """Whether a method is a loop macro, whose first argument is a variable."""
    if (step.name, len(step.arguments)) not in _LOOPS:
        return False
    # `rows.sortBy("amount", "desc")` is the function of the same name.
    return step.name not in ("sortBy", "groupBy", "unique") or isinstance(step.arguments[0], tree.Name)


def loop(compiler: Compiler, step: tree.Method, text: Text) -> Take:
    """Compiles a loop macro."""
    return _LOOPS[step.name, len(step.arguments)](Loop(compiler, step, text))
