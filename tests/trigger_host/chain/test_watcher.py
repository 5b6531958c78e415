"""Chain triggers through the whole server, on a real node: every event once, whatever reorgs do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.storage.db.trigger_tables import chain_events, subscriptions
from testkit.chain.pings import CONTRACT, Pings
from testkit.chain_watching import Watching, watching


@pytest.fixture
async def server(pings: Pings, tmp_path: Path, store_url: str) -> AsyncIterator[Watching]:
    async with watching(pings.node.url, tmp_path, database_url=store_url) as server:
        yield server


async def test_each_log_starts_one_run(server: Watching, pings: Pings) -> None:
    workflow = await server.publish(confirmations=0)
    pings.send(2)
    pings.send(1)
    await server.until_events(workflow, pings.final())
    bodies = await server.bodies(workflow)
    assert sorted(int(body["args"]["number"]) for body in bodies) == [0, 1, 2, 3, 4, 5]
    assert {body["position"] for body in bodies} == {0, 1}
    assert {(body["contract"], body["event"], body["reorg"]) for body in bodies} == {(CONTRACT, "Ping", None)}
    assert all(isinstance(body["blockTime"], int) for body in bodies)


async def test_an_event_waits_for_its_confirmations(server: Watching, pings: Pings) -> None:
    at_once, later = await server.publish(confirmations=0), await server.publish(confirmations=2)
    pings.send()
    pings.node.mine(1)
    await server.until_events(at_once, pings.final())
    assert await server.events(later) == []
    pings.node.mine(1)
    await server.until_events(later, pings.final())


async def test_a_transaction_that_comes_back_starts_no_second_run(server: Watching, pings: Pings) -> None:
    ignoring, told = await server.publish(confirmations=0), await server.publish(confirmations=0, onReorg="retract")
    pings.send()
    kept = pings.final()
    await server.until_events(ignoring, kept)
    await server.until_events(told, kept)
    pings.replace(1, [])
    await server.until_events(ignoring, {})
    await server.until_events(told, {})
    pings.replace(1, [(pings.sign(0), 0)])
    assert pings.final() == kept
    await server.until_events(ignoring, kept)
    await server.until_events(told, kept)
    assert len(await server.bodies(ignoring)) == 2
    assert [(body["reorg"], body["position"]) for body in await server.bodies(told)] == [
        (None, 0),
        (None, 1),
        ("retracted", 0),
        ("retracted", 1),
        ("restored", 0),
        ("restored", 1),
    ]


async def test_reorgs_within_the_confirmations_are_not_seen(server: Watching, pings: Pings) -> None:
    workflow = await server.publish(confirmations=3, onReorg="retract")
    for _ in range(12):
        pings.send(pings.chance.randint(0, 2))
        pings.reorg(pings.chance.randint(1, 3))
    pings.node.mine(3)
    await server.until_events(workflow, pings.final())
    assert {body["reorg"] for body in await server.bodies(workflow)} == {None}


async def test_random_reorgs_lose_nothing_and_run_nothing_twice(server: Watching, pings: Pings) -> None:
    ignoring, told = await server.publish(confirmations=0), await server.publish(confirmations=1, onReorg="retract")
    for _ in range(25):
        pings.send(pings.chance.randint(0, 2))
        await server.pause(pings.chance.uniform(0, 0.05))
        pings.reorg(pings.chance.randint(1, 6))
    pings.send()
    pings.node.mine(1)
    await server.until_events(ignoring, pings.final())
    await server.until_events(told, pings.final())
    assert set(await server.balance(ignoring)) >= set(pings.final())
    assert set((await server.balance(ignoring)).values()) == {1}
    assert {key for key, count in (await server.balance(told)).items() if count} == set(pings.final())
    assert set((await server.balance(told)).values()) <= {0, 1}


async def test_where_old_events_are_is_forgotten_also_if_there_are_always_new_ones(
    pings: Pings, tmp_path: Path
) -> None:
    async with watching(pings.node.url, tmp_path) as server:
        workflow = await server.publish(confirmations=0)
        pk = (await server.server.rows(sa.select(subscriptions.c.pk)))[0][0]
        pings.node.mine((pk - pings.head - 1) % 32 + 32)  # the cursor is saved without an event at such a height
        for number in range(1, 28):
            pings.send()
            await server.until_count(workflow, 2 * number)
            pings.node.mine(31)
        kept = [number for (number,) in await server.server.rows(sa.select(chain_events.c.block_number))]
        assert min(kept) > pings.head - 600, (kept, pings.head)
