from __future__ import annotations

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.wrap_native import wrap_native
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid
from testkit.chain.contracts import ETHER


async def test_coin_becomes_token_one_for_one(scene: Scene) -> None:
    me = scene.wallet.address
    had, native = scene.witness.balance("weth", me), scene.witness.native(me)
    result = await scene.do(wrap_native, amount=str(2 * ETHER))
    assert scene.witness.balance("weth", me) - had == 2 * ETHER
    assert native - scene.witness.native(me) == 2 * ETHER + int(result["fee"])
    assert (result["amount"], result["amountFormatted"], result["token"]) == (str(2 * ETHER), "2", scene["weth"])


async def test_max_leaves_the_fee(scene: Scene) -> None:
    result = await scene.do(wrap_native, amount="max")
    assert 0 <= scene.witness.native(scene.wallet.address) < ETHER // 1000
    assert int(result["amount"]) > 8_000 * ETHER


async def test_its_intent_says_all(scene: Scene) -> None:
    (intent,) = (await scene.plan(wrap_native, amount="5")).intents
    assert intent.movements == (Movement("send", Asset(31337), 5, scene["weth"]),)
    assert (intent.to, intent.value_units, intent.data) == (scene["weth"], 5, scene.witness.data("weth", "deposit"))
    assert intent.method == "deposit()"


async def test_more_than_there_is_is_refused(scene: Scene) -> None:
    with pytest.raises(Invalid, match="not 1000000 ETH"):
        await scene.plan(wrap_native, amount=str(10**24))
    scene.node.set_balance(scene.wallet.address, 10)
    with pytest.raises(Invalid, match="not enough for the fee"):
        await scene.plan(wrap_native, amount="max")
