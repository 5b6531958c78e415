from __future__ import annotations

from typing import Any

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.send_erc721 import send_erc721
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid, Permanent
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import MAX

CAROL = ACCOUNTS[2]


@pytest.mark.parametrize("piece", [7, MAX])
async def test_a_piece_changes_its_owner(scene: Scene, piece: int) -> None:
    scene.witness.send("nft", "mint", scene.wallet.address, piece)
    result = await scene.do(send_erc721, contract=scene["nft"], tokenId=str(piece), recipient=CAROL)
    assert scene.witness.read("nft", "ownerOf", piece) == CAROL
    assert (result["contract"], result["tokenId"], result["recipient"]) == (scene["nft"], str(piece), CAROL)
    (intent,) = scene.wallet.seen[0].intents
    assert intent.movements == (Movement("send", Asset(31337, scene["nft"]), 1, CAROL),)
    assert intent.method == "safeTransferFrom(address,address,uint256)"


async def test_a_contract_that_cannot_hold_it_gets_it_when_told_so(scene: Scene) -> None:
    scene.witness.send("nft", "mint", scene.wallet.address, 7)
    await scene.do(send_erc721, contract=scene["nft"], tokenId="7", recipient=scene["zoo"], safe=False)
    assert scene.witness.read("nft", "ownerOf", 7) == scene["zoo"]


@pytest.mark.parametrize(
    ("payload", "error", "message"),
    [
        ({"tokenId": "8"}, Invalid, f"belongs to {CAROL}"),
        ({"tokenId": "9"}, Permanent, "ERC721NonexistentToken"),
        ({"contract": "zoo"}, Permanent, "revert"),
        ({"contract": CAROL}, Invalid, "no contract at"),
        ({"recipient": "nft"}, Invalid, "the collection itself"),
    ],
)
async def test_what_cannot_be_is_refused_before(
    scene: Scene, payload: dict[str, Any], error: type[Exception], message: str
) -> None:
    scene.witness.send("nft", "mint", scene.wallet.address, 7)
    scene.witness.send("nft", "mint", CAROL, 8)
    asked = {"contract": "nft", "tokenId": "7", "recipient": CAROL, **payload}
    asked |= {name: scene.witness.addresses.get(asked[name], asked[name]) for name in ("contract", "recipient")}
    with pytest.raises(error, match=message):
        await scene.plan(send_erc721, **asked)
