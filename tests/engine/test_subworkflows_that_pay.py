"""Called workflows that spend: however often the call or its run is tried again, each payment is made once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from engine.conftest import Bench, Definition
from engine.test_subworkflows import call, child_of
from outbox import ALICE, Outbox, address, open_outbox
from testkit.chain.anvil import CHAIN_ID, Anvil

SHOP = address(1)


@pytest.fixture
def node() -> Iterator[Anvil]:
    """A chain that makes a block every third of a second."""
    with Anvil("--block-time", "0.3") as node:
        yield node


@pytest.fixture
async def outbox(tmp_path: Path, node: Anvil) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path, node) as outbox:
        yield outbox


@pytest.fixture
def bench(outbox: Outbox) -> Bench:
    return Bench(outbox.composition)


def send(units: int, *children: str, to: str = SHOP, **more: Any) -> Definition:
    """A node that sends native coin."""
    payload = {"chainId": CHAIN_ID, "recipient": to, "amount": str(units)}
    return {"type": "send-native", "payload": payload, "children": [*children], **more}


async def _flow(bench: Bench, nodes: Definition, first: str) -> str:
    root = {"type": "manual", "children": [first]}
    definition = {"nodes": {"root": root, **nodes}, "triggerNodeIds": ["root"]}
    return str((await bench.api.create_workflow(definition))["id"])


def _paid(outbox: Outbox, to: str = SHOP) -> tuple[int, int]:
    """What the shop has, and how many transactions of the wallet the chain has, as web3.py reads them."""
    web3 = Web3(Web3.HTTPProvider(outbox.node.url))
    return (
        web3.eth.get_balance(Web3.to_checksum_address(to)),
        web3.eth.get_transaction_count(Web3.to_checksum_address(ALICE)),
    )


async def test_a_call_that_is_tried_again_after_its_time_waits_for_what_it_began(
    outbox: Outbox, bench: Bench, node: Anvil
) -> None:
    """The called run is cancelled with its payment on the way; retries of its caller call when that is over."""
    callee = await _flow(bench, {"pay": send(7)}, "pay")
    node.rpc("evm_setIntervalMining", 0)
    run = await bench.run({"call": call(callee, timeoutMs=3_000)})
    assert run["error"]["code"] == "TIMEOUT"
    node.rpc("evm_setIntervalMining", 1)
    for _ in range(10):
        run = await bench.ended((await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"])
        if run["status"] == "success":
            break
    assert run["status"] == "success", run["error"]
    assert _paid(outbox) == (7, 1)


async def test_what_a_called_run_paid_before_it_failed_is_not_paid_again(outbox: Outbox, bench: Bench) -> None:
    """Neither by a retry of the node nor by one of the run."""
    callee = await _flow(bench, {"pay": send(7, "more"), "more": send(10**30)}, "pay")
    run = await bench.run({"call": call(callee, retry={"maxAttempts": 2, "backoffMs": 50})})
    assert run["status"] == "failure"
    again = (await bench.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"]
    assert (await bench.ended(again))["status"] == "failure"
    assert _paid(outbox) == (7, 1)


async def test_a_cancelled_caller_is_retried_once_its_called_runs_payment_is_over(
    outbox: Outbox, bench: Bench, node: Anvil
) -> None:
    callee = await _flow(bench, {"pay": send(7)}, "pay")
    run = await bench.start({"call": call(callee)})
    child = await child_of(bench, run)
    await bench.until(child["id"], lambda _: int(node.rpc("eth_getTransactionCount", ALICE, "pending"), 16) == 1)
    assert (await bench.api.post(f"/v1/runs/{run}/cancel")).status == 200
    assert (await bench.ended(run))["status"] == "cancelled"
    again = (await bench.api.post(f"/v1/runs/{run}/retry")).data["runId"]
    ended = await bench.ended(again)
    assert ended["status"] == "success", ended["error"]
    assert _paid(outbox) == (7, 1)


async def test_a_loops_calls_each_pay(outbox: Outbox, bench: Bench) -> None:
    callee = await _flow(bench, {"pay": send(7)}, "pay")
    loop = {
        "type": "for-each",
        "payload": {"array": [1, 2, 3], "concurrency": 3},
        "loopBody": ["call"],
    }
    run = await bench.run({"each": loop, "call": call(callee)})
    assert run["status"] == "success", run["error"]
    assert _paid(outbox) == (21, 3)
