"""`&&`, `||` and `??`: which operand decides, and which error survives."""

from __future__ import annotations

from typing import Any

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.syntax import tree
from dustrun.core.expression.syntax.printer import short_text
from dustrun.core.expression.syntax.tree import Logic
from dustrun.core.expression.values import Frame, Run, TypeName, kind


def absorb(fault: Fault) -> Fault:
    """Catches an error that another operand may override; limit errors are never caught."""
    if fault.kind == "limit":
        raise fault
    return fault


def _not_bool(node: Logic, number: int, value: Any) -> Fault:
    text = short_text(node.parts[number])
    return Fault("type", f"{node.operator} needs bools; {text} is a {kind(value)}", offset=node.at)


def fold_and(parts: tuple[Run, ...], node: Logic) -> Run:
    """False if any operand is false, even if others fail (CEL)."""

    def run(frame: Frame) -> bool:
        failure: Fault | None = None
        for number, part in enumerate(parts):
            try:
                value = part(frame)
            except Fault as fault:
                failure = failure or absorb(fault)
                continue
            if value is False:
                return False
            if value is not True:
                failure = failure or _not_bool(node, number, value)
        if failure is not None:
            raise failure
        return True

    return run


def fold_or(parts: tuple[Run, ...], node: Logic) -> Run:
    """CEL's `||` if the left side is a bool; otherwise the first operand that is neither missing nor null."""
    last = len(parts) - 1

    def run(frame: Frame) -> Any:
        failure: Fault | None = None
        seen_false = False
        for number, part in enumerate(parts):
            try:
                value = part(frame)
            except Fault as fault:
                if fault.kind != "missing" or number == last:
                    failure = failure or absorb(fault)
                continue
            if value is True:
                return True
            if value is False:
                seen_false = True
            elif value is None and number != last:
                continue
            elif seen_false or failure is not None:
                failure = failure or _not_bool(node, number, value)
            else:
                return value
        if failure is not None:
            raise failure
        return False

    return run


def fold_else(parts: tuple[Run, ...], node: Logic) -> Run:
    """The first operand that is neither missing nor null; else the last one."""
    *earlier, last = parts

    def run(frame: Frame) -> Any:
        for part in earlier:
            try:
                value = part(frame)
            except Fault as fault:
                if fault.kind != "missing":
                    raise
                continue
            if value is not None:
                return value
        return last(frame)

    return run


# Types as values: `type(x) == int`.


_PLAIN = ("int", "decimal", "bool", "string", "bytes", "list", "map", "null_type", "type")

# name in an expression → type. CEL's `uint` and `double` are `int` and `decimal` here.
TYPES: dict[str, TypeName] = {
    **{name: TypeName(name) for name in _PLAIN},
    "uint": TypeName("int"),
    "double": TypeName("decimal"),
}
_QUALIFIED = {
    "google.protobuf.Timestamp": TypeName("google.protobuf.Timestamp"),
    "google.protobuf.Duration": TypeName("google.protobuf.Duration"),
}
_BY_KIND = {
    "null": TYPES["null_type"],
    "timestamp": _QUALIFIED["google.protobuf.Timestamp"],
    "duration": _QUALIFIED["google.protobuf.Duration"],
    **{name: TYPES[name] for name in _PLAIN},
}


def type_of(value: Any) -> TypeName:
    """The type of a value."""
    return _BY_KIND.get(kind(value)) or TypeName(kind(value))


def qualified_type(node: tree.Member) -> TypeName | None:
    """The type named by a dotted name such as `google.protobuf.Timestamp`."""
    if not isinstance(node.start, tree.Name) or len(node.steps) != 2:
        return None
    names = [step.name for step in node.steps if isinstance(step, tree.Select)]
    return _QUALIFIED.get(".".join([node.start.name, *names]))
