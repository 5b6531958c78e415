"""A server with a chain behind it, and everything that the API can make, made on demand. It ends with a file of tests:
the transactions that stay on their way there have it ask its chain as long as it lives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from testkit import processes
from testkit.chain.anvil import Anvil
from testkit.fuzz_world import World
from testkit.identity_provider import IdentityProvider, providing_beside
from testkit.server_process import ServerProcess
from testkit.sink import SinkProcess


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    """A node that makes no blocks by itself: what is sent stays on its way."""
    with Anvil("--no-mining") as node:
        yield node


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    """Whom people sign in with."""
    with providing_beside() as found:
        yield found


@pytest.fixture(scope="module")
def chain_server(
    chain: Anvil, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    settings = {
        **provider.texts,
        "outbound_allow": "127.0.0.1",
        "rate_limit_per_second": "0",
        "chain_endpoints": json.dumps({str(chain.chain_id): [chain.url]}),
    }
    processes.share_more("dustrun.sdk.llm.protocol", "dustrun.api.mcp.protocol", "openai.resources.chat")
    server = ServerProcess(tmp_path_factory.mktemp("routes") / "data", settings)
    server.start()
    asyncio.run(server.wait_ready())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="module")
def world_of_server(chain_server: ServerProcess, chain: Anvil, provider: IdentityProvider) -> Iterator[World]:
    sink = SinkProcess(1)
    world = World(
        chain_server.base, chain_server.owner_key, sink.base, chain.rpc, chain.chain_id, chain_server.database_path
    )
    world.provider = provider
    yield world
    world.close()
    sink.stop()
