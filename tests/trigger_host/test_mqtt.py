"""Messages of a real MQTT broker start one run each, however often they are delivered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from dustrun import clock
from dustrun.catalog import load
from dustrun.connectors.mqtt import Data
from dustrun.sdk.trigger import PolledEvent, Received
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events, trigger_gaps
from dustrun.triggers.streamed.mqtt import Config
from testkit.brokers import PASSWORD, Broker
from testkit.composition import Composition, composed
from testkit.tcp_proxy import TcpProxy

SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path / "broker")
    await broker.start()
    yield broker
    broker.stop()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Composition]:
    async with composed(tmp_path / "data", outbound_allow=["127.0.0.1"]) as server:
        yield server


async def connector(server: Composition, broker: Broker, password: str = PASSWORD) -> dict[str, str]:
    data = {"host": "127.0.0.1", "port": broker.port, "user": "dustrun", "password": password, "tls": "disable"}
    made = await server.owner.post("/v1/connectors", {"type": "mqtt", "name": "m", "data": data})
    assert made.status == 200, made.body
    return {"type": "mqtt", "id": made.data["id"]}


async def publish(server: Composition, reference: dict[str, str], **config: Any) -> str:
    payload = {"topic": "plant/+", "clientId": "dustrun-test", **config}
    root = {"type": "mqtt", "connector": reference, "payload": payload, "children": ["say"]}
    workflow = (await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}}))["id"]
    published = await server.owner.post(f"/v1/workflows/{workflow}/publish")
    assert published.status == 200, published.body
    return str(workflow)


async def state(server: Composition) -> tuple[str | None, str | None]:
    ((cursor, error),) = await server.rows(sa.select(subscriptions.c.cursor, subscriptions.c.last_error))
    return cursor, error


async def listens(server: Composition) -> None:
    async with asyncio.timeout(60):
        while (await state(server))[0] is None:
            await asyncio.sleep(0.02)


async def seen(server: Composition, count: int) -> list[int]:
    t = trigger_events.c
    async with asyncio.timeout(60):
        while len(found := await server.rows(sa.select(t.payload).order_by(t.pk))) < count:
            await asyncio.sleep(0.02)
    return [json.loads(payload)["message"]["n"] for (payload,) in found]


async def test_messages_start_runs_once_over_pauses_and_a_broker_that_is_killed(
    server: Composition, broker: Broker
) -> None:
    await broker.publish(0, retain=True)
    workflow = await publish(server, await connector(server, broker), catchUp=True, key="message.n")
    await listens(server)
    await broker.publish(1, 2, 3)
    assert sorted(await seen(server, 3)) == [1, 2, 3]  # what was retained before is none
    await server.owner.post(f"/v1/workflows/{workflow}/pause")
    await broker.publish(4, 5)
    await server.owner.post(f"/v1/workflows/{workflow}/resume")
    assert sorted(await seen(server, 5)) == [1, 2, 3, 4, 5]
    broker.stop()
    await broker.start()
    await broker.publish(6)
    assert sorted(await seen(server, 6)) == [1, 2, 3, 4, 5, 6]
    assert await server.rows(sa.select(trigger_gaps.c.reason)) == []


async def taken(source: AsyncIterator[Received], count: int) -> list[PolledEvent]:
    """The next events, at least so many, each acknowledged as the host does once it is on disk."""
    found: list[PolledEvent] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            received = await anext(source)
            found += received.events
            if received.acknowledge is not None:
                await received.acknowledge()
    return found


class DeafProxy(TcpProxy):
    """Loses what clients say, for a while."""

    is_deaf = False

    def pass_on(self, chunk: bytes, *, is_from_client: bool) -> bytes | None:
        return b"" if is_from_client and self.is_deaf else chunk


class Context:
    """What the trigger needs of its context: the connector, the address that the guard allows, the time."""

    def __init__(self, port: int, read: type[BaseModel] = Data, **more: Any) -> None:
        data = {"host": "127.0.0.1", "port": port, "user": "dustrun", "password": PASSWORD, "tls": "disable", **more}
        self.connection = SimpleNamespace(data=read.model_validate(data))
        self.http = self

    async def addresses(self, _: str, __: int) -> list[str]:
        return ["127.0.0.1"]

    @property
    def now_ms(self) -> int:
        return clock.now_ms()


@pytest.mark.parametrize("key", [None, "message.n"])
async def test_what_was_on_disk_and_not_acknowledged_is_no_second_event(broker: Broker, key: str | None) -> None:
    context: Any = Context(broker.port)
    config = Config(topic="plant/+", client_id="dustrun-test", key=key)
    listen = load().triggers["mqtt"].listen
    assert listen is not None
    source: Any = listen(context, config, None)
    assert (await anext(source)).lost is None
    await broker.publish(1, 2, 3)
    while not (received := await anext(source)).events:
        pass
    on_disk = received.events[0]  # the server is killed before it has acknowledged, or written the others
    await source.aclose()
    source = listen(context, config, on_disk.cursor)
    await anext(source)
    again = await taken(source, 2 if key is None else 3)
    await broker.publish(4)
    again += await taken(source, 1)
    await source.aclose()
    told = sorted((one.payload["message"]["n"], one.payload["redelivered"]) for one in again)
    if key is None:
        assert told == [(2, True), (3, True), (4, False)]
    else:  # the key tells that it is known
        assert told == [(1, True), (2, True), (3, True), (4, False)]
        assert on_disk.key == "key:1" in {one.key for one in again}


async def test_an_acknowledgement_that_gets_lost_is_no_second_event(broker: Broker) -> None:
    """It was given, and the connection ended before the broker had read it."""
    proxy = DeafProxy(lambda: asyncio.open_connection("127.0.0.1", broker.port))
    await proxy.start()
    context: Any = Context(proxy.port)
    listen = load().triggers["mqtt"].listen
    assert listen is not None
    config = Config(topic="plant/+", client_id="dustrun-test")
    source: Any = listen(context, config, None)
    await anext(source)
    await broker.publish(1)
    while not (received := await anext(source)).events:
        pass
    cursor, proxy.is_deaf = received.events[-1].cursor, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            await received.acknowledge()
            cursor = (await anext(source)).cursor
    await source.aclose()
    await proxy.cut(0)
    proxy.is_deaf = False
    source = listen(context, config, cursor)
    await anext(source)
    again = []
    with contextlib.suppress(TimeoutError):  # the broker repeats within a second what is not acknowledged
        async with asyncio.timeout(3):
            while True:
                again += await taken(source, 1)
    assert again == []
    await source.aclose()
    await proxy.stop()


async def test_what_is_repeated_while_the_connection_stands_is_no_second_event(broker: Broker) -> None:
    """The broker repeats what is not acknowledged within a second; it was read before, or is being written."""
    context: Any = Context(broker.port)
    listen = load().triggers["mqtt"].listen
    assert listen is not None
    source: Any = listen(context, Config(topic="plant/+", client_id="dustrun-test"), None)
    await anext(source)
    await broker.publish(1, 2, 3)
    while not (received := await anext(source)).events:
        pass
    told = [event.payload["message"]["n"] for event in received.events]
    await asyncio.sleep(2.5)
    await received.acknowledge()
    await broker.publish(4)
    while 4 not in told:
        told += [event.payload["message"]["n"] for event in await taken(source, 1)]
    await source.aclose()
    assert sorted(told) == [1, 2, 3, 4]


async def test_a_session_that_is_gone_is_a_gap_and_a_wrong_password_is_told(
    server: Composition, broker: Broker, tmp_path: Path
) -> None:
    await publish(server, await connector(server, broker))
    await listens(server)
    await broker.publish(1)
    assert await seen(server, 1) == [1]
    broker.stop()
    shutil.rmtree(tmp_path / "broker" / "jetstream")
    await broker.start()
    async with asyncio.timeout(60):
        while not await server.rows(sa.select(trigger_gaps.c.reason)):
            await asyncio.sleep(0.05)
    await broker.publish(2)
    assert await seen(server, 2) == [1, 2]
    await publish(server, await connector(server, broker, "pw_9876543210"), clientId="other")
    query = sa.select(subscriptions.c.last_error).where(subscriptions.c.last_error.is_not(None))
    async with asyncio.timeout(60):
        while not (found := await server.rows(query)):
            await asyncio.sleep(0.05)
    assert "refuses the connection" in found[0][0]
    assert "pw_9876543210" not in found[0][0]
    failures = [
        one["failure"] for one in (await server.owner.get("/v1/connectors")).data["items"] if one.get("failure")
    ]
    assert [one["what"] for one in failures] == ["refused"]
