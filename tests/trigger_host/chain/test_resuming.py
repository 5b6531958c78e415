"""What a reorg does while a trigger is paused or its config changes: it is told of later, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dustrun.chain.watching import BlockReader
from dustrun.core.triggers.chain.headers import Header
from dustrun.services.triggers.chain_intake import ChainIntake
from dustrun.services.triggers.chain_store import ChainStore
from dustrun.trigger_host.chain.blocks import Blocks
from dustrun.trigger_host.chain.headers import Headers
from dustrun.trigger_host.chain.scanner import Scanner, ScannerParts
from dustrun.trigger_host.chain.watched import WatchedSubscription, WatchOptions
from dustrun.trigger_host.chain.watcher import ChainWatcher
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.pings import Pings
from testkit.chain_watching import PINGED, Watching, definition, watching


@pytest.fixture
async def server(pings: Pings, tmp_path: Path, store_url: str) -> AsyncIterator[Watching]:
    async with watching(pings.node.url, tmp_path, database_url=store_url) as server:
        yield server


async def call(server: Watching, workflow: str, verb: str, body: Any = None) -> None:
    answer = await server.server.owner.post(f"/v1/workflows/{workflow}/{verb}", body)
    assert answer.status == 200, answer.body


async def change(server: Watching, workflow: str, **config: Any) -> None:
    body = {"definition": definition("evm-log", {**PINGED, **config})}
    assert (await server.server.owner.put(f"/v1/workflows/{workflow}", body)).status == 200
    await call(server, workflow, "publish")


async def told(server: Watching, workflow: str) -> list[tuple[str, str | None]]:
    return [(body["args"]["number"], body["reorg"]) for body in await server.bodies(workflow)]


@pytest.mark.parametrize("stops", ["pause", "maxRuns", "fails"])
async def test_what_a_reorg_removed_meanwhile_is_told_at_the_resume(server: Watching, pings: Pings, stops: str) -> None:
    pings.node.mine(200)
    workflow = await server.create(confirmations=0, onReorg="retract")
    if stops == "maxRuns":
        await server.server.owner.put(f"/v1/workflows/{workflow}", {"maxRuns": 2})
    await call(server, workflow, "publish")
    await server.until(lambda: server._has_cursor(workflow))
    pings.send()
    await server.until_count(workflow, 2)
    if stops == "pause":
        await call(server, workflow, "pause")
    if stops == "fails":
        pings.replace(190, [])
        await server.until_failed(workflow)
        await call(server, workflow, "pause")
    else:
        pings.replace(1, [])
    verb = ("refill", {"remainRuns": 5}) if stops == "maxRuns" else ("resume", None)
    await call(server, workflow, *verb)
    await server.until_events(workflow, {})
    assert sorted(await told(server, workflow)) == [("0", "retracted"), ("1", "retracted")]


@pytest.mark.parametrize(
    ("on_reorg", "stops"),
    [
        ("ignore", "pause"),
        ("retract", "maxRuns"),
        pytest.param("ignore", "maxRuns", marks=pytest.mark.long),
        pytest.param("retract", "pause", marks=pytest.mark.long),
    ],
)
async def test_what_a_reorg_moved_to_another_block_meanwhile_is_not_removed(
    server: Watching, pings: Pings, stops: str, on_reorg: str
) -> None:
    """A workflow that pays for an event would take the payment back although the event is on the chain."""
    workflow = await server.create(confirmations=0, onReorg=on_reorg)
    if stops == "maxRuns":
        await server.server.owner.put(f"/v1/workflows/{workflow}", {"maxRuns": 2})
    await call(server, workflow, "publish")
    await server.until(lambda: server._has_cursor(workflow))
    pings.send()
    pings.node.mine()
    await server.until_count(workflow, 2)
    if stops == "pause":
        await call(server, workflow, "pause")
    pings.replace(2, [(pings.sign(0), 1)])
    verb = ("refill", {"remainRuns": 5}) if stops == "maxRuns" else ("resume", None)
    await call(server, workflow, *verb)
    await server.until_scanned(workflow, pings.head)
    assert await told(server, workflow) == [("0", None), ("1", None)]
    assert await server.live(workflow) == pings.final()
    pings.replace(1, [])  # from its new block, too, it can be removed
    await server.until_events(workflow, {})


async def test_what_comes_back_after_it_was_taken_back_is_told_at_the_resume(server: Watching, pings: Pings) -> None:
    """Its limit is used up by another event in between, and corrections are not to be held by limits."""
    workflow = await server.create(confirmations=0, onReorg="retract")
    await server.server.owner.put(f"/v1/workflows/{workflow}", {"maxRuns": 4})
    await call(server, workflow, "publish")
    await server.until(lambda: server._has_cursor(workflow))
    pings.send()
    await server.until_count(workflow, 2)
    pings.replace(1, [])
    await server.until_events(workflow, {})
    pings.send()
    await server.until_events(workflow, pings.final())
    pings.node.rpc("eth_sendRawTransaction", pings.sign(0))
    pings.node.mine()
    await call(server, workflow, "refill", {"remainRuns": 5})
    await server.until_scanned(workflow, pings.head)
    assert await server.balance(workflow) == dict.fromkeys(pings.final(), 1)


async def test_a_height_that_has_another_block_meanwhile_is_not_removed(server: Watching, pings: Pings) -> None:
    workflow = await server.publish("evm-block", every=1, confirmations=0, onReorg="retract")
    pings.node.mine()
    first = pings.head
    await server.until_count(workflow, 1)
    await call(server, workflow, "pause")
    pings.replace(1, [])
    await call(server, workflow, "resume")
    await server.until_scanned(workflow, first)
    pings.node.mine()
    bodies = await server.until_count(workflow, 2)
    assert [(body["blockNumber"], body["reorg"]) for body in bodies] == [(first, None), (first + 1, None)]


@pytest.mark.parametrize("config", [{"confirmations": 1}, {"confirmations": 3, "filter": "number < 100"}])
async def test_what_waits_for_confirmations_when_the_config_changes_is_not_lost(
    server: Watching, pings: Pings, config: dict[str, Any]
) -> None:
    workflow = await server.publish(confirmations=3)
    pings.send()
    pings.node.mine(1)
    await change(server, workflow, **config)
    pings.node.mine(2)
    await server.until_events(workflow, pings.final())


async def test_a_resume_does_not_begin_in_the_past_again(server: Watching, pings: Pings) -> None:
    workflow = await server.publish(confirmations=0, fromBlock=1)
    await call(server, workflow, "pause")
    pings.send()
    await call(server, workflow, "resume")
    await server.until_scanned(workflow, pings.head)
    pings.send()
    await server.until_count(workflow, 2)
    assert [number for number, _ in await told(server, workflow)] == ["2", "3"]
    await change(server, workflow, confirmations=0, fromBlock=2)
    await server.until_count(workflow, 4)


class _Interrupted(ChainStore):
    """Of a process that ends before it stores where the trigger begins."""

    async def skip(self, *_: Any) -> int:
        raise ConnectionResetError


async def test_a_resume_that_is_interrupted_does_not_begin_in_the_past_again(server: Watching, pings: Pings) -> None:
    """It had taken something back: what came in the pause would be paid for."""
    workflow = await server.publish(confirmations=0, fromBlock=1, onReorg="retract")
    pings.send()
    await server.until_count(workflow, 2)
    await call(server, workflow, "pause")
    pings.replace(1, [])
    pings.send()
    await server.server.trigger_host.stop()
    await call(server, workflow, "resume")
    parts = server.server.parts
    (sub,) = await parts.triggers.subscriptions.list_of(workflow)
    assert sub.trigger.watch is not None
    watch = replace(sub.trigger.watch(sub.config), confirmations=0)
    reader, store = BlockReader(parts.money.chains.get(CHAIN_ID)), _Interrupted(parts.database, parts.writer)
    intake = ChainIntake(parts.database, parts.writer, parts.triggers.intake)
    headers, blocks = Headers(CHAIN_ID, reader, store), Blocks(reader, lambda: [watch])
    scanner = Scanner(ScannerParts(reader, headers, blocks, store, intake), lambda _: None)
    with pytest.raises(ConnectionResetError):
        await scanner.begin(WatchedSubscription.of(sub, watch), (await reader.head()).header)
    await server.server.trigger_host.start()
    await server.until_scanned(workflow, pings.head)
    assert sorted(await told(server, workflow)) == [("0", "retracted"), ("1", "retracted")]


async def test_a_trigger_that_moves_to_another_chain_is_left_to_its_watcher(server: Watching) -> None:
    """Even if the old one reads the new config before it is told."""
    workflow = await server.publish(confirmations=0)
    served = server.server.parts
    reader, store = BlockReader(served.money.chains.get(CHAIN_ID)), ChainStore(served.database, served.writer)
    intake = ChainIntake(served.database, served.writer, served.triggers.intake)
    (sub,) = await served.triggers.subscriptions.list_of(workflow)
    assert sub.trigger.watch is not None
    watch = replace(sub.trigger.watch(sub.config), confirmations=0)

    async def find(_: str) -> WatchedSubscription:
        return WatchedSubscription.of(sub, replace(watch, chain_id=5))

    blocks = Blocks(reader, lambda: [watch])
    watcher = ChainWatcher(
        CHAIN_ID, ScannerParts(reader, Headers(CHAIN_ID, reader, store), blocks, store, intake), find, WatchOptions(50)
    )
    old = WatchedSubscription.of(sub, watch)
    old.version, old.at = -1, None
    await watcher.arm(old)
    async with asyncio.timeout(20):
        while watcher.watched:
            await watcher.look()


async def test_a_gap_of_a_paused_trigger_stays_to_be_scanned(server: Watching, pings: Pings) -> None:
    """Even if the watcher has not heard of the pause: its events would be recorded as skipped, and the gap closed."""
    workflow = await server.publish(confirmations=0)
    first = pings.head
    parts = server.server.parts
    (sub,) = await parts.triggers.subscriptions.list_of(workflow)
    await call(server, workflow, "pause")
    pings.send()
    assert sub.trigger.watch is not None
    watch = replace(sub.trigger.watch(sub.config), confirmations=0)
    reader, store = BlockReader(parts.money.chains.get(CHAIN_ID)), ChainStore(parts.database, parts.writer)
    blocks = Blocks(reader, lambda: [watch])
    blocks.rearm()
    intake = ChainIntake(parts.database, parts.writer, parts.triggers.intake)
    stale: list[WatchedSubscription] = []
    scanner = Scanner(ScannerParts(reader, Headers(CHAIN_ID, reader, store), blocks, store, intake), stale.append)
    one = WatchedSubscription.of(sub, watch)
    assert await scanner.replay(one, first, pings.head) is False
    assert (await server.events(workflow), stale) == ([], [one])


class _Held(Blocks):
    """Gives the events of blocks once it may."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: set[int] = set()
        self.may_go_on = asyncio.Event()

    async def events(self, header: Header, *args: Any) -> Any:
        self.asked.add(header.number)
        await self.may_go_on.wait()
        return await super().events(header, *args)

    async def until_asked(self, number: int) -> None:
        async with asyncio.timeout(20):
            while number not in self.asked:
                await asyncio.sleep(0.01)


