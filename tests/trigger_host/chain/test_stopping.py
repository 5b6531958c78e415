"""What nobody can follow stops a trigger, which says why; what passes does not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from dustrun import clock
from dustrun.chain.watching import BlockReader, ChainMoved
from dustrun.services.triggers.chain_store import ChainStore
from dustrun.trigger_host.chain.headers import Headers, HeadWentBack
from dustrun.trigger_host.chain.watched import WatchedSubscription
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.pings import Pings
from testkit.chain.rpc_proxy import proxy
from testkit.chain_watching import Watching, watching


def test_what_fails_often_but_not_long_rests_a_moment_only() -> None:
    now_s, nobody = [100.0], cast(Any, None)
    with clock.virtual(lambda: now_s[0], 0):
        one = WatchedSubscription(nobody, nobody, 0, None, None)
        for _ in range(8):
            one.failed("no logs yet")
            now_s[0] += 0.05
        assert one.rest_until_s - now_s[0] < 0.1
        now_s[0] = 140.0
        one.failed("no logs yet")
        assert one.rest_until_s - now_s[0] == 10
        now_s[0] = 9000.0
        one.failed("no logs yet")
        assert one.rest_until_s - now_s[0] == 30


async def resume(server: Watching, workflow: str) -> None:
    for verb in ("pause", "resume"):
        assert (await server.server.owner.post(f"/v1/workflows/{workflow}/{verb}")).status == 200


async def test_a_reorg_deeper_than_the_stored_headers_stops_a_trigger_until_it_is_resumed(
    fresh_pings: Pings, tmp_path: Path
) -> None:
    pings = fresh_pings
    pings.node.mine(200)
    async with watching(pings.node.url, tmp_path) as server:
        workflow = await server.publish(confirmations=0)
        pings.send()
        await server.until_count(workflow, 2)
        pings.replace(190, [])
        reason = await server.until_failed(workflow)
        assert "A reorg removed block" in reason
        assert "deeper than the 256 headers" in reason
        await resume(server, workflow)
        await server.until_scanned(workflow, pings.head)
        pings.send()
        await server.until_count(workflow, 2)
        outcomes = [(payload["args"]["number"], outcome) for _, outcome, payload, _ in await server.events(workflow)]
        assert outcomes == [("0", "orphaned"), ("1", "orphaned"), ("2", "started"), ("3", "started")]
        assert await server.live(workflow) == pings.final()


async def test_an_endpoint_that_is_far_behind_for_a_moment_stops_nothing(pings: Pings, tmp_path: Path) -> None:
    """Further than headers are stored: on a chain with fast blocks that is a minute."""
    async with proxy(pings.node.url) as endpoint, watching(endpoint.url, tmp_path) as server:
        first = pings.head
        pings.node.mine(300)
        workflow = await server.publish(confirmations=0)
        asked = [0]

        def lag(call: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
            if call["method"] == "eth_getBlockByNumber" and call["params"][0] == "latest":
                asked[0] += 1
                return {**answer, "result": pings.node.rpc("eth_getBlockByNumber", hex(first), False)}
            return answer

        endpoint.twist = lag
        pings.send()

        async def has_asked() -> bool:
            return asked[0] > 5

        await server.until(has_asked)
        endpoint.twist = None
        await server.until_events(workflow, pings.final())


async def _restart_as_another(pings: Pings) -> None:
    """A new chain behind the same endpoint. Two that begin in the same second have the same genesis block."""
    begun = int(pings.node.rpc("eth_getBlockByNumber", "0x0", False)["timestamp"], 16)
    pings.node.stop()
    while clock.now_ms() // 1000 <= begun:
        await asyncio.sleep(0.02)
    pings.node.start()


async def test_another_chain_behind_the_endpoint_stops_a_trigger(pings: Pings, tmp_path: Path) -> None:
    async with watching(pings.node.url, tmp_path) as server:
        workflow = await server.publish(confirmations=0)
        await _restart_as_another(pings)
        assert "genesis block" in await server.until_failed(workflow)


async def test_another_chain_after_a_restart_stops_a_trigger(pings: Pings, tmp_path: Path) -> None:
    async with watching(pings.node.url, tmp_path) as server:
        workflow = await server.publish(confirmations=0)
    await _restart_as_another(pings)
    async with watching(pings.node.url, tmp_path) as server:
        assert "was watched before" in await server.until_failed(workflow)
        pings.install()
        await resume(server, workflow)
        await server.until_scanned(workflow, pings.head)


async def test_a_head_that_goes_back_is_told_after_a_while(pings: Pings, tmp_path: Path) -> None:
    async with watching(pings.node.url, tmp_path) as server:
        parts = server.server.parts
        reader = BlockReader(parts.money.chains.get(CHAIN_ID))
        headers = Headers(CHAIN_ID, reader, ChainStore(parts.database, parts.writer))
        pings.node.mine(5)
        await headers.follow(await reader.head())
        seen = pings.head
        pings.node.rpc("anvil_rollback", 3)
        with pytest.raises(HeadWentBack) as back:
            await headers.follow(await reader.head())
        assert (back.value.seen, back.value.head) == (seen, seen - 3)
        pings.node.mine(5, 7)
        await headers.follow(await reader.head())
        assert headers.chain.newest is not None
        assert headers.chain.newest.hash == (await reader.head()).header.hash
        assert headers.chain.is_canonical(
            seen - 3, pings.node.rpc("eth_getBlockByNumber", hex(seen - 3), False)["hash"]
        )


async def test_a_watcher_that_was_overtaken_stores_no_headers(pings: Pings, tmp_path: Path) -> None:
    """It may have been frozen after it had read a block that a reorg removed since."""
    async with watching(pings.node.url, tmp_path) as server:
        parts = server.server.parts
        reader, store = BlockReader(parts.money.chains.get(CHAIN_ID)), ChainStore(parts.database, parts.writer)
        frozen, leader = Headers(CHAIN_ID, reader, store), Headers(CHAIN_ID, reader, store)
        await frozen.follow(await reader.head())
        await leader.load()
        pings.node.mine(1)
        seen = await reader.head()
        pings.replace(1, [])
        pings.node.mine(2)
        await leader.follow(await reader.head())
        with pytest.raises(ChainMoved):
            await frozen.follow(seen)
        assert frozen.chain.newest == leader.chain.newest
        await frozen.follow(await reader.head())
        fresh = await store.load_headers(CHAIN_ID)
        assert not fresh.knows(seen.header.hash)


async def test_an_endpoint_that_fails_for_a_while_loses_nothing(pings: Pings, tmp_path: Path) -> None:
    async with proxy(pings.node.url) as endpoint, watching(endpoint.url, tmp_path) as server:
        workflow = await server.publish(confirmations=0)
        endpoint.twist = lambda call, _: {"jsonrpc": "2.0", "id": call["id"], "error": {"code": 1, "message": "busy"}}
        pings.send(2)
        await server.pause(0.5)
        pings.send(1)
        endpoint.twist = None
        await server.until_events(workflow, pings.final())


async def test_a_node_that_answers_for_unknown_blocks_with_nothing_loses_nothing(pings: Pings, tmp_path: Path) -> None:
    async with proxy(pings.node.url) as endpoint, watching(endpoint.url, tmp_path) as server:
        workflow = await server.publish(confirmations=0)
        lies = [True]

        def lag(call: dict[str, object], answer: dict[str, object]) -> dict[str, object]:
            if lies[0] and call["method"] in ("eth_getLogs", "eth_getBlockByHash"):
                return {**answer, "result": [] if call["method"] == "eth_getLogs" else None}
            return answer

        endpoint.twist = lag
        pings.send(2)
        await server.pause(0.5)
        lies[0] = False
        await server.until_events(workflow, pings.final())
