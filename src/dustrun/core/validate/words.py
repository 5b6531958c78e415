"""Wording of problems: field paths and suggestions of similar names."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from dustrun.errors import Problem


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint like ` Did you mean "log"?`, or empty; compares the first thousand of `known`."""
    names = list(dict.fromkeys(itertools.islice(known, 1000)))
    begun = [other for other in names if len(name) >= 3 and other.startswith(name)]
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6) or begun[:2]
    quoted = " or ".join(f'"{match}"' for match in close)
    return f" Did you mean {quoted}?" if close else ""


def field_path(location: Iterable[int | str]) -> str:
    """A location like `('rows', 0, 'amount')` as `rows[0].amount`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def seen_location(value: Any, location: Iterable[int | str], kind: str) -> tuple[int | str, ...]:
    """A validator's location without the names it gives to the members of a union."""
    seen: list[int | str] = []
    for part in location:
        if has(value, part):
            seen.append(part)
            value = value[part]
        elif kind == "missing" and isinstance(value, Mapping) and isinstance(part, str):
            seen.append(part)
            value = None
    return tuple(seen)


def has(value: Any, part: int | str) -> bool:
    """Whether a JSON value has this key or index."""
    if isinstance(value, list | tuple):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def problem(code: str, node_id: str, field: str, message: str, severity: str = "error") -> Problem:
    """A problem of one node; `field` is a path inside it, empty for the node itself."""
    path = f"nodes.{node_id}.{field}" if field else f"nodes.{node_id}"
    return Problem(path, message, code, node_id, severity)
