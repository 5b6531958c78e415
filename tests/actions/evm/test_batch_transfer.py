from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from actions.evm.conftest import Scene
from dustrun.actions.evm.batch_transfer import batch_transfer
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import ETHER

CAROL, DAVE = ACCOUNTS[2], ACCOUNTS[3]
FRESH = "0x00000000000000000000000000000000DeaDBeef"


def rows(*parts: tuple[str, int] | tuple[str, int, str]) -> list[dict[str, Any]]:
    return [dict(zip(("recipient", "amount", "key"), part, strict=False)) for part in parts]


async def test_every_row_is_paid(scene: Scene) -> None:
    had = {who: scene.witness.balance("usdc", who) for who in (CAROL, DAVE)}
    asked = rows((CAROL, 5), (DAVE, 7, "invoice-17"), (CAROL, 5))
    result = await scene.do(batch_transfer, token="usdc", rows=asked, decimals=6)
    assert scene.witness.balance("usdc", CAROL) - had[CAROL] == 10
    assert scene.witness.balance("usdc", DAVE) - had[DAVE] == 7
    assert (result["count"], result["total"], result["totalFormatted"]) == (3, "17", "0.000017")
    assert [(row["key"], row["amount"], row["amountReceived"]) for row in result["rows"]] == [
        ("0", "5", "5"),
        ("invoice-17", "7", "7"),
        ("2", "5", "5"),
    ]
    receipts: list[Any] = [scene.witness.web3.eth.get_transaction_receipt(row["hash"]) for row in result["rows"]]
    assert result["totalFee"] == str(sum(found["gasUsed"] * found["effectiveGasPrice"] for found in receipts))


async def test_native_coin_goes_too(scene: Scene) -> None:
    result = await scene.do(batch_transfer, rows=rows((FRESH, ETHER), (FRESH, 1)))
    assert scene.witness.native(FRESH) == ETHER + 1
    assert (result["token"], result["symbol"]) == ("native", "ETH")


async def test_intents_are_known_by_key_or_place(scene: Scene) -> None:
    asked = rows((CAROL, 5), (DAVE, 7, "invoice-17"))
    spend = await scene.plan(batch_transfer, token="usdc", rows=asked)
    assert [intent.item for intent in spend.intents] == ["row[0]", "row:invoice-17"]
    assert [intent.movements for intent in spend.intents] == [
        (Movement("send", Asset(31337, scene["usdc"]), 5, CAROL),),
        (Movement("send", Asset(31337, scene["usdc"]), 7, DAVE),),
    ]
    again = await scene.plan(batch_transfer, token="usdc", rows=asked[::-1])
    assert again.intents[0] == spend.intents[1], "with a key, the place does not matter"


async def test_a_fee_shows_in_what_arrived(scene: Scene) -> None:
    result = await scene.do(batch_transfer, token=scene["fee"], rows=rows((CAROL, 1000)))
    assert (result["rows"][0]["amount"], result["rows"][0]["amountReceived"]) == ("1000", "990")


@pytest.mark.parametrize(
    ("payload", "field", "message"),
    [
        ({"rows": rows((CAROL, 1), ("usdc", 1))}, "rows[1].recipient", "contract of USDC itself"),
        ({"rows": rows((CAROL, 1), ("dai", 1))}, "rows[1].recipient", "a token contract;"),
        ({"rows": rows((CAROL, 10**12), (CAROL, 1))}, "rows", "has 1000000 USDC, the rows need 1000000.000001 USDC"),
        ({"decimals": 18}, "decimals", "has 6 decimals, not 18"),
        ({"token": "native", "rows": rows((CAROL, 1), ("rejector", 1))}, "rows[1]", "no coins, please"),
    ],
)
async def test_one_bad_row_refuses_all_before(scene: Scene, payload: dict[str, Any], field: str, message: str) -> None:
    asked: dict[str, Any] = {"token": "usdc", "rows": rows((CAROL, 1)), **payload}
    for row in asked["rows"]:
        row["recipient"] = scene.witness.addresses.get(row["recipient"], row["recipient"])
    with pytest.raises(Invalid, match=message) as caught:
        await scene.plan(batch_transfer, **asked)
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"


async def test_a_blocked_recipient_is_found_out_before(scene: Scene) -> None:
    scene.witness.send("blocklist", "setBlocked", DAVE, True)
    with pytest.raises(Invalid, match="account is blacklisted") as caught:
        await scene.plan(batch_transfer, token=scene["blocklist"], rows=rows((CAROL, 1), (DAVE, 1)))
    assert caught.value.public_details()[0]["field"] == "payload.rows[1]"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "at least 1"),
        (rows((CAROL, 0)), "more than 0"),
        (rows((CAROL, 1, "a"), (DAVE, 1, "a")), r'rows\[1\].key "a" is also the key of rows\[0\]'),
        (rows((CAROL, 1, "a/b")), "pattern"),
        (rows((CAROL, 2**256 - 1), (CAROL, 1)), "add up to more than"),
        (rows(("0x" + "0" * 40, 1)), "zero address"),
    ],
)
async def test_rows_that_do_not_fit_are_refused(scene: Scene, asked: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        await scene.plan(batch_transfer, rows=asked)
