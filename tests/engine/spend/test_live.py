"""Nodes that spend, through the API, on a real chain: run, fail, wait, cancel, retry, restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.errors import Code
from dustrun.storage.db.ledger_tables import wallets
from engine.conftest import OWN_ACTIONS, Bench, Definition, trial
from outbox import ALICE, ANYTHING, Outbox, address, open_outbox
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import World

SHOP = address(1)


class Till:
    """A server with a wallet on a chain of its own, and shortcuts to run nodes on it."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.bench = Bench(outbox.composition)
        self.api = outbox.composition.owner
        self._first_nonce = outbox.nonce()

    def paid(self) -> int:
        """Transactions of the wallet since the test began."""
        return self.outbox.nonce() - self._first_nonce

    def send(self, units: int | str, to: str = SHOP, **node: Any) -> Definition:
        """A node that sends native coin."""
        payload = {"chainId": CHAIN_ID, "recipient": to, "amount": str(units)}
        return {"type": "send-native", "payload": payload, **node}

    async def effects(self, run_id: str) -> dict[str, Any]:
        """The report of a run."""
        report: dict[str, Any] = (await self.api.get(f"/v1/runs/{run_id}/effects")).data
        return report


@pytest.fixture
async def till(tmp_path: Path, world: World) -> AsyncIterator[Till]:
    with world.node("--block-time", "1") as node:
        async with open_outbox(tmp_path, node, actions_dir=OWN_ACTIONS) as outbox:
            yield Till(outbox)


async def test_who_may_not_spend_does_not_say_what_a_node_came_to(till: Till) -> None:
    """What it would say decides on a payment, of its run or of the run that called it."""
    api, server = till.bench.api, till.outbox.composition
    asks = {
        "a": trial(name="steered", outcomes=["uncertain"], children=["pay"]),
        "pay": till.send("{{a.result.value}}"),
    }
    inner = {"root": {"type": "manual", "children": ["a"]}, "a": trial(name="steered below", outcomes=["uncertain"])}
    callee = (await api.create_workflow({"nodes": inner}))["id"]
    call = {"type": "call-workflow", "payload": {"workflowId": callee}, "children": ["pay"]}
    calls = {
        "root": {"type": "manual", "children": ["call"]},
        "call": call,
        "pay": till.send("{{call.result.result.value}}"),
    }
    caller = (await api.create_workflow({"nodes": calls}))["id"]
    weak = await server.client_with("workflow:execute", "run:read")
    answer = {"outcome": "happened", "result": {"value": "1000000", "attempts": 1}}

    def is_uncertain(run: Definition) -> bool:
        return bool((run["executionState"] or {}).get("a", {}).get("status") == "uncertain")

    inline = await till.bench.start(asks)
    outer = (await api.post(f"/v1/workflows/{caller}/run")).data["runId"]
    await till.bench.until(outer, lambda run: run["status"] == "waiting")
    (below,) = (await api.get(f"/v1/workflows/{callee}/runs")).data["items"]
    for run_id in (inline, below["id"]):
        await till.bench.until(run_id, is_uncertain)
        path = f"/v1/runs/{run_id}/nodes/a/resolve"
        refused = await weak.post(path, answer)
        assert (refused.status, "wallet:spend" in refused.body["message"]) == (403, True), refused.body
    assert (await weak.post(f"/v1/runs/{below['id']}/nodes/a/resolve", {"outcome": "notHappened"})).status == 200
    assert (await api.post(f"/v1/runs/{inline}/nodes/a/resolve", answer)).status == 200
    run = await till.bench.ended(inline)
    assert (run["status"], run["executionState"]["pay"]["result"]["amount"]) == ("success", "1000000")


