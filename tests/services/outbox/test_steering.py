"""What people do with transactions over HTTP."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa

from dustrun.storage.db.tables import store_facts
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil


async def test_cancel_takes_the_nonce_for_nothing(outbox: Outbox) -> None:
    status = await outbox.pay("pay", transfer(address(1), 5))
    await outbox.pay("next", transfer(address(2), 5))
    reply = await outbox.composition.owner.post(f"/v1/transactions/{status.transactions[0]['id']}/cancel")
    assert [attempt["kind"] for attempt in reply.data["attempts"]] == ["send", "cancel"]
    outbox.node.mine(2)
    status = await outbox.until("pay", lambda status: status.status == "failed")
    assert status.failure is not None
    assert (status.failure.code, status.failure.retryable) == ("CANCELLED", True)
    await outbox.settled("next")
    assert (outbox.balance(address(1)), outbox.nonce()) == (0, 2)
    assert await outbox.events("pay") == [
        "planned", "simulated", "signed", "sent", "cancelling", "mined", "cancelled",
    ]  # fmt: skip
    over = await outbox.composition.owner.post(f"/v1/transactions/{status.transactions[0]['id']}/cancel")
    assert (over.status, over.code) == (409, 409_071)


async def test_cancel_that_came_too_late_is_a_payment(outbox: Outbox) -> None:
    status = await outbox.pay("pay", transfer(address(1), 5))
    raw = outbox.node.rpc("eth_getRawTransactionByHash", status.transactions[0]["hash"])
    await outbox.composition.owner.post(f"/v1/transactions/{status.transactions[0]['id']}/cancel")
    outbox.node.rpc("anvil_dropAllTransactions")
    outbox.node.rpc("eth_sendRawTransaction", raw)
    outbox.node.mine(2)
    await outbox.settled("pay")
    assert (outbox.balance(address(1)), outbox.nonce()) == (5, 1)


async def test_speed_up_bids_an_eighth_more_up_to_what_it_may(outbox: Outbox) -> None:
    status = await outbox.pay("pay", transfer(address(1), 5))
    api, path = outbox.composition.owner, f"/v1/transactions/{status.transactions[0]['id']}"
    sped = (await api.post(f"{path}/speed-up", headers={"Idempotency-Key": "once"})).data
    again = (await api.post(f"{path}/speed-up", headers={"Idempotency-Key": "once"})).data
    assert sped == again
    bids = [int(attempt["maxFeePerGas"]) for attempt in sped["attempts"]]
    assert bids[1] * 8 >= bids[0] * 9
    refused = await api.post(f"{path}/speed-up", {"maxFeePerGas": str(bids[1])})
    assert (refused.status, refused.code) == (409, 409_072)
    assert (await api.post(f"{path}/speed-up", {"maxFeePerGas": str(bids[1] * 20)})).data["maxPrice"] == str(
        bids[1] * 20
    )
    outbox.node.mine(2)
    await outbox.settled("pay")
    assert outbox.nonce() == 1


async def test_list_get_and_attribution_show_what_the_key_reaches(outbox: Outbox) -> None:
    status = await outbox.pay("pay", transfer(address(1), 5))
    await outbox.pay("other", transfer(address(2), 5))
    api, hash = outbox.composition.owner, status.transactions[0]["hash"]
    items = (await api.get("/v1/transactions?status=sent&chainId=31337")).data["items"]
    assert [item["path"] for item in items] == ["other", "pay"]
    assert (await api.get(f"/v1/transactions?hash={hash}")).data["items"] == [items[1]]
    assert (await api.get("/v1/transactions?status=final")).data["items"] == []
    detail = (await api.get(f"/v1/transactions/{hash}")).data
    assert detail["id"] == status.transactions[0]["id"]
    assert detail["attempts"][0]["reply"].startswith(("accepted", "known"))
    found = (await api.post("/v1/runs/tx-attribution", {"txHashes": [hash, "0x" + "11" * 32]})).data
    assert list(found) == [hash]
    assert (found[hash]["runId"], found[hash]["nodeId"]) == (outbox.run_id, "pay")
    stranger = await outbox.composition.other_owner()
    assert (await stranger.get(f"/v1/transactions/{hash}")).status == 404
    assert (await stranger.get("/v1/transactions")).data["items"] == []
    assert (await stranger.post("/v1/runs/tx-attribution", {"txHashes": [hash]})).data == {}


# --- after a restore ---


async def _restored(outbox: Outbox) -> None:
    values = {"name": "restored_at", "value": "1"}
    await outbox.composition.execute(sa.insert(store_facts).values(**values))


async def test_restore_that_missed_nothing_goes_on_by_itself(outbox: Outbox) -> None:
    await outbox.pay("pay", transfer(address(1), 5))
    outbox.node.mine(2)
    await outbox.settled("pay")
    await _restored(outbox)
    status = await outbox.pay("next", transfer(address(2), 5))
    assert status.is_signed


async def test_restored_store_behind_its_chain_holds_until_a_person_releases(outbox: Outbox) -> None:
    outbox.node.rpc("anvil_setNonce", ALICE, hex(3))
    await _restored(outbox)
    status = await outbox.pay("pay", transfer(address(1), 5))
    assert (status.status, status.waits_for, status.is_signed) == ("open", "release", False)
    assert await outbox.events("pay") == ["planned", "held"]
    body = {"walletId": outbox.wallet_id, "chainId": CHAIN_ID}
    admin = outbox.composition.owner
    spender = await outbox.composition.client_with("wallet:spend", "transaction:write")
    assert (await spender.post("/v1/transactions/release", body)).status == 403
    assert (await admin.post("/v1/transactions/release", body)).data["released"] == 1
    status = await outbox.outbox.advance(outbox.request("pay"))
    assert status.transactions[0]["nonce"] == 3


async def test_restored_store_waits_for_its_own_open_transactions(outbox: Outbox) -> None:
    await outbox.pay("pay", transfer(address(1), 5))
    await _restored(outbox)
    status = await outbox.pay("next", transfer(address(2), 5))
    assert (status.waits_for, status.is_signed) == ("release", False)
    outbox.node.mine(2)
    await outbox.settled("pay")
    status = await outbox.outbox.advance(outbox.request("next"))
    assert status.is_signed


# --- starting and stopping ---


async def test_restart_goes_on_with_what_was_signed(tmp_path: Path) -> None:
    with Anvil("--no-mining") as node:
        async with open_outbox(tmp_path, node) as outbox:
            await outbox.pay("pay", transfer(address(1), 5))
        node.rpc("anvil_dropAllTransactions")
        async with open_outbox(tmp_path, node, reuse=True) as outbox:
            async with asyncio.timeout(60):
                while outbox.balance(address(1)) == 0:
                    node.mine()
                    await asyncio.sleep(0.05)
            assert outbox.nonce() == 1


async def _limit_fees(outbox: Outbox, usd: str, **window: int) -> None:
    policy = {"policy": {**ANYTHING, "limits": [{"maxGasUsd": usd, **window}]}}
    assert (await outbox.composition.owner.put(f"/v1/wallets/{outbox.wallet_id}/policy", policy)).status == 200


async def test_a_higher_bid_is_held_against_the_limits_of_fees(tmp_path: Path, node: Anvil) -> None:
    """One coin is a dollar: a transfer reserves 21,000 times its bid."""
    async with open_outbox(tmp_path, node, static_prices={f"eip155:{CHAIN_ID}/native": "1"}) as outbox:
        api = outbox.composition.owner
        status = await outbox.pay("pay", transfer(address(1), 5))
        path = f"/v1/transactions/{status.transactions[0]['id']}"
        bid = int((await api.get(path)).data["attempts"][0]["maxFeePerGas"])
        fee = Decimal(21_000 * bid) / 10**18
        windows: list[dict[str, int]] = [{}, {"windowMs": 3_600_000}]
        for window in windows:
            await _limit_fees(outbox, f"{fee:.18f}", **window)
            refused = await api.post(f"{path}/speed-up")
            assert (refused.status, refused.code) == (409, 409_072), refused.body
            assert "USD" in refused.body["message"]
        await _limit_fees(outbox, f"{fee * 2:.18f}", windowMs=3_600_000)
        sped = await api.post(f"{path}/speed-up")
        assert sped.status == 200, sped.body
        fee = Decimal(21_000 * int(sped.data["attempts"][1]["maxFeePerGas"])) / 10**18
        await _limit_fees(outbox, f"{fee * Decimal('1.8'):.18f}", windowMs=3_600_000)
        assert (await outbox.pay("more", transfer(address(2), 5))).status == "failed"  # the first holds its new bid


async def test_a_cancelled_payment_is_still_promised_until_the_cancel_is_in(outbox: Outbox) -> None:
    """The payment may be the one that is included, and then there is nothing left for another."""
    status = await outbox.pay("pay", transfer(address(1), 9_000 * 10**18))
    await outbox.composition.owner.post(f"/v1/transactions/{status.transactions[0]['id']}/cancel")
    again = await outbox.pay("again", transfer(address(2), 9_000 * 10**18))
    assert again.failure is not None
    assert again.failure.code == "INSUFFICIENT_FUNDS"
    outbox.node.mine(2)
    await outbox.until("pay", lambda status: status.status == "failed")
    assert (await outbox.pay("then", transfer(address(2), 9_000 * 10**18))).status == "open"
