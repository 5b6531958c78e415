"""Special-purpose networks, which are not part of the public internet, each with a name for messages.

Source: the IANA special-purpose address registries (RFC 6890). `ipaddress.is_global` is not used because its answers
change between Python releases; a test compares this table with it.
"""

from __future__ import annotations

import ipaddress
from typing import Final

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
