"""Messages of a real broker that speaks Kafka start one run each, from the place that the store has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiokafka import AIOKafkaConsumer, TopicPartition

from dustrun.connectors.kafka import Data
from dustrun.sdk.brokers.kafka_client import GuardedClient
from dustrun.sdk.context import NoConnection
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events, trigger_gaps
from dustrun.triggers.streamed.sockets import NamedTls
from testkit.brokers import PASSWORD, KafkaBroker
from testkit.certificates import self_signed
from testkit.composition import Composition, composed
from testkit.kafka_front import KafkaFront
from trigger_host.test_happened import SAY, until

SETTINGS = {"outbound_allow": ["127.0.0.1"]}


@pytest.fixture
async def broker() -> AsyncIterator[KafkaBroker]:
    broker = KafkaBroker()
    await broker.start()
    yield broker
    broker.stop()


async def publish(server: Composition, broker: KafkaBroker, of: dict[str, Any] | None = None, **config: Any) -> str:
    data = of or {"servers": [f"127.0.0.1:{broker.port}"], "tls": "disable"}
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
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.at(), group_id=group, **broker.login)
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


async def test_users_log_in_over_tls_and_packed_messages_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, certificate = self_signed(tmp_path, "localhost")
    front = KafkaFront("dustrun", PASSWORD, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], served)
    broker = KafkaBroker(f"localhost:{front.port}")
    await broker.start()
    await front.start(broker.port)
    data = {"servers": [f"localhost:{front.port}"], "user": "dustrun", "password": PASSWORD}

    async def refusal(**other: Any) -> tuple[str, int | None]:
        async def addresses(_: str, __: int) -> list[str]:
            return ["127.0.0.1"]

        read = Data.model_validate({**data, "mechanism": "plain", **other})
        client = GuardedClient(read, addresses, NamedTls.of, metadata_max_age_ms=30_000)
        with pytest.raises(NoConnection) as caught:
            await client.bootstrap()
        await client.close()
        assert "pw_9876543210" not in caught.value.message
        return caught.value.message, caught.value.status

    try:
        message, status = await refusal()
        assert "certificate that is not accepted" in message
        assert "`servers` must have the name in it" in message
        assert status is None
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        for mechanism in ("plain", "scram-sha-256", "scram-sha-512"):
            message, status = await refusal(mechanism=mechanism, password="pw_9876543210")
            assert "check `user` and `password`" in message
            assert status == 401
        message, _ = await refusal(mechanism=None, user=None, password=None)
        assert "whether it asks for a user (`mechanism`" in message
        assert "check `tls`" in (await refusal(tls="disable"))[0]
        front.mechanisms.remove("PLAIN")
        message, status = await refusal()
        assert 'no login by "plain": choose another `mechanism`' in message
        assert status == 401
        front.mechanisms.append("PLAIN")
        assert front.logins == []

        login = {"security_protocol": "SASL_SSL", "ssl_context": NamedTls.of("localhost")}
        broker.login = {**login, "sasl_plain_username": "dustrun", "sasl_plain_password": PASSWORD}
        await broker.make("numbers", 1)
        async with composed(tmp_path / "data", outbound_allow=["127.0.0.1", "::1"]) as server:
            for mechanism in ("plain", "scram-sha-256", "scram-sha-512"):
                front.logins.clear()
                await publish(server, broker, {**data, "mechanism": mechanism}, group=mechanism, begin="all")

                async def listening(wanted: str = mechanism.upper()) -> bool:
                    return wanted in front.logins

                await until(listening)
            await listens(server)
            for n, packs in enumerate((None, "gzip", "snappy", "lz4", "zstd")):
                await broker.publish("numbers", n, packs=packs)
            found = await seen(server, 15)
            assert sorted(one["message"]["n"] for one in found) == sorted([*range(5)] * 3)

            async def is_told() -> bool:
                told = [await _told(broker, group) for group in ("plain", "scram-sha-256", "scram-sha-512")]
                return told == [{0: 5, 1: None}] * 3

            await until(is_told)
    finally:
        await front.stop()
        broker.stop()
