"""The guard: no spelling of a forbidden address gets through, and `outbound_allow` opens what it lists."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.errors import Invalid
from dustrun.outbound.guard import Guard, is_name, special_kind
from dustrun.outbound.resolver import parse

_CLOSED = Guard()
_V4_NETWORKS = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "169.254.169.254/32",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
]
_V6_NETWORKS = ["::/128", "::1/128", "fc00::/7", "fe80::/10", "ff00::/8", "2001::/32", "2002::/16", "64:ff9b:1::/48"]
forbidden_v4 = st.sampled_from(_V4_NETWORKS).flatmap(lambda text: st.ip_addresses(network=text)).map(int)
forbidden_v6 = st.sampled_from(_V6_NETWORKS).flatmap(lambda text: st.ip_addresses(network=text)).map(int)

_FULLWIDTH = str.maketrans("0123456789abcdefx.", "０１２３４５６７８９ａｂｃｄｅｆｘ。")
_CIRCLED = str.maketrans("123456789", "①②③④⑤⑥⑦⑧⑨")


def _octets(value: int) -> list[int]:
    return list(value.to_bytes(4, "big"))


def _mixed(value: int) -> str:
    first, second, third, fourth = _octets(value)
    return f"0x{first:x}.0{second:o}.{third}.{fourth}"


_V4_SPELLINGS: list[Callable[[int], str]] = [
    lambda value: str(ipaddress.IPv4Address(value)),
    lambda value: f"{ipaddress.IPv4Address(value)}.",
    str,
    hex,
    lambda value: f"0x{value:08X}",
    lambda value: f"0{value:o}",
    lambda value: f"0000{value:o}",
    lambda value: f"{value >> 24}.{value & 0xFFFFFF}",
    lambda value: f"{value >> 24}.{value >> 16 & 255}.{value & 0xFFFF}",
    lambda value: f"0x{value >> 24:x}.0x{value & 0xFFFFFF:x}",
    lambda value: f"0x{value >> 24:x}.{value & 0xFFFFFF}.",
    lambda value: ".".join(f"0{octet:o}" for octet in _octets(value)),
    lambda value: ".".join(f"{octet:04d}" for octet in _octets(value)),
    lambda value: ".".join(hex(octet) for octet in _octets(value)),
    lambda value: ".".join(str(octet + 256) for octet in _octets(value)),
    _mixed,
    lambda value: str(ipaddress.IPv4Address(value)).translate(_FULLWIDTH),
    lambda value: str(ipaddress.IPv4Address(value)).replace(".", "。"),
    lambda value: str(ipaddress.IPv4Address(value)).replace(".", "．"),
    lambda value: str(ipaddress.IPv4Address(value)).replace(".", "｡"),
    lambda value: str(ipaddress.IPv4Address(value)).translate(_CIRCLED),
    lambda value: hex(value).translate(_FULLWIDTH),
    lambda value: str(ipaddress.IPv4Address(value)).replace(".", "%2e"),
    lambda value: "".join(f"%{ord(letter):02x}" for letter in str(ipaddress.IPv4Address(value))),
    lambda value: f"[::ffff:{ipaddress.IPv4Address(value)}]",
    lambda value: f"[::ffff:{value >> 16:x}:{value & 0xFFFF:x}]",
    lambda value: f"[0:0:0:0:0:FFFF:{value >> 16:04X}:{value & 0xFFFF:04X}]",
    lambda value: f"[::{ipaddress.IPv4Address(value)}]",
    lambda value: f"[::ffff:0:{ipaddress.IPv4Address(value)}]",
    lambda value: f"[64:ff9b::{ipaddress.IPv4Address(value)}]",
    lambda value: f"[64:ff9b:1::{ipaddress.IPv4Address(value)}]",
    lambda value: f"[2002:{value >> 16:x}:{value & 0xFFFF:x}::1]",
    lambda value: f"[2001:0:{value >> 16:x}:{value & 0xFFFF:x}::]",
    lambda value: f"[2001::{value >> 16 ^ 0xFFFF:x}:{value & 0xFFFF ^ 0xFFFF:x}]",
    lambda value: f"[{ipaddress.IPv4Address(value)}]",
]
_V6_SPELLINGS: list[Callable[[int], str]] = [
    lambda value: f"[{ipaddress.IPv6Address(value)}]",
    lambda value: f"[{ipaddress.IPv6Address(value).exploded}]",
    lambda value: f"[{ipaddress.IPv6Address(value).exploded.upper()}]",
    lambda value: f"[{ipaddress.IPv6Address(value)}%25eth0]",
    lambda value: f"[{ipaddress.IPv6Address(value)}%eth0]",
    lambda value: str(ipaddress.IPv6Address(value)),
    lambda value: f"[{ipaddress.IPv6Address(value)}].",
]
_AROUND: list[Callable[[str], str]] = [
    lambda host: f"http://{host}/",
    lambda host: f"https://{host}:443/x?y=z",
    lambda host: f"HTTP://{host}",
    lambda host: f"http://example.com@{host}/",
    lambda host: f"http://user:pass@{host}:80/",
    lambda host: f"http://{host}\\@example.com/",
    lambda host: f"http:\\\\{host}/",
    lambda host: f"http://{host}#@example.com/",
    lambda host: f"http://{host}?@example.com/",
    lambda host: f"http:///{host}/",
    lambda host: f"http://\t{host}/",
    lambda host: f"http://{host}\n/",
    lambda host: f" http://{host}/",
]


def goes_out(guard: Guard, url: str) -> bool:
    """Whether a URL with a literal address would be connected to; a host name would be looked up first."""
    try:
        target = parse(url)
        if target.address is None:
            return not _is_looked_up_by_name(target.host)
        guard.check(target.host, target.address, target.port)
    except Invalid:
        return False
    return True


def _is_looked_up_by_name(host: str) -> bool:
    """Whether the system's resolver takes it as a name, not as the spelling of an address."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return True
    return False


