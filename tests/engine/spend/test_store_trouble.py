"""PostgreSQL dies while a node spends: what is on disk is looked up, and the node goes on with it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest
import sqlalchemy as sa
from web3 import Web3

from dustrun.core.money.intent import Spend
from dustrun.services.outbox.spend_status import SpendRequest, SpendStatus
from engine.conftest import Bench
from engine.test_dust import Till
from outbox import ALICE, address, open_outbox
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.contracts import World
from testkit.postgres import Cluster

_SHOP = address(1)
_PAY = {"type": "send-native", "payload": {"chainId": CHAIN_ID, "recipient": _SHOP, "amount": "7"}}


@pytest.fixture
def node() -> Iterator[Anvil]:
    """A chain that makes a block five times a second."""
    with Anvil("--block-time", "0.2") as node:
        yield node


async def _check_paid_once(bench: Bench, run_id: str, node: Anvil) -> None:
    run = await bench.ended(run_id)
    assert (run["status"], run["executionState"]["pay"]["status"]) == ("success", "success"), run["executionState"]
    web3 = Web3(Web3.HTTPProvider(node.url))
    paid = web3.eth.get_balance(Web3.to_checksum_address(_SHOP))
    assert (paid, web3.eth.get_transaction_count(Web3.to_checksum_address(ALICE))) == (7, 1)
    assert (await bench.events(run_id))[-1] == ("run_finished", None)


@pytest.mark.parametrize("keeping", [True, False])
async def test_a_plan_whose_commit_is_unknown_is_looked_up(
    cluster: Cluster, tmp_path: Path, node: Anvil, monkeypatch: pytest.MonkeyPatch, keeping: bool
) -> None:
    url = cluster.fresh()
    engine = sa.create_engine(url)

    def is_planned() -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(sa.text("SELECT count(*) FROM transactions")).scalar_one())

    async with open_outbox(tmp_path, node, url) as outbox:
        bench, plan = Bench(outbox.composition), outbox.outbox.plan
        reached, may_go_on = asyncio.Event(), asyncio.Event()

        async def held(request: SpendRequest, spend: Spend) -> SpendStatus:
            reached.set()
            await may_go_on.wait()
            return await plan(request, spend)

        monkeypatch.setattr(outbox.outbox, "plan", held)
        run_id = await bench.start({"pay": _PAY})
        await reached.wait()
        with cluster.commits_that_die(url, "transactions", keeping=keeping) as die:
            may_go_on.set()
            await asyncio.to_thread(die, is_planned if keeping else None)
        await _check_paid_once(bench, run_id, node)
    engine.dispose()
    cluster.drop(url)


@pytest.mark.parametrize("step", ["committed", "sent"])
async def test_a_payment_that_is_signed_goes_on_after_the_store_was_away(
    cluster: Cluster, tmp_path: Path, node: Anvil, step: str
) -> None:
    url, again = cluster.fresh(), Timer(1.5, cluster.start)

    def crash(passed: str) -> None:
        if passed == step and again.ident is None:
            cluster.stop()
            again.start()

    async with open_outbox(tmp_path, node, url) as outbox:
        bench, transactions = Bench(outbox.composition), outbox.outbox
        transactions.deps = transactions.trackers._deps = replace(transactions.deps, on_step=crash)
        run_id = await bench.start({"pay": _PAY})
        await asyncio.to_thread(_wait_for, again)
        await _check_paid_once(bench, run_id, node)
    cluster.drop(url)


async def test_a_payment_of_which_a_part_is_done_goes_on_after_the_store_was_away(
    cluster: Cluster, tmp_path: Path, world: World
) -> None:
    url, again, signed = cluster.fresh(), Timer(1.5, cluster.start), Counter[str]()

    def crash(passed: str) -> None:
        signed[passed] += 1
        if passed == "signed" and signed["signed"] == 2:  # the approval is final, the swap is not written yet
            cluster.stop()
            again.start()

    with world.node() as node:
        described = world.network(node.url).model_dump(by_alias=True, mode="json", exclude={"endpoints"})
        fields = {**described, "blockTimeMs": 200, "confirmations": 1}
        async with open_outbox(tmp_path, node, url, network=fields) as outbox:
            till, transactions = Till(outbox, world.witness(node)), outbox.outbox
            transactions.deps = transactions.trackers._deps = replace(transactions.deps, on_step=crash)
            swap = till.node(
                "swap-uniswap-v2", tokenIn="USDC", tokenOut="native", amountIn="2500000000", slippageBps="100"
            )
            run_id = await till.bench.start({"pay": swap})
            await asyncio.to_thread(_wait_for, again)
            run = await till.bench.ended(run_id)
    assert (run["status"], run["executionState"]["pay"]["status"]) == ("success", "success"), run["executionState"]
    cluster.drop(url)


def _wait_for(again: Timer) -> None:
    while again.ident is None:
        time.sleep(0.02)
    again.join()
