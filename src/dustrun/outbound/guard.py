"""Decides which addresses nodes may connect to: the public internet, and exceptions in `outbound_allow`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from dustrun.errors import Code, Invalid
from dustrun.records import dataclass

# Special-purpose networks, which are not part of the public internet, each with a name for messages.
#
# Source: the IANA special-purpose address registries (RFC 6890). `ipaddress.is_global` is not used because its answers
# change between Python releases; a test compares this table with it.


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_V4: Final = tuple(
    (ipaddress.IPv4Network(text), kind)
    for text, kind in (
        ("169.254.169.254/32", "metadata"),
        ("169.254.170.2/32", "metadata"),
        ("100.100.100.200/32", "metadata"),
        ("168.63.129.16/32", "metadata"),
        ("192.0.0.192/32", "metadata"),
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_V6: Final = tuple(
    (ipaddress.IPv6Network(text), kind)
    for text, kind in (
        ("fd00:ec2::254/128", "metadata"),
        ("fd20:ce::254/128", "metadata"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "reserved"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "reserved"),
    )
)
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

OPENED_BY_NAME: Final = frozenset({"private", "loopback", "shared (CGNAT)"})
"""Kinds that an exception by host name allows. All others, such as metadata addresses, which serve credentials, must be
listed by address or network."""


def plain(address: Address) -> Address:
    """The IPv4 address embedded in an IPv4-mapped or NAT64 address, else the address without its zone."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    bare = ipaddress.IPv6Address(int(address))
    return ipaddress.IPv4Address(int(bare) & 0xFFFF_FFFF) if bare in _NAT64 else bare


def address_text(address: Address) -> str:
    """The address as RFC 5952 writes it: IPv4-mapped ones with four decimal numbers (section 5), which Python does
    itself from 3.13 on."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(address) if mapped is None else f"::ffff:{mapped}"


def special_kind(address: Address) -> str | None:
    """The kind of a special-purpose address; None for a public one."""
    address = plain(address)
    if isinstance(address, ipaddress.IPv4Address):
        return next((kind for network, kind in _V4 if address in network), None)
    kind = next((kind for network, kind in _V6 if address in network), None)
    return kind or (None if address in _PUBLIC_V6 else "reserved")


_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_WITH_PORT = re.compile(r"(\[[^\]]+\]|[^:\[\]]+):([0-9]{1,5})")
_LOCALHOST: Final = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))  # RFC 6761 section 6.3
SETTING = "the setting outbound_allow (DUSTRUN_OUTBOUND_ALLOW)"


def refuse(message: str) -> Invalid:
    """The error for a malformed or forbidden address."""
    return Invalid(message, code=Code.ACTION_INPUT_INVALID)


def parse_address(text: str) -> Address | None:
    """Parses an IP address in its canonical spelling; None for names and any other spelling."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_name(host: str) -> bool:
    """Whether it is a host name in lower-case ASCII. Names whose last label is a number are rejected, since resolvers
    read `127.1`, `0x7f.1` and `2130706433` as addresses."""
    return _NAME.fullmatch(host) is not None and _NUMBER.fullmatch(host.rsplit(".", 1)[-1]) is None


@dataclass(frozen=True, slots=True)
class Guard:
    """The parsed exceptions; a port of None in `names` or `networks` means every port."""

    names: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[tuple[Network, int | None], ...] = ()

    @classmethod
    def of(cls, entries: Sequence[str]) -> Guard:
        """Parses entries like `db.internal`, `10.0.0.0/8`, `10.1.2.3:8080`, `[fd00::1]:80`; raises `Invalid`."""
        names: set[tuple[str, int | None]] = set()
        networks: list[tuple[Network, int | None]] = []
        for entry in entries:
            host, port = _split(entry.strip())
            network = _network(host)
            if network is not None:
                networks.append((network, port))
            elif is_name(host):
                names.add((host, port))
            else:
                raise _bad_entry(entry)
        return cls(frozenset(names), tuple(networks))

    def naming(self, places: Iterable[tuple[str, int]]) -> Guard:
        """This guard with more exceptions by name: a host, or an address as text, with its port."""
        return replace(self, names=self.names | frozenset(places))

    def check(self, host: str, address: Address, port: int) -> None:
        """Raises `Invalid` when a connection to `address`, reached by the name or literal `host`, is not allowed."""
        kind = special_kind(address)
        if kind is None or self._lists(address, port) or (kind in OPENED_BY_NAME and self._names(host, port)):
            return
        article = "an" if kind.startswith("un") else "a"
        how = "is" if parse_address(host) is not None else "resolves to"
        raise refuse(
            f'The host "{host}" may not be reached on port {port}: it {how} {article} {kind} address, and {SETTING} '
            "does not list it."
        )

    def is_listed(self, host: str, address: Address | None, port: int) -> bool:
        """Whether the exceptions name this host or contain this address."""
        return self._names(host, port) or (address is not None and self._lists(address, port))

    def find_refusal(self, host: str, address: Address | None, port: int) -> str | None:
        """Why a request to this host is refused, as far as is certain without resolving it; else None."""
        is_localhost = host == "localhost" or host.endswith(".localhost")
        known: Sequence[Address] = [address] if address is not None else _LOCALHOST if is_localhost else ()
        refusal = None
        for one in known:
            try:
                self.check(host, one, port)
            except Invalid as error:
                refusal = refusal or error.message
            else:
                return None
        return refusal

    def _names(self, host: str, port: int) -> bool:
        return (host, None) in self.names or (host, port) in self.names

    def _lists(self, address: Address, port: int) -> bool:
        candidates = {plain(address), address}
        return any(
            only in (None, port) and any(candidate in network for candidate in candidates)
            for network, only in self.networks
        )


def _split(entry: str) -> tuple[str, int | None]:
    found = _WITH_PORT.fullmatch(entry)
    host, port = (found[1], int(found[2])) if found else (entry, None)
    if port is not None and not 0 < port < 65536:
        raise _bad_entry(entry)
    if host.startswith("[") and host.endswith("]"):
        if ":" not in host:
            raise _bad_entry(entry)
        host = host[1:-1]
    return host.lower().removesuffix("."), port


def _network(host: str) -> Network | None:
    try:
        return ipaddress.ip_network(host, strict=False)
    except ValueError:
        return None


def _bad_entry(entry: str) -> Invalid:
    return refuse(
        f'The entry "{entry}" of {SETTING} is not a host, an address, a network such as 10.0.0.0/8, '
        "host:port or [v6]:port."
    )
