"""What a chain's blocks are read for, from endpoints that refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dustrun.chain.chains import Chains
from dustrun.chain.watching import BlockReader
from dustrun.core.evm.network import NativeAsset, Network
from dustrun.core.triggers.chain.headers import Header
from dustrun.errors import Temporary
from dustrun.settings import Settings
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.hostile_node import Face, Tree, serving


@pytest.fixture
async def face() -> AsyncIterator[Face]:
    """An endpoint of a chain of empty blocks."""
    tree = Tree()
    tree.mine(*[()] * 20)
    made = Face(tree)
    async with serving(made):
        yield made


@pytest.fixture
async def reader(face: Face) -> AsyncIterator[BlockReader]:
    """Reads that chain."""
    native = NativeAsset(symbol="ETH", name="Ether")
    network = Network(
        chain_id=CHAIN_ID,
        name="Test chain",
        short_name="test",
        is_testnet=True,
        native=native,
        endpoints=(face.url,),
        block_time_ms=1000,
        confirmations=1,
        is_local=True,
    )
    chains = Chains({CHAIN_ID: network}, Settings())
    try:
        yield BlockReader(chains.get(CHAIN_ID))
    finally:
        await chains.close()


async def test_traces_that_are_always_refused_stop_none_of_the_blocks_that_are_read_at_once(
    face: Face, reader: BlockReader
) -> None:
    face.refuses, face.refusal = (lambda method, _params: method == "debug_traceBlockByHash"), "server is busy"
    blocks = [face.tree.at(number) for number in range(1, 17)]
    headers = [Header(block.number, block.hash, block.parent) for block in blocks]
    for _ in range(4):
        reads = [reader.moves(header, "auto", lambda _move: True) for header in headers]
        refused = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(one, Temporary) for one in refused), refused
    assert await asyncio.gather(*[reader.moves(header, "auto", lambda _move: True) for header in headers]) == [[]] * 16
