from __future__ import annotations

from typing import Any

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.revoke_allowances import revoke_allowances
from dustrun.core.money.allowances import Allowance
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import MAX

CAROL, DAVE = ACCOUNTS[2], ACCOUNTS[3]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ({}, (0, 0, 0)),
        ({"unlimitedOnly": True}, (0, 5, 0)),
        ({"spender": DAVE}, (MAX, 0, 0)),
        ({"token": "usdc"}, (0, 0, 1)),
    ],
)
async def test_what_matches_and_stands_is_set_to_zero(scene: Scene, wanted: dict[str, Any], left: Any) -> None:
    owner = scene.wallet.address
    scene.witness.send("usdc", "approve", CAROL, MAX, sender=owner)
    scene.witness.send("usdc", "approve", DAVE, 5, sender=owner)
    scene.witness.send("nft", "setApprovalForAll", DAVE, True, sender=owner)
    named = [("erc20", "usdc", CAROL), ("erc20", "usdc", DAVE), ("collection", "nft", DAVE), ("erc20", "weth", DAVE)]
    scene.ctx.allowances = [Allowance(CHAIN_ID, kind, scene[token], who) for kind, token, who in named]  # type: ignore[arg-type]
    given = {name: scene[value] if value == "usdc" else value for name, value in wanted.items()}
    result = await scene.do(revoke_allowances, **given)
    found = (
        scene.witness.allowance("usdc", owner, CAROL),
        scene.witness.allowance("usdc", owner, DAVE),
        int(scene.witness.read("nft", "isApprovedForAll", owner, DAVE)),
    )
    assert found == left
    assert all(one["hash"] for one in result["revoked"])
    assert result["count"] == 3 - sum(1 for number in left if number)


async def test_what_nobody_here_has_granted_is_revoked_by_its_names(scene: Scene) -> None:
    scene.witness.send("usdc", "approve", CAROL, 7, sender=scene.wallet.address)
    result = await scene.do(revoke_allowances, token=scene["usdc"], spender=CAROL)
    assert [one["amount"] for one in result["revoked"]] == ["7"]
    assert scene.witness.allowance("usdc", scene.wallet.address, CAROL) == 0


async def test_a_contract_that_does_not_answer_is_named(scene: Scene) -> None:
    scene.ctx.allowances = [Allowance(CHAIN_ID, "erc20", scene["zoo"], CAROL)]
    result = await scene.do(revoke_allowances)
    assert (result["count"], result["unread"]) == (0, [scene["zoo"]])
