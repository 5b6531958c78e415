"""The life of a transaction on a real chain."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from outbox import ALICE, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import Anvil
from testkit.chain.rpc_proxy import proxy

NO_BATCHES = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no batches"}}


async def test_transfer_is_planned_signed_sent_mined_and_confirmed(outbox: Outbox) -> None:
    status = await outbox.pay("pay", transfer(address(1), 5))
    assert (status.status, status.waits_for, status.is_signed) == ("open", "receipts", True)
    assert status.transactions[0]["status"] == "sent"
    outbox.node.mine()
    await outbox.state("pay", "mined")
    assert outbox.balance(address(1)) == 5
    outbox.node.mine()
    status = await outbox.settled("pay")
    assert status.spent is not None
    receipt = status.spent.receipts[0]
    assert (receipt.item, receipt.is_success, receipt.gas_used) == ("main", True, 21_000)
    assert await outbox.events("pay") == ["planned", "simulated", "signed", "sent", "mined", "confirmed"]
    assert not status.is_signed


async def test_same_order_twice_pays_once(outbox: Outbox) -> None:
    statuses = await asyncio.gather(*(outbox.pay("pay", transfer(address(1), 5)) for _ in range(5)))
    assert len({status.transactions[0]["id"] for status in statuses}) == 1
    outbox.node.mine(3)
    await outbox.settled("pay")
    again = await outbox.pay("pay", transfer(address(1), 7))
    assert again.status == "settled"
    assert again.spend.intents[0].value_units == 5
    assert (outbox.nonce(), outbox.balance(address(1))) == (1, 5)


async def test_intents_of_one_node_take_nonces_in_their_order(tmp_path: Path, node: Anvil) -> None:
    """Also when the endpoint answers for a later one first."""
    items = [f"row[{number}]" for number in range(5)]
    recipients = [address(number).lower() for number in range(5)]
    answered: list[int] = []

    async def slower_for_earlier(request: web.Request) -> web.StreamResponse | None:
        asked = await request.json()
        if isinstance(asked, list):
            together = any(call["method"] == "eth_estimateGas" for call in asked)
            return web.json_response(NO_BATCHES) if together else None
        if asked["method"] == "eth_estimateGas":
            number = recipients.index(asked["params"][0]["to"].lower())
            await asyncio.sleep(0.2 * (len(items) - number))
            answered.append(number)
        return None

    async with proxy(node.url, reply=slower_for_earlier) as slow, open_outbox(tmp_path, node, url=slow.url) as outbox:
        await outbox.pay("pay", *(transfer(address(number), 5, item) for number, item in enumerate(items)))
        node.mine(3)
        status = await outbox.settled("pay")
    assert answered != sorted(answered)  # those that are asked for together, which need not be all
    assert {one["item"]: one["nonce"] for one in status.transactions} == dict(zip(items, range(5), strict=True))


async def test_two_hundred_at_once_get_consecutive_nonces(outbox: Outbox) -> None:
    paths = [f"pay[{number}]" for number in range(200)]
    await asyncio.gather(*(outbox.pay(path, transfer(address(number), 5)) for number, path in enumerate(paths)))
    outbox.node.mine(2)
    statuses = [await outbox.settled(path) for path in paths]
    assert sorted(status.transactions[0]["nonce"] for status in statuses) == list(range(200))
    assert {outbox.balance(address(number)) for number in range(200)} == {5}
    assert outbox.nonce(ALICE) == 200
