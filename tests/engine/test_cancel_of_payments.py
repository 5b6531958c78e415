"""A run is cancelled at each stage of its payment: what is on the chain is what the record says, and a retry
pays what is missing and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from web3 import Web3

from dustrun import clock
from dustrun.storage.db.tables import runs
from dustrun.storage.runs import runs as run_rows
from engine.conftest import Bench
from engine.test_dust import Till
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.contracts import World

SHOP = address(1)
UNSIGNED = ("planned", "signed")
SIGNED = ("committed", "sending", "sent", "noted", "mining", "mined", "finishing")
LIMIT = {"asset": f"eip155:{CHAIN_ID}/native", "maxUnits": "7", "windowMs": 3_600_000}


@pytest.fixture
def node() -> Iterator[Anvil]:
    """A chain that makes a block five times a second."""
    with Anvil("--block-time", "0.2") as node:
        yield node


class Canceller:
    """Asks the run to end at the first passage of a step, before anything that comes after it is written."""

    def __init__(self, outbox: Outbox, step: str, nth: int = 1) -> None:
        self.run_pk: int | None = None
        self._left = nth
        self.at: str | None = None
        self._composition = outbox.composition
        self._step = step
        transactions = outbox.outbox
        transactions.deps = transactions.trackers._deps = replace(transactions.deps, on_step=self)

    def __call__(self, step: str) -> None:
        if step != self._step or self.at is not None or self.run_pk is None:
            return
        self._left -= 1
        if self._left:
            return
        self.at, run_pk = step, self.run_pk
        composition = self._composition

        def unit(tx: Any) -> bool:
            return run_rows.request_cancel(tx, run_pk, clock.now_ms())

        composition.parts.writer.write(unit, lambda _: composition.engine.cancel(run_pk))


def _seen(node: Anvil) -> tuple[int, int]:
    web3 = Web3(Web3.HTTPProvider(node.url))
    return (
        web3.eth.get_balance(Web3.to_checksum_address(SHOP)),
        web3.eth.get_transaction_count(Web3.to_checksum_address(ALICE)),
    )


_OF_A_CHANGE = ("signed", "committed", "noted", "finishing")
"""The last step of a payment that is not made, the first of one that is, one on its way, and the last."""


@pytest.mark.parametrize(
    "step",
    [pytest.param(step, marks=() if step in _OF_A_CHANGE else pytest.mark.long) for step in (*UNSIGNED, *SIGNED)],
)
async def test_the_record_of_a_cancelled_run_says_what_was_paid(tmp_path: Path, node: Anvil, step: str) -> None:
    async with open_outbox(tmp_path, node) as outbox:
        bench, owner = Bench(outbox.composition), outbox.composition.owner
        policy = {"policy": {**ANYTHING, "limits": [LIMIT]}}
        assert (await owner.put(f"/v1/wallets/{outbox.wallet_id}/policy", policy)).status == 200
        canceller = Canceller(outbox, step)
        gate = {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["pay"]}
        payload = {"chainId": CHAIN_ID, "recipient": SHOP, "amount": "7"}
        pay = {"type": "send-native", "payload": payload, "children": ["after"]}
        after = {"type": "log", "payload": {"message": "paid"}}
        run_id = await bench.start({"gate": gate, "pay": pay, "after": after})
        canceller.run_pk = (await outbox.composition.rows(sa.select(runs.c.pk).where(runs.c.id == run_id)))[0][0]
        assert (await owner.post(f"/v1/runs/{run_id}/nodes/gate/resume", {})).status == 200
        run = await bench.ended(run_id)
        assert (canceller.at, run["status"]) == (step, "cancelled")
        paid, nonce = _seen(node)
        assert (paid, nonce) == ((0, 0) if step in UNSIGNED else (7, 1))
        report = (await owner.get(f"/v1/runs/{run_id}/effects")).data
        (told,) = report["transactions"]
        moved = {change["address"]: int(change["amount"]) for change in report["balanceChanges"]}
        if step in UNSIGNED:
            assert (told["status"], told["hash"], moved) == ("cancelled", None, {})
        else:
            assert (told["status"], moved[SHOP]) == ("final", 7)
            mined = Web3(Web3.HTTPProvider(node.url)).eth.get_transaction_receipt(told["hash"])
            assert (mined["status"], mined["blockNumber"]) == (1, told["blockNumber"])
        assert "after" not in run["executionState"] or run["executionState"]["after"]["status"] != "success"
        listed = (await owner.get(f"/v1/transactions?runId={run_id}")).data["items"]
        assert [one["status"] for one in listed] == [told["status"]]
        again = (await owner.post(f"/v1/runs/{run_id}/retry")).data["runId"]
        retried = await bench.ended(again)
        assert retried["status"] == "success", retried["executionState"]
        assert _seen(node) == (7, 1)


async def test_a_node_that_is_cancelled_after_a_part_of_its_payment_does_not_say_that_it_spent_nothing(
    tmp_path: Path, world: World
) -> None:
    with world.node() as node:
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        network = {**described, "blockTimeMs": 200, "confirmations": 1}
        async with open_outbox(tmp_path, node, network=network) as outbox:
            till, canceller = Till(outbox, world.witness(node)), Canceller(outbox, "signed", nth=2)
            swap = till.node("swap-uniswap-v2", tokenIn="USDC", tokenOut="native", amountIn="2500000000")
            gate = {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["swap"]}
            run_id = await till.bench.start({"gate": gate, "swap": swap})
            canceller.run_pk = (await outbox.composition.rows(sa.select(runs.c.pk).where(runs.c.id == run_id)))[0][0]
            assert (await till.api.post(f"/v1/runs/{run_id}/nodes/gate/resume", {})).status == 200
            run = await till.bench.ended(run_id)
            report = (await till.api.get(f"/v1/runs/{run_id}/effects")).data
    assert run["status"] == "cancelled", run["executionState"]
    assert [one["status"] for one in report["transactions"]] == ["final", "cancelled"]
    message = "The run was cancelled before this node spent anything more."
    assert run["executionState"]["swap"]["error"]["message"] == message


@pytest.mark.parametrize("ends", ["cancel", "failure"])
async def test_a_run_that_ends_leaves_no_question_about_its_payment(tmp_path: Path, node: Anvil, ends: str) -> None:
    async with open_outbox(tmp_path, node) as outbox:
        bench, owner = Bench(outbox.composition), outbox.composition.owner
        above = {"assets": {f"eip155:{CHAIN_ID}/native": "1"}}
        policy = {"policy": {**ANYTHING, "approvalAbove": above}}
        assert (await owner.put(f"/v1/wallets/{outbox.wallet_id}/policy", policy)).status == 200
        pay = {"type": "send-native", "payload": {"chainId": CHAIN_ID, "recipient": SHOP, "amount": "7"}}
        gate = {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["broken"]}
        broken = {"type": "get-erc20-balance", "payload": {"chainId": CHAIN_ID, "token": SHOP, "address": SHOP}}
        run_id = await bench.start({"pay": pay, "gate": gate, "broken": broken})
        await bench.until(run_id, lambda run: run["executionState"].get("pay", {}).get("status") == "waiting")
        end = "cancel" if ends == "cancel" else "nodes/gate/resume"
        assert (await owner.post(f"/v1/runs/{run_id}/{end}", {})).status == 200
        assert (await bench.ended(run_id))["status"] == ("cancelled" if ends == "cancel" else "failure")
        (listed,) = (await owner.get(f"/v1/transactions?runId={run_id}")).data["items"]
        assert listed["status"] == "cancelled"
        asked = (await owner.get("/v1/approvals")).data["items"]
        assert [one["status"] for one in asked if one["runId"] == run_id] in ([], ["cancelled"])
        assert (await bench.events(run_id))[-1] == ("run_finished", None)
        assert _seen(node) == (0, 0)
