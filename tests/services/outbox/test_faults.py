"""Endpoints that lie, lose and forget; chains that take blocks back; somebody else with the same key."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from eth_account import Account

from dustrun import log
from dustrun.storage.db.ledger_tables import reservations
from outbox import ALICE, ALICE_KEY, ANYTHING, Outbox, address, open_outbox, transfer
from testkit.chain import rpc_proxy
from testkit.chain.anvil import CHAIN_ID, KEYS, Anvil
from testkit.chain.faulty_node import LOST, LOST_ON_THE_WAY, SEND, ChainProxy, Lie, pretending, refusing

_FUNDS = "insufficient funds for gas * price + value"


@pytest.fixture
async def proxy(node: Anvil) -> AsyncIterator[ChainProxy]:
    async with ChainProxy(node.url) as proxy:
        yield proxy


@pytest.fixture
async def behind(tmp_path: Path, node: Anvil, proxy: ChainProxy) -> AsyncIterator[Outbox]:
    """An outbox whose endpoint is the proxy."""
    async with open_outbox(tmp_path, node, url=proxy.url, chain_timeout_ms=1000, transaction_stuck_s=1.0) as outbox:
        yield outbox


@pytest.fixture
def errors() -> Iterator[io.StringIO]:
    """What the server logs as errors."""
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard):
        log.set_up(as_json=True, level="error")
    yield heard
    log.set_up(as_json=True, level="error")


class SlowReceipts(ChainProxy):
    """An endpoint that answers requests for receipts only when it is let."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if "eth_getTransactionReceipt" in await request.text():
            self.asked.set()
            await self.may_answer.wait()
        return await super()._answer(request)


async def test_a_sender_that_begins_while_receipts_are_read_is_followed_too(
    tmp_path: Path, node: Anvil, errors: io.StringIO
) -> None:
    async with SlowReceipts(node.url) as slow, open_outbox(tmp_path, node, url=slow.url) as outbox:
        api = outbox.composition.owner
        second = (await api.post("/v1/wallets/import", {"name": "bob", "privateKey": KEYS[2]})).data["id"]
        assert (await api.put(f"/v1/wallets/{second}/policy", {"policy": ANYTHING})).status == 200
        await outbox.pay("first", transfer(address(1), 5))
        node.mine()
        await asyncio.wait_for(slow.asked.wait(), 10)
        await outbox.pay("second", transfer(address(2), 7), wallet_id=second)
        slow.may_answer.set()
        node.mine(2)
        await outbox.settled("first")
        await outbox.settled("second")
    assert errors.getvalue() == ""


def first(lie: Lie, times: int = 1) -> Any:
    """A rule that lies about the first broadcasts only."""
    left = [times]

    def rule(method: str, _params: list[Any]) -> Lie | None:
        if method != SEND or left[0] == 0:
            return None
        left[0] -= 1
        return lie

    return rule


@pytest.mark.parametrize(
    "lie",
    [
        LOST,
        LOST_ON_THE_WAY,
        pretending("already known"),
        pytest.param(pretending("nonce too low"), marks=pytest.mark.long),
        pytest.param(pretending("replacement transaction underpriced"), marks=pytest.mark.long),
        pytest.param(refusing("already known"), marks=pytest.mark.long),
        refusing("nonce too low"),
        pytest.param(refusing("transaction underpriced"), marks=pytest.mark.long),
        refusing("the node is in a bad mood"),
        pytest.param(pretending("the node is in a bad mood"), marks=pytest.mark.long),
        refusing(_FUNDS),
    ],
    ids=lambda lie: f"{'told' if lie.forwards else 'never told'}: {lie.answers or 'no answer'}",
)
async def test_no_reply_decides(behind: Outbox, proxy: ChainProxy, lie: Lie) -> None:
    proxy.rule = first(lie)
    status = await behind.pay("pay", transfer(address(1), 5))
    assert status.is_signed
    while (await behind.status("pay")).status != "settled":
        behind.node.mine()
        await asyncio.sleep(0.1)
    assert (behind.nonce(), behind.balance(address(1))) == (1, 5)
    steps = await behind.events("pay")
    assert (steps[:3], steps[-1]) == (["planned", "simulated", "signed"], "confirmed")


async def test_refusal_is_shown_and_gone_when_the_node_takes_it(behind: Outbox, proxy: ChainProxy) -> None:
    proxy.rule = first(refusing(_FUNDS), times=2)
    status = await behind.pay("pay", transfer(address(1), 5))
    assert status.transactions[0]["status"] == "signed"
    found = (await behind.composition.owner.get("/v1/transactions")).data["items"][0]
    assert _FUNDS in found["waitsBecause"]
    await behind.state("pay", "sent")
    found = (await behind.composition.owner.get(f"/v1/transactions/{found['id']}")).data
    assert found["waitsBecause"] is None
    assert await behind.events("pay") == ["planned", "simulated", "signed", "delayed", "sent"]


