"""Chains that lie, lag, forget and reorganise themselves: what triggers told in the end is what the chain says."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.chain.watching import BlockReader
from dustrun.core.triggers.chain.headers import Header
from dustrun.services.triggers.chain_store import ChainStore
from dustrun.storage.db.tables import hook_notices
from dustrun.trigger_host.chain.blocks import Blocks
from dustrun.trigger_host.chain.headers import Headers
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.hostile_node import CONTRACT, SIGNATURE, Face, Included, Log, Tree, paid, serving
from testkit.chain.payments import Payments, numbers, on_chain, told
from testkit.chain_watching import Watching, watching
from testkit.loop_watch import watched
from testkit.processor_time import calculation_s, usual_seconds

PAID: dict[str, Any] = {"chainId": CHAIN_ID, "address": CONTRACT, "eventSignature": SIGNATURE}


@dataclass
class Chain:
    """A tree, its face, payments on it, and the server that watches."""

    payments: Payments
    face: Face
    server: Watching

    @property
    def tree(self) -> Tree:
        """The blocks."""
        return self.payments.tree

    async def publish(self, **config: Any) -> str:
        """A workflow that watches the payments."""
        return await self.server.publish("evm-log", **{**PAID, **config})

    async def until_told(self, workflow: str, on_top: int = 0) -> None:
        """Waits until what runs were told is what the chain says."""

        async def holds() -> bool:
            return told(await self.server.runs(workflow)) == on_chain(self.tree, on_top)

        try:
            await self.server.until(holds, 20)
        except TimeoutError:
            assert told(await self.server.runs(workflow)) == on_chain(self.tree, on_top)

    async def until(self, holds: Callable[[dict[str, Any]], bool], workflow: str) -> dict[str, Any]:
        """Waits until something holds of what the API tells of a trigger."""
        found: dict[str, Any] = {}

        async def is_so() -> bool:
            found.update(await self.server.info(workflow))
            return holds(found)

        try:
            await self.server.until(is_so, 20)
        except TimeoutError:
            raise AssertionError(found) from None
        return found


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    payments = Payments(Tree(), random.Random(11))
    payments.tree.mine(*[()] * 8)
    face = Face(payments.tree)
    async with serving(face) as urls, watching(urls, tmp_path, {"blockTimeMs": 150}, trigger_stall_s=1) as server:
        yield Chain(payments, face, server)


@contextmanager
def apart(face: Face) -> Iterator[str]:
    """Serves a face from a loop of its own; its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = AsyncExitStack()
    try:
        entered = asyncio.run_coroutine_threadsafe(stack.enter_async_context(serving(face)), loop)
        yield entered.result()[0]
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("confirmations", [0, pytest.param(1, marks=pytest.mark.long), 3])
async def test_after_any_reorgs_what_was_told_is_what_the_chain_says(chain: Chain, confirmations: int) -> None:
    workflow = await chain.publish(confirmations=confirmations, onReorg="retract")
    once = await chain.publish(confirmations=confirmations)
    for number in range(12):
        chain.payments.send(chain.payments.chance.randint(0, 3))
        if number % 2:
            chain.tree.mine(*[()] * confirmations)
            await chain.until_told(workflow, confirmations)
        else:
            await chain.server.pause(chain.payments.chance.uniform(0, 0.15))
        chain.payments.reorg(chain.payments.chance.randint(1, min(6, chain.tree.head.number - 1)))
    chain.tree.mine(*[()] * confirmations)
    await chain.until_told(workflow, confirmations)

    async def is_live() -> bool:
        events = await chain.server.events(once)
        live = [payload for _, outcome, payload, _ in events if outcome == "started"]
        return numbers(told(live)) == numbers(on_chain(chain.tree, confirmations))

    await chain.server.until(is_live, 20)


async def test_a_late_index_hides_no_events_from_a_trigger_that_waits_longer(chain: Chain) -> None:
    """Beside another one that had read the block before."""
    deep = await chain.publish(confirmations=3)
    await chain.server.publish("evm-block", confirmations=0)
    shallow = await chain.publish(confirmations=0)
    chain.face.index_lag = 2
    for _ in range(6):
        chain.payments.send(2)
        await chain.server.pause(0.1)
    await chain.until_told(shallow)
    chain.tree.mine((), (), ())
    await chain.until_told(deep)


