"""Policy at the moment of signing: exact limits under concurrency, questions to a person, signatures."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from eth_account import Account
from eth_account.messages import encode_defunct

from dustrun.core.money.intent import SignRequest, Spend
from dustrun.storage.db.ledger_tables import transactions
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import approvals, runs
from dustrun.storage.money.reservations import Ledger
from outbox import ALICE, ANYTHING, WAITS, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.composition import Client

_HOUR_MS = 3_600_000


async def put_policy(outbox: Outbox, **changes: Any) -> None:
    reply = await outbox.composition.owner.put(
        f"/v1/wallets/{outbox.wallet_id}/policy", {"policy": {**ANYTHING, **changes}}
    )
    assert reply.status == 200, reply.body


@pytest.fixture
async def on_both(tmp_path: Path, node: Anvil, store_url: str) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path, node, store_url) as outbox:
        yield outbox


async def test_fifty_at_once_against_one_limit_are_exactly_as_many_as_fit(on_both: Outbox) -> None:
    limit = {"asset": f"eip155:{CHAIN_ID}/native", "maxUnits": "107", "windowMs": _HOUR_MS}
    await put_policy(on_both, limits=[limit])
    statuses = await asyncio.gather(*(on_both.pay(f"pay[{n}]", transfer(address(n), 10)) for n in range(50)))
    assert Counter(status.status for status in statuses) == {"open": 10, "failed": 40}
    on_both.node.mine(2)
    paid = [n for n, status in enumerate(statuses) if status.status == "open"]
    for n in paid:
        await on_both.settled(f"pay[{n}]")
    assert on_both.nonce() == 10
    assert sorted(statuses[n].transactions[0]["nonce"] for n in paid) == list(range(10))
    denied = next(status for status in statuses if status.status == "failed")
    assert denied.failure is not None
    assert denied.failure.code == "REFUSED"
    assert denied.failure.details[0]["field"] == "limits[0]"


async def test_one_that_the_store_refuses_fails_alone(on_both: Outbox) -> None:
    """Those that wait for the same wallet are judged and stored together."""
    requests = [on_both.request(f"pay[{number}]") for number in range(6)]
    planned = [
        await on_both.outbox.plan(request, Spend((transfer(address(number), 10),)))
        for number, request in enumerate(requests)
    ]
    refused = planned[4].transactions[0]["id"]

    def reserve(tx: Tx) -> None:
        ledger = Ledger(tx, 0)
        ledger.reserve(wallet_id="another", subject_id=refused, units={"count": 1})
        ledger.write()

    await on_both.outbox.deps.writer.write(reserve)
    done = await asyncio.gather(*map(on_both.outbox.advance, requests), return_exceptions=True)
    assert [number for number, one in enumerate(done) if isinstance(one, BaseException)] == [4]
    on_both.node.mine(2)
    for number in (0, 1, 2, 3, 5):
        await on_both.settled(f"pay[{number}]")
    assert (on_both.nonce(), on_both.balance(address(4))) == (5, 0)
    assert (await on_both.status("pay[4]")).transactions[0]["status"] == "planned"


async def test_limit_holds_over_reverts_and_cancels(outbox: Outbox) -> None:
    limit = {"asset": f"eip155:{CHAIN_ID}/native", "maxUnits": "10", "windowMs": _HOUR_MS}
    await put_policy(outbox, limits=[limit])
    status = await outbox.pay("pay", transfer(address(1), 10))
    assert (await outbox.pay("more", transfer(address(2), 1))).status == "failed"
    await outbox.composition.owner.post(f"/v1/transactions/{status.transactions[0]['id']}/cancel")
    assert (await outbox.pay("more[1]", transfer(address(2), 1))).status == "failed"
    outbox.node.mine(2)
    await outbox.until("pay", lambda status: status.status == "failed")
    assert outbox.balance(address(1)) == 0
    assert (await outbox.pay("more[2]", transfer(address(2), 10))).status == "open"


async def test_what_waits_for_its_first_part_has_its_room(on_both: Outbox) -> None:
    """As a swap for its allowance: no other spend takes its room in between, it counts once when its turn comes, and
    what comes to nothing gives it back."""
    limit = {"asset": f"eip155:{CHAIN_ID}/native", "maxUnits": "10", "windowMs": _HOUR_MS}
    await put_policy(on_both, limits=[limit, {"maxCount": 4, "windowMs": _HOUR_MS}])
    parts = (transfer(address(1), 1, "first"), transfer(address(2), 4, "second", after=("first",)))
    assert (await on_both.pay("pay", *parts)).status == "open"
    assert (await on_both.pay("other", transfer(address(3), 6))).status == "failed"
    assert (await on_both.pay("other[1]", transfer(address(3), 1))).status == "open"
    on_both.node.mine(2)
    async with asyncio.timeout(60):
        while (await on_both.outbox.advance(on_both.request("pay"))).status != "settled":
            on_both.node.mine()
            await asyncio.sleep(0.05)
    assert (on_both.balance(address(1)), on_both.balance(address(2))) == (1, 4)
    assert (await on_both.pay("other[2]", transfer(address(3), 5))).status == "failed"
    assert (await on_both.pay("more", transfer(address(4), 1))).status == "open"


async def test_what_is_given_up_before_its_turn_gives_its_room_back(outbox: Outbox) -> None:
    limit = {"asset": f"eip155:{CHAIN_ID}/native", "maxUnits": "10", "windowMs": _HOUR_MS}
    await put_policy(outbox, limits=[limit])
    parts = (transfer(address(1), 1, "first"), transfer(address(2), 9, "second", after=("first",)))
    assert (await outbox.pay("pay", *parts)).status == "open"
    assert (await outbox.pay("other", transfer(address(3), 1))).status == "failed"
    await outbox.outbox.abandon(outbox.request("pay"))
    assert (await outbox.pay("other[1]", transfer(address(3), 9))).status == "open"


# --- a person is asked ---


async def _questions(outbox: Outbox) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await outbox.composition.owner.get("/v1/approvals")).data["items"]
    return items


async def _asked(outbox: Outbox) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in await _questions(outbox) if item["path"] == "pay")
    return found


@pytest.fixture
async def asking(outbox: Outbox) -> Outbox:
    await put_policy(outbox, approvalAbove={"assets": {f"eip155:{CHAIN_ID}/native": "100"}})
    status = await outbox.pay("pay", transfer(address(1), 101))
    assert (status.status, status.waits_for, status.is_signed) == ("open", "approval", False)
    assert status.until is not None
    return outbox


async def test_person_approves_the_exact_transaction(asking: Outbox) -> None:
    question = await _asked(asking)
    assert question["binding"] is not None
    assert "fee at most" in question["message"]
    assert f"It sends {address(1)} 101 base units of eip155:{CHAIN_ID}/native." in question["message"]
    starter = asking.composition.owner
    refused = await starter.post(f"/v1/approvals/{question['id']}/approve")
    assert (refused.status, refused.code) == (403, 403_001)
    other = await asking.composition.client_with("approval:decide")
    assert (await other.post(f"/v1/approvals/{question['id']}/approve")).status == 200
    status = await asking.outbox.advance(asking.request("pay"))
    assert status.is_signed
    asking.node.mine(2)
    await asking.settled("pay")
    assert await asking.events("pay") == ["planned", "asked", "simulated", "signed", "sent", "mined", "confirmed"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xab\xcd\xef\x01", "calldata 0xabcdef01,"),
        (bytes(600), f"that begin with 0x{'00' * 512} and have the hash 0x"),
    ],
    ids=["short", "long"],
)
async def test_a_person_sees_the_calldata_that_is_decided(outbox: Outbox, data: bytes, text: str) -> None:
    """What a method's arguments are is not in its name."""
    await put_policy(outbox, approvalAbove={"assets": {f"eip155:{CHAIN_ID}/native": "100"}})
    await outbox.pay("pay", replace(transfer(address(1), 101), data=data, is_decoded=False))
    assert text in (await _asked(outbox))["message"]


