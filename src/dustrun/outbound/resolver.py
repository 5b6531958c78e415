"""Name resolution with the guard: connections are made only to addresses that it checked."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from dustrun.errors import Invalid
from dustrun.outbound.guard import Guard
from dustrun.outbound.networks import Address

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
