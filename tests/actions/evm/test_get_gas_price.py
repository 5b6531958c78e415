from __future__ import annotations

from decimal import Decimal

from actions.evm.conftest import Scene
from dustrun.actions.evm.get_gas_price import get_gas_price


async def test_it_is_base_fee_and_tip(scene: Scene) -> None:
    scene.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(7 * 10**9))
    scene.node.mine()
    scene.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(7 * 10**9))
    result = await scene.do(get_gas_price)
    history = scene.witness.web3.eth.fee_history(1, "latest", [50])
    expected = int(history["baseFeePerGas"][-1]) + int(result["tip"])
    assert result["expected"] == str(expected)
    assert result["expectedGwei"] == Decimal(expected).scaleb(-9)
    assert result["transferFee"] == str(21_000 * expected)
    assert int(result["maxFee"]) >= expected
    assert (result["isLegacy"], result["symbol"]) == (False, "ETH")
