from __future__ import annotations

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.multicall_read import multicall_read
from dustrun.errors import Invalid, Permanent
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import TOKENS

BALANCE = "balanceOf(address) returns (uint256)"


async def test_all_answers_come_in_order(scene: Scene) -> None:
    calls = [{"contract": scene[name], "function": BALANCE, "args": [ACCOUNTS[1]]} for name in TOKENS]
    result = await scene.do(multicall_read, calls=calls)
    assert [answer["value"] for answer in result["results"]] == [
        str(scene.witness.balance(name, ACCOUNTS[1])) for name in TOKENS
    ]
    assert result["failed"] == 0


@pytest.mark.parametrize("count", [1, 3, 120])
async def test_a_failure_that_is_allowed_fails_its_own_call_only(scene: Scene, count: int) -> None:
    good = {"contract": scene["usdc"], "function": "decimals() returns (uint8)"}
    bad = {"contract": scene["zoo"], "function": "custom()", "allowFailure": True}
    result = await scene.do(multicall_read, calls=[bad, *[good] * count])
    assert [answer["success"] for answer in result["results"]] == [False, *[True] * count]
    assert result["failed"] == 1
    selector = scene.witness.web3.keccak(text="Custom(uint256,string)")[:4]
    assert result["results"][0]["data"].startswith(selector.to_0x_hex())
    assert {answer["value"] for answer in result["results"][1:]} == {6}


async def test_a_failure_that_is_not_allowed_says_why(scene: Scene) -> None:
    calls = [
        {"contract": scene["usdc"], "function": "decimals() returns (uint8)"},
        {"contract": scene["zoo"], "function": "requireString()"},
    ]
    with pytest.raises(Permanent, match="no way"):
        await scene.do(multicall_read, calls=calls)


async def test_a_bad_call_is_named_by_its_place(scene: Scene) -> None:
    good = {"contract": scene["usdc"], "function": "decimals() returns (uint8)"}
    for bad, field in (
        ({"contract": scene["usdc"], "function": BALANCE, "args": ["0x1"]}, "calls[1].args[0]"),
        ({"contract": ACCOUNTS[2], "function": BALANCE, "args": [ACCOUNTS[2]]}, "calls[1].contract"),
        ({"contract": scene["usdc"], "function": "nonsense"}, "calls[1].function"),
    ):
        with pytest.raises(Invalid) as caught:
            await scene.do(multicall_read, calls=[good, bad])
        assert caught.value.public_details()[0]["field"] == f"payload.{field}"
