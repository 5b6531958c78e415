from __future__ import annotations

from typing import Any

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.approve_erc20 import approve_erc20
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import MAX, TOKENS

CAROL = ACCOUNTS[2]


@pytest.mark.parametrize("name", sorted(TOKENS))
async def test_the_allowance_is_what_was_asked_for(scene: Scene, name: str) -> None:
    result = await scene.do(approve_erc20, token=scene[name], spender=CAROL, amount="1500", decimals=TOKENS[name])
    assert scene.witness.allowance(name, scene.wallet.address, CAROL) == 1500
    assert (result["allowance"], result["previousAllowance"], result["changed"]) == ("1500", "0", True)
    receipt: Any = scene.witness.web3.eth.get_transaction_receipt(result["hash"])
    assert result["gasUsed"] == str(receipt["gasUsed"])


async def test_a_racy_token_is_reset_first(scene: Scene) -> None:
    scene.witness.send("race", "approve", CAROL, 7, sender=scene.wallet.address)
    result = await scene.do(approve_erc20, token=scene["race"], spender=CAROL, amount="9")
    assert scene.witness.allowance("race", scene.wallet.address, CAROL) == 9
    assert result["previousAllowance"] == "7"
    reset, approve = scene.wallet.seen[0].intents
    assert (reset.item, reset.movements) == (
        "approve-reset",
        (Movement("approve", Asset(31337, scene["race"]), 0, CAROL),),
    )
    assert (approve.item, approve.after) == ("approve", ("approve-reset",))


async def test_an_ordinary_token_is_not_reset(scene: Scene) -> None:
    scene.witness.send("usdc", "approve", CAROL, 7, sender=scene.wallet.address)
    spend = await scene.plan(approve_erc20, token="USDC", spender=CAROL, amount="9")
    (intent,) = spend.intents
    assert intent.data == scene.witness.data("usdc", "approve", CAROL, 9)
    assert intent.movements == (Movement("approve", Asset(31337, scene["usdc"]), 9, CAROL),)
    assert intent.about == f"Let {CAROL} spend 0.000009 USDC"


async def test_what_is_so_already_makes_no_transaction(scene: Scene) -> None:
    scene.witness.send("usdc", "approve", CAROL, 7, sender=scene.wallet.address)
    result = await scene.do(approve_erc20, token="USDC", spender=CAROL, amount="7")
    assert (result["hash"], result["changed"], result["allowance"]) == (None, False, "7")


async def test_max_is_any_amount_and_zero_takes_it_back(scene: Scene) -> None:
    result = await scene.do(approve_erc20, token="USDC", spender=CAROL, amount="max")
    assert int(result["allowance"]) == scene.witness.allowance("usdc", scene.wallet.address, CAROL) == MAX
    back = await scene.do(approve_erc20, token="USDC", spender=CAROL, amount="0")
    assert (back["allowance"], scene.witness.allowance("usdc", scene.wallet.address, CAROL)) == ("0", 0)


@pytest.mark.parametrize(
    ("payload", "field", "message"),
    [
        ({"spender": "usdc"}, "spender", "the token's own contract"),
        ({"spender": ACCOUNTS[1]}, "spender", "the wallet itself"),
        ({"token": "native"}, "token", "native coin"),
        ({"decimals": 2}, "decimals", "has 6 decimals, not 2: the amount would be 10000 times too small"),
    ],
)
async def test_what_makes_no_sense_is_refused(scene: Scene, payload: dict[str, Any], field: str, message: str) -> None:
    asked = {"token": "USDC", "spender": CAROL, "amount": "1"} | payload
    asked["spender"] = scene.witness.addresses.get(asked["spender"], asked["spender"])
    with pytest.raises(Invalid, match=message) as caught:
        await scene.plan(approve_erc20, **asked)
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"