async def test_a_run_ends_when_its_payment_is_confirmed(till: Till) -> None:
    run = await till.bench.run({"pay": till.send(1000), "say": {"type": "log", "payload": {"message": "x"}}})
    assert run["status"] == "success", run
    result = run["executionState"]["pay"]["result"]
    assert till.outbox.balance(SHOP) == 1000
    assert result["amount"] == "1000"
    told = await till.bench.events(run["id"])
    assert ("transaction", "pay") in told
    report = await till.effects(run["id"])
    (transaction,) = report["transactions"]
    assert transaction["status"] == "final"
    assert transaction["hash"] == result["hash"]
    assert report["totalFees"][0]["address"] == ALICE


async def test_what_cannot_be_paid_fails_and_takes_no_nonce(till: Till) -> None:
    run = await till.bench.run({"pay": till.send(10**30)})
    assert run["status"] == "failure"
    assert run["executionState"]["pay"]["error"]["code"] == "INVALID_INPUT"
    assert till.paid() == 0


async def test_what_policy_denies_is_refused(till: Till) -> None:
    path = f"/v1/wallets/{till.outbox.wallet_id}/policy"
    assert (await till.api.put(path, {"policy": {**ANYTHING, "recipients": [address(9)]}})).status == 200
    run = await till.bench.run({"pay": till.send(5)})
    assert run["executionState"]["pay"]["error"]["code"] == "REFUSED"
    assert till.paid() == 0


async def test_nodes_that_spend_at_once_all_pay(till: Till) -> None:
    run = await till.bench.run({f"pay{n}": till.send(10 + n, address(10 + n)) for n in range(8)})
    assert run["status"] == "success"
    assert [till.outbox.balance(address(10 + n)) for n in range(8)] == [10 + n for n in range(8)]
    assert till.paid() == 8


async def test_a_cancelled_run_ends_when_what_it_sent_is_settled(till: Till) -> None:
    till.outbox.node.rpc("evm_setIntervalMining", 0)
    run_id = await till.bench.start({"pay": till.send(77, children=["then"]), "then": till.send(1)})
    waiting = await till.bench.until(run_id, lambda run: run["status"] == "waiting")
    assert waiting["executionState"]["pay"]["status"] == "waiting"
    assert (await till.api.post(f"/v1/runs/{run_id}/cancel")).status == 200
    till.outbox.node.rpc("evm_setIntervalMining", 1)
    run = await till.bench.ended(run_id)
    assert run["status"] == "cancelled"
    assert run["executionState"]["pay"]["status"] == "success"
    assert till.outbox.balance(SHOP) == 77
    assert till.paid() == 1


async def test_a_retry_of_a_run_pays_only_what_was_not_paid(till: Till) -> None:
    nodes = {"first": till.send(5, children=["second"]), "second": till.send(10**30)}
    failed = await till.bench.run(nodes)
    assert failed["status"] == "failure"
    till.outbox.node.set_balance(ALICE, 2 * 10**30)
    retried = (await till.api.post(f"/v1/runs/{failed['id']}/retry")).data["runId"]
    run = await till.bench.ended(retried)
    assert run["status"] == "success"
    assert till.outbox.balance(SHOP) == 10**30 + 5
    assert till.paid() == 2


