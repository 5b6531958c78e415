"""PostgreSQL dies while a node spends: what is on disk is looked up, and the node goes on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.core.money.intent import Spend
from dustrun.sdk.chain import WalletView
from dustrun.services.outbox.spend_status import SpendRequest, SpendStatus
from engine.conftest import Bench
from engine.test_dust import Till
from engine.test_subworkflows import call
from outbox import Outbox, address, open_outbox
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.contracts import World
from testkit.postgres import Cluster

_AMOUNT = 10**15
_PRICES = {f"eip155:{CHAIN_ID}/native": "2500"}


def _send(to: str) -> dict[str, Any]:
    return {"type": "send-native", "payload": {"chainId": CHAIN_ID, "recipient": to, "amount": str(_AMOUNT)}}


@pytest.fixture
def node() -> Iterator[Anvil]:
    """A chain that makes a block five times a second."""
    with Anvil("--block-time", "0.2") as node:
        yield node


class Gate:
    """Holds what is planned until it may go on."""

    def __init__(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.may_go_on = asyncio.Event(), asyncio.Event()
        self._plan = outbox.outbox.plan
        monkeypatch.setattr(outbox.outbox, "plan", self._held)

    async def _held(self, request: SpendRequest, spend: Spend) -> SpendStatus:
        self.reached.set()
        await self.may_go_on.wait()
        return await self._plan(request, spend)


class Crash:
    """Stops the cluster when a step is passed, and starts it again after a moment."""

    def __init__(self, cluster: Cluster, outbox: Outbox, step: str) -> None:
        self._cluster = cluster
        self._step, self._left = step, 0
        self._again = Timer(1, cluster.start)
        transactions = outbox.outbox  # whose queues keep what they are given first
        transactions.deps = transactions.trackers._deps = replace(transactions.deps, on_step=self.passed)

    def arm(self, nth: int = 1) -> None:
        """The step that is passed for the nth time from now stops the cluster."""
        self._left, self._again = nth, Timer(1, self._cluster.start)

    def passed(self, step: str) -> None:
        """A step of the outbox is passed."""
        self._left -= step == self._step
        if self._left == 0 and step == self._step:
            self._cluster.stop()
            self._again.start()

    async def stopped(self) -> None:
        """Waits until the cluster has been stopped."""
        async with asyncio.timeout(60):
            while self._again.ident is None:
                await asyncio.sleep(0.02)

    async def over(self) -> None:
        """Waits until it has been stopped and runs again."""
        await self.stopped()
        await asyncio.to_thread(self._again.join)


@dataclass(frozen=True)
class Case:
    """A way to pay: its nodes, what its request says, and what each recipient gets. `number` keeps recipients apart."""

    name: str
    number: int

    async def start(self, bench: Bench) -> str:
        """Starts the run."""
        body = {"dustTest": True} if self.name == "dust" else {}
        if self.name == "called":
            nodes = {"root": {"type": "manual", "children": ["pay"]}, "pay": _send(self.recipients[0])}
            return await bench.start({"call": call((await bench.api.create_workflow({"nodes": nodes}))["id"])})
        if self.name == "loop":
            each = {"type": "for-each", "payload": {"array": self.recipients, "concurrency": 2}, "loopBody": ["pay"]}
            return await bench.start({"each": each, "pay": _send("{{$item}}")})
        retry = {"retry": {"maxAttempts": 3, "backoffMs": 10}} if self.name == "retry" else {}
        return await bench.start({"pay": {**_send(self.recipients[0]), **retry}}, **body)

    @property
    def recipients(self) -> list[str]:
        return [address(10 * self.number + item) for item in range(3 if self.name == "loop" else 1)]

    @property
    def amount(self) -> int:
        """A cent of a dust test, else what the node says."""
        return 4 * 10**12 if self.name == "dust" else _AMOUNT


async def _check(outbox: Outbox, case: Case, run_id: str) -> None:
    """Each recipient is paid once, the report says so, and no attempt has failed."""
    bench = Bench(outbox.composition)
    run = await bench.ended(run_id)
    assert run["status"] == "success", (case, run["error"], run["executionState"])
    count = len(case.recipients)
    assert [outbox.balance(to) for to in case.recipients] == [case.amount] * count, case
    report = (await bench.api.get(f"/v1/runs/{run_id}/effects")).data
    told = {one["to"]: one["status"] for one in report["transactions"]}
    assert (len(report["transactions"]), told) == (count, dict.fromkeys(case.recipients, "final")), case
    moved = {change["address"]: int(change["amount"]) for change in report["balanceChanges"]}
    assert {to: moved[to] for to in case.recipients} == dict.fromkeys(case.recipients, case.amount)
    assert all(len(state.get("attempts", [])) <= 1 for state in run["executionState"].values()), case


_PAYMENTS = 6
CASES = [Case(name, number) for number, name in enumerate(("dust", "loop", "called", "retry"), 1)]


@pytest.mark.parametrize("keeping", [True, False])
async def test_a_plan_whose_commit_is_unknown_is_looked_up(
    cluster: Cluster, tmp_path: Path, node: Anvil, monkeypatch: pytest.MonkeyPatch, keeping: bool
) -> None:
    url = cluster.fresh()
    engine = sa.create_engine(url)

    def has_planned(more_than: int = 0) -> int:
        with engine.connect() as connection:
            count = int(connection.execute(sa.text("SELECT count(*) FROM transactions")).scalar_one())
        return max(0, count - more_than)

    async with open_outbox(tmp_path, node, url, static_prices=_PRICES) as outbox:
        for case in CASES:
            is_planned = partial(has_planned, has_planned())
            with monkeypatch.context() as patch:
                gate = Gate(outbox, patch)
                run_id = await case.start(Bench(outbox.composition))
                await gate.reached.wait()
                with cluster.commits_that_die(url, "transactions", keeping=keeping) as die:
                    gate.may_go_on.set()
                    await asyncio.to_thread(die, is_planned if keeping else None)
            await _check(outbox, case, run_id)
        assert outbox.nonce() == _PAYMENTS
    engine.dispose()
    cluster.drop(url)


@pytest.mark.parametrize(
    "step",
    [pytest.param("planned", marks=pytest.mark.long), "signed", pytest.param("committed", marks=pytest.mark.long)],
)
async def test_a_payment_goes_on_after_the_store_was_away(
    cluster: Cluster, tmp_path: Path, node: Anvil, step: str
) -> None:
    url = cluster.fresh()
    async with open_outbox(tmp_path, node, url, static_prices=_PRICES) as outbox:
        crash = Crash(cluster, outbox, step)
        for case in CASES:
            crash.arm(2 if case.name == "loop" else 1)
            run_id = await case.start(Bench(outbox.composition))
            await crash.over()
            await _check(outbox, case, run_id)
        assert outbox.nonce() == _PAYMENTS
    cluster.drop(url)


@pytest.mark.parametrize("step", [pytest.param("planned", marks=pytest.mark.long), "committed"])
async def test_a_server_that_stops_while_the_store_is_away_leaves_payments_to_the_next(
    cluster: Cluster, tmp_path: Path, node: Anvil, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    url = cluster.fresh()
    async with open_outbox(tmp_path, node, url, static_prices=_PRICES, shutdown_grace_s=0.1) as outbox:
        crash, gate = Crash(cluster, outbox, step), Gate(outbox, monkeypatch)
        run_ids = [await case.start(Bench(outbox.composition)) for case in CASES]
        crash.arm(3)  # once all have started, however slow the machine is
        gate.may_go_on.set()
        await crash.stopped()
    await crash.over()
    async with open_outbox(tmp_path, node, url, static_prices=_PRICES, reuse=True) as outbox:
        for case, run_id in zip(CASES, run_ids, strict=True):
            await _check(outbox, case, run_id)
        assert outbox.nonce() == _PAYMENTS
    cluster.drop(url)


async def test_a_node_that_its_transaction_wakes_while_the_store_is_away_does_not_fail(
    cluster: Cluster, tmp_path: Path, node: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first thing that it then reads is its wallet."""
    url, case = cluster.fresh(), Case("plain", 1)
    async with open_outbox(tmp_path, node, url) as outbox:
        crash, wallets = Crash(cluster, outbox, "woken"), outbox.composition.parts.money.wallets
        find = wallets.find_view

        async def find_view(org_id: str, wallet_id: str | None) -> WalletView | None:
            crash.passed("woken")
            return await find(org_id, wallet_id)

        monkeypatch.setattr(wallets, "find_view", find_view)
        crash.arm(2)
        run_id = await case.start(Bench(outbox.composition))
        await crash.over()
        await _check(outbox, case, run_id)
        assert outbox.nonce() == 1
    cluster.drop(url)


async def test_a_payment_of_which_a_part_is_done_goes_on_after_the_store_was_away(
    cluster: Cluster, tmp_path: Path, world: World
) -> None:
    url = cluster.fresh()
    with world.node() as node:
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        fields = {**described, "blockTimeMs": 200, "confirmations": 1}
        async with open_outbox(tmp_path, node, url, network=fields) as outbox:
            till = Till(outbox, world.witness(node))
            crash = Crash(cluster, outbox, "signed")
            crash.arm(2)  # the approval is final, the swap is not written yet
            swap = till.node(
                "swap-uniswap-v2", tokenIn="USDC", tokenOut="native", amountIn="2500000000", slippageBps="100"
            )
            run_id = await till.bench.start({"pay": swap})
            await crash.over()
            run = await till.bench.ended(run_id)
    assert (run["status"], run["executionState"]["pay"]["status"]) == ("success", "success"), run["executionState"]
    cluster.drop(url)