async def test_a_late_index_hides_no_events_when_missed_blocks_are_read_by_ranges(tmp_path: Path, chain: Chain) -> None:
    for _ in range(10):
        chain.payments.send(2)
        chain.tree.mine(*[()] * 30)
    chain.face.unindexed = set(range(40, 200))
    from_start = await chain.publish(confirmations=0, fromBlock=1)
    await chain.until_told(from_start)
    assert chain.face.counts["eth_getBlockReceipts"] < 40


async def test_many_logs_of_a_range_leave_the_loop_to_others(tmp_path: Path) -> None:
    """To decode them, and to ask a filter, takes half a second for each trigger."""
    tree = Tree()
    logs = tuple(paid(number, number) for number in range(200))
    tree.mine(*[[Included(f"0x{block:064x}", logs)] for block in range(100)], *[()] * 200)
    with apart(Face(tree)) as url:
        async with watching(url, tmp_path) as server:
            with watched() as watch:
                wanted = {**PAID, "confirmations": 0, "fromBlock": 1}
                workflows = [await server.create(**wanted, filter=f"amount >= {least}") for least in (1000, 2000)]
                watch.take()
                for workflow in workflows:
                    await server.server.owner.post(f"/v1/workflows/{workflow}/publish")
                for workflow in workflows:
                    await server.until_scanned(workflow, 101)
                held = watch.take()
    most = 0.05
    assert held < most or usual_seconds(held, (calculation_s(), calculation_s())) < most


async def test_logs_of_an_unknown_block_stop_only_the_trigger_whose_they_are(chain: Chain) -> None:
    other = "0x" + "22" * 20
    chain.payments.send(2)
    count = len(chain.tree.logs())
    chain.tree.mine([Included("0xab", (paid(1, 1, other),))], *[()] * 300)
    orphaned = chain.tree.head.number - 300
    chain.face.strange = {(orphaned, other)}
    stuck = await chain.publish(confirmations=0, fromBlock=1, address=other)
    workflow = await chain.publish(confirmations=0, fromBlock=1)
    await chain.server.until_count(workflow, count)
    told = await chain.until(lambda info: info["lastError"] is not None, stuck)
    assert "do not fit together" in told["lastError"]
    chain.face.strange = set()
    await chain.server.until_count(stuck, 1)


async def test_a_trigger_that_is_far_behind_holds_up_nobody_who_is_further_on(chain: Chain) -> None:
    """With a node that answers for ten blocks at once."""
    chain.tree.mine(*[()] * 3000)
    start = chain.tree.head.number
    chain.payments.send(2)
    chain.tree.mine(*[()] * 150)
    chain.face.refuses = lambda method, params: (
        method == "eth_getLogs"
        and "fromBlock" in params[0]
        and int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= 10
    )
    far = await chain.publish(confirmations=0, fromBlock=1)
    near = await chain.publish(confirmations=0, fromBlock=start)
    await chain.until_told(near)
    assert (await chain.server.subscription(far))["cursor"]["number"] < start - 1000


async def test_a_block_that_was_read_is_not_read_again_because_the_head_has_grown(chain: Chain) -> None:
    """Unless it was read before it had the confirmations that are waited for."""
    workflow = await chain.publish(confirmations=2)
    parts = chain.server.server.parts
    await chain.server.server.trigger_host.stop()
    (sub,) = await parts.triggers.subscriptions.list_of(workflow)
    assert sub.trigger.watch is not None
    watch = sub.trigger.watch(sub.config)
    blocks = Blocks(BlockReader(parts.money.chains.get(CHAIN_ID)), lambda: [watch])
    blocks.rearm()
    header = Header(chain.tree.head.number, chain.tree.head.hash, chain.tree.head.parent)
    before = chain.face.counts["eth_getLogs"]
    reads = []
    for depth in (1, 2, 3, 40):
        await blocks.events(header, watch, depth)
        reads.append(chain.face.counts["eth_getLogs"] - before)
    assert reads == [1, 2, 2, 2]


