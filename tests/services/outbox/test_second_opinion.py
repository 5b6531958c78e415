"""A first endpoint that lies, and a second one that does not: the lie is asked about or held, and never pays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import metrics
from dustrun.core.money.intent import Intent
from dustrun.services.outbox import events
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import hook_notices
from dustrun.storage.money import transactions as rows
from outbox import ANYTHING, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.contracts import World
from testkit.chain.rpc_proxy import proxy

THIEF = address(66)
Json = dict[str, Any]


def thieving(node: Anvil) -> Intent:
    """A call that declares nothing, of a contract that the first endpoint takes for harmless."""
    node.rpc("anvil_setCode", THIEF, "0x5f5ffd")  # reverts
    return Intent(
        "main", CHAIN_ID, THIEF, 0, bytes.fromhex("d09de08a"), (), "Count", method="increment()", gas_limit=90_000
    )


def succeeding(call: Json, answer: Json) -> Json:
    """Tells of every simulated call that it succeeds."""
    if call["method"] == "eth_simulateV1" and "result" in answer:
        for block in answer["result"]:
            for one in block["calls"]:
                if one["status"] == "0x0":
                    one.update(status="0x1", returnData="0x", error=None)
    if call["method"] in ("eth_estimateGas", "eth_call") and "error" in answer:
        return {"jsonrpc": "2.0", "id": answer["id"], "result": "0x5208" if "estimate" in call["method"] else "0x"}
    return answer


def reverting(call: Json, answer: Json) -> Json:
    """Tells of every receipt that its transaction failed, so that it would be paid again."""
    if call["method"] == "eth_getTransactionReceipt" and answer.get("result"):
        answer["result"]["status"] = "0x0"
    return answer


async def asked(outbox: Outbox, path: str) -> str:
    items = (await outbox.composition.owner.get("/v1/approvals?status=pending")).data["items"]
    (found,) = [one for one in items if one["path"] == path]
    return str(found["message"])


async def test_a_simulation_that_lies_is_asked_about(tmp_path: Path, node: Anvil) -> None:
    async with proxy(node.url, twist=succeeding) as liar:
        settings: Json = {"second_endpoints": {CHAIN_ID: node.url}, "simulation_strategy": "simulate-v1"}
        async with open_outbox(tmp_path, node, url=liar.url, **settings) as outbox:
            policy = {"policy": {**ANYTHING, "outflow": {}}}
            await outbox.composition.owner.put(f"/v1/wallets/{outbox.wallet_id}/policy", policy)
            status = await outbox.pay("pay", thieving(node))
            assert (status.status, status.waits_for, status.is_signed) == ("open", "approval", False), status.failure
            assert "The second endpoint disagrees: it would fail" in await asked(outbox, "pay")
            assert outbox.nonce() == 0
            assert (await outbox.pay("honest", transfer(address(1), 5))).is_signed


async def test_a_receipt_that_lies_is_held_until_both_say_the_same(tmp_path: Path, node: Anvil) -> None:
    lies = [True]

    def twist(call: Json, answer: Json) -> Json:
        return reverting(call, answer) if lies[0] else answer

    async with proxy(node.url, twist=twist) as liar:
        settings: Json = {"second_endpoints": {CHAIN_ID: node.url}, "outbound_allow": ["127.0.0.1"]}
        async with open_outbox(tmp_path, node, url=liar.url, network={"confirmations": 1}, **settings) as outbox:
            hook = {"name": "told", "url": "https://hooks.example.com/", "subscribedEventTypes": ["alert.*"]}
            assert (await outbox.composition.owner.post("/v1/hooks", hook)).status == 200
            await outbox.pay("pay", transfer(address(1), 5))
            node.mine()
            held = await _until(outbox, lambda one: one["waitsBecause"] is not None and one["status"] == "mined")
            assert held["waitsBecause"] == "The second endpoint says that it succeeded."
            told = await outbox.composition.rows(sa.select(hook_notices.c.type))
            assert ("alert.second-opinion",) in told
            node.mine(5)
            await asyncio.sleep(0.5)
            assert (await outbox.status("pay")).status == "open", "nothing is paid anew"
            lies[0] = False
            node.mine()
            await outbox.settled("pay")
            assert (outbox.balance(address(1)), outbox.nonce()) == (5, 1)


async def test_a_price_that_lies_is_asked_about_and_one_a_little_apart_is_not(tmp_path: Path, world: World) -> None:
    word = [2500]  # dollars for a coin by the first endpoint's feed; the second says 2,500

    def twist(call: Json, answer: Json) -> Json:
        if call["method"] == "eth_call" and isinstance(answer.get("result"), str):
            answer["result"] = answer["result"].replace(f"{2500 * 10**8:064x}", f"{word[0] * 10**8:064x}")
        return answer

    with world.node() as node:
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        network = {**described, "blockTimeMs": 200, "dex": {}}
        async with proxy(node.url, twist=twist) as liar:
            settings: Json = {
                "second_endpoints": {CHAIN_ID: node.url},
                "price_keep_ms": 0,
                "outbound_allow": ["127.0.0.1"],
            }
            async with open_outbox(tmp_path, node, url=liar.url, network=network, **settings) as outbox:
                hook = {"name": "told", "url": "https://hooks.example.com/", "subscribedEventTypes": ["alert.*"]}
                assert (await outbox.composition.owner.post("/v1/hooks", hook)).status == 200
                word[0] = 2600  # 4 %
                assert (await outbox.pay("near", transfer(address(1), 5))).is_signed
                await outbox.settled("near")
                before = outbox.nonce()
                word[0] = 250  # so that ten times as much would fit under a limit in dollars
                status = await outbox.pay("far", transfer(address(1), 5), transfer(address(2), 5, "b"))
                assert (status.waits_for, status.is_signed, outbox.nonce()) == ("approval", False, before)
                shown = await asked(outbox, "far")
                assert f"eip155:{CHAIN_ID}/native is worth $2500.00000000, by the first endpoint $250.00000000" in shown
                told = await outbox.composition.rows(sa.select(hook_notices.c.type))
                assert told == [("alert.second-opinion",)], "once, for both rows"


@pytest.mark.parametrize("missing", ["ask", "go-on"])
async def test_a_second_endpoint_that_is_gone_is_asked_about_or_done_without(
    tmp_path: Path, node: Anvil, missing: str
) -> None:
    settings: Json = {"second_endpoints": {CHAIN_ID: "http://127.0.0.1:9"}, "second_opinion_missing": missing}
    async with open_outbox(tmp_path, node, network={"confirmations": 1}, **settings) as outbox:
        status = await outbox.pay("pay", transfer(address(1), 5))
        assert status.is_signed is (missing == "go-on")
        if missing == "ask":
            assert "The second endpoint gives no opinion" in await asked(outbox, "pay")
        else:
            node.set_automine(True)
            node.mine()
            await outbox.settled("pay")


async def test_a_receipt_that_is_hidden_displaces_nothing(tmp_path: Path, node: Anvil) -> None:
    hides = [True]

    def twist(call: Json, answer: Json) -> Json:
        """Has no receipt of anything, though the nonce is used: as if another transaction had taken it."""
        if hides[0] and call["method"] == "eth_getTransactionReceipt":
            answer["result"] = None
        return answer

    async with proxy(node.url, twist=twist) as liar:
        settings: Json = {"second_endpoints": {CHAIN_ID: node.url}, "outbound_allow": ["127.0.0.1"]}
        async with open_outbox(tmp_path, node, url=liar.url, network={"confirmations": 1}, **settings) as outbox:
            counted = alerts()
            await outbox.pay("pay", transfer(address(1), 5))
            for _ in range(4):  # it must seem so at two heads
                node.mine()
                await asyncio.sleep(0.3)
            held = await _until(outbox, lambda one: one["waitsBecause"] is not None)
            assert held["status"] == "sent"
            assert "The second endpoint has a receipt of it" in held["waitsBecause"]
            assert alerts() == counted + 1
            hides[0] = False
            node.mine()
            await outbox.settled("pay")
            assert (outbox.balance(address(1)), outbox.nonce()) == (5, 1)


async def test_a_second_endpoint_that_lags_is_waited_for(tmp_path: Path, node: Anvil) -> None:
    """It has each block a moment later; what it does not know yet is no disagreement."""
    behind = [0]

    def twist(call: Json, answer: Json) -> Json:
        method, asked = call["method"], call["params"][0] if call["params"] else None
        newest = int(node.rpc("eth_blockNumber"), 16) - behind[0]
        if method == "eth_getBlockByNumber" and answer.get("result") and int(answer["result"]["number"], 16) > newest:
            answer["result"] = node.rpc("eth_getBlockByNumber", hex(newest), False) if asked == "latest" else None
        if method == "eth_getTransactionReceipt" and answer.get("result"):
            answer["result"] = None if int(answer["result"]["blockNumber"], 16) > newest else answer["result"]
        return answer

    async with proxy(node.url, twist=twist) as late:
        settings: Json = {"second_endpoints": {CHAIN_ID: late.url}, "outbound_allow": ["127.0.0.1"]}
        async with open_outbox(tmp_path, node, network={"confirmations": 1}, **settings) as outbox:
            counted = alerts()
            node.mine(3)
            behind[0] = 2
            paying = asyncio.create_task(outbox.pay("pay", transfer(address(1), 5)))
            await asyncio.sleep(0.5)
            behind[0] = 0
            assert (await paying).is_signed, "it came to the block in time"
            behind[0] = 2
            node.mine()
            await asyncio.sleep(0.7)
            (shown,) = (await outbox.composition.owner.get("/v1/transactions")).data["items"]
            assert (shown["status"], shown["waitsBecause"]) == ("mined", None), "held, and nobody is alarmed"
            behind[0] = 0
            await outbox.settled("pay")
            behind[0] = 3
            status = await outbox.pay("later", transfer(address(1), 5))
            assert (status.waits_for, status.is_signed) == ("approval", False)
            shown = await asked(outbox, "later")
            assert "gives no opinion: it is at block" in shown
            assert alerts() == counted + 1, "that one stays behind, which asks"


def alerts() -> int:
    """How many alerts of second opinions metrics have counted."""
    (counter,) = [one for one in metrics.counters if one.name == "dustrun_alerts"]
    return counter.values.get(("second-opinion",), 0)


async def test_an_alert_is_counted_once_it_is_committed(tmp_path: Path, node: Anvil) -> None:
    async with open_outbox(tmp_path, node) as outbox:
        await outbox.pay("pay", transfer(address(1), 5))
        deps, counted = outbox.outbox.deps, alerts()

        def unit(tx: Tx, *, fails: bool) -> events.CommittedSteps:
            row = rows.list_followed(tx, CHAIN_ID)[0]
            raised = events.raise_alert(tx, row, events.SECOND_OPINION, "It seems otherwise.")
            if fails:
                raise ValueError("the unit comes to nothing")
            return raised

        with pytest.raises(ValueError, match="comes to nothing"):
            await deps.writer.write(lambda tx: unit(tx, fails=True), deps.publisher.tell)
        assert alerts() == counted
        await deps.writer.write(lambda tx: unit(tx, fails=False), deps.publisher.tell)
        assert alerts() == counted + 1


async def _until(outbox: Outbox, holds: Callable[[Json], bool]) -> Json:
    async with asyncio.timeout(60):
        while True:
            items = (await outbox.composition.owner.get("/v1/transactions")).data["items"]
            if items and holds(items[0]):
                return dict(items[0])
            await asyncio.sleep(0.05)
