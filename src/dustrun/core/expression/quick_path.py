"""A fast path for the most common expression, a plain path like `$nodes.a.result.price`: no parser, no compiler.

Same semantics as the compiled form: anything but a plain hit falls back to it.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from dustrun.core.expression.references import Found
from dustrun.core.expression.runtime import access
from dustrun.core.expression.runtime.frame import Frame
from dustrun.core.expression.runtime.values import Lazy, Roots
from dustrun.core.expression.syntax.parse import RESERVED
from dustrun.core.expression.typenames import TYPES

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
        self.found = Found(root, self.keys, at, False)

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
        value = access.take_root(frame, self.root, self.found.at)
        for number, key in enumerate(self.keys):
            whole, before = functools.partial(self._text, number + 1), functools.partial(self._text, number)
            value = access.take(value, key, whole, before, self.places[number])
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
