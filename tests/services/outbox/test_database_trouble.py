"""The store dies in the very commit of signed bytes: it is looked up, and nothing is signed twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dustrun.core.money.intent import Spend
from outbox import address, open_outbox, transfer
from testkit.chain.anvil import Anvil
from testkit.postgres import Cluster


@pytest.mark.parametrize("keeping", [True, False])
async def test_signed_bytes_whose_commit_is_unknown_are_looked_up(
    cluster: Cluster, tmp_path: Path, node: Anvil, keeping: bool
) -> None:
    url = cluster.fresh()
    async with open_outbox(tmp_path, node, url) as outbox:
        await outbox.outbox.plan(outbox.request("pay"), Spend((transfer(address(1), 5),)))
        with cluster.commits_that_die(url, "transaction_attempts", keeping=keeping) as die:
            asked = asyncio.create_task(outbox.outbox.advance(outbox.request("pay")))
            await asyncio.to_thread(die)
        await asked
        async with asyncio.timeout(60):
            while (status := await outbox.outbox.advance(outbox.request("pay"))).status != "settled":
                node.mine()
                await asyncio.sleep(0.1)
        assert status.generation == 1
        assert (outbox.nonce(), outbox.balance(address(1))) == (1, 5)
        steps = await outbox.events("pay")
        assert (steps.count("signed"), steps[-1]) == (1, "confirmed")
    cluster.drop(url)