async def test_a_key_that_is_limited_to_other_wallets_decides_nothing(asking: Outbox) -> None:
    question = await _asked(asking)
    owner = asking.composition.owner
    other = (await owner.post("/v1/wallets", {"name": "other", "kind": "local"})).data["id"]
    for wallet_id, status in ((other, 403), (asking.wallet_id, 200)):
        body = {"name": "k", "permissions": ["approval:decide"], "walletIds": [wallet_id]}
        key = asking.composition.client((await owner.post("/v1/api-keys", body)).data["key"])
        assert (await key.post(f"/v1/approvals/{question['id']}/approve")).status == status


async def test_what_a_revoked_key_began_is_neither_paid_nor_signed(outbox: Outbox) -> None:
    """Not even once a person has approved it. What another key retries is."""
    await put_policy(outbox, approvalAbove={"assets": {f"eip155:{CHAIN_ID}/native": "100"}})
    owner = outbox.composition.owner
    leaked = (await owner.post("/v1/api-keys", {"name": "leaked", "permissions": ["wallet:spend"]})).data["id"]
    await outbox.pay("pay", transfer(address(1), 101), key_id=leaked)
    small, sign = (outbox.request(path, key_id=leaked) for path in ("small", "sign"))
    await outbox.outbox.plan(small, Spend((transfer(address(1), 1),)))
    await outbox.outbox.plan(sign, Spend(signatures=(_message(),)))
    assert (await owner.delete(f"/v1/api-keys/{leaked}")).status == 200
    assert (await owner.post(f"/v1/approvals/{(await _asked(outbox))['id']}/approve")).status == 200
    for request in (outbox.request("pay", key_id=leaked), small, sign):
        status = await outbox.outbox.advance(request)
        assert status.failure is not None
        assert (status.status, status.failure.code, status.is_signed) == ("failed", "REFUSED", False)
        assert f'"{leaked}" that started this run is revoked' in status.failure.message
    await put_policy(outbox)
    assert (await outbox.pay("pay", transfer(address(1), 101))).is_signed
    assert (await outbox.pay("small", transfer(address(1), 1))).is_signed


