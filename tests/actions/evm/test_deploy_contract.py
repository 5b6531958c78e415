from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from actions.evm.conftest import Scene
from dustrun.actions.evm.deploy_contract import deploy_contract
from dustrun.errors import Invalid
from testkit.chain.contracts import artifact


async def test_a_contract_is_there_and_works(scene: Scene) -> None:
    abi, code = artifact("usdc")
    nonce = scene.witness.nonce(scene.wallet.address)
    result = await scene.do(deploy_contract, bytecode=code, abi=abi, args=["My Token", "MINE", 9])
    receipt: Any = scene.witness.web3.eth.get_transaction_receipt(result["hash"])
    assert result["contractAddress"] == receipt["contractAddress"]
    token = scene.witness.contract("usdc", result["contractAddress"])
    assert (token.functions.name().call(), token.functions.decimals().call()) == ("My Token", 9)
    assert scene.witness.nonce(scene.wallet.address) == nonce + 1


async def test_arguments_may_come_by_name_and_code_without_0x(scene: Scene) -> None:
    abi, code = artifact("usdc")
    args = {"name_": "N", "symbol_": "S", "decimals_": 1}
    by_name = (await scene.plan(deploy_contract, bytecode=code[2:], abi=abi, args=args)).intents[0]
    contract = scene.witness.web3.eth.contract(abi=abi, bytecode=code)
    expected = contract.constructor("N", "S", 1).data_in_transaction
    assert "0x" + by_name.data.hex() == expected
    assert (by_name.to, by_name.movements, by_name.is_decoded) == (None, (), True)


@pytest.mark.parametrize(
    ("payload", "field", "message"),
    [
        ({"args": ["only one"]}, "args", "has 1 values, expected 3: string name_, string symbol_, uint8 decimals_"),
        ({"args": ["a", "b", 300]}, "args[2]", "is out of range for uint8"),
        ({"args": ["a", "b", 1], "abi": []}, "args", "provide its abi"),
        ({"args": ["a", "b", 1], "value": "1"}, "value", "is not payable"),
        ({"args": ["a", "b", 1], "abi": 5}, "abi", "a JSON ABI list"),
    ],
)
async def test_what_does_not_fit_is_refused_by_field(
    scene: Scene, payload: dict[str, Any], field: str, message: str
) -> None:
    abi, code = artifact("usdc")
    with pytest.raises(Invalid, match=message) as caught:
        await scene.plan(deploy_contract, **{"bytecode": code, "abi": abi, **payload})
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("0x", "at least two"),
        ("0x6000__$abc$__", "link it first"),
        ("60zz", "by an even number of hexadecimal"),
        ("00" * 49_153, "at most"),
    ],
)
async def test_what_is_no_code_is_refused(scene: Scene, code: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        await scene.plan(deploy_contract, bytecode=code)