@given(forbidden_v4, st.sampled_from(_V4_SPELLINGS), st.sampled_from(_AROUND))
def test_guard_refuses_every_spelling_of_forbidden_ipv4(
    value: int, spell: Callable[[int], str], around: Callable[[str], str]
) -> None:
    assert not goes_out(_CLOSED, around(spell(value)))


@given(forbidden_v6, st.sampled_from(_V6_SPELLINGS), st.sampled_from(_AROUND))
def test_guard_refuses_every_spelling_of_forbidden_ipv6(
    value: int, spell: Callable[[int], str], around: Callable[[str], str]
) -> None:
    assert not goes_out(_CLOSED, around(spell(value)))


@given(st.ip_addresses(v=4))
def test_guard_lets_public_ipv4_out_and_nothing_else(address: ipaddress.IPv4Address) -> None:
    assert goes_out(_CLOSED, f"http://{address}/") == (special_kind(address) is None)


@given(st.text(max_size=30))
def test_no_text_in_place_of_a_host_reaches_a_forbidden_address(host: str) -> None:
    try:
        target = parse(f"http://{host}/")
    except Invalid:
        return
    assert target.address is not None or _is_looked_up_by_name(target.host)


@pytest.mark.parametrize(
    ("entry", "url", "is_open"),
    [
        ("127.0.0.1", "http://127.0.0.1/", True),
        ("127.0.0.1", "https://127.0.0.1:9/", True),
        ("127.0.0.1", "http://127.0.0.2/", False),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]/", True),
        ("127.0.0.1", "http://[::1]/", False),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/", True),
        ("127.0.0.1:8080", "http://127.0.0.1:8081/", False),
        ("10.0.0.0/8", "http://10.255.0.1/", True),
        ("10.0.0.0/8", "http://11.0.0.1/", True),
        ("10.0.0.0/8", "http://192.168.0.1/", False),
        ("10.1.2.3/8", "http://10.255.0.1/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("[::1]:8080", "http://[::1]/", False),
        ("[::1]", "http://[::1]:5/", True),
        ("::1", "http://[0:0:0:0:0:0:0:1]/", True),
        ("fd00::/8", "http://[fd12::1]/", True),
        ("169.254.169.254", "http://169.254.169.254/", True),
        ("0.0.0.0/0", "http://169.254.169.254/", True),
    ],
)
def test_entry_of_addresses_opens_what_it_lists(entry: str, url: str, is_open: bool) -> None:
    assert goes_out(Guard.of([entry]), url) == is_open


