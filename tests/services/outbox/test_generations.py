"""Intents over attempts and retries: never paid twice, and paid again only after they failed."""

from __future__ import annotations

import asyncio
from typing import Any

from dustrun.core.money.intent import Intent, Spend
from outbox import ALICE, Outbox, address, transfer
from testkit.chain.anvil import CHAIN_ID

# A contract without a word to say: PUSH1 0, PUSH1 0, REVERT.
REVERTS = "60006000fd"
# Reverts unless its slot 0 is set: SLOAD(0) ISZERO PUSH1 7 JUMPI STOP JUMPDEST PUSH1 0 DUP1 REVERT.
SWITCH = "60005415600757005b600080fd"


def put_code(outbox: Outbox, where: str, code: str) -> None:
    outbox.node.rpc("anvil_setCode", where, f"0x{code}")


def put_switch(outbox: Outbox, where: str, is_on: bool) -> None:
    outbox.node.rpc("anvil_setStorageAt", where, hex(0), f"0x{int(is_on):064x}")


def call(to: str, item: str = "main", **more: Any) -> Intent:
    return Intent(item, CHAIN_ID, to, 0, b"\x01\x02\x03\x04", (), f"Call {to}", is_decoded=False, **more)


async def test_estimate_that_reverts_is_refused_without_a_nonce(outbox: Outbox) -> None:
    put_code(outbox, address(7), REVERTS)
    status = await outbox.pay("pay", call(address(7)))
    assert status.status == "failed"
    assert status.failure is not None
    assert (status.failure.code, status.failure.retryable) == ("REVERTED", True)
    assert status.transactions[0]["nonce"] is None
    assert await outbox.events("pay") == ["planned", "refused"]
    other = await outbox.pay("other", transfer(address(1), 5))
    assert other.transactions[0]["nonce"] == 0


async def test_final_revert_lets_a_new_generation_be_paid(outbox: Outbox) -> None:
    put_code(outbox, address(7), SWITCH)
    put_switch(outbox, address(7), True)
    await outbox.pay("pay", call(address(7)))
    put_switch(outbox, address(7), False)
    outbox.node.mine(2)
    status = await outbox.until("pay", lambda status: status.status == "failed")
    assert status.failure is not None
    assert status.failure.code == "REVERTED"
    assert not status.is_signed
    again = await outbox.pay("pay", transfer(address(1), 5))
    assert (again.generation, again.transactions[0]["nonce"]) == (2, 1)
    outbox.node.mine(2)
    await outbox.settled("pay")
    assert outbox.nonce() == 2


async def test_open_generation_wins_over_newer_intents(outbox: Outbox) -> None:
    request = outbox.request("pay")
    await outbox.outbox.plan(request, Spend((transfer(address(1), 5),), notes={"quote": "1"}))
    again = await outbox.outbox.plan(request, Spend((transfer(address(2), 9),), notes={"quote": "2"}))
    assert again.spend.intents[0].to == address(1)
    assert again.spend.notes == {"quote": "1"}


async def test_item_that_was_paid_is_not_paid_by_the_next_generation(outbox: Outbox) -> None:
    first = await outbox.pay("pay", transfer(address(1), 5, "a"), call(address(7), "b", after=("a",)))
    assert first.status == "open"
    put_code(outbox, address(7), REVERTS)  # only now: what fails before would have kept the first from being signed
    outbox.node.mine(2)
    await outbox.until("pay", lambda status: status.transactions[0]["status"] in ("mined", "final"))
    await outbox.outbox.advance(outbox.request("pay"))
    status = await outbox.until("pay", lambda status: status.status == "failed")
    assert [transaction["status"] for transaction in status.transactions] == ["final", "refused"]
    await outbox.pay("pay", transfer(address(1), 6, "a"), transfer(address(2), 5, "b"))
    outbox.node.mine(2)
    status = await outbox.settled("pay")
    assert [intent.value_units for intent in status.spend.intents] == [5, 5]
    assert (outbox.balance(address(1)), outbox.balance(address(2)), outbox.nonce()) == (5, 5, 2)


async def test_intent_after_another_waits_until_that_is_mined(outbox: Outbox) -> None:
    status = await outbox.pay("pay", transfer(address(1), 5, "a"), transfer(address(2), 5, "b", after=("a",)))
    assert [transaction["status"] for transaction in status.transactions] == ["sent", "planned"]
    outbox.node.mine()
    await outbox.until("pay", lambda status: status.transactions[0]["status"] == "mined")
    status = await outbox.outbox.advance(outbox.request("pay"))
    assert status.transactions[1]["status"] == "sent"
    outbox.node.mine(2)
    await outbox.settled("pay")
    assert outbox.nonce() == 2