async def test_payments_settle_through_an_endpoint_that_rejects_batches(tmp_path: Path, node: Anvil) -> None:
    async def reject(request: web.Request) -> web.Response | None:
        error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "batches are not allowed"}}
        return web.json_response(error) if isinstance(await request.json(), list) else None

    async with (
        rpc_proxy.proxy(node.url, reply=reject) as endpoint,
        open_outbox(tmp_path, node, url=endpoint.url) as box,
    ):
        for number in (1, 2, 3):
            await box.pay(f"pay{number}", transfer(address(number), number))
        await asyncio.gather(*(_mined(box, f"pay{number}") for number in (1, 2, 3)))
        assert [box.balance(address(number)) for number in (1, 2, 3)] == [1, 2, 3]
        assert box.nonce() == 3


async def _mined(outbox: Outbox, path: str) -> None:
    async with asyncio.timeout(60):
        while (await outbox.status(path)).status != "settled":
            outbox.node.mine()
            await asyncio.sleep(0.1)


async def test_wiped_mempool_is_filled_again_with_the_same_bytes(outbox: Outbox) -> None:
    paths = [f"pay[{number}]" for number in range(5)]
    for number, path in enumerate(paths):
        await outbox.pay(path, transfer(address(number), 5))
    hashes = [(await outbox.status(path)).transactions[0]["hash"] for path in paths]
    outbox.node.rpc("anvil_dropAllTransactions")
    async with asyncio.timeout(60):
        while int(outbox.node.rpc("txpool_status")["pending"], 16) < 5:
            await asyncio.sleep(0.05)
    outbox.node.mine(2)
    statuses = [await outbox.settled(path) for path in paths]
    assert [status.transactions[0]["hash"] for status in statuses] == hashes
    assert outbox.nonce() == 5


async def test_reorged_receipt_goes_back_to_signed_and_is_sent_again(tmp_path: Path, node: Anvil) -> None:
    async with open_outbox(tmp_path, node, network={"confirmations": 3}) as outbox:
        status = await outbox.pay("pay", transfer(address(1), 5))
        outbox.node.mine()
        await outbox.state("pay", "mined")
        outbox.node.reorg(1)
        assert outbox.balance(address(1)) == 0
        await outbox.until("pay", lambda status: status.transactions[0]["status"] in ("signed", "sent"))
        while (await outbox.status("pay")).status != "settled":
            outbox.node.mine()
            await asyncio.sleep(0.1)
        again = await outbox.status("pay")
        assert again.transactions[0]["hash"] == status.transactions[0]["hash"]
        assert (outbox.nonce(), outbox.balance(address(1))) == (1, 5)
        steps = await outbox.events("pay")
        assert "reorged" in steps
        assert steps[-1] == "confirmed"


async def test_stuck_lowest_nonce_bids_more_and_the_others_wait(tmp_path: Path, node: Anvil) -> None:
    async with open_outbox(tmp_path, node, transaction_stuck_s=0.4) as outbox:
        for number in range(3):
            await outbox.pay(f"pay[{number}]", transfer(address(number), 5))
        api = outbox.composition.owner
        async with asyncio.timeout(60):
            while True:
                found = (await api.get("/v1/transactions")).data["items"]
                attempts = [(await api.get(f"/v1/transactions/{item['id']}")).data["attempts"] for item in found]
                attempts.sort(key=len)
                if len(attempts[2]) >= 3:
                    break
                await asyncio.sleep(0.05)
        assert [len(attempts[0]), len(attempts[1])] == [1, 1]
        for before, after in zip(attempts[2], attempts[2][1:], strict=False):
            assert after["kind"] == "replace"
            for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
                assert int(after[fee]) * 8 >= int(before[fee]) * 9
        node.mine(2)
        for number in range(3):
            await outbox.settled(f"pay[{number}]")
        assert outbox.nonce() == 3


async def test_bid_stops_at_the_nodes_maximum_and_says_so(tmp_path: Path, node: Anvil) -> None:
    async with open_outbox(tmp_path, node, transaction_stuck_s=0.2) as outbox:
        first_bid = int(node.rpc("eth_gasPrice"), 16) * 3
        await outbox.pay("pay", transfer(address(1), 5), max_price_units=first_bid)
        async with asyncio.timeout(60):
            while "delayed" not in await outbox.events("pay"):
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        assert (await outbox.events("pay")).count("delayed") == 1
        found = (await outbox.composition.owner.get("/v1/transactions")).data["items"][0]
        assert "and its maximum is" in found["waitsBecause"]
        detail = (await outbox.composition.owner.get(f"/v1/transactions/{found['id']}")).data
        assert all(int(attempt["maxFeePerGas"]) <= first_bid for attempt in detail["attempts"])


