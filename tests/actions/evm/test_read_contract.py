from __future__ import annotations

from typing import Any

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.read_contract import read_contract
from dustrun.core.values.addresses import keccak256
from dustrun.errors import Invalid, Permanent
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import ETHER, artifact

ME = ACCOUNTS[1]


async def test_one_value_comes_as_itself(scene: Scene) -> None:
    result = await scene.do(
        read_contract, contract=scene["usdc"], function="balanceOf(address) returns (uint256)", args=[ME]
    )
    units = scene.witness.balance("usdc", ME)
    assert result == {"value": str(units), "values": {"0": str(units)}, "data": f"0x{units:064x}"}


async def test_small_integers_are_numbers_and_large_ones_texts(scene: Scene) -> None:
    decimals = await scene.do(read_contract, contract=scene["usdc"], function="decimals() returns (uint8)")
    assert decimals["value"] == 6
    pair = scene.witness.read("v2_factory", "getPair", scene["weth"], scene["usdc"])
    text = "getReserves() returns (uint112 reserve0, uint112 reserve1, uint32 at)"
    result = await scene.do(read_contract, contract=pair, function=text)
    reserve0, reserve1, at = scene.witness.contract("v2_pair", pair).functions.getReserves().call()
    assert result["value"] == {"reserve0": str(reserve0), "reserve1": str(reserve1), "at": at} == result["values"]


async def test_an_abi_names_functions_arguments_and_results(scene: Scene) -> None:
    abi, _ = artifact("v2_router")
    route = [scene["weth"], scene["usdc"]]
    args = {"amountIn": str(ETHER), "path": route}
    result = await scene.do(read_contract, contract=scene["v2_router"], function="getAmountsOut", abi=abi, args=args)
    quoted = scene.witness.read("v2_router", "getAmountsOut", ETHER, route)
    assert result["value"] == [str(amount) for amount in quoted]


async def test_a_sender_counts_where_the_contract_looks_at_it(scene: Scene) -> None:
    text = "transfer(address to, uint256 amount) returns (bool)"
    asked = {"contract": scene["usdc"], "function": text, "args": [ACCOUNTS[2], 1]}
    assert (await scene.do(read_contract, **asked, sender=ME))["value"] is True
    with pytest.raises(Permanent, match="ERC20InsufficientBalance"):
        await scene.do(read_contract, **asked, sender="0x00000000000000000000000000000000DeaDBeef")


async def test_tuples_and_reverts_are_told(scene: Scene) -> None:
    with pytest.raises(Permanent, match="no way"):
        await scene.do(read_contract, contract=scene["zoo"], function="requireString()")
    with pytest.raises(Permanent, match="division"):
        await scene.do(
            read_contract, contract=scene["zoo"], function="panicDivision(uint256) returns (uint256)", args=[0]
        )


async def test_a_function_without_results_gives_raw_data(scene: Scene) -> None:
    result = await scene.do(read_contract, contract=scene["usdc"], function="totalSupply()")
    supply = scene.witness.read("usdc", "totalSupply")
    assert result == {"value": None, "values": {}, "data": f"0x{supply:064x}"}


ABI = [
    {"type": "function", "name": "f", "inputs": [{"name": "a", "type": "uint8"}], "outputs": []},
    {"type": "function", "name": "f", "inputs": [{"name": "a", "type": "bool"}], "outputs": []},
    {"type": "function", "name": "balanceOf", "inputs": [], "outputs": []},
]


@pytest.mark.parametrize(
    ("payload", "field", "message"),
    [
        ({"function": "balanceOf"}, "function", "is not a signature"),
        ({"function": "balanceOf(adress)"}, "function", "not an ABI type"),
        (
            {"function": "f", "abi": ABI},
            "function",
            r"several \"f\"; give the full signature of one: f\(uint8\), f\(bool\)",
        ),
        ({"function": "balanceof", "abi": ABI}, "function", 'did you mean "balanceOf"'),
        ({"function": "f(uint8)", "abi": ABI, "args": [256]}, "args[0]", "is out of range for uint8"),
        ({"function": "f(uint8)", "abi": ABI, "args": {"b": 1}}, "args.b", 'has no "b"'),
        ({"function": "f(uint8)", "abi": ABI, "args": {}}, "args.a", "is missing"),
        ({"function": "f", "abi": [1]}, "abi", "list of objects"),
        ({"args": []}, "args", "has 0 values, expected 1: address owner"),
        ({"args": ["0x12"]}, "args[0]", "this one has 2"),
        ({"args": [5]}, "args[0]", "is not an address:"),
        ({"contract": "0x00000000000000000000000000000000DeaDBeef"}, "contract", "no contract at"),
        ({"function": "balanceOf(address owner) returns (string)"}, "function", "does not match its signature:"),
        (
            {"function": "g((uint256 a, bytes4 b)[] items)", "args": [[{"a": 1, "b": "0x12"}]]},
            "args[0][0].b",
            "takes 4",
        ),
    ],
)
async def test_what_does_not_fit_is_refused_by_field(
    scene: Scene, payload: dict[str, Any], field: str, message: str
) -> None:
    asked: dict[str, Any] = {"function": "balanceOf(address owner) returns (uint256)", "args": [ME], **payload}
    asked = {"contract": scene["usdc"], **asked}
    with pytest.raises(Invalid, match=message) as caught:
        await scene.do(read_contract, **asked)
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"


def test_selectors_are_those_of_keccak() -> None:
    assert keccak256(b"balanceOf(address)")[:4].hex() == "70a08231"
