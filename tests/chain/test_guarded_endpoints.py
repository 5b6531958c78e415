"""Endpoints behind the outbound guard: where a chain's client connects, and what it says when it may not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from dustrun.chain.chains import Chains
from dustrun.chain.evm import LiveChain
from dustrun.errors import Code, Temporary
from dustrun.outbound.configured import ConfiguredAddresses
from dustrun.settings import Settings
from outbound.loopback import ScriptedResolver
from testkit.chain.anvil import ACCOUNTS, Anvil
from testkit.chain.contracts import World
from testkit.chain.rpc_proxy import proxy

ALICE = ACCOUNTS[1]


@asynccontextmanager
async def guarded(
    world: World, urls: Sequence[str], named: Sequence[str], answer: str = "127.0.0.1"
) -> AsyncIterator[LiveChain]:
    """A chain over these endpoints, of which the settings name some; every name resolves to `answer`."""
    network = world.network(*urls)
    addresses = ConfiguredAddresses((), named, resolver=ScriptedResolver([answer]))
    chains = Chains({network.chain_id: network}, Settings(chain_timeout_ms=60_000), addresses)
    try:
        yield chains.get(network.chain_id)
    finally:
        await chains.close()


async def test_endpoint_that_the_settings_name_is_asked(world: World, anvil: Anvil) -> None:
    by_name = anvil.url.replace("127.0.0.1", "node.internal")
    for url in (anvil.url, by_name):
        async with guarded(world, [url], [url]) as chain:
            assert await chain.balance(ALICE) == int(anvil.rpc("eth_getBalance", ALICE, "latest"), 16)


async def test_nothing_is_connected_to_after_the_end(world: World, anvil: Anvil) -> None:
    """Nobody would close the connections."""
    network = world.network(anvil.url)
    settings = Settings(second_endpoints={network.chain_id: anvil.url})
    chains = Chains({network.chain_id: network}, settings)
    assert await chains.get(network.chain_id).balance(ALICE) > 0
    await chains.close()
    for get in (chains.get, chains.second):
        with pytest.raises(Temporary, match="The server stops"):
            get(network.chain_id)


async def test_endpoint_that_nobody_named_gets_no_connection(world: World, anvil: Anvil) -> None:
    async with proxy(anvil.url) as node, guarded(world, [node.url], []) as chain:
        with pytest.raises(Temporary, match=r"is a loopback address.*outbound_allow") as caught:
            await chain.balance(ALICE)
        assert (caught.value.code, node.requests) == (Code.CHAIN_UNREACHABLE, 0)


async def test_read_goes_on_to_the_next_endpoint_past_a_refused_one(world: World, anvil: Anvil) -> None:
    metadata, by_name = "http://169.254.169.254/", "http://node.internal:8545"
    named = [metadata, by_name, anvil.url]
    async with guarded(world, named, named, answer="169.254.169.254") as chain:
        assert await chain.balance(ALICE) > 0
        shown = [(endpoint.host, endpoint.public()["problem"]) for endpoint in chain.endpoints.all]
    setting = "a metadata address, and the setting outbound_allow (DUSTRUN_OUTBOUND_ALLOW) does not list it."
    assert shown == [
        ("169.254.169.254", f'The host "169.254.169.254" may not be reached on port 80: it is {setting}'),
        ("node.internal:8545", f'The host "node.internal" may not be reached on port 8545: it resolves to {setting}'),
        (anvil.url.removeprefix("http://"), None),
    ]


async def test_redirect_of_an_endpoint_is_not_followed(world: World, anvil: Anvil) -> None:
    async with proxy(anvil.url) as target:

        async def redirect(_: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": target.url})

        async with (
            proxy(anvil.url, reply=redirect) as node,
            guarded(world, [node.url], [node.url, target.url]) as chain,
        ):
            with pytest.raises(Temporary, match="HTTP status 307"):
                await chain.balance(ALICE)
        assert target.requests == 0
