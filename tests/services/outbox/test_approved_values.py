"""What an endpoint or one price source says for the first time is held against nothing: a person is asked, and what is
approved is the measure for later ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

from outbound.loopback import serving
from outbox import ANYTHING, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import Anvil

GWEI = 10**9


async def approve(outbox: Outbox, path: str) -> str:
    """Approves what a node asks, pays it, and returns the question."""
    items = (await outbox.composition.owner.get("/v1/approvals?status=pending")).data["items"]
    (asked,) = [one for one in items if one["path"] == path]
    other = await outbox.composition.client_with("approval:decide")
    assert (await other.post(f"/v1/approvals/{asked['id']}/approve")).status == 200
    assert (await outbox.outbox.advance(outbox.request(path))).is_signed
    return str(asked["message"])


async def asks(outbox: Outbox, path: str, units: int = 1) -> bool:
    status = await outbox.pay(path, transfer(address(1), units))
    assert status.is_signed != (status.waits_for == "approval")
    return not status.is_signed


async def put_policy(outbox: Outbox, **statements: object) -> None:
    policy = {**ANYTHING, **statements}
    assert (
        await outbox.composition.owner.put(f"/v1/wallets/{outbox.wallet_id}/policy", {"policy": policy})
    ).status == 200


async def test_a_fee_on_a_chain_without_a_usual_one(tmp_path: Path, node: Anvil, store_url: str) -> None:
    async with open_outbox(tmp_path, node, store_url, {"usualFee": None}) as outbox:
        await put_policy(outbox, feeAboveUsual=10)
        assert await asks(outbox, "first"), "whatever the endpoint bids"
        assert "no usual fee is known there" in await approve(outbox, "first")
        assert not await asks(outbox, "second")
        node.rpc("anvil_setNextBlockBaseFeePerGas", hex(100_000 * GWEI))
        node.mine()
        assert await asks(outbox, "burnt")


async def test_a_price_that_one_source_alone_says(tmp_path: Path, node: Anvil, store_url: str) -> None:
    """What is worth $2,500 passes no limit of $10 because the only source says that it is worth next to nothing."""
    told = ["0.000000001"]
    async with serving(lambda _: web.json_response({"usd": told[0]})) as server:
        settings: dict[str, Any] = {"price_url": server.url, "price_keep_ms": 0}
        async with open_outbox(tmp_path, node, store_url, {"isTestnet": False}, **settings) as outbox:
            await put_policy(outbox, limits=[{"maxUsd": "10"}])
            assert await asks(outbox, "first", 10**18)
            assert "Only the source http prices" in await approve(outbox, "first")
            assert not await asks(outbox, "second")
            told[0] = "0.00000002"
            assert await asks(outbox, "further"), "over ten times what a person approved"
