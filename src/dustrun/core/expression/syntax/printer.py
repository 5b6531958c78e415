"""Prints a tree as text that parses back to the same tree; messages quote expressions with it."""

from __future__ import annotations

import re
from decimal import Decimal

from dustrun.core.expression.syntax import literals, tree
from dustrun.core.expression.syntax.tree import Node

_RANKS = {"??": 1, "||": 2, "&&": 3, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "in": 4,
          "+": 5, "-": 5, "*": 6, "/": 6, "%": 6}  # fmt: skip
_CHOICE, _UNARY, _MEMBER, _PRIMARY = 0, 7, 8, 9
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def to_text(node: Node) -> str:
    """An expression in canonical spacing."""
    return _write(node)[0]


def short_text(node: Node, width: int = 60) -> str:
    """An expression for a message, truncated when long."""
    text = to_text(node)
    return text if len(text) <= width else text[: width - 1] + "…"


def _within(node: Node, rank: int) -> str:
    text, own = _write(node)
    return text if own >= rank else f"({text})"


def _write(node: Node) -> tuple[str, int]:
    match node:
        case tree.Literal():
            return _literal(node), _PRIMARY
        case tree.Name():
            return node.name, _PRIMARY
        case tree.Call():
            return f"{node.name}({_list(node.arguments)})", _PRIMARY
        case tree.Member():
            return _within(node.start, _PRIMARY) + "".join(map(step_text, node.steps)), _MEMBER
        case tree.Unary():
            return _unary(node), _UNARY
        case tree.Chain():
            rank = _RANKS[node.rest[0][0]]
            parts = (f" {operator} {_within(right, rank + 1)}" for operator, right in node.rest)
            return _within(node.first, rank + 1) + "".join(parts), rank
        case tree.Logic():
            rank = _RANKS[node.operator]
            return f" {node.operator} ".join(_within(part, rank + 1) for part in node.parts), rank
        case tree.Choice():
            condition, then = _within(node.condition, 1), _within(node.then, 1)
            return f"{condition} ? {then} : {to_text(node.otherwise)}", _CHOICE
        case tree.ListOf():
            return f"[{_list(node.items)}]", _PRIMARY
        case tree.MapOf():
            entries = (f"{to_text(key)}: {to_text(value)}" for key, value in node.entries)
            return "{" + ", ".join(entries) + "}", _PRIMARY
    raise TypeError(f"cannot print {type(node).__name__}")


def _list(nodes: tuple[Node, ...]) -> str:
    return ", ".join(map(to_text, nodes))


def _unary(node: tree.Unary) -> str:
    inner = node.operand
    repeated = isinstance(inner, tree.Unary) and inner.operator == node.operator
    return node.operator + (to_text(inner) if repeated else _within(inner, _MEMBER))


def step_text(step: tree.Step) -> str:
    """`.name`, `[index]` or `.method(arguments)`."""
    match step:
        case tree.Select():
            return f".{step.name}" if _PLAIN_NAME.fullmatch(step.name) else f".`{step.name}`"
        case tree.Index():
            return f"[{to_text(step.index)}]"
        case tree.Method():
            return f".{step.name}({_list(step.arguments)})"


def _literal(node: tree.Literal) -> str:
    value = node.value
    if isinstance(value, str):
        return literals.write_string(value)
    if isinstance(value, bytes):
        return literals.write_bytes(value)
    if isinstance(value, Decimal):
        text = str(value).replace("E", "e")
        return text if "." in text or "e" in text else text + ".0"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
