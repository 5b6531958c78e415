"""Name resolution with the guard: connections are made only to addresses that it checked."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final, Protocol

from yarl import URL

from dustrun.errors import Invalid
from dustrun.outbound.guard import Address, Guard, address_text, is_name, parse_address, refuse
from dustrun.records import dataclass

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult


class Resolver(Protocol):
    """Resolves host names."""

    async def resolve(self, host: str) -> Sequence[str]:
        """The addresses of a name, best first; raises `OSError` when there are none."""
        ...


class SystemResolver:
    """The resolver of the operating system."""

    async def resolve(self, host: str) -> Sequence[str]:
        """The addresses of a name, in the system's order."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        return [str(sockaddr[0]) for *_, sockaddr in found]


class GuardedResolver:
    """The resolver of aiohttp's connector, which connects to the returned addresses without resolving again. This
    prevents DNS rebinding between check and use."""

    def __init__(self, inner: Resolver, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The allowed addresses of a name; raises `Invalid` if none is allowed, `OSError` if it has none."""
        answers = [ipaddress.ip_address(text) for text in await self._inner.resolve(host)]
        if not answers:
            raise OSError(f"{host} has no address")
        allowed, refusal = self._sift(host, answers, port)
        if not allowed and refusal is not None:
            raise refusal
        return [_result(host, address, port) for address in allowed]

    def _sift(self, host: str, answers: Sequence[Address], port: int) -> tuple[list[Address], Invalid | None]:
        allowed: list[Address] = []
        refusal: Invalid | None = None
        for address in answers:
            try:
                self._guard.check(host, address, port)
                allowed.append(address)
            except Invalid as error:
                refusal = refusal or error
        return allowed, refusal

    async def close(self) -> None:
        """Does nothing; required by aiohttp."""


def _result(host: str, address: Address, port: int) -> ResolveResult:
    return {
        "hostname": host,
        "host": str(address),
        "port": port,
        "family": socket.AF_INET if address.version == 4 else socket.AF_INET6,
        "proto": 0,
        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    }


# Strict URL parsing. The same result is checked, resolved, connected to and written into the request.


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_AUTHORITY = re.compile(r"\A[A-Za-z]+://([^/?#]*)")
# A URL with only these characters is sent unchanged: quoting it again would break signed URLs.
_VERBATIM = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
MAX_CHARS: Final = 8192


@dataclass(frozen=True, slots=True)
class Target:
    """The destination of one request. `address` is set if the URL contains an IP address instead of a host name."""

    url: URL
    host: str
    port: int
    address: Address | None

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port; credentials are sent only to the same origin."""
        return self.url.scheme, self.host, self.port


def parse(text: str) -> Target:
    """Parses an http(s) URL; raises `Invalid` for other schemes and for ambiguous spellings."""
    url = _read(text)
    if url.scheme not in ("http", "https"):
        raise refuse(f'The URL {_shown(text)} must start with "http://" or "https://".')
    host = (url.raw_host or "").lower().removesuffix(".")
    address = parse_address(host)
    in_brackets = "[" in url.raw_authority
    if in_brackets != isinstance(address, IPv6Address) or (address is None and not is_name(host)):
        raise refuse(
            f'The host "{host[:100]}" is not valid: write a host name, an IPv4 address as four decimal numbers, or '
            "an IPv6 address in brackets."
        )
    port = url.port
    if not port:
        raise refuse(f"The URL {_shown(text)} has no valid port.")
    host = host if address is None else address_text(address)
    return Target(url.with_host(host).with_fragment(None), host, port, address)


def _read(text: str) -> URL:
    if len(text) > MAX_CHARS:
        raise refuse(f"The URL has {len(text)} characters; at most {MAX_CHARS} are accepted.")
    if _CONTROL.search(text):
        raise refuse(f"The URL {_shown(text)} contains a control character.")
    authority = _AUTHORITY.match(text)
    if authority is None:
        raise refuse(f'The URL {_shown(text)} must start with "http://" or "https://".')
    _check_authority(authority[1])
    try:
        url = URL(text, encoded=_VERBATIM.fullmatch(text) is not None)
        _ = url.port  # yarl parses a verbatim URL lazily
        return url
    except ValueError as error:
        raise refuse(f"The URL {_shown(text)} is not valid: {error}") from None


def _check_authority(authority: str) -> None:
    if "@" in authority:
        raise refuse(
            "The URL contains a user name before the host; send credentials in a header such as Authorization."
        )
    if "\\" in authority or "%" in authority or " " in authority:
        raise refuse(f'The host "{authority[:100]}" is not valid: it contains a backslash, a percent sign or a space.')


def _shown(text: str) -> str:
    """The URL for a message, without query and credentials, which may be secret."""
    bare = re.sub(r"//[^/?#]*@", "//", text).partition("?")[0].partition("#")[0]
    return f'"{bare[:200]}"'
