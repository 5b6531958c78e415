from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.get_price import get_price
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid, Temporary
from dustrun.sdk.chain import Price, PriceSource
from dustrun.sdk.testing import FakeContext, perform
from testkit.chain.anvil import CHAIN_ID


class Asked:
    """One price for everything; keeps what was asked for."""

    def __init__(self) -> None:
        self.assets: list[Asset] = []

    async def price(self, asset: Asset, source: PriceSource | None = None) -> Price:
        self.assets.append(asset)
        return Price(Decimal("0.99987"), "chainlink", 1_769_860_800_000, 41_000)


async def ask(scene: Scene, **payload: Any) -> tuple[dict[str, Any], Asked]:
    prices = Asked()
    ctx = FakeContext(chains={CHAIN_ID: scene.ctx.chain(CHAIN_ID)}, prices=prices)
    return await perform(get_price, {"chainId": CHAIN_ID, **payload}, ctx), prices


async def test_it_says_what_where_and_how_old(scene: Scene) -> None:
    result, prices = await ask(scene, token="usdc")
    assert result == {
        "token": scene["usdc"],
        "symbol": "USDC",
        "usd": Decimal("0.99987"),
        "source": "chainlink",
        "at": "2026-01-31T12:00:00.000Z",
        "ageMs": 41_000,
    }
    assert prices.assets == [Asset(CHAIN_ID, scene["usdc"])]


async def test_without_a_token_it_is_the_native_coin(scene: Scene) -> None:
    result, prices = await ask(scene)
    assert (result["token"], prices.assets) == ("native", [Asset(CHAIN_ID)])


async def test_an_old_price_is_refused_for_now(scene: Scene) -> None:
    with pytest.raises(Temporary, match=r"41000 ms old, older than maxAgeMs \(40000\)"):
        await ask(scene, maxAgeMs=40_000)


async def test_an_unknown_symbol_is_refused(scene: Scene) -> None:
    with pytest.raises(Invalid, match="has no token"):
        await ask(scene, token="PEPE9")
