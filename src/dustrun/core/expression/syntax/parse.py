"""Parses text into a tree. The grammar is CEL's plus `??` and `$roots`; its tables are built once, on first use."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from dustrun.core.expression.fault import Fault
from dustrun.core.expression.syntax import literals, tree
from dustrun.core.expression.syntax.tree import Node
from dustrun.core.expression.values import DEFAULT_LIMITS

MAX_SOURCE = 65_536

RAW_STRING = r"""(?:[rR][bB]?|[bB][rR])(?:'''[\s\S]*?'''|\"\"\"[\s\S]*?\"\"\"|'[^'\r\n]*'|\"[^\"\r\n]*\")"""
STRING = (
    r"""[bB]?(?:'''(?:\\[\s\S]|[^\\])*?'''|\"\"\"(?:\\[\s\S]|[^\\])*?\"\"\""""
    r"""|'(?:\\.|[^'\\\r\n])*'|\"(?:\\.|[^\"\\\r\n])*\")"""
)
COMMENT = r"//[^\n]*"

GRAMMAR = r"""
?start: expression
?expression: coalesce
    | coalesce QUESTION coalesce ":" expression -> choice
?coalesce: either (COALESCE either)*            -> logic
?either: both (OR both)*                        -> logic
?both: relation (AND relation)*                 -> logic
?relation: sum ((RELATION | IN) sum)*           -> chain
?sum: product ((PLUS | MINUS) product)*         -> chain
?product: unary (TIMES unary)*                  -> chain
?unary: member
    | NOT+ member                               -> unary
    | MINUS+ member                             -> unary
?member: primary
    | primary step+                             -> member
step: "." NAME                                  -> select
    | "." QUOTED                                -> select
    | "." NAME "(" [arguments] ")"              -> method
    | BRACKET expression "]"                    -> index
?primary: "."? NAME                             -> name
    | "."? NAME "(" [arguments] ")"             -> call
    | "(" expression ")"
    | BRACKET "]"                               -> list_of
    | BRACKET arguments ","? "]"                -> list_of
    | BRACE "}"                                 -> map_of
    | BRACE entries ","? "}"                    -> map_of
    | INTEGER                                   -> integer
    | DECIMAL                                   -> decimal
    | (STRING | RAW_STRING)                     -> string
    | CONSTANT                                  -> constant
arguments: expression                           -> first
    | arguments "," expression                  -> following
entries: entry                                  -> first
    | entries "," entry                         -> following
entry: expression ":" expression                -> entry

QUESTION: "?"
COALESCE: "??"
OR: "||"
AND: "&&"
RELATION: "==" | "!=" | "<=" | "<" | ">=" | ">"
IN: "in"
NOT: "!"
PLUS: "+"
MINUS: "-"
TIMES: "*" | "/" | "%"
BRACKET: "["
BRACE: "{"
CONSTANT.2: /(true|false|null)(?![A-Za-z0-9_])/
NAME: /\$?[A-Za-z_][A-Za-z0-9_]*/
QUOTED: /`[A-Za-z0-9_.\/ -]+`/
DECIMAL.3: /[0-9]*\.[0-9]+([eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+/
INTEGER.2: /0[xX][0-9a-fA-F]+[uU]?|[0-9]+[uU]?/
%ignore /[ \t\n\f\r]+/
"""
GRAMMAR += f"STRING.4: /{STRING}/\nRAW_STRING.5: /{RAW_STRING}/\nCOMMENT.6: /{COMMENT.replace('/', chr(92) + '/')}/"
GRAMMAR += "\n%ignore COMMENT\n"

RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
     "package", "namespace", "return", "var", "void", "while"}
)  # fmt: skip

_BRACES: Final = re.compile(r"(?:^|[\s(!&|<>=+*/-]){{")  # a template where an expression is expected


def parse(text: str) -> Node:
    """Parses one bare expression; raises `Fault` with the offset of the error."""
    from lark import exceptions  # slow import

    if len(text) > MAX_SOURCE:
        raise Fault("limit", f"an expression of {len(text)} characters is too long; the limit is {MAX_SOURCE}")
    if not text.strip():
        raise Fault("syntax", "the expression is empty", offset=0)
    try:
        return _parser()(text)
    except exceptions.UnexpectedCharacters as error:
        raise Fault("syntax", _strange(text, error.pos_in_stream or 0), offset=error.pos_in_stream) from None
    except exceptions.UnexpectedToken as error:
        raise _unexpected(text, error.token) from None


@functools.cache
def _parser() -> Callable[[str], Node]:
    from lark import Lark  # slow import

    lark = Lark(GRAMMAR, parser="lalr", lexer="contextual", transformer=_Builder(), maybe_placeholders=True)
    return lark.parse  # type: ignore[return-value]


def _strange(text: str, offset: int) -> str:
    character = text[offset]
    if character in "'\"":
        return "unterminated string"
    if character == "=":
        return 'a single "=" is not an operator; use "==" to compare'
    if character in "&|":
        return f'a single "{character}" is not an operator; use "{character * 2}"'
    return f'unexpected "{character}"'


