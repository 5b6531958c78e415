"""After a downtime every block is scanned, up to the operator's limit; what is more is a gap that can be replayed."""

from __future__ import annotations

import json
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from dustrun.storage.db.trigger_tables import trigger_gaps
from test_log import logged
from testkit.chain.pings import Pings
from testkit.chain.rpc_proxy import proxy
from testkit.chain_watching import Watching, watching


async def gaps(server: Watching) -> list[tuple[dict[str, int], str]]:
    t = trigger_gaps.c
    found = await server.server.rows(sa.select(t.range, t.state).order_by(t.pk))
    return [(json.loads(range), state) for range, state in found]


async def test_missed_blocks_are_read_by_ranges(pings: Pings, tmp_path: Path) -> None:
    async with watching(pings.node.url, tmp_path) as server:
        workflow = await server.publish(confirmations=2)
        pings.send()
        pings.node.mine(2)
        await server.until_events(workflow, pings.final())
    for _ in range(6):
        pings.send(2)
        pings.node.mine(60)
    async with proxy(pings.node.url) as endpoint, watching(endpoint.url, tmp_path) as server:
        await server.until_events(workflow, pings.final())
        read = endpoint.methods.count("eth_getLogs")
    assert read < 150, f"{read} reads of 366 blocks"


async def test_a_trigger_can_begin_in_the_past(pings: Pings, tmp_path: Path) -> None:
    pings.send(2)
    pings.node.mine(300)
    pings.send()
    async with watching(pings.node.url, tmp_path) as server:
        workflow = await server.publish(confirmations=0, fromBlock=1)
        await server.until_events(workflow, pings.final())
        late = await server.publish(confirmations=0, fromBlock=pings.head)
        await server.until_count(late, 2)
        assert {body["blockNumber"] for body in await server.bodies(late)} == {pings.head}


async def test_what_exceeds_the_limit_is_a_gap_that_can_be_replayed(pings: Pings, tmp_path: Path) -> None:
    async with watching(pings.node.url, tmp_path) as server:
        workflow = await server.publish(confirmations=0)
    start = pings.head
    pings.send()
    missed = pings.final()
    pings.node.mine(100)
    pings.send()
    async with watching(pings.node.url, tmp_path, max_catch_up_blocks=50) as server:
        await server.until_events(workflow, {key: number for key, number in pings.final().items() if key not in missed})
        assert await gaps(server) == [({"fromBlock": start + 1, "toBlock": pings.head - 50}, "open")]
        await server.server.execute(sa.update(trigger_gaps).values(state="replaying"))
    async with watching(pings.node.url, tmp_path, max_catch_up_blocks=50) as server:
        await server.until_events(workflow, pings.final())

        async def is_closed() -> bool:
            return [state for _, state in await gaps(server)] == ["replayed"]

        await server.until(is_closed)


async def test_all_triggers_of_a_chain_share_one_read_of_logs_a_block(pings: Pings, tmp_path: Path) -> None:
    async with proxy(pings.node.url) as endpoint, watching(endpoint.url, tmp_path) as server:
        several = [await server.publish(confirmations=number % 3) for number in range(6)]
        first = pings.head
        endpoint.methods.clear()
        for _ in range(5):
            pings.send()
        pings.node.mine(2)
        for workflow in several:
            await server.until_events(workflow, pings.final())
        assert endpoint.methods.count("eth_getLogs") <= pings.head - first


async def test_a_machine_behind_an_endpoint_that_lags_hides_no_logs(pings: Pings, tmp_path: Path) -> None:
    """Many endpoints are several machines: one that does not know the newest blocks yet has no logs of them, and says
    nothing more about it."""
    async with watching(pings.node.url, tmp_path) as server:
        workflow = await server.publish(confirmations=0)
    known = pings.head
    for _ in range(3):
        pings.send(2)
        pings.node.mine(100)
    lags, left = ContextVar("lags", default=False), [3]

    async def choose(request: web.Request) -> None:
        lags.set(left[0] > 0 and b"toBlock" in await request.read())
        left[0] -= lags.get()

    def answer(call: dict[str, Any], honest: dict[str, Any]) -> dict[str, Any]:
        if not lags.get():
            return honest
        if call["method"] == "eth_getLogs":
            return {**honest, "result": [log for log in honest["result"] if int(log["blockNumber"], 16) <= known]}
        if call["method"] == "eth_getBlockByNumber" and int(call["params"][0], 16) > known:
            return {**honest, "result": None}
        return honest

    async with (
        proxy(pings.node.url, reply=choose, twist=answer) as endpoint,
        watching(endpoint.url, tmp_path) as server,
    ):
        await server.until_events(workflow, pings.final())
        assert left == [0]


async def test_a_trigger_that_cannot_catch_up_holds_up_no_other_and_says_so(pings: Pings, tmp_path: Path) -> None:
    """A node may have deleted the receipts of old transactions, which say where in them a log is, and an endpoint may
    not answer what asks for no address, which says it too."""
    pings.send()
    old = {hash for hash, _ in pings.final()}
    pings.node.mine(300)

    def forget(call: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        is_old = call["method"] == "eth_getTransactionReceipt" and call["params"][0] in old
        is_bare = call["method"] == "eth_getLogs" and "address" not in call["params"][0]
        return {**answer, "result": [] if is_bare else None} if is_old or is_bare else answer

    async with (
        proxy(pings.node.url, twist=forget) as endpoint,
        watching(endpoint.url, tmp_path) as server,
    ):
        with logged() as stream:
            stuck = await server.publish(confirmations=0, fromBlock=1)
            other = await server.publish(confirmations=0)
            pings.send()
            await server.until_count(other, 2)

            async def is_told() -> bool:
                return "neither the receipt nor all logs" in stream.getvalue()

            await server.until(is_told)
        assert await server.events(stuck) == []
        endpoint.twist = None
        await server.until_events(stuck, pings.final())
