from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from actions.evm.conftest import Scene
from dustrun.actions.evm.send_native import send_native
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import ETHER

CAROL = ACCOUNTS[2]
FRESH = "0x00000000000000000000000000000000DeaDBeef"


async def test_it_pays_and_says_what_it_cost(scene: Scene) -> None:
    before, had = scene.witness.native(scene.wallet.address), scene.witness.native(CAROL)
    result = await scene.do(send_native, recipient=CAROL.lower(), amount=str(3 * ETHER // 2))
    assert scene.witness.native(CAROL) - had == 3 * ETHER // 2
    assert before - scene.witness.native(scene.wallet.address) == 3 * ETHER // 2 + int(result["fee"])
    receipt: Any = scene.witness.web3.eth.get_transaction_receipt(result["hash"])
    assert result == {
        "hash": receipt["transactionHash"].to_0x_hex(),
        "blockNumber": receipt["blockNumber"],
        "gasUsed": "21000",
        "fee": str(21000 * receipt["effectiveGasPrice"]),
        "feeFormatted": result["feeFormatted"],
        "explorerUrl": None,
        "recipient": CAROL,
        "amount": "1500000000000000000",
        "amountFormatted": "1.5",
        "symbol": "ETH",
    }


async def test_its_intent_says_all(scene: Scene) -> None:
    spend = await scene.plan(send_native, recipient=CAROL, amount="7")
    assert spend.intents == (
        Intent(
            item="send",
            chain_id=31337,
            to=CAROL,
            value_units=7,
            data=b"",
            movements=(Movement("send", Asset(31337), 7, CAROL),),
            about=f"Send 0.000000000000000007 ETH to {CAROL} on Test chain",
        ),
    )


async def test_max_leaves_the_fee_and_little_more(scene: Scene) -> None:
    result = await scene.do(send_native, recipient=FRESH, amount="max")
    assert scene.witness.native(FRESH) == int(result["amount"])
    left = scene.witness.native(scene.wallet.address)
    assert 0 <= left < ETHER // 1000


async def test_max_to_a_contract_leaves_more_for_its_code(scene: Scene) -> None:
    zoo = scene["zoo"]
    await scene.do(send_native, recipient=zoo, amount="max")
    assert scene.witness.native(zoo) > 8_999 * ETHER
    assert scene.wallet.seen[0].intents[0].gas_limit is None


async def test_max_of_too_little_is_refused(scene: Scene) -> None:
    scene.node.set_balance(scene.wallet.address, 1000)
    with pytest.raises(Invalid, match=r"nothing is left to send") as caught:
        await scene.plan(send_native, recipient=CAROL, amount="max")
    assert caught.value.public_details()[0]["field"] == "payload.amount"


@pytest.mark.parametrize(
    ("payload", "field", "message"),
    [
        ({"amount": "0"}, "amount", "must be more than 0"),
        ({"amount": "-1"}, "amount", "without sign"),
        ({"amount": "1.5"}, "amount", r"without sign, decimal point or exponent; toUnits\(1.5, 6\) in an expression"),
        (
            {"amount": Decimal("25.0")},
            "amount",
            r"an integer of base units, not the decimal 25.0; floor\(\), round",
        ),
        ({"amount": str(2**256)}, "amount", r"2\*\*256"),
        ({"amount": "all"}, "amount", "string of decimal digits"),
        ({"recipient": "0x" + "0" * 40}, "recipient", "zero address"),
        ({"recipient": f"0x{1:040x}"}, "recipient", "precompiled"),
        ({"recipient": CAROL[:-1]}, "recipient", "this one has 39"),
        ({"recipient": CAROL[2:]}, "recipient", "add 0x in front"),
        ({"recipient": "alice.eth"}, "recipient", "names like alice.eth"),
        ({"recipient": CAROL.replace("C", "c", 1)}, "recipient", "EIP-55"),
        ({"chainId": 0}, "chain_id", "greater than or equal to 1"),
    ],
)
async def test_a_bad_input_is_refused_by_field(scene: Scene, payload: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        await scene.plan(send_native, **{"recipient": CAROL, "amount": "1", **payload})
    assert str(caught.value.errors()[0]["loc"][0]) in (field, "chainId")


@pytest.mark.parametrize(
    ("recipient", "amount", "field", "message"),
    [
        ("usdc", "1", "recipient", "a token contract;"),
        ("weth", "1", "recipient", "a token contract;"),
        (CAROL, str(10**24), "amount", r"has 8999.* ETH, not 1000000 ETH"),
    ],
)
async def test_what_would_be_lost_is_refused(
    scene: Scene, recipient: str, amount: str, field: str, message: str
) -> None:
    address = scene.witness.addresses.get(recipient, recipient)
    with pytest.raises(Invalid, match=message) as caught:
        await scene.plan(send_native, recipient=address, amount=amount)
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"
