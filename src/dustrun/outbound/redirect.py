"""Follows redirects (RFC 9110 section 15.4, with the method changes of browsers)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import urljoin

from dustrun.core.text.secret_rules import may_be_credential
from dustrun.outbound.guard import refuse
from dustrun.outbound.resolver import Target, parse
from dustrun.records import dataclass

_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
_KEEPS_REQUEST: Final = frozenset({307, 308})
_OF_BODY: Final = frozenset({"content-type", "content-encoding", "content-language", "content-location"})


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of a redirect chain."""

    method: str
    target: Target
    headers: Mapping[str, str]
    body: bytes | None


def location(status: int, headers: Mapping[str, str]) -> str | None:
    """The URL that a redirect response points to; None for any other response."""
    return headers.get("location") if status in _STATUSES else None


def keeps_request(status: int) -> bool:
    """Whether the status requires the request to be repeated unchanged (307, 308)."""
    return status in _KEEPS_REQUEST


def reads_on(method: str, status: int) -> bool:
    """Whether a request that was answered with this redirect is followed by a GET, which reads its result."""
    return not keeps_request(status) and (method == "POST" or (status == 303 and method != "HEAD"))


def follow(hop: Hop, status: int, where: str) -> Hop:
    """The next request. Credentials are dropped when the origin changes. Raises `Invalid` for a malformed URL."""
    try:
        joined = urljoin(str(hop.target.url), where)
    except ValueError:
        raise refuse("The address of the redirect is not valid.") from None
    target = parse(joined)
    following = replace(hop, target=target)
    if reads_on(hop.method, status):
        headers = {name: value for name, value in hop.headers.items() if name.lower() not in _OF_BODY}
        following = replace(following, method="GET", headers=headers, body=None)
    if target.origin == hop.target.origin:
        return following
    kept = {name: value for name, value in following.headers.items() if not may_be_credential(name)}
    return replace(following, headers=kept)
