"""What really leaves a wallet, checked before a signature: by balances of a real chain, whatever the calldata says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import Bench
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import Witness, World

SHOP, OTHER = address(1), address(2)
# Pays whoever it calls before it moves, and `greedy` then takes the same once more.
TOKEN = "reentrant"
Json = dict[str, Any]


class Counter:
    """A server whose wallet has allowed a greedy contract to take its tokens."""

    def __init__(self, outbox: Outbox, witness: Witness) -> None:
        self.outbox = outbox
        self.witness = witness
        self.api = outbox.composition.owner
        self.bench = Bench(outbox.composition)
        self.greedy, self.token = witness.addresses["greedy"], witness.addresses[TOKEN]
        self.key = f"eip155:{CHAIN_ID}/erc20:{self.token}"

    def grant(self, units: int) -> None:
        """The greedy contract may take so much."""
        self.witness.send(TOKEN, "approve", self.greedy, units, sender=ALICE)

    def pay(self, recipient: str, amount: int, **more: Any) -> Json:
        payload = {"chainId": CHAIN_ID, "token": self.token, "recipient": recipient, "amount": str(amount)}
        return {"type": "send-erc20-token", "payload": payload, **more}

    def batch(self, *rows: tuple[str, int]) -> Json:
        paid = [{"recipient": recipient, "amount": str(amount)} for recipient, amount in rows]
        return {"type": "batch-transfer", "payload": {"chainId": CHAIN_ID, "token": self.token, "rows": paid}}

    async def run(self, node: Json, **mode: Any) -> Json:
        body = {"definition": {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": node}}, **mode}
        return await self.bench.ended((await self.api.post("/v1/runs", body)).data["runId"])

    async def allow(self, **more: Any) -> None:
        path = f"/v1/wallets/{self.outbox.wallet_id}/policy"
        reply = await self.api.put(path, {"policy": {**ANYTHING, "allowUnpricedAssets": True, **more}})
        assert reply.status == 200, reply.body

    async def refused(self, node: Json, **mode: Any) -> Json:
        """The error of a run in which nothing was signed and no balance moved."""
        before = self.outbox.nonce(), self.witness.balance(TOKEN, ALICE)
        run = await self.run(node, **mode)
        assert run["status"] == "failure", run["executionState"]
        assert (self.outbox.nonce(), self.witness.balance(TOKEN, ALICE)) == before
        found: Json = run["executionState"]["pay"]["error"]
        return {**found, "runId": run["id"]}


@pytest.fixture
async def counter(tmp_path: Path, world: World) -> AsyncIterator[Counter]:
    with world.node() as node:
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        fields = {**described, "blockTimeMs": 200, "confirmations": 1}
        static = {f"eip155:{CHAIN_ID}/erc20:{world[TOKEN]}": "1"}
        async with open_outbox(tmp_path, node, network=fields, static_prices=static) as outbox:
            yield Counter(outbox, world.witness(node))


async def test_more_than_the_node_declares_is_denied_before_it_is_signed(counter: Counter) -> None:
    counter.grant(5)
    await counter.allow(outflow={})
    pays = counter.pay(counter.greedy, 5, retry={"maxAttempts": 2, "backoffMs": 1})
    error = await counter.refused(pays)
    message = f"The transaction takes 10 base units of {counter.key}, and the node declares 5."
    assert error["code"] == "OUTFLOW_EXCEEDED"
    assert error["message"].endswith(message)
    assert error["details"] == [{"field": "outflow.beyondDeclared", "message": message}]
    simulated = await counter.refused(pays, simulate=True)
    assert (simulated["code"], simulated["details"]) == (error["code"], error["details"])
    again = (await counter.api.post(f"/v1/runs/{error['runId']}/retry", {})).data["runId"]
    assert (await counter.bench.ended(again))["executionState"]["pay"]["error"]["code"] == "OUTFLOW_EXCEEDED"
    rows = (await counter.api.get("/v1/transactions")).data["items"]
    assert {(row["status"], row["nonce"]) for row in rows} == {("refused", None)}
    assert (await counter.run(counter.pay(SHOP, 5)))["status"] == "success"
    assert counter.witness.balance(TOKEN, SHOP) == 5


async def test_a_policy_bounds_what_may_leave_by_units_and_dollars(counter: Counter) -> None:
    counter.grant(5 * 10**18)
    pays = counter.pay(counter.greedy, 5 * 10**18)
    for outflow, field in (
        ({"assets": {counter.key: "9999999999999999999"}}, f"outflow.assets.{counter.key}"),
        ({"maxUsd": "9.99"}, "outflow.maxUsd"),
    ):
        await counter.allow(outflow={**outflow, "beyondDeclared": True})
        error = await counter.refused(pays)
        assert (error["code"], [one["field"] for one in error["details"]]) == ("OUTFLOW_EXCEEDED", [field])
    await counter.allow(outflow={"assets": {counter.key: str(10**19)}, "maxUsd": "10", "beyondDeclared": True})
    assert (await counter.run(pays))["status"] == "success"
    assert counter.witness.balance(TOKEN, counter.greedy) == 10**19


async def test_a_dust_test_has_its_cap_as_a_ceiling_without_any_statement(counter: Counter) -> None:
    counter.grant(10**16)
    error = await counter.refused(counter.pay(counter.greedy, 5 * 10**18), dustTest=True)
    assert error["code"] == "OUTFLOW_EXCEEDED"
    assert f"takes {2 * 10**16} base units of {counter.key}, and the node declares {10**16}" in error["message"]
    assert (await counter.run(counter.pay(SHOP, 5 * 10**18), dustTest=True))["status"] == "success"
    assert counter.witness.balance(TOKEN, SHOP) == 10**16


async def test_a_row_that_an_earlier_one_makes_fail_stops_its_batch_before_a_signature(counter: Counter) -> None:
    counter.grant(3)
    counter.witness.send(TOKEN, "transfer", OTHER, counter.witness.balance(TOKEN, ALICE) - 10, sender=ALICE)
    rows = counter.batch((SHOP, 3), (counter.greedy, 3), (address(3), 3), (address(4), 1))
    simulated = await counter.run(rows, simulate=True)
    before = counter.outbox.nonce()
    live = await counter.run(rows)
    assert (simulated["status"], live["status"]) == ("failure", "failure")
    assert {run["executionState"]["pay"]["error"]["code"] for run in (simulated, live)} == {"REVERTED"}
    assert counter.outbox.nonce() == before
    errors = [run["executionState"]["pay"]["error"] for run in (simulated, live)]
    assert errors[0] == errors[1]
    assert [counter.witness.balance(TOKEN, to) for to in (SHOP, counter.greedy, address(3), ALICE)] == [0, 0, 0, 10]