async def test_retry_takes_over_what_is_not_signed_and_settles_what_is(outbox: Outbox) -> None:
    request = outbox.request("pay")
    await outbox.outbox.plan(request, Spend((transfer(address(1), 5),)))
    run_id = (await outbox.composition.owner.post("/v1/runs", _WAITING)).data["runId"]
    run_pk = await _pk_of(outbox, run_id)
    retry = outbox.request("pay", run_id=run_id, run_pk=run_pk)
    taken = await outbox.outbox.plan(retry, Spend((transfer(address(2), 5),)))
    assert taken.spend.intents[0].to == address(1)
    late = await outbox.outbox.advance(request)
    assert late.transactions[0]["status"] == "planned"
    status = await outbox.outbox.advance(retry)
    assert status.transactions[0]["status"] == "sent"
    outbox.node.mine(2)
    await outbox.settled("pay")
    assert outbox.nonce() == 1


async def test_retry_is_409_while_a_transaction_is_open_and_keeps_what_landed(outbox: Outbox) -> None:
    api = outbox.composition.owner
    await outbox.pay("pay", transfer(address(1), 5))
    await api.post(f"/v1/runs/{outbox.run_id}/cancel")
    async with asyncio.timeout(60):
        while (await api.get(f"/v1/runs/{outbox.run_id}")).data["status"] != "cancelled":
            await asyncio.sleep(0.02)
    refused = await api.post(f"/v1/runs/{outbox.run_id}/retry")
    assert (refused.status, refused.code) == (409, 409_070)
    outbox.node.mine(2)
    await outbox.settled("pay")
    retried = (await api.post(f"/v1/runs/{outbox.run_id}/retry")).data["runId"]
    status = await outbox.outbox.find(outbox.request("pay", run_id=retried, run_pk=await _pk_of(outbox, retried)))
    assert status is not None
    assert status.status == "settled"
    # the run had ended before: its stream has nothing behind the end
    assert await outbox.events("pay") == ["planned", "simulated", "signed", "sent"]


async def test_failed_intents_of_an_earlier_run_are_not_found_by_its_retry(outbox: Outbox) -> None:
    put_code(outbox, address(7), REVERTS)
    await outbox.pay("pay", call(address(7)))
    run_id = (await outbox.composition.owner.post("/v1/runs", _WAITING)).data["runId"]
    retry = outbox.request("pay", run_id=run_id, run_pk=await _pk_of(outbox, run_id))
    assert await outbox.outbox.find(outbox.request("pay")) is not None
    assert await outbox.outbox.find(retry) is None
    status = await outbox.outbox.plan(retry, Spend((transfer(address(1), 5),)))
    assert status.generation == 2


async def test_abandon_gives_up_what_is_not_signed_and_follows_what_is(outbox: Outbox) -> None:
    first = await outbox.pay("pay", transfer(address(1), 5, "a"), transfer(address(2), 5, "b", after=("a",)))
    assert first.is_signed
    status = await outbox.outbox.abandon(outbox.request("pay"))
    assert status is not None
    assert (status.status, status.is_signed) == ("open", True)
    outbox.node.mine(2)
    status = await outbox.until("pay", lambda status: status.status == "failed")
    assert [transaction["status"] for transaction in status.transactions] == ["final", "cancelled"]
    assert outbox.nonce(ALICE) == 1
    assert await outbox.outbox.abandon(outbox.request("never planned")) is None


async def test_run_that_is_cancelled_or_over_signs_nothing(outbox: Outbox) -> None:
    request = outbox.request("pay")
    await outbox.outbox.plan(request, Spend((transfer(address(1), 5),)))
    await outbox.composition.owner.post(f"/v1/runs/{outbox.run_id}/cancel")
    status = await outbox.outbox.advance(request)
    assert (status.status, status.is_signed, status.transactions[0]["status"]) == ("open", False, "planned")


async def test_too_little_for_value_and_gas_is_refused_before_a_nonce(outbox: Outbox) -> None:
    balance = outbox.balance(ALICE)
    status = await outbox.pay("pay", transfer(address(1), balance - 21_000))
    assert status.failure is not None
    assert (status.failure.code, status.failure.retryable) == ("INSUFFICIENT_FUNDS", True)
    half = await outbox.pay("half", transfer(address(1), balance // 2))
    assert half.is_signed
    other = await outbox.pay("other", transfer(address(2), balance // 2))
    assert other.failure is not None
    assert "besides" in other.failure.message
    assert other.transactions[0]["nonce"] is None


_WAITING = {
    "definition": {
        "nodes": {
            "root": {"type": "manual", "children": ["ask"]},
            "ask": {"type": "approve", "payload": {"message": "?", "timeoutMs": 600_000, "allowStarter": True}},
        }
    }
}


async def _pk_of(outbox: Outbox, run_id: str) -> int:
    import sqlalchemy as sa

    from dustrun.storage.db.tables import runs

    return int((await outbox.composition.rows(sa.select(runs.c.pk).where(runs.c.id == run_id)))[0][0])
