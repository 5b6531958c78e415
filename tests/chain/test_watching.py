"""What a chain's blocks are read for, from endpoints that refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dustrun.chain.chains import Chains
from dustrun.chain.watching import BlockReader
from dustrun.core.evm.network import NativeAsset, Network
from dustrun.core.triggers.chain.headers import Header
from dustrun.core.triggers.chain.queries import LogQuery
from dustrun.errors import Temporary
from dustrun.settings import Settings
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.hostile_node import CONTRACT, Block, Face, Included, Log, Tree, paid, serving


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
    async with reading(face) as made:
        yield made


@asynccontextmanager
async def reading(face: Face, lacks_receipts: bool = False) -> AsyncIterator[BlockReader]:
    """Reads a served chain."""
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
        lacks_receipts=lacks_receipts,
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


WANTED = LogQuery(frozenset((CONTRACT,)), (frozenset(paid(0).topics),))


def other(number: int) -> Included:
    return Included(f"0xee{number:062x}", (Log("0x" + "11" * 20, ("0x" + "22" * 32,)),))


def header(block: Block) -> Header:
    return Header(block.number, block.hash, block.parent)


async def found_between(reader: BlockReader, first: int, last: int, head: int, is_sampled: bool = False) -> list[int]:
    _, logs = await reader.logs_between(first, last, WANTED, [WANTED], head, is_sampled)
    return [log.block_number for log in logs if WANTED.wants(log.address, log.topics)]


async def test_all_blocks_of_an_old_range_are_held_against_their_blooms(face: Face, reader: BlockReader) -> None:
    """An index that was cut off, or never complete, hides nothing."""
    face.tree.mine([Included("0xab", (paid(1, 1),))], *[()] * 200, [Included("0xac", (paid(2, 1),))], *[()] * 5000)
    face.unindexed = {21}
    assert await found_between(reader, 1, 300, face.tree.head.number) == [21, 222]
    assert face.counts["eth_getBlockByNumber"] < 310


async def test_a_sample_that_finds_a_hole_in_the_index_has_all_blocks_looked_at(face: Face) -> None:
    """Where blooms are so full that they say little, and in back-tests."""
    tree = Tree(noise=2000)
    payments = {number: [Included(f"0x{number:064x}", (paid(1, 1),))] for number in (57, 150)}
    tree.mine(*[[other(number), *payments.get(number, [])] for number in range(300)])
    full = Face(tree, unindexed=set(range(100)))
    async with serving(full), reading(full) as reader:
        assert await found_between(reader, 1, 300, 300) == [58, 151]
        before = full.counts["eth_getBlockByHash"]
        full.unindexed = set()
        assert await found_between(reader, 1, 300, 300) == [58, 151]
        assert full.counts["eth_getBlockByHash"] - before == 16
    face.tree.mine(*[[one] for one in tree_of_payments()], *[()] * 5000)
    face.unindexed = set(range(21, 321))
    async with reading(face) as reader:
        assert await found_between(reader, 21, 320, face.tree.head.number, is_sampled=True) == list(range(21, 321))


def tree_of_payments() -> list[Included]:
    return [Included(f"0x{number:064x}", (paid(number, 1),)) for number in range(300)]


async def test_a_chain_without_blooms_is_known_by_its_logs(face: Face) -> None:
    tree = Tree(has_blooms=False)
    tree.mine(*[[one] for one in tree_of_payments()])
    mute = Face(tree, unindexed={7, *range(100, 300)})
    async with serving(mute), reading(mute) as reader:
        for number in (6, 7):
            _, logs = await reader.content(header(tree.at(number)), WANTED, [WANTED], depth=100)
            assert [log.block_number for log in logs] == [number]
        assert await found_between(reader, 100, 300, 300) == list(range(100, 301))


async def test_a_chain_without_some_receipts_needs_a_witness_for_every_block(face: Face) -> None:
    """The bloom of a block announces other logs only, and its index is late."""
    block = face.tree.mine([other(1), Included("0xab", (paid(1, 1),), has_receipt=False)])
    face.index_lag = 1
    async with reading(face, lacks_receipts=True) as reader:
        with pytest.raises(Temporary, match="not all of its transactions have receipts"):
            await reader.content(header(block), WANTED, [WANTED], depth=0)
        face.index_lag = 0
        _, logs = await reader.content(header(block), WANTED, [WANTED], depth=0)
        assert [log.transaction_hash for log in logs] == ["0xab"]