def _unexpected(text: str, token: Any) -> Fault:
    if token.type == "$END":
        return Fault("syntax", "unexpected end of the expression", offset=len(text.rstrip()))
    if text[token.start_pos] == "}" and _BRACES.search(text, 0, token.start_pos):
        words = 'unexpected "}"; write the expression without "{{ }}": this field is one itself'
        return Fault("syntax", words, offset=token.start_pos)
    return Fault("syntax", f'unexpected "{str(token)[:40]}"', offset=token.start_pos)


def _shape(at: int, *groups: Iterable[Node]) -> dict[str, int]:
    """Offset, height and weight of a node with these children; rejects deep nesting."""
    height, weight = 0, 1
    for group in groups:
        for child in group:
            height = max(height, child.height)
            weight += child.weight
    if height >= DEFAULT_LIMITS.depth:
        raise Fault("limit", f"the expression is nested deeper than {DEFAULT_LIMITS.depth} levels", offset=at)
    return {"at": at, "height": height + 1, "weight": weight}


def _inner(step: tree.Step) -> tuple[Node, ...]:
    if isinstance(step, tree.Index):
        return (step.index,)
    return step.arguments if isinstance(step, tree.Method) else ()


class _Builder:
    """Builds the tree bottom-up; the parser calls the method named by a rule."""

    def choice(self, children: list[Any]) -> Node:
        condition, question, then, otherwise = children
        shape = _shape(question.start_pos, (condition, then, otherwise))
        return tree.Choice(condition, then, otherwise, **shape)

    def logic(self, children: list[Any]) -> Node:
        if len(children) == 1:
            return self._only(children)
        parts = tuple(children[::2])
        return tree.Logic(str(children[1]), parts, **_shape(children[1].start_pos, parts))

    def chain(self, children: list[Any]) -> Node:
        if len(children) == 1:
            return self._only(children)
        rest = tuple((str(o), node) for o, node in zip(children[1::2], children[2::2], strict=True))
        return tree.Chain(children[0], rest, **_shape(children[1].start_pos, children[::2]))

    def unary(self, children: list[Any]) -> Node:
        node: Node = children[-1]
        for token in reversed(children[:-1]):
            node = tree.Unary(str(token), node, **_shape(token.start_pos, (node,)))
        return node

    def member(self, children: list[Any]) -> Node:
        start, steps = children[0], tuple(children[1:])
        inner = [_shape(step.at, _inner(step)) for step in steps]
        return tree.Member(
            start,
            steps,
            at=start.at,
            height=max(start.height, *(shape["height"] for shape in inner)),
            weight=start.weight + sum(shape["weight"] for shape in inner),
        )

    def select(self, children: list[Any]) -> tree.Select:
        token = children[0]
        if token[0] == "$":
            raise Fault("syntax", f'"{token}" is a root and cannot follow a dot', offset=token.start_pos)
        return tree.Select(str(token).strip("`"), at=token.start_pos)

    def method(self, children: list[Any]) -> tree.Method:
        token, arguments = children
        return tree.Method(str(token), tuple(arguments or ()), at=token.start_pos)

    def index(self, children: list[Any]) -> tree.Index:
        return tree.Index(children[1], at=children[0].start_pos)

    def name(self, children: list[Any]) -> Node:
        token = children[0]
        if token in RESERVED:
            message = f'"{token}" is a reserved word; refer to a node of this name as $nodes.{token}'
            raise Fault("syntax", message, offset=token.start_pos)
        return tree.Name(str(token), at=token.start_pos)

    def call(self, children: list[Any]) -> Node:
        token, arguments = children
        return tree.Call(str(token), tuple(arguments or ()), **_shape(token.start_pos, arguments or ()))

    def list_of(self, children: list[Any]) -> Node:
        items = tuple(children[1]) if len(children) > 1 else ()
        return tree.ListOf(items, **_shape(children[0].start_pos, items))

    def map_of(self, children: list[Any]) -> Node:
        entries = tuple(children[1]) if len(children) > 1 else ()
        return tree.MapOf(entries, **_shape(children[0].start_pos, *entries))

    def first(self, children: list[Any]) -> list[Any]:
        return [children[0]]

    def following(self, children: list[Any]) -> list[Any]:
        children[0].append(children[1])
        return children[0]  # type: ignore[no-any-return]

    def entry(self, children: list[Any]) -> tuple[Node, Node]:
        return children[0], children[1]

    def integer(self, children: list[Any]) -> Node:
        return self._literal(children[0], literals.read_integer)

    def decimal(self, children: list[Any]) -> Node:
        return self._literal(children[0], literals.read_decimal)

    def string(self, children: list[Any]) -> Node:
        return self._literal(children[0], literals.read_string)

    def constant(self, children: list[Any]) -> Node:
        token = children[0]
        return tree.Literal({"true": True, "false": False}.get(str(token)), at=token.start_pos)

    def _literal(self, token: Any, read: Callable[[str], Any]) -> Node:
        try:
            return tree.Literal(read(str(token)), at=token.start_pos)
        except Fault as fault:
            raise fault.at(token.start_pos) from None

    def _only(self, children: list[Any]) -> Node:
        return children[0]  # type: ignore[no-any-return]