async def test_person_rejects(asking: Outbox) -> None:
    question = await _asked(asking)
    other = await asking.composition.client_with("approval:decide")
    assert (await other.post(f"/v1/approvals/{question['id']}/reject", {"comment": "too much"})).status == 200
    status = await asking.outbox.advance(asking.request("pay"))
    assert status.failure is not None
    assert (status.status, status.failure.code) == ("failed", "REJECTED")
    assert "too much" in status.failure.message
    assert asking.nonce() == 0


async def test_approval_fits_no_other_fee_ceiling(asking: Outbox) -> None:
    question = await _asked(asking)
    other = await asking.composition.client_with("approval:decide")
    await other.post(f"/v1/approvals/{question['id']}/approve")
    dearer = sa.update(transactions).values(max_price=str(10**15)).where(transactions.c.path == "pay")
    await asking.composition.execute(dearer)
    status = await asking.outbox.advance(asking.request("pay"))
    assert (status.status, status.is_signed, status.waits_for) == ("open", False, "approval")
    assert (await _asked(asking))["id"] != question["id"]


_RICH = hex(10**22)


async def _refuse_for_funds(outbox: Outbox) -> str:
    """Approves what is asked, and has it refused unsigned; the id of the question."""
    question = await _asked(outbox)
    other = await outbox.composition.client_with("approval:decide")
    assert (await other.post(f"/v1/approvals/{question['id']}/approve")).status == 200
    outbox.node.rpc("anvil_setBalance", ALICE, hex(1_000))
    status = await outbox.outbox.advance(outbox.request("pay"))
    assert status.failure is not None
    assert (status.failure.code, status.is_signed) == ("INSUFFICIENT_FUNDS", False)
    outbox.node.rpc("anvil_setBalance", ALICE, _RICH)
    return str(question["id"])


async def test_an_approval_pays_another_attempt_once(asking: Outbox) -> None:
    """What was included and failed is asked about before it is paid again."""
    approval = await _refuse_for_funds(asking)
    status = await asking.pay("pay", transfer(address(1), 101))
    assert (status.is_signed, [one["id"] for one in await _questions(asking) if one["path"] == "pay"]) == (True, [])
    await asking.composition.owner.post(f"/v1/transactions/{status.transactions[0]['id']}/cancel")
    asking.node.mine(2)
    await asking.until("pay", lambda status: status.status == "failed")
    status = await asking.pay("pay", transfer(address(1), 101))
    assert (status.is_signed, status.waits_for) == (False, "approval")
    assert (await _asked(asking))["id"] != approval
    assert asking.balance(address(1)) == 0


@pytest.mark.parametrize(
    "change", ["amount", "policy", "retry", "price", "rejected", "other", "key", "time", "more", "words"]
)
async def test_an_approval_covers_no_other_attempt(asking: Outbox, change: str) -> None:
    approval, intents, more = await _refuse_for_funds(asking), [transfer(address(1), 101)], dict[str, Any]()
    if change == "amount":
        intents = [transfer(address(1), 102)]
    elif change == "policy":
        await put_policy(asking, approvalAbove={"assets": {f"eip155:{CHAIN_ID}/native": "99"}})
    elif change == "retry":
        run_id = (await asking.composition.owner.post("/v1/runs", {"definition": {"nodes": WAITS}})).data["runId"]
        found = await asking.composition.rows(sa.select(runs.c.pk).where(runs.c.id == run_id))
        more = {"run_pk": found[0][0], "run_id": run_id, "root_run_id": asking.run_id}
    elif change == "price":
        dearer = '{"code": "PRICE_TOO_HIGH", "message": "", "retryable": true}'
        await asking.composition.execute(sa.update(transactions).values(error=dearer))
    elif change == "other":
        more = {"max_price_units": 10**11}
    elif change == "key":
        ((key,),) = await asking.composition.rows(sa.select(approvals.c.decided_by).where(approvals.c.id == approval))
        assert (await asking.composition.owner.send("DELETE", f"/v1/api-keys/{key}")).status in (200, 204)
    elif change == "time":
        await asking.composition.execute(sa.update(approvals).values(expires_at=1).where(approvals.c.id == approval))
    elif change == "more":
        intents.append(transfer(address(2), 1, item="more"))
    elif change == "words":
        await asking.composition.execute(sa.update(transactions).values(verdict='{"outcome": "ask", "reasons": []}'))
    else:
        await asking.composition.execute(
            sa.update(approvals).values(status="rejected").where(approvals.c.id == approval)
        )
    request = asking.request("pay", **more)
    planned = await asking.outbox.plan(request, Spend(tuple(intents)))
    assert planned.stored is not None
    row = planned.stored.transactions[0]
    kept = (2, approval, 21_000) if change == "words" else (2, None, None)
    assert (row.generation, row.approval_id, row.gas_limit) == kept, change
    status = await asking.outbox.advance(request)
    assert (status.is_signed, status.waits_for) == (False, "approval")
    assert (await _asked(asking))["id"] != approval


