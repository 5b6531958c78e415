"""A changed policy held against what was really spent and refused, and one payment that nobody makes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.ledger_tables import reservations, transactions
from outbox import ANYTHING, NATIVE, Outbox, address, open_outbox, transfer
from services.outbox.test_policy_check import put_policy
from testkit.chain.anvil import Anvil

DAY_MS = 86_400_000
COIN = 10**18


@pytest.fixture
async def on_both(tmp_path: Path, node: Anvil, store_url: str) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path, node, store_url, static_prices={NATIVE.key: "2"}) as outbox:
        yield outbox


async def _ask(outbox: Outbox, room: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await outbox.composition.owner.post(f"/v1/wallets/{outbox.wallet_id}/policy/{room}", body)
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.data
    return found


@pytest.mark.both_stores
async def test_a_changed_policy_says_what_it_would_have_said_and_writes_nothing(on_both: Outbox) -> None:
    await put_policy(on_both, limits=[{"maxUsd": "6", "windowMs": DAY_MS}])
    for number in range(4):  # the last one is over the limit
        await on_both.pay(f"pay[{number}]", transfer(address(number), COIN))
    on_both.node.mine(2)
    for number in range(3):
        await on_both.settled(f"pay[{number}]")
    rows = sa.select(sa.func.count()).select_from(reservations)
    before = await on_both.composition.rows(rows)
    same = await _ask(on_both, "replay", {})
    assert [one["was"] for one in same["items"]] == ["refused", "allowed", "allowed", "allowed"]
    assert (same["judged"], same["asBefore"], same["isWhole"], same["pricedNow"]) == (4, 4, True, 1)
    assert same["items"][0]["reasons"][0] == {
        "statement": "limits[0]",
        "message": "2 USD on top of the 6 USD spent in the last 24 hours is over 6 USD.",
        "sentence": "spend up to $6 a day",
    }
    tighter = {**ANYTHING, "limits": [{"maxUsd": "2", "windowMs": DAY_MS}]}
    found = await _ask(on_both, "replay", {"policy": tighter, "only": "changed", "limit": 1})
    assert (found["asBefore"], found["nowRefused"], found["nowAsked"], found["leftOut"]) == (2, 2, 0, 1)
    assert [one["wouldBe"] for one in found["items"]] == ["refused"]
    asks = await _ask(on_both, "replay", {"policy": {**ANYTHING, "approvalAbove": {"usd": "1"}}})
    assert (asks["asBefore"], asks["nowAsked"]) == (0, 4)
    assert asks["items"][0]["reasons"][0]["sentence"] == "ask above $1"
    assert await on_both.composition.rows(rows) == before
    await on_both.composition.execute(sa.update(transactions).values(planned_at=1))
    assert (await _ask(on_both, "replay", {}))["judged"] == 0


async def test_a_payment_that_nobody_makes_is_judged_with_what_was_spent(on_both: Outbox) -> None:
    await put_policy(
        on_both,
        limits=[{"maxUsd": "6", "windowMs": DAY_MS}],
        approvalAbove={"usd": "3"},
        recipients=[address(1)],
    )
    await on_both.pay("pay", transfer(address(1), COIN))

    async def outcome(units: int, to: str, **more: Any) -> tuple[str, list[str | None]]:
        body = {"asset": NATIVE.key, "amount": str(units), "recipient": to, **more}
        found = await _ask(on_both, "try-payment", body)
        return found["outcome"], [one["sentence"] for one in found["reasons"]]

    assert (await outcome(COIN, address(1)))[0] == "allowed"
    assert await outcome(2 * COIN, address(1)) == ("asked", ["ask above $3"])
    assert await outcome(3 * COIN, address(1)) == ("refused", ["spend up to $6 a day"])
    assert (await outcome(COIN, address(2)))[0] == "refused"
    assert (await outcome(COIN, address(2), policy=ANYTHING))[0] == "allowed"
    token = f"eip155:{NATIVE.chain_id}/erc20:{address(9)}"
    found = await _ask(on_both, "try-payment", {"asset": token, "amount": "1", "recipient": address(1)})
    assert [one["statement"] for one in found["reasons"]] == ["allowUnpricedAssets"]
    assert "fee" in found["notJudged"]
