"""Addresses that the operator's settings name: what naming one opens, and what stays closed."""

from __future__ import annotations

import pytest
from aiohttp import web

from dustrun.errors import Invalid
from dustrun.outbound.client import OutboundClient
from dustrun.outbound.configured import ConfiguredAddresses
from dustrun.sdk.context import HttpRequest
from outbound.loopback import ScriptedResolver, Seen, serving

NAMED = [
    "http://127.0.0.1:8545",
    "http://[::1]:8545/",
    "https://user:s3cret@10.1.2.3/v3/key",
    "http://geth:8545",
    "http://169.254.169.254/",
    "http://[fe80::1]:8545",
    "http://0x7f.1:8545",
    "http://2130706433:8545",
    "http://[::ffff:169.254.169.254]/",
    "http://0.0.0.0:8545",
    "https://{symbol}.example.com/",
]


def test_urls_of_the_settings_and_what_the_guard_says_of_each() -> None:
    addresses = ConfiguredAddresses((), NAMED)
    refused = {url: addresses.find_refusal(url) for url in [*NAMED, "http://127.0.0.1:8546", "http://10.1.2.3:443"]}
    setting = "and the setting outbound_allow (DUSTRUN_OUTBOUND_ALLOW) does not list it."
    spelling = "write a host name, an IPv4 address as four decimal numbers, or an IPv6 address in brackets."
    mapped = "::ffff:169.254.169.254"
    reached = "may not be reached on port"
    assert {url: said for url, said in refused.items() if said is not None} == {
        "http://169.254.169.254/": f'The host "169.254.169.254" {reached} 80: it is a metadata address, {setting}',
        "http://[fe80::1]:8545": f'The host "fe80::1" {reached} 8545: it is a link-local address, {setting}',
        "http://0x7f.1:8545": f'The host "0x7f.1" is not valid: {spelling}',
        "http://2130706433:8545": f'The host "2130706433" is not valid: {spelling}',
        f"http://[{mapped}]/": f'The host "{mapped}" {reached} 80: it is a metadata address, {setting}',
        "http://0.0.0.0:8545": f'The host "0.0.0.0" {reached} 8545: it is an unspecified address, {setting}',
        "https://{symbol}.example.com/": f'The host "{{symbol}}.example.com" is not valid: {spelling}',
        "http://127.0.0.1:8546": f'The host "127.0.0.1" {reached} 8546: it is a loopback address, {setting}',
    }


def test_address_that_outbound_allow_lists_is_not_refused() -> None:
    addresses = ConfiguredAddresses(("169.254.169.254:80",), [])
    assert addresses.find_refusal("http://169.254.169.254/") is None
    assert addresses.find_refusal("http://169.254.169.254:81/") is not None


@pytest.mark.parametrize(
    ("answer", "port", "is_open"),
    [
        ("10.0.0.7", 8545, True),
        ("127.0.0.1", 8545, True),
        ("100.64.0.1", 8545, True),
        ("8.8.8.8", 8545, True),
        ("10.0.0.7", 8546, False),
        ("169.254.169.254", 8545, False),
        ("fe80::1", 8545, False),
    ],
)
async def test_name_of_the_settings_is_judged_by_what_it_resolves_to(answer: str, port: int, is_open: bool) -> None:
    addresses = ConfiguredAddresses((), NAMED, resolver=ScriptedResolver([answer]))
    if is_open:
        assert [found["host"] for found in await addresses.resolver.resolve("geth", port)] == [answer]
    else:
        with pytest.raises(Invalid, match=r'"geth".*outbound_allow'):
            await addresses.resolver.resolve("geth", port)
    with pytest.raises(Invalid):
        await ConfiguredAddresses((), [], resolver=ScriptedResolver(["10.0.0.7"])).resolver.resolve("geth", port)


async def test_redirect_of_a_named_source_to_another_host_is_refused() -> None:
    def answer(seen: Seen) -> web.Response:
        if seen.path == "/price":
            return web.Response(text="5")
        return web.Response(status=302, headers={"Location": where[seen.path]})

    async with serving(answer) as named, serving(answer) as other:
        where = {"/here": f"{named.url}/price", "/there": f"{other.url}/price"}
        client = OutboundClient((), 1000, 10, named=[f"{named.url}/{{symbol}}"])
        await client.start()
        assert (await client.request(HttpRequest("GET", f"{named.url}/here"))).body == b"5"
        with pytest.raises(Invalid, match="outbound_allow"):
            await client.request(HttpRequest("GET", f"{named.url}/there"))
        await client.close()
        assert other.seen == []
