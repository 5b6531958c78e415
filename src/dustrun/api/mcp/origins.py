"""Which web pages may speak to `/mcp`: those of this server, and of programs on the browser's own machine.

A page elsewhere could reach a server on the visitor's machine by a name that leads there (DNS rebinding). It has no
key; the specification asks servers to refuse it all the same. Programs send no `Origin`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.types import Scope

from dustrun.errors import Forbidden

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def check_origin(scope: Scope, base_url: str) -> None:
    """Raises `Forbidden` for a request of a page that is neither of this server nor local."""
    for name, value in scope["headers"]:
        if name == b"origin" and not _is_ours(value.decode("latin-1"), base_url):
            raise Forbidden("A page of another origin may not use MCP here.")


def _is_ours(origin: str, base_url: str) -> bool:
    try:
        found, own = urlsplit(origin.strip()), urlsplit(base_url)
        same = (found.scheme, found.hostname, found.port) == (own.scheme, own.hostname, own.port)
    except ValueError:
        return False
    return same or (found.scheme in ("http", "https") and found.hostname in _LOCAL)
