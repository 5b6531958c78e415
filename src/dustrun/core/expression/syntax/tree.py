"""Syntax tree of expressions: frozen and comparable; offsets (`at`), used only in messages, do not take part."""

from __future__ import annotations

from dataclasses import field
from decimal import Decimal

from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """An expression. `at` is its offset in the text, `height` its nesting depth, `weight` its number of nodes."""

    at: int = field(default=0, compare=False, kw_only=True)
    height: int = field(default=1, compare=False, kw_only=True)
    weight: int = field(default=1, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number, text, bytes, boolean or null."""

    value: bool | int | Decimal | str | bytes | None
    kind: type = field(init=False, repr=False)  # 1, 1.0 and true are equal in Python but are different literals

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", type(self.value))


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A root (`$nodes`, a node id), a loop variable or a type."""

    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`.name` after a value."""

    name: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Index:
    """`[expression]` after a value."""

    index: Node
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Method:
    """`.name(arguments)` after a value."""

    name: str
    arguments: tuple[Node, ...]
    at: int = field(default=0, compare=False)


Step = Select | Index | Method


@dataclass(frozen=True, slots=True)
class Member(Node):
    """A value followed by steps (`.name`, `[index]`, `.method()`)."""

    start: Node
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`name(arguments)`, macros such as `has` included."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`!x` or `-x`."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Left-associative operators of one precedence: `a + b - c`, `a * b / c`, `a < b`."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """`a && b && c`, `a || b`, `a ?? b`."""

    operator: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`condition ? then : otherwise`."""

    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    """`[a, b]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf(Node):
    """`{key: value}`."""

    entries: tuple[tuple[Node, Node], ...]
