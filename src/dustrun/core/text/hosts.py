"""Allowed hosts of a credential: entries like `api.example.com`, `*.example.com:8443`, `http://10.0.0.5:80`.

An entry without a scheme means https: a credential is sent unencrypted only where someone wrote `http://`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dustrun.records import dataclass

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_ENTRY = re.compile(
    rf"(?:(?P<scheme>https?)://)?(?P<any>\*\.)?(?P<host>\[[0-9a-f:.]+\]|(?=[^:]{{1,253}}(?::|\Z)){_LABEL}(?:\.{_LABEL})*)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HostRule:
    """One entry. `below`: every subdomain of `host`, but not `host` itself."""

    scheme: str
    host: str
    port: int
    below: bool

    def allows(self, scheme: str, host: str, port: int) -> bool:
        """Whether a request to this URL may carry the credential."""
        if (scheme, port) != (self.scheme, self.port):
            return False
        return host.endswith(f".{self.host}") if self.below else host == self.host


def parse_rule(entry: str) -> HostRule:
    """Parses an entry; raises `ValueError` with examples of valid ones."""
    found = _ENTRY.fullmatch(entry.strip().lower())
    scheme = (found and found["scheme"]) or "https"
    port = int(found["port"]) if found and found["port"] else _PORTS[scheme]
    if found is None or not 0 < port < 65536 or (found["any"] and not re.search("[a-z]", found["host"])):
        raise ValueError(
            f'"{entry[:100]}" is not a host: write one like api.example.com, *.example.com, api.example.com:8443, or '
            "http://10.0.0.5:8080 for an unencrypted connection"
        )
    if found["any"] and "." not in found["host"]:
        raise ValueError(f'"{entry[:100]}" is too wide: add the domain below the star, like *.example.com')
    return HostRule(scheme, found["host"].strip("[]"), port, bool(found["any"]))


def is_allowed(rules: Sequence[HostRule], scheme: str, host: str, port: int) -> bool:
    """Whether any of the rules lets a request carry the credential."""
    return any(rule.allows(scheme, host, port) for rule in rules)
