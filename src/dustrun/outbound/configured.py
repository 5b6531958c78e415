"""The addresses that the operator's settings name: chain endpoints and the price source.

Naming a host opens its private, loopback and carrier-grade NAT addresses on that port, for this purpose only and not
for workflows. Everything else passes the guard as the requests of workflows do: metadata services and link-local
addresses stay closed, and so does every other host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from yarl import URL

from dustrun.errors import Invalid
from dustrun.outbound.guard import Guard, refuse
from dustrun.outbound.resolver import GuardedResolver, Resolver, SystemResolver, Target, parse


def guard_of(allow: Sequence[str], urls: Iterable[str]) -> Guard:
    """The guard for requests to these URLs; a URL whose host is malformed, or has a placeholder, opens nothing."""
    targets = [target for url in urls if (target := _find_target(url)) is not None]
    return Guard.of(allow).naming((target.host, target.port) for target in targets)


class ConfiguredAddresses:
    """Checks the URLs of the settings, and resolves their names; `allow` are exceptions of the guard."""

    def __init__(self, allow: Sequence[str], urls: Sequence[str], *, resolver: Resolver | None = None) -> None:
        self._guard = guard_of(allow, urls)
        self.resolver = GuardedResolver(resolver or SystemResolver(), self._guard)

    def find_refusal(self, url: str) -> str | None:
        """Why this URL may not be used; None if it may. Names are judged when they are resolved."""
        try:
            target = _target(url)
            if target.address is not None:
                self._guard.check(target.host, target.address, target.port)
        except Invalid as error:
            return error.message
        return None


def _find_target(url: str) -> Target | None:
    try:
        return _target(url)
    except Invalid:
        return None


def _target(url: str) -> Target:
    """The target as aiohttp reads the URL; an operator may put a user and a password into it."""
    try:
        return parse(str(URL(url).with_user(None)))
    except ValueError:  # not quoted: it may contain a secret
        raise refuse("The URL is not valid.") from None