async def test_nobody_answers_in_time(asking: Outbox) -> None:
    await asking.composition.execute(sa.update(approvals).values(expires_at=1).where(approvals.c.path == "pay"))
    other = await asking.composition.client_with("approval:decide")
    late = await other.post(f"/v1/approvals/{(await _asked(asking))['id']}/approve")
    assert (late.status, late.code) == (409, 409_009)
    status = await asking.outbox.advance(asking.request("pay"))
    assert status.failure is not None
    assert (status.status, status.failure.code) == ("failed", "APPROVAL_EXPIRED")


# --- signatures ---


def _message(text: str = "hello") -> SignRequest:
    return SignRequest("login", "message", CHAIN_ID, text, (), "Sign in")


async def test_signature_is_judged_kept_sealed_and_shown_to_spenders_only(outbox: Outbox) -> None:
    request = outbox.request("sign")
    await outbox.outbox.plan(request, Spend(signatures=(_message(),)))
    status = await outbox.outbox.advance(request)
    assert status.status == "settled"
    assert status.spent is not None
    signature = status.spent.signatures["login"]
    assert Account.recover_message(encode_defunct(text="hello"), signature=signature) == ALICE
    again = await outbox.outbox.advance(request)
    assert again.spent is not None
    assert again.spent.signatures["login"] == signature
    noted = await outbox.transaction_events("sign")
    assert [event["status"] for event in noted] == ["signed"]
    assert signature[2:] not in str(noted)
    signature_id = noted[0]["signatureId"]
    shown = (await outbox.composition.owner.get(f"/v1/signatures/{signature_id}")).data
    assert shown["signature"] == signature
    reader = await outbox.composition.client_with("transaction:read", "run:read", "wallet:read")
    assert (await reader.get(f"/v1/signatures/{signature_id}")).status == 403
    assert signature[2:] not in (outbox.composition.parts.settings.data_dir / "dustrun.db").read_bytes().hex()


async def test_signature_that_policy_forbids_is_never_made(outbox: Outbox) -> None:
    await put_policy(outbox, signatures={"messages": False, "typedData": "none"})
    request = outbox.request("sign")
    await outbox.outbox.plan(request, Spend(signatures=(_message(),)))
    status = await outbox.outbox.advance(request)
    assert status.failure is not None
    assert (status.status, status.failure.code) == ("failed", "REFUSED")
    assert [event["status"] for event in await outbox.transaction_events("sign")] == ["refused"]


async def test_who_starts_a_run_does_not_approve_by_a_key_that_it_makes(outbox: Outbox) -> None:
    await put_policy(outbox, approvalAbove={"assets": {f"eip155:{CHAIN_ID}/native": "100"}})
    owner = outbox.composition.owner
    rights = ["run:inline", "workflow:execute", "wallet:spend", "approval:decide", "key:write"]

    async def made_by(maker: Client) -> Client:
        reply = await maker.post("/v1/api-keys", {"name": "k", "permissions": rights})
        return outbox.composition.client(reply.data["key"])

    starter, colleague = await made_by(owner), await made_by(owner)
    puppet = await made_by(await made_by(starter))
    payload = {"chainId": CHAIN_ID, "recipient": address(1), "amount": "101"}
    nodes = {"root": {"type": "manual", "children": ["pay"]}, "pay": {"type": "send-native", "payload": payload}}
    assert (await starter.post("/v1/runs", {"definition": {"nodes": nodes}})).status == 200
    async with asyncio.timeout(60):
        while not (asked := [one for one in await _questions(outbox) if one["binding"] is not None]):
            await asyncio.sleep(0.05)
    question = asked[0]
    for key, status in ((starter, 403), (puppet, 403), (colleague, 200)):
        assert (await key.post(f"/v1/approvals/{question['id']}/approve")).status == status
