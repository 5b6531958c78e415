"""What pydantic found, as problems by field path in the caller's names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dustrun.errors import Problem

_PLAIN_NAME = re.compile(r"^[A-Za-z_$][A-Za-z0-9_$-]*$")
_MAX_PROBLEMS = 100
_MAX_NAME = 80


def field_path(location: Sequence[Any]) -> str:
    """A location like `("nodes", "a", "children", 0)` as `nodes.a.children[0]`."""
    path = ""
    for part in location:
        if part == "[key]":
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        elif _PLAIN_NAME.match(str(part)):
            path += f".{part}" if path else str(part)
        else:
            path += f"[{str(part)[:_MAX_NAME]!r}]"
    return path


def problems_of(errors: Sequence[Any], *, skip: int = 0, whole: str = "body") -> list[Problem]:
    """The findings, a hundred at most; `skip` leaves out the first parts of each location, `whole` names the root."""
    return [
        Problem(field_path(error["loc"][skip:]) or whole, str(error["msg"]), code=str(error["type"]))
        for error in errors[:_MAX_PROBLEMS]
    ]