async def test_nonce_used_by_somebody_else_stops_and_asks(outbox: Outbox) -> None:
    await outbox.pay("pay", transfer(address(1), 5))
    outbox.node.rpc("anvil_dropAllTransactions")
    _send_elsewhere(outbox, nonce=0)
    outbox.node.mine()
    async with asyncio.timeout(60):
        while (status := await outbox.status("pay")).status != "displaced":
            outbox.node.mine()
            await asyncio.sleep(0.2)
    assert status.is_signed
    assert status.failure is not None
    assert status.failure.code == "NONCE_DISPLACED"
    again = await outbox.pay("pay", transfer(address(1), 5))
    assert again.status == "displaced"
    assert outbox.balance(address(1)) == 0
    given_up = await outbox.composition.owner.post(f"/v1/transactions/{status.transactions[0]['id']}/cancel")
    assert given_up.data["status"] == "cancelled"
    status = await outbox.pay("pay", transfer(address(1), 5))
    assert (status.generation, status.transactions[0]["nonce"]) == (2, 1)


async def test_displaced_that_was_paid_after_all_goes_on(behind: Outbox, proxy: ChainProxy) -> None:
    """An endpoint that hides receipts looks like somebody else's use of the nonce."""
    status = await behind.pay("pay", transfer(address(1), 5))
    hash = status.transactions[0]["hash"]
    proxy.hidden.add(hash)
    async with asyncio.timeout(60):
        while (await behind.status("pay")).status != "displaced":
            behind.node.mine()
            await asyncio.sleep(0.2)
    proxy.hidden.clear()
    refused = await behind.composition.owner.post(f"/v1/transactions/{status.transactions[0]['id']}/cancel")
    assert (refused.status, refused.code) == (409, 409_071)
    await behind.outbox.stop()
    await behind.reborn().start()
    await behind.settled("pay")
    assert behind.balance(address(1)) == 5


async def test_a_receipt_that_is_missing_for_some_blocks_displaces_nothing(behind: Outbox, proxy: ChainProxy) -> None:
    status = await behind.pay("pay", transfer(address(1), 5))
    proxy.hidden.add(status.transactions[0]["hash"])
    for _ in range(8):
        behind.node.mine()
        await asyncio.sleep(0.2)
    proxy.hidden.clear()
    await behind.settled("pay")
    assert "displaced" not in await behind.events("pay")
    assert behind.balance(address(1)) == 5


async def test_gap_that_a_stranger_left_is_filled(tmp_path: Path, node: Anvil) -> None:
    async with open_outbox(tmp_path, node, transaction_stuck_s=0.5) as outbox:
        _send_elsewhere(outbox, nonce=0)  # counted as pending, so that ours is signed behind it
        status = await outbox.pay("pay", transfer(address(1), 5))
        assert status.transactions[0]["nonce"] == 1
        node.rpc("anvil_dropAllTransactions")
        async with asyncio.timeout(60):
            while (await outbox.status("pay")).status != "settled":
                node.mine()
                await asyncio.sleep(0.2)
        assert (outbox.nonce(), outbox.balance(address(1)), outbox.balance(address(99))) == (2, 5, 0)
        found = (await outbox.composition.owner.get("/v1/transactions")).data["items"]
        assert sorted(item["purpose"] for item in found) == ["fill", "intent"]


async def test_a_gap_is_not_filled_above_the_ceilings_of_the_policy(tmp_path: Path, node: Anvil) -> None:
    """An endpoint that counts too much could have gap after gap filled at any price."""
    async with open_outbox(tmp_path, node, transaction_stuck_s=0.2) as outbox:
        _send_elsewhere(outbox, nonce=0)
        await outbox.pay("pay", transfer(address(1), 5))
        api, path = outbox.composition.owner, f"/v1/wallets/{outbox.wallet_id}"
        await api.put(f"{path}/policy", {"policy": {**ANYTHING, "gas": [{"maxFeePerGas": "1"}]}})
        node.rpc("anvil_dropAllTransactions")
        async with asyncio.timeout(60):
            while "was not filled" not in str((await api.get("/v1/transactions")).data["items"][0]["waitsBecause"]):
                await asyncio.sleep(0.05)
        assert [item["purpose"] for item in (await api.get("/v1/transactions")).data["items"]] == ["intent"]
        await api.put(f"{path}/policy", {"policy": ANYTHING})
        async with asyncio.timeout(60):
            while (await outbox.status("pay")).status != "settled":
                node.mine()
                await asyncio.sleep(0.1)
        query = sa.select(reservations.c.measure, reservations.c.state).where(reservations.c.measure.like("gas:%"))
        assert [state for _, state in await outbox.composition.rows(query)] == ["settled", "settled"]


def _send_elsewhere(outbox: Outbox, nonce: int) -> None:
    """Another program signs with the same key."""
    signed = Account.sign_transaction(
        {
            "chainId": CHAIN_ID,
            "nonce": nonce,
            "to": address(99),
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**10,
        },
        ALICE_KEY,
    )
    assert Account.from_key(ALICE_KEY).address == ALICE
    outbox.node.rpc(SEND, signed.raw_transaction.to_0x_hex())
