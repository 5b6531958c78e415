from __future__ import annotations

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.unwrap_native import unwrap_native
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid
from testkit.chain.contracts import ETHER


async def test_token_becomes_coin_one_for_one(scene: Scene) -> None:
    me = scene.wallet.address
    had, native = scene.witness.balance("weth", me), scene.witness.native(me)
    result = await scene.do(unwrap_native, amount=str(2 * ETHER))
    assert had - scene.witness.balance("weth", me) == 2 * ETHER
    assert scene.witness.native(me) - native == 2 * ETHER - int(result["fee"])
    assert (result["amount"], result["amountFormatted"], result["symbol"]) == (str(2 * ETHER), "2", "ETH")


async def test_max_is_the_whole_token_balance(scene: Scene) -> None:
    had = scene.witness.balance("weth", scene.wallet.address)
    result = await scene.do(unwrap_native, amount="max")
    assert (int(result["amount"]), scene.witness.balance("weth", scene.wallet.address)) == (had, 0)
    with pytest.raises(Invalid, match="nothing to unwrap"):
        await scene.plan(unwrap_native, amount="max")


async def test_its_intent_says_all(scene: Scene) -> None:
    (intent,) = (await scene.plan(unwrap_native, amount="5")).intents
    assert intent.movements == (Movement("send", Asset(31337, scene["weth"]), 5, scene["weth"]),)
    assert (intent.value_units, intent.data) == (0, scene.witness.data("weth", "withdraw", 5))


async def test_more_than_there_is_is_refused(scene: Scene) -> None:
    with pytest.raises(Invalid, match="not 1000000 WETH"):
        await scene.plan(unwrap_native, amount=str(10**24))
