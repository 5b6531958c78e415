"""Where the operations of a document are served."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from dustrun.core.openapi.document import Broken, Document
from dustrun.records import dataclass

_VARIABLE: Final = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerChoice:
    """The importer's choice: `base` is the address that the document came from, `server` stands for all servers of the
    document, `variables` for variables in their addresses."""

    base: str | None = None
    server: str | None = None
    variables: Mapping[str, str] | None = None


class NoServer(Broken):
    """No absolute address is known."""


def check_server(url: str) -> str:
    """The address without a slash at its end; raises `NoServer` unless it is a plain absolute one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise NoServer(f'the server "{url[:200]}" is no valid address') from None
    if parts.scheme not in ("http", "https") or not host:
        raise NoServer(f'its server "{url[:200]}" is no absolute http or https address; give `server`')
    if _VARIABLE.search(url) or any(char.isspace() for char in url):
        raise NoServer(f'the server "{url[:200]}" has variables without a value; give `serverVariables` or `server`')
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise NoServer(f'the server "{url[:200]}" may have neither credentials, query nor fragment')
    return url.rstrip("/")


def server_of(document: Document, choice: ServerChoice, *levels: Mapping[str, Any]) -> str:
    """The server of an operation. `levels`: the operation and its path, which may have servers of their own. Raises
    `NoServer`, with what to give."""
    if choice.server is not None:
        return check_server(choice.server)
    if document.is_swagger:
        return _of_swagger(document, choice, levels)
    for level in (*levels, document.root):
        servers = level.get("servers")
        if isinstance(servers, list) and servers:
            return _first(servers, choice)
    return _first([{"url": "/"}], choice)


def _first(servers: Sequence[Any], choice: ServerChoice) -> str:
    problem: NoServer | None = None
    for server in servers:
        if not isinstance(server, dict):
            continue
        try:
            return check_server(_absolute(_filled(server, choice.variables or {}), choice.base))
        except NoServer as error:
            problem = problem or error
    raise problem or NoServer("it names no server; give `server`")


def _absolute(url: str, base: str | None) -> str:
    return urljoin(base, url) if base is not None and not _VARIABLE.search(url) else url


def _filled(server: Mapping[str, Any], given: Mapping[str, str]) -> str:
    declared = server.get("variables")
    variables = declared if isinstance(declared, dict) else {}

    def value(found: re.Match[str]) -> str:
        name = found[1]
        about = variables.get(name)
        about = about if isinstance(about, dict) else {}
        chosen = given.get(name)
        if chosen is None:
            return str(about["default"]) if about.get("default") not in (None, "") else found[0]
        allowed = about.get("enum")
        if isinstance(allowed, list) and allowed and chosen not in map(str, allowed):
            shown = ", ".join(map(str, allowed[:20]))
            raise NoServer(f'the server variable "{name[:80]}" is one of {shown}, not "{chosen[:80]}"')
        return chosen

    return _VARIABLE.sub(value, str(server.get("url", "/")))


def _of_swagger(document: Document, choice: ServerChoice, levels: Sequence[Mapping[str, Any]]) -> str:
    root = document.root
    base = urlsplit(choice.base) if choice.base is not None else None
    host = root.get("host") or (base.netloc if base is not None else None)
    if not isinstance(host, str) or not host:
        raise NoServer("the document names no `host`; give `server`")
    named: list[Any] = next((one["schemes"] for one in (*levels, root) if isinstance(one.get("schemes"), list)), [])
    schemes = [one for one in ("https", "http") if one in named]
    fallback = base.scheme if base is not None and not named else "https"
    path = root.get("basePath")
    return check_server(f"{(schemes or [fallback])[0]}://{host}{path if isinstance(path, str) else ''}")
