"""Types as values: `type(x) == int`."""

from __future__ import annotations

from typing import Any

from dustrun.core.expression.runtime.values import TypeName, kind
from dustrun.core.expression.syntax import tree

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