async def test_a_block_whose_header_was_left_out_is_read_before_a_later_one(server: Watching, pings: Pings) -> None:
    """Headers that are stored need not follow each other: a chain may leap ahead while a block is being read."""
    workflow = await server.publish(confirmations=0)
    first = pings.head + 1
    await call(server, workflow, "pause")
    pings.send()
    pings.send()
    pings.send()
    parts = server.server.parts
    (sub,) = await parts.triggers.subscriptions.list_of(workflow)
    assert sub.trigger.watch is not None
    watch = replace(sub.trigger.watch(sub.config), confirmations=0)
    reader, store = BlockReader(parts.money.chains.get(CHAIN_ID)), ChainStore(parts.database, parts.writer)
    blocks, headers = _Held(reader, lambda: [watch]), Headers(CHAIN_ID, reader, store)
    blocks.rearm()
    intake = ChainIntake(parts.database, parts.writer, parts.triggers.intake)
    scanner = Scanner(ScannerParts(reader, headers, blocks, store, intake), lambda _: None)
    last = [first]
    async with aclosing(scanner._read(WatchedSubscription.of(sub, watch), first, lambda: last[0])) as found:
        begun = asyncio.ensure_future(anext(found))
        await blocks.until_asked(first)
        (beyond,) = await reader.blocks([first + 2])
        assert beyond is not None
        headers.chain.add([beyond.header])
        last[0] = first + 2
        headers.changing().set_result(None)
        await blocks.until_asked(first + 2)
        blocks.may_go_on.set()
        numbers = [(await begun)[0].number] + [header.number async for header, _ in found]
    assert numbers == [first, first + 1, first + 2]