async def test_a_bloom_that_errs_costs_few_requests(chain: Chain) -> None:
    """Of a full block, a bloom often says that there may be a log. One that the node has indexed decides it."""
    chain.tree.noise = 2000
    workflow = await chain.publish(confirmations=0)
    log = Log("0x" + "11" * 20, ("0x" + "22" * 32,))
    before = chain.face.counts.copy()
    for block in range(20):
        chain.tree.mine([Included(f"0xee{20 * block + number:062x}", (log,)) for number in range(20)])
        await chain.server.pause(0.02)
    chain.tree.mine([Included("0xff", (paid(1, 1),))])
    await chain.until_told(workflow)
    used = chain.face.counts - before
    assert used["eth_getLogs"] <= 3 * 22
    assert used["eth_getTransactionReceipt"] <= 5 * 22
    assert not used["eth_getBlockReceipts"]


async def test_a_transaction_without_a_receipt_stops_nobody(chain: Chain) -> None:
    """As the transactions that bring state from another chain. Its position is read from all logs of the block."""
    workflow = await chain.publish(confirmations=0)
    other = await chain.publish(confirmations=0)
    strange = Included("0xab", (Log(CONTRACT, ("0x" + "01" * 32,)), paid(7, 7)), has_receipt=False)
    chain.tree.mine([strange], ())
    chain.payments.send(3)
    await chain.until_told(workflow)
    await chain.until_told(other)
    assert (await chain.server.runs(workflow))[0]["position"] == 1


@pytest.mark.parametrize("beside", [pytest.param(0, marks=pytest.mark.long), 2])
async def test_a_late_index_hides_no_event_of_a_transaction_without_a_receipt(chain: Chain, beside: int) -> None:
    """No bloom announces it, and receipts do not show it, so they do not stand for the index."""
    workflow = await chain.publish(confirmations=0)
    chain.face.index_lag = 2
    strange = Included("0xab", (paid(7, 7),), has_receipt=False)
    others = [Included(f"0xa{number}", (paid(number, 1),)) for number in range(beside)]
    chain.tree.mine([strange, *others])
    await chain.server.pause(0.3)
    chain.face.index_lag = 0
    await chain.until_told(workflow)


async def test_receipts_do_not_stand_for_refused_logs_of_a_transaction_without_one(chain: Chain) -> None:
    workflow = await chain.publish(confirmations=0)
    chain.face.refuses = lambda method, _params: method == "eth_getLogs"
    chain.tree.mine([Included("0xab", (paid(7, 7),), has_receipt=False)], *[()] * 10)
    await chain.until(lambda info: info["lastError"] is not None, workflow)
    chain.face.refuses = lambda _method, _params: False
    await chain.until_told(workflow)


async def test_a_refused_block_stops_only_those_who_need_its_logs(chain: Chain) -> None:
    refused = chain.tree.head.number + 1
    ticks = await chain.server.publish("evm-block", confirmations=0)
    workflow = await chain.publish(confirmations=0)
    chain.payments.send(2)
    hash = chain.tree.at(refused).hash
    chain.face.refuses = lambda method, params: (
        method == "eth_getBlockReceipts" or (method == "eth_getLogs" and params[0].get("blockHash") == hash)
    )
    chain.face.no_receipts = {"*"}
    chain.payments.send(1)
    await chain.server.until_count(ticks, 2)
    told = await chain.until(lambda info: info["stalledSince"] is not None, workflow)
    assert "query cannot be answered" in told["lastError"]
    assert told["chain"]["lastScannedBlock"] == refused - 1
    chain.face.refuses = lambda _method, _params: False
    chain.face.no_receipts = set()
    await chain.until_told(workflow)
    await chain.until(lambda info: info["stalledSince"] is None and info["lastError"] is None, workflow)


async def test_a_head_that_lags_is_told_and_loses_nothing(chain: Chain) -> None:
    hook = {"name": "x", "url": "https://hooks.example.com/x", "subscribedEventTypes": ["trigger.*"]}
    assert (await chain.server.server.owner.post("/v1/hooks", hook)).status == 200
    workflow = await chain.publish(confirmations=0)
    chain.payments.send(2)
    chain.tree.mine(*[()] * 5)
    await chain.until_told(workflow)
    await chain.until(lambda info: info["chain"]["lastScannedBlock"] == chain.tree.head.number, workflow)
    chain.face.lag = 5
    told = await chain.until(lambda info: info["stalledSince"] is not None, workflow)
    assert (told["state"], "was seen before" in told["lastError"]) == ("armed", True), told["lastError"]
    chain.payments.send(2)
    chain.face.lag = 0
    await chain.until_told(workflow)
    await chain.until(lambda info: info["stalledSince"] is None, workflow)
    notices = await chain.server.server.rows(sa.select(hook_notices.c.type).order_by(hook_notices.c.id))
    assert [type for (type,) in notices] == ["trigger.stalled", "trigger.recovered"]