async def test_a_defect_after_a_payment_does_not_hide_that_it_was_spent(till: Till) -> None:
    payload = {"chainId": CHAIN_ID, "recipient": SHOP, "amount": 3, "fails": "finish"}
    run = await till.bench.run({"bad": {"type": "spoilt", "payload": payload}})
    (transaction,) = (await till.effects(run["id"]))["transactions"]
    error = run["executionState"]["bad"]["error"]
    assert error["code"] == "RESULT", error
    assert error["message"].startswith(f"It was spent ({transaction['hash']}), but"), error
    assert (transaction["status"], till.outbox.balance(SHOP)) == ("final", 3)
    again = await till.bench.ended((await till.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"])
    assert (again["executionState"]["bad"]["error"]["code"], till.paid()) == ("RESULT", 1)


class NoReports:
    """Reports with a defect."""

    async def sent(self, status: Any) -> Any:
        raise KeyError("a defect of the report")

    async def simulated(self, transactions: Any, signatures: Any, place: Any) -> Any:
        raise AssertionError("nothing is simulated here")


async def test_a_defect_of_the_report_does_not_fail_a_node_that_has_paid(till: Till) -> None:
    spend = till.outbox.composition.engine._deps.spend
    assert spend is not None
    spend.live._reports = NoReports()
    run = await till.bench.run({"pay": till.send(7, children=["then"]), "then": till.send(1)})
    assert run["status"] == "success", run["executionState"]
    transactions = (await till.effects(run["id"]))["transactions"]
    assert [one["hash"] for one in transactions] == [
        run["executionState"][name]["result"]["hash"] for name in ("pay", "then")
    ]
    assert (till.outbox.balance(SHOP), till.paid()) == (8, 2)


class Defective:
    """An outbox with a defect once its transactions are final."""

    def __init__(self, outbox: Any) -> None:
        self._outbox = outbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    async def advance(self, *args: Any) -> Any:
        status = await self._outbox.advance(*args)
        if status.status == "settled":
            raise KeyError("a defect of the outbox")
        return status


async def test_a_defect_elsewhere_says_what_was_spent_and_nothing_is_paid_again(till: Till) -> None:
    spend = till.outbox.composition.engine._deps.spend
    assert spend is not None
    spend.live.outbox = Defective(spend.live.outbox)
    run = await till.bench.run({"pay": till.send(7)})
    error = run["executionState"]["pay"]["error"]
    transactions = (await till.effects(run["id"]))["transactions"]
    assert (run["status"], error["code"], len(transactions)) == ("failure", "RESULT", 1)
    assert error["message"].startswith(f"It was spent ({transactions[0]['hash']}), but its result could not be made: ")
    again = await till.bench.ended((await till.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"])
    assert (again["executionState"]["pay"]["error"]["code"], till.paid(), till.outbox.balance(SHOP)) == ("RESULT", 1, 7)


async def test_a_wallet_that_is_archived_after_it_paid_does_not_fail_the_node(till: Till) -> None:
    till.outbox.node.rpc("evm_setIntervalMining", 0)
    run_id = await till.bench.start({"pay": till.send(9, children=["then"]), "then": till.send(1)})
    await till.bench.until(run_id, lambda run: run["status"] == "waiting")
    archived = (
        sa.update(wallets).where(wallets.c.id == till.outbox.wallet_id).values(archived_at=1, held_address=sa.null())
    )
    await till.outbox.composition.execute(archived)  # as between the receipt and the end, which no test can hit
    till.outbox.node.rpc("evm_setIntervalMining", 1)
    run = await till.bench.ended(run_id)
    assert run["executionState"]["pay"]["status"] == "success", run["executionState"]
    assert (till.outbox.balance(SHOP), till.paid()) == (9, 1)
    assert run["executionState"]["then"]["error"]["code"] == "INVALID_INPUT"
    again = await till.bench.ended((await till.api.post(f"/v1/runs/{run_id}/retry")).data["runId"])
    assert (again["executionState"]["pay"]["status"], till.paid()) == ("success", 1)


async def test_a_key_without_wallet_spend_starts_only_simulations(till: Till) -> None:
    definition = {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": till.send(5)}}
    key = await till.outbox.composition.client_with("run:inline", "workflow:execute", "run:read")
    refused = await key.post("/v1/runs", {"definition": definition})
    assert (refused.status, refused.code) == (403, 403001)
    assert (await key.post("/v1/runs", {"definition": definition, "simulate": True})).status == 200


async def test_a_node_without_wallet_says_how_to_get_one(tmp_path: Path, world: World) -> None:
    with world.node() as node:
        async with open_outbox(tmp_path, node) as outbox:
            other = await outbox.composition.other_owner()
            till = Till(outbox)
            till.api = till.bench.api = other
            run = await till.bench.run({"pay": till.send(5)})
            assert "default wallet" in run["executionState"]["pay"]["error"]["message"]


@pytest.mark.long
async def test_a_simulation_shows_what_the_live_run_then_does(till: Till) -> None:
    nodes = {"pay": till.send(1000, children=["more"]), "more": till.send(5, address(2))}
    simulated = await till.bench.run(nodes, simulate=True)
    assert simulated["status"] == "success", simulated
    assert till.paid() == 0
    report = await till.effects(simulated["id"])
    assert report["passed"] is True
    assert [transaction["status"] for transaction in report["transactions"]] == ["simulated", "simulated"]
    assert [verdict["outcome"] for verdict in report["policyVerdicts"]] == ["allow", "allow"]
    changes = {(change["address"], change["amount"]) for change in report["balanceChanges"]}
    assert changes == {(ALICE, "-1005"), (SHOP, "1000"), (address(2), "5")}
    live = await till.bench.run(nodes)
    assert live["status"] == "success"
    real = await till.effects(live["id"])
    assert [fee["address"] for fee in real["totalFees"]] == [ALICE]
    assert (till.outbox.balance(SHOP), till.outbox.balance(address(2))) == (1000, 5)


@pytest.mark.long
async def test_a_simulation_fails_as_the_live_run_would(till: Till) -> None:
    simulated = await till.bench.run({"pay": till.send(10**30)}, simulate=True)
    assert simulated["status"] == "failure"
    path = f"/v1/wallets/{till.outbox.wallet_id}/policy"
    assert (await till.api.put(path, {"policy": {**ANYTHING, "recipients": [address(9)]}})).status == 200
    refused = await till.bench.run({"pay": till.send(5)}, simulate=True)
    assert refused["executionState"]["pay"]["error"]["code"] == "REFUSED", refused["executionState"]["pay"]


@pytest.mark.long
async def test_a_dust_test_spends_about_a_cent(till: Till) -> None:
    run = await till.bench.run({"pay": till.send(5 * 10**18)}, dustTest=True)
    assert run["status"] == "success", run["executionState"]["pay"]
    assert till.outbox.balance(SHOP) == 5 * 10**12  # at the nominal price of a test network's coin, 2,000 USD
    report = await till.effects(run["id"])
    (scaled,) = report["dust"]["scaled"]
    assert (scaled["original"], scaled["dust"]) == (str(5 * 10**18), str(5 * 10**12))


async def test_a_run_with_money_in_flight_ends_though_no_more_runs_may_be_kept(tmp_path: Path, world: World) -> None:
    """New runs are refused (one is the till's own); this one pays, calls a workflow that pays too, and ends."""
    with world.node("--block-time", "1") as node:
        async with open_outbox(tmp_path, node, actions_dir=OWN_ACTIONS, max_runs=2) as outbox:
            till = Till(outbox)
            inner = {"root": {"type": "manual", "children": ["pay"]}, "pay": till.send(20)}
            callee = (await till.api.create_workflow({"nodes": inner}))["id"]
            nodes = {
                "hold": {"type": "wait", "payload": {"timeoutMs": 3_600_000}, "children": ["pay"]},
                "pay": till.send(10, children=["call"]),
                "call": {"type": "call-workflow", "payload": {"workflowId": callee}},
            }
            nodes["root"] = {"type": "manual", "children": ["hold"]}
            run_id = (await till.api.post("/v1/runs", {"definition": {"nodes": nodes}})).data["runId"]
            await till.bench.until(run_id, lambda run: run["status"] == "waiting")
            refused = await till.api.post(f"/v1/workflows/{callee}/run", {})
            assert (refused.status, refused.code) == (409, Code.RUN_LIMIT), refused.body
            assert (await till.api.post(f"/v1/runs/{run_id}/nodes/hold/resume", {})).status == 200
            assert (await till.bench.ended(run_id))["status"] == "success"
            assert (till.paid(), outbox.balance(SHOP)) == (2, 30)
