"""Reorgs deeper than the confirmations of final transactions: told, followed from the old bytes, never signed anew."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun.services.streaming.broadcaster import ActivityNotice
from dustrun.storage.data import attention
from dustrun.storage.db.tables import hook_notices
from outbox import Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil

RECEIVER = "https://hooks.example.com/"


async def shown(outbox: Outbox) -> dict[str, Any]:
    """The only transaction, as the API shows it."""
    api = outbox.composition.owner
    (found,) = (await api.get("/v1/transactions")).data["items"]
    detail: dict[str, Any] = (await api.get(f"/v1/transactions/{found['id']}")).data
    return detail


async def until(outbox: Outbox, *states: str, mines: bool = False) -> dict[str, Any]:
    """The transaction, as soon as it is in one of the states."""
    async with asyncio.timeout(60):
        while (found := await shown(outbox))["status"] not in states:
            if mines:
                outbox.node.mine()
            await asyncio.sleep(0.05)
    return found


async def paid_by_a_run(outbox: Outbox) -> dict[str, Any]:
    """A run that has paid and ended."""
    api = outbox.composition.owner
    payload = {"chainId": CHAIN_ID, "recipient": address(1), "amount": "5"}
    root = {"type": "manual", "payload": {}, "children": ["pay"]}
    nodes = {"root": root, "pay": {"type": "send-native", "payload": payload}}
    made = await api.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]})
    run_id = (await api.post(f"/v1/workflows/{made['id']}/run")).data["runId"]
    async with asyncio.timeout(60):
        while (run := (await api.get(f"/v1/runs/{run_id}")).data)["status"] in ("running", "waiting"):
            outbox.node.mine()
            await asyncio.sleep(0.05)
    assert run["status"] == "success"
    return dict(run)


async def test_an_ended_run_stays_and_its_transaction_is_sent_again_as_it_was(
    tmp_path: Path, node: Anvil, store_url: str
) -> None:
    async with open_outbox(
        tmp_path, node, store_url, network={"confirmations": 1}, transaction_stuck_s=0.2, outbound_allow=["127.0.0.1"]
    ) as outbox:
        api = outbox.composition.owner
        hook = {"name": "told", "url": RECEIVER, "subscribedEventTypes": ["transaction.reorged"]}
        assert (await api.post("/v1/hooks", hook)).status == 200
        snapshot = node.snapshot()
        run = await paid_by_a_run(outbox)
        before = await until(outbox, "final")
        reader = outbox.composition.parts.streams.hub.watch_activity(outbox.org_id)
        node.revert(snapshot)
        node.mine(before["blockNumber"] + 5)
        assert outbox.balance(address(1)) == 0
        gone = await until(outbox, "signed", "sent")
        assert (gone["blockNumber"], gone["finishedAt"], gone["fee"]) == (None, None, None)
        assert (await api.post(f"/v1/runs/{run['id']}/retry")).status == 409
        await asyncio.sleep(0.6)  # longer than what is stuck waits for a higher bid
        after = await until(outbox, "final", mines=True)
        assert (outbox.balance(address(1)), outbox.nonce()) == (5, 1)
        assert [one["hash"] for one in after["attempts"]] == [before["hash"]]
        assert (await api.get(f"/v1/runs/{run['id']}")).data == run
        shown_now = [json.loads(one.data) for one in reader.take() if isinstance(one, ActivityNotice)]
        assert [(one["runId"], one["transactionId"]) for one in shown_now] == [(run["id"], before["id"])]
        rows = await outbox.composition.rows(sa.select(hook_notices.c.type, hook_notices.c.run_id, hook_notices.c.data))
    told = [(run_id, json.loads(data)) for type_, run_id, data in rows if type_ == "transaction.reorged"]
    assert [(run_id, data["wasFinal"], data["blockNumber"], data["hash"]) for run_id, data in told] == [
        (run["id"], True, before["blockNumber"], before["hash"])
    ]


async def test_a_block_that_went_while_the_server_was_down_is_noticed(tmp_path: Path, node: Anvil) -> None:
    async with open_outbox(tmp_path, node, network={"confirmations": 1}) as outbox:
        snapshot = node.snapshot()
        await outbox.pay("pay", transfer(address(1), 5))
        node.mine()
        await outbox.settled("pay")
        await outbox.outbox.stop()
        node.revert(snapshot)
        node.mine(9)
        await outbox.reborn().start()
        await until(outbox, "final", mines=True)
        async with asyncio.timeout(60):
            while "reorged" not in await outbox.events("pay"):
                await asyncio.sleep(0.05)
        await until(outbox, "final", mines=True)
        assert (outbox.balance(address(1)), outbox.nonce()) == (5, 1)
        assert (await outbox.events("pay"))[-1] == "confirmed"


async def test_a_transaction_in_another_block_is_told_with_its_new_place(tmp_path: Path, node: Anvil) -> None:
    async with open_outbox(tmp_path, node, network={"confirmations": 1}) as outbox:
        await outbox.pay("pay", transfer(address(1), 5))
        snapshot = node.snapshot()
        node.mine()
        before = await outbox.settled("pay")
        raw = (await shown(outbox))["hash"]
        node.revert(snapshot)  # the pool has it still, so it is mined in another block of that height
        node.rpc("evm_increaseTime", 77)
        node.mine(3)
        async with asyncio.timeout(60):
            while "reorged" not in await outbox.events("pay"):
                await asyncio.sleep(0.05)
        after = await until(outbox, "final", mines=True)
        assert after["hash"] == raw == before.transactions[0]["hash"]
        assert after["receipt"]["blockHash"] != before.transactions[0]["blockHash"]
        assert (outbox.balance(address(1)), outbox.nonce()) == (5, 1)


async def test_a_revert_that_is_taken_back_waits_for_a_person(tmp_path: Path, node: Anvil) -> None:
    refuses = "0x00000000000000000000000000000000000bad05"
    node.rpc("anvil_setCode", refuses, "0x")
    async with open_outbox(tmp_path, node, network={"confirmations": 1}) as outbox:
        snapshot = node.snapshot()
        await outbox.pay("pay", transfer(refuses, 5))
        node.rpc("anvil_setCode", refuses, "0x5f5ffd")  # reverts, after the estimate
        node.mine()
        await until(outbox, "reverted", mines=True)
        node.revert(snapshot)
        node.mine(9)
        found = await until(outbox, "displaced")
        assert (await outbox.composition.parts.database.read(attention.count))["payment-displaced"] == 1
        shown = (await outbox.composition.owner.get("/v1/overview?since=2020-01-01T00:00:00Z")).data["attention"]
        assert [(one["kind"], one["id"]) for one in shown] == [("payment-displaced", found["runId"])]
        assert found["error"]["code"] == "REORGED"
        await asyncio.sleep(0.5)
        assert (int(node.rpc("txpool_status")["pending"], 16), outbox.balance(refuses), outbox.nonce()) == (0, 0, 0)
