"""Errors of expressions: `Fault` inside the evaluator, `ExpressionError` for callers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

Kind = Literal["syntax", "missing", "type", "limit", "value"]

MAX_QUOTED_LINE = 120
_TOKEN = re.compile(r"""\$?\w+(?:\??\.\w+|\[(?:\d+|'[^'\n]*'|"[^"\n]*")\])*|'[^'\n]*'|"[^"\n]*\"""")
MAX_NAMES_COMPARED = 500


class Fault(Exception):
    """An error inside the evaluator, which `??`, `||`, `&&` and `has()` may still catch.

    `offset` is the position in the expression; `hint` is computed only when a person will read it.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        offset: int | None = None,
        path: str | None = None,
        hint: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.offset = offset
        self.path = path
        self.hint = hint

    def at(self, offset: int) -> Fault:
        """Sets the position, unless a nested expression has set it."""
        if self.offset is None:
            self.offset = offset
        return self


class ExpressionError(Exception):
    """A template that cannot be compiled or evaluated, with the position of the error.

    `path` is the missing path (`$nodes.a.result.price`), `field` the payload field with the template.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: Kind,
        source: str = "",
        offset: int = 0,
        path: str | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.source = source
        self.line, self.column = line_and_column(source, offset)
        self.span = span_at(source, offset) if source else None
        """The characters of `source` that are meant."""
        self.path = path
        self.field = field

    def __str__(self) -> str:
        lines = self.source.splitlines()
        if not 0 < self.line <= len(lines):
            return self.message
        start = max(0, self.column - MAX_QUOTED_LINE // 2)
        text = lines[self.line - 1][start : start + MAX_QUOTED_LINE]
        caret = " " * (self.column - 1 - start) + "^"
        return f"{self.message} (line {self.line}, column {self.column})\n  {text}\n  {caret}"


class ExpressionErrors(Exception):
    """All compile errors of one payload."""

    def __init__(self, errors: Sequence[ExpressionError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


def span_at(source: str, offset: int) -> tuple[int, int]:
    """The characters of the path, value or sign at an offset: its first, and the one behind its last. At the end of a
    text these are the last one's."""
    start = max(0, min(offset, len(source) - 1))
    found = _TOKEN.match(source, start)
    return start, found.end() if found is not None else min(start + 1, len(source))


def line_and_column(source: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both counted from 1."""
    before = source[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")


def suggest(name: str, names: Iterable[str]) -> str:
    """A hint with similar names when `name` is not in `names`; empty when none is similar."""
    known = [known for known, _ in zip(names, range(MAX_NAMES_COMPARED), strict=False) if len(known) <= 100]
    found = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.6)
    if found:
        return "; did you mean " + " or ".join(f'"{match}"' for match in found) + "?"
    if known and len(known) <= 12:
        return "; there is " + ", ".join(f'"{name}"' for name in known)
    return ""
