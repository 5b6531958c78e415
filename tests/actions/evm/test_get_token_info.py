from __future__ import annotations

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.get_token_info import get_token_info
from dustrun.errors import Invalid


async def test_it_tells_what_the_contract_says(scene: Scene) -> None:
    supply = scene.witness.read("usdc", "totalSupply")
    assert await scene.do(get_token_info, token="usdc") == {
        "token": scene["usdc"],
        "name": "USD Coin",
        "symbol": "USDC",
        "decimals": 6,
        "totalSupply": str(supply),
        "totalSupplyFormatted": str(supply // 10**6),
        "isKnown": True,
    }


async def test_names_of_32_bytes_are_read(scene: Scene) -> None:
    result = await scene.do(get_token_info, token=scene["race"])
    assert (result["name"], result["symbol"]) == ("Race Token", "RACE")


async def test_an_unknown_token_of_a_known_name_is_not_taken_for_it(scene: Scene) -> None:
    copy = scene.witness.deploy("usdc", "USD Coin", "USDC", 18)
    result = await scene.do(get_token_info, token=copy)
    assert (result["symbol"], result["decimals"], result["isKnown"]) == ("USDC", 18, False)


async def test_an_nft_is_no_erc20(scene: Scene) -> None:
    with pytest.raises(Invalid, match="does not answer decimals"):
        await scene.do(get_token_info, token=scene["nft"])
