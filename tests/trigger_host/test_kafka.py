"""Messages of a real broker that speaks Kafka start one run each, from the place that the store has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiokafka import AIOKafkaConsumer, TopicPartition

from dustrun.storage.db.trigger_tables import subscriptions, trigger_events, trigger_gaps
from testkit.brokers import KafkaBroker
from testkit.composition import Composition, composed
from trigger_host.test_happened import SAY, until

SETTINGS = {"outbound_allow": ["127.0.0.1"]}


@pytest.fixture
async def broker() -> AsyncIterator[KafkaBroker]:
    broker = KafkaBroker()
    await broker.start()
    yield broker
    broker.stop()


async def publish(server: Composition, broker: KafkaBroker, **config: Any) -> str:
    data = {"servers": [f"127.0.0.1:{broker.port}"], "tls": "disable"}
    made = await server.owner.post("/v1/connectors", {"type": "kafka", "name": "k", "data": data})
    assert made.status == 200, made.body
    connector = {"type": "kafka", "id": made.data["id"]}
    root = {"type": "kafka", "connector": connector, "payload": {"topic": "numbers", **config}, "children": ["say"]}
    workflow = (await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}}))["id"]
    published = await server.owner.post(f"/v1/workflows/{workflow}/publish")
    assert published.status == 200, published.body
    return str(workflow)


async def listens(server: Composition) -> None:
    async def holds() -> bool:
        return all(row[0] is not None for row in await server.rows(sa.select(subscriptions.c.cursor)))

    await until(holds)


async def seen(server: Composition, count: int) -> list[dict[str, Any]]:
    t = trigger_events.c

    async def holds() -> bool:
        return len(await server.rows(sa.select(t.pk))) >= count

    await until(holds)
    return [json.loads(row[0]) for row in await server.rows(sa.select(t.payload).order_by(t.pk))]


def numbers(found: list[dict[str, Any]], partition: int) -> list[int]:
    return [one["message"]["n"] for one in found if one["partition"] == partition]


async def test_messages_start_runs_once_in_order_over_a_restart(tmp_path: Path, broker: KafkaBroker) -> None:
    await broker.make("numbers", 2)
    await broker.publish("numbers", 1, 2, partitions=2)
    async with composed(tmp_path, **SETTINGS) as server:
        await publish(server, broker, group="told")
        await listens(server)
        await broker.publish("numbers", *range(3, 31), partitions=2, key=b"k", headers=[("h", b"v")])
        found = await seen(server, 28)
        assert (numbers(found, 0), numbers(found, 1)) == (list(range(4, 31, 2)), list(range(3, 30, 2)))
        assert (found[0]["messageKey"], found[0]["headersOfMessage"]) == ("k", {"h": "v"})
    await broker.publish("numbers", 31, 32, partitions=2)
    async with composed(tmp_path, **SETTINGS) as server:
        found = await seen(server, 30)
        assert sorted(one["message"]["n"] for one in found) == list(range(3, 33))
        assert await _told(broker, "told") == {0: 16, 1: 16}


async def _told(broker: KafkaBroker, group: str) -> dict[int, int | None]:
    """What the cluster was told, by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{broker.port}", group_id=group)
    await consumer.start()
    found = {n: await consumer.committed(TopicPartition("numbers", n)) for n in (0, 1)}
    await consumer.stop()
    return found


async def test_keys_filters_and_sizes(tmp_path: Path, broker: KafkaBroker) -> None:
    await broker.make("numbers", 1)
    await broker.publish("numbers", 1, 2, 1, 3)
    async with composed(tmp_path, **SETTINGS) as server:
        await publish(server, broker, begin="all", key="message.n", filter="message.n != 2")
        await broker.publish("numbers", 2, 4)
        assert numbers(await seen(server, 3), 0) == [1, 3, 4]


async def test_a_topic_that_is_made_anew_leaves_a_gap_and_loses_nothing(tmp_path: Path, broker: KafkaBroker) -> None:
    await broker.make("numbers", 1)
    await broker.publish("numbers", *range(1, 6))
    async with composed(tmp_path, **SETTINGS) as server:
        await publish(server, broker, begin="all")
        await seen(server, 5)
        broker.stop()  # what it had is gone
        await broker.start()
        await broker.make("numbers", 1)
        await broker.publish("numbers", 6, 7)
        assert numbers(await seen(server, 7), 0) == list(range(1, 8))
        ((gap,),) = await server.rows(sa.select(trigger_gaps.c.range))
        assert json.loads(gap) == {"partition": 0, "fromOffset": 5, "goesOnAt": 0}


async def test_a_broker_that_names_a_forbidden_address_is_not_connected_to(tmp_path: Path) -> None:
    broker = KafkaBroker("10.11.12.13:9092")
    await broker.start()
    async with composed(tmp_path, **SETTINGS) as server:
        await publish(server, broker)

        async def holds() -> bool:
            ((error,),) = await server.rows(sa.select(subscriptions.c.last_error))
            return "10.11.12.13" in (error or "") and "outbound_allow" in (error or "")

        await until(holds)
    broker.stop()
