"""Payments on a PostgreSQL that is far away: each waits for it a few times, and many wait together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.services.outbox.spend_status import SpendStatus
from dustrun.storage.db.ledger_tables import ledger_due, transactions
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

    runs: list[tuple[str, int]] = field(default_factory=list)
    """That wait, and have not been paid in: their IDs and keys."""

    async def prepare(self, count: int) -> None:
        """Makes the runs of `count` payments. Then nobody writes but the outbox: neither the engine, which
        signals would wake, nor the timer of the keys' usage."""
        server = self.outbox.composition
        made = [(await server.owner.post("/v1/runs", {"definition": {"nodes": WAITS}})).data for _ in range(count)]
        pks = dict(await server.rows(sa.select(runs.c.id, runs.c.pk)))
        self.runs = [(one["runId"], pks[one["runId"]]) for one in made]
        await self._until({"waiting"}, runs.c.status)
        await server.parts.access.usage.stop()
        await server.engine.stop(60)
        await server.parts.writer.write(lambda tx: None)  # after all that was queued

    async def pay(self, *numbers: int) -> tuple[int, int]:
        """Pays at once, up to the confirmed receipts and the books; the writer's round trips until all are sent, and
        after that."""
        paid = [self._pay(number, self.runs.pop()) for number in numbers]
        before = self.distance.writer_round_trips
        assert {status.transactions[0]["status"] for status in await asyncio.gather(*paid)} == {"sent"}
        sent = self.distance.writer_round_trips
        for state in ("mined", "final"):
            self.outbox.node.mine()
            await self._until({state, "final"}, transactions.c.state)
        await self._until(set(), ledger_due.c.transaction_id)
        assert [self.outbox.balance(address(number)) for number in numbers] == [1 + number for number in numbers]
        return sent - before, self.distance.writer_round_trips - sent

    async def _pay(self, number: int, run: tuple[str, int]) -> SpendStatus:
        run_id, run_pk = run
        place = {"run_id": run_id, "root_run_id": run_id, "run_pk": run_pk}
        return await self.outbox.pay("pay", transfer(address(number), 1 + number), **place)

    async def _until(self, among: set[str], column: sa.Column[Any]) -> None:
        """Waits until the column has no value but those."""
        query = sa.select(column).distinct()
        async with asyncio.timeout(60):
            while {found for (found,) in await self.outbox.composition.rows(query)} - among:
                await asyncio.sleep(0.05)


@pytest.fixture
async def far(cluster: Cluster, tmp_path: Path, node: Anvil) -> AsyncIterator[Far]:
    url = cluster.fresh()
    with at_a_distance(url, 0.01) as (far, distance):
        async with open_outbox(tmp_path, node, far) as outbox:
            yield Far(outbox, distance)
    cluster.drop(url)


async def test_a_payment_waits_for_the_database_a_few_times(far: Far) -> None:
    await far.prepare(5)
    await far.pay(0)  # what is prepared once does not count
    await far.pay(1)
    # the sizes of runs are measured every few seconds: what none of that meets is the payment's own
    to_sent, to_final = map(min, zip(*[await far.pay(number) for number in (2, 3, 4)], strict=True))
    # its plan, its bytes and its answer take two each; its receipt two, its end three and its books two
    assert to_sent <= 6
    assert to_final <= 7


@pytest.mark.long
async def test_payments_of_one_wallet_wait_together(far: Far) -> None:
    await far.prepare(1 + _PAYMENTS)
    await far.pay(0)
    to_sent, to_final = await far.pay(*range(1, 1 + _PAYMENTS))
    # one after the other it is six and seven for each; only the books are kept one after the other
    assert to_sent <= _PAYMENTS
    assert to_final <= 3 * _PAYMENTS
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