async def test_a_finalized_block_that_stays_the_same_is_told(tmp_path: Path) -> None:
    """Also by a server that was started meanwhile; the head goes on."""
    payments = Payments(Tree(), random.Random(11))
    payments.tree.mine(*[()] * 20)
    face, network = Face(payments.tree), {"blockTimeMs": 150, "isLocal": True}
    async with serving(face) as urls, watching(urls, tmp_path, network, trigger_stall_s=1) as server:
        chain = Chain(payments, face, server)
        hook = {"name": "x", "url": "https://hooks.example.com/x", "subscribedEventTypes": ["trigger.*"]}
        assert (await server.server.owner.post("/v1/hooks", hook)).status == 200
        workflow = await chain.publish(confirmations="finalized")
        beside = await chain.publish(confirmations=0)
        chain.payments.send(2)
        chain.tree.mine(*[()] * 8)
        await chain.until_told(workflow, 8)
        face.finalized = chain.tree.head.number - 8
        chain.payments.send(2)
        told = await chain.until(lambda info: info["stalledSince"] is not None, workflow)
        assert "The finalized block is" in told["lastError"]
        assert (await server.info(beside))["stalledSince"] is None
        await server.server.trigger_host.stop()
        await server.server.trigger_host.start()
        chain.payments.send(1)
        await chain.until_told(beside)
        chain.tree.mine(*[()] * 8)
        face.finalized = None
        await chain.until_told(workflow, 8)
        await chain.until(lambda info: info["stalledSince"] is None, workflow)
        notices = await server.server.rows(sa.select(hook_notices.c.type).order_by(hook_notices.c.id))
    assert [type for (type,) in notices] == ["trigger.stalled", "trigger.recovered"]


async def test_a_trigger_that_was_stopped_goes_on_when_its_block_is_on_the_chain_again(chain: Chain) -> None:
    workflow = await chain.publish(confirmations=0)
    chain.payments.send(2)
    await chain.until_told(workflow)
    chain.face.chain_id = 5
    assert "instead of" in await chain.server.until_failed(workflow)
    chain.payments.send(2)
    chain.face.chain_id = CHAIN_ID
    await chain.until_told(workflow)
    assert (await chain.server.info(workflow))["state"] == "armed"


async def test_a_resume_that_leaves_blocks_out_says_which(chain: Chain) -> None:
    workflow = await chain.publish(confirmations=0)
    chain.payments.send(1)
    await chain.until_told(workflow)
    first = chain.tree.head.number + 1
    await chain.server.server.owner.post(f"/v1/workflows/{workflow}/pause")
    chain.payments.send(2)
    await chain.server.server.owner.post(f"/v1/workflows/{workflow}/resume")
    await chain.server.until_scanned(workflow, first)
    assert await chain.server.gaps(workflow) == [(first, first, "The workflow was paused.")]


async def test_blocks_that_are_mined_while_a_workflow_is_published_belong_to_it(chain: Chain) -> None:
    created = await chain.server.create("evm-log", **{**PAID, "confirmations": 0})
    await chain.server.server.trigger_host.stop()
    assert (await chain.server.server.owner.post(f"/v1/workflows/{created}/publish")).status == 200
    chain.payments.send(2)
    chain.payments.send(1)
    await chain.server.server.trigger_host.start()
    await chain.until_told(created)


async def test_scanning_goes_on_in_a_storm_of_reorgs(chain: Chain) -> None:
    """The head is never the same for as long as a few requests take, so it is hardly ever followed to its end."""
    for _ in range(10):
        chain.payments.send(2)
        chain.tree.mine(*[()] * 3)
    chain.tree.mine(*[()] * 8)
    expected = set(on_chain(chain.tree))
    chain.face.slow_s = 0.04
    storming = asyncio.create_task(_storm(chain))
    try:
        workflow = await chain.publish(confirmations=0, fromBlock=1)

        async def has_all() -> bool:
            return expected <= set(told(await chain.server.runs(workflow)))

        await chain.server.until(has_all, 20)
    finally:
        storming.cancel()


