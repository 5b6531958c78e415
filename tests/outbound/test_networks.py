"""The table of special networks, held against the standard library's."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.outbound.guard import plain, special_kind

_ANY = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@given(_ANY)
def test_special_kind_of_whatever_the_library_calls_not_global(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    bare = plain(address)
    if not bare.is_global or bare.is_multicast or bare.is_reserved:
        assert special_kind(address) is not None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("10.1.2.3", "private"),
        ("100.64.0.1", "shared (CGNAT)"),
        ("100.100.100.200", "metadata"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("168.63.129.16", "metadata"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("172.31.255.255", "private"),
        ("192.0.0.8", "reserved"),
        ("192.168.0.1", "private"),
        ("198.18.0.1", "reserved"),
        ("203.0.113.7", "reserved"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "reserved"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:0:10.0.0.1", "reserved"),
        ("64:ff9b::169.254.169.254", "metadata"),
        ("64:ff9b:1::1", "reserved"),
        ("2001::1", "Teredo"),
        ("2001:db8::1", "reserved"),
        ("2002:7f00:1::", "6to4"),
        ("2002:808:808::", "6to4"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "metadata"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("5f00::1", "reserved"),
        ("8.8.8.8", None),
        ("172.32.0.1", None),
        ("::ffff:8.8.8.8", None),
        ("64:ff9b::8.8.8.8", None),
        ("2606:4700::1111", None),
    ],
)
def test_special_kind(text: str, kind: str | None) -> None:
    assert special_kind(ipaddress.ip_address(text)) == kind