@pytest.mark.parametrize(
    ("entry", "host", "address", "port", "is_open"),
    [
        ("db.internal", "db.internal", "10.0.0.1", 5432, True),
        ("DB.Internal.", "db.internal", "10.0.0.1", 5432, True),
        ("db.internal", "web.internal", "10.0.0.1", 5432, False),
        ("db.internal", "x.db.internal", "10.0.0.1", 5432, False),
        ("db.internal:80", "db.internal", "10.0.0.1", 80, True),
        ("db.internal:80", "db.internal", "10.0.0.1", 81, False),
        ("db.internal", "db.internal", "127.0.0.1", 80, True),
        ("db.internal", "db.internal", "fd00::1", 80, True),
        ("db.internal", "db.internal", "169.254.169.254", 80, False),
        ("db.internal", "db.internal", "fd00:ec2::254", 80, False),
        ("db.internal", "db.internal", "fe80::1", 80, False),
        ("db.internal", "db.internal", "0.0.0.0", 80, False),
        ("db.internal", "db.internal", "224.0.0.1", 80, False),
    ],
)
def test_entry_of_a_name_opens_private_networks_and_never_metadata(
    entry: str, host: str, address: str, port: int, is_open: bool
) -> None:
    guard = Guard.of([entry])
    if is_open:
        guard.check(host, ipaddress.ip_address(address), port)
    else:
        with pytest.raises(Invalid):
            guard.check(host, ipaddress.ip_address(address), port)


@pytest.mark.parametrize(
    "entry",
    ["", "127.1", "2130706433", "0x7f.1", "http://x", "a b", "*.internal", "10.0.0.0/33", "h:0", "h:65536", "[h]:80"],
)
def test_entry_that_says_nothing_clear_is_refused(entry: str) -> None:
    with pytest.raises(Invalid, match="outbound_allow"):
        Guard.of([entry])


def test_refusal_names_host_and_setting_and_not_what_the_name_resolved_to() -> None:
    with pytest.raises(Invalid) as caught:
        _CLOSED.check("db.internal", ipaddress.ip_address("10.9.8.7"), 443)
    assert caught.value.message == (
        'The host "db.internal" may not be reached on port 443: it resolves to a private address, and the setting '
        "outbound_allow (DUSTRUN_OUTBOUND_ALLOW) does not list it."
    )


@pytest.mark.parametrize("host", ["example.com", "localhost", "a_b.c", "xn--zca.de", "1.2.3.4.example", "0xg"])
def test_is_name(host: str) -> None:
    assert is_name(host)


@pytest.mark.parametrize("host", ["", "1", "0x", "a.1", "a.0x1f", "a..b", "a.", "-a", "a-", "é.fr", "a" * 64, "A.b"])
def test_is_name_of_what_is_none(host: str) -> None:
    assert not is_name(host)


@pytest.mark.parametrize(
    ("allow", "host", "is_refused"),
    [
        ((), "10.1.2.3", True),
        ((), "localhost", True),
        ((), "app.localhost", True),
        ((), "93.184.216.34", False),
        ((), "db.internal", False),
        (("10.1.2.3",), "10.1.2.3", False),
        (("127.0.0.1",), "localhost", False),
        (("localhost:443",), "localhost", False),
        (("localhost:80",), "localhost", True),
    ],
)
def test_refusal_that_is_certain_without_a_resolver(allow: tuple[str, ...], host: str, is_refused: bool) -> None:
    target = parse(f"https://{host}/")
    refusal = Guard.of(allow).find_refusal(target.host, target.address, target.port)
    assert (refusal is not None) == is_refused
