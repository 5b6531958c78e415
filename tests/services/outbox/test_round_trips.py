"""Payments on a PostgreSQL that is far away: each waits for it a few times, and many wait together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.services.outbox.spend_status import SpendStatus
from dustrun.storage.db.ledger_tables import transactions
from dustrun.storage.db.tables import events, runs
from outbox import WAITS, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.distance import Distance, at_a_distance
from testkit.postgres import Cluster

_PAYMENTS, _OF_RUN = 40, 20


@dataclass(slots=True)
class Far:
    """An outbox whose store is 10 ms away."""

    outbox: Outbox
    distance: Distance

    async def pay(self, *numbers: int) -> tuple[int, int]:
        """Pays at once, up to the confirmed receipts; the writer's round trips until all are sent, and after that."""
        paid = [self._pay(number, run) for number, run in zip(numbers, await self._runs(len(numbers)), strict=True)]
        before = self.distance.writer_round_trips
        assert {status.transactions[0]["status"] for status in await asyncio.gather(*paid)} == {"sent"}
        sent = self.distance.writer_round_trips
        for state in ("mined", "final"):
            self.outbox.node.mine()
            await self._until(state)
        assert [self.outbox.balance(address(number)) for number in numbers] == [1 + number for number in numbers]
        return sent - before, self.distance.writer_round_trips - sent

    async def _pay(self, number: int, run: tuple[str, int]) -> SpendStatus:
        run_id, run_pk = run
        place = {"run_id": run_id, "root_run_id": run_id, "run_pk": run_pk}
        return await self.outbox.pay("pay", transfer(address(number), 1 + number), **place)

    async def _runs(self, count: int) -> list[tuple[str, int]]:
        """Runs that wait. What else their creation leaves to write, or a timer would, is written too: none of it falls
        among the payments, however busy the machine is."""
        server = self.outbox.composition
        made = [(await server.owner.post("/v1/runs", {"definition": {"nodes": WAITS}})).data for _ in range(count)]
        pks = dict(await server.rows(sa.select(runs.c.id, runs.c.pk)))
        async with asyncio.timeout(60):
            while {status for (status,) in await server.rows(sa.select(runs.c.status).distinct())} != {"waiting"}:
                await asyncio.sleep(0.05)
        await server.parts.access.usage.flush()
        return [(one["runId"], pks[one["runId"]]) for one in made]

    async def _until(self, state: str) -> None:
        query = sa.select(transactions.c.state).distinct()
        async with asyncio.timeout(60):
            while {found for (found,) in await self.outbox.composition.rows(query)} - {state, "final"}:
                await asyncio.sleep(0.05)


@pytest.fixture
async def far(cluster: Cluster, tmp_path: Path, node: Anvil) -> AsyncIterator[Far]:
    url = cluster.fresh()
    with at_a_distance(url, 0.01) as (far, distance):
        async with open_outbox(tmp_path, node, far) as outbox:
            yield Far(outbox, distance)
    cluster.drop(url)


async def test_a_payment_waits_for_the_database_a_few_times(far: Far) -> None:
    await far.pay(0)  # what is prepared once does not count
    to_sent, to_final = await far.pay(1)
    # its plan, its bytes and its answer take two each; its receipt two, and its end three. Beside them the run is woken
    # twice.
    assert to_sent <= 6
    assert to_final <= 5 + 8


async def test_payments_of_one_wallet_wait_together(far: Far) -> None:
    await far.pay(0)
    to_sent, to_final = await far.pay(*range(1, 1 + _PAYMENTS))
    # one after the other it is eleven for each, and what its run takes
    assert to_sent <= _PAYMENTS
    assert to_final <= _PAYMENTS
    assert far.outbox.nonce() == 1 + _PAYMENTS


async def test_payments_of_one_run_are_numbered_in_one_series(far: Far) -> None:
    """They touch the same run, whose events others write at the same time."""
    server, node = far.outbox.composition, far.outbox.node
    pay = {"chainId": CHAIN_ID, "recipient": "{{$item}}", "amount": "3"}
    recipients = [address(number) for number in range(_OF_RUN)]
    nodes = {
        "root": {"type": "manual", "children": ["each"]},
        "each": {"type": "for-each", "payload": {"array": recipients, "concurrency": _OF_RUN}, "loopBody": ["pay"]},
        "pay": {"type": "send-native", "payload": pay},
    }
    before = far.distance.writer_round_trips
    run_id = (await server.owner.post("/v1/runs", {"definition": {"nodes": nodes}})).data["runId"]
    node.rpc("evm_setIntervalMining", 1)
    query = sa.select(runs.c.status, runs.c.pk).where(runs.c.id == run_id)
    async with asyncio.timeout(60):
        while (found := (await server.rows(query))[0])[0] not in ("success", "failure", "partial"):
            await asyncio.sleep(0.2)
    assert found[0] == "success"
    written = await server.rows(sa.select(events.c.seq).where(events.c.run_pk == found[1]).order_by(events.c.seq))
    assert [seq for (seq,) in written] == list(range(1, len(written) + 1))
    assert [far.outbox.balance(who) for who in recipients] == [3] * _OF_RUN
    assert far.distance.writer_round_trips - before <= 10 * _OF_RUN
