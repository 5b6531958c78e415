"""Names of APIs and operations, as parts of node types."""

from __future__ import annotations

import hashlib
import re
from typing import Final

API: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MOST_API: Final = 40
_MOST: Final = 80
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OTHER: Final = re.compile(r"[^a-z0-9]+")


def kebab(text: str) -> str:
    """A text in lower case with hyphens: `listUserRepos` and `List user repos` become `list-user-repos`; may be
    empty."""
    return _OTHER.sub("-", _HUMP.sub("-", text).lower()).strip("-")


def operation_name(text: str) -> str:
    """The name of an operation within its API; a long one is shortened and ends with a hash of the whole."""
    name = kebab(text) or "operation"
    if not name[0].isalpha():
        name = f"op-{name}"
    if len(name) <= _MOST:
        return name
    return f"{name[: _MOST - 9].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def api_name(title: str) -> str:
    """The name of an API, by its title; empty if the title has no letter."""
    name = kebab(title).lstrip("0123456789-")
    return name[:MOST_API].rstrip("-")