async def test_headers_after_a_reorg_are_read_in_one_exchange(chain: Chain) -> None:
    """In a storm of reorgs, with a slow endpoint, the next one comes meanwhile."""
    parts = chain.server.server.parts
    await chain.server.server.trigger_host.stop()
    reader = BlockReader(parts.money.chains.get(CHAIN_ID))
    headers = Headers(CHAIN_ID, reader, ChainStore(parts.database, parts.writer))
    await headers.follow(await reader.head())
    chain.tree.reorg(3, [()] * 9)
    head, before = await reader.head(), chain.face.exchanges
    await headers.follow(head)
    assert chain.face.exchanges == before + 1
    assert headers.chain.newest == head.header
    assert headers.chain.is_canonical(chain.tree.head.number - 8, chain.tree.at(chain.tree.head.number - 8).hash)


async def test_among_reorgs_headers_come_with_the_head(chain: Chain) -> None:
    """An exchange for the headers alone would find another chain already."""
    parts = chain.server.server.parts
    await chain.server.server.trigger_host.stop()
    reader = BlockReader(parts.money.chains.get(CHAIN_ID))
    headers = Headers(CHAIN_ID, reader, ChainStore(parts.database, parts.writer))
    await headers.follow(await reader.head())
    exchanges = []
    for depth in (3, 2, 1, 3, 2):
        chain.tree.reorg(depth, [()] * (depth + 1))
        chain.tree.mine((), ())
        before = chain.face.exchanges
        await headers.follow(*await reader.head_and(headers.near()))
        exchanges.append(chain.face.exchanges - before)
        assert headers.chain.newest is not None
        assert headers.chain.newest.hash == chain.tree.head.hash
    assert exchanges == [2, 1, 1, 1, 1]


async def test_a_quiet_chain_is_asked_for_its_head_alone(chain: Chain) -> None:
    parts = chain.server.server.parts
    await chain.server.server.trigger_host.stop()
    reader = BlockReader(parts.money.chains.get(CHAIN_ID))
    headers = Headers(CHAIN_ID, reader, ChainStore(parts.database, parts.writer))
    await headers.follow(await reader.head())
    chain.tree.reorg(1, [()] * 2)
    for _ in range(18):
        await headers.follow(*await reader.head_and(headers.near()))
        chain.tree.mine()
    before = chain.face.counts["eth_getBlockByNumber"]
    await headers.follow(*await reader.head_and(headers.near()))
    assert chain.face.counts["eth_getBlockByNumber"] == before + 1


@pytest.mark.parametrize("is_left", [False, True])
async def test_a_read_that_takes_long_holds_up_no_newer_block(tmp_path: Path, is_left: bool) -> None:
    """One whose block a reorg has removed is not waited for."""
    payments = Payments(Tree(), random.Random(11))
    payments.tree.mine(*[()] * 8)
    face = Face(payments.tree)

    async def is_asked() -> bool:
        return face.is_waiting

    patient = {"chain_timeout_ms": 60_000}  # the read is not given up and begun again
    async with serving(face) as urls, watching(urls, tmp_path, {"blockTimeMs": 150}, **patient) as server:
        chain = Chain(payments, face, server)
        workflow = await chain.publish(confirmations=0)
        face.together = 2
        payments.send(1)
        await server.until(is_asked)
        if is_left:
            payments.reorg(1)
        else:
            payments.send(1)
        await chain.until_told(workflow)


async def test_blocks_that_wait_to_be_scanned_are_read_at_once(chain: Chain) -> None:
    """One after the other, a slow endpoint would fall behind a quick chain for good."""
    workflow = await chain.publish(confirmations=0)
    chain.face.together = 8
    for _ in range(12):
        chain.payments.send(1)
    await chain.until_told(workflow)


async def _storm(chain: Chain) -> None:
    while True:
        chain.tree.reorg(4, [()] * 5)
        await asyncio.sleep(0.05)
