"""Sources that send as fast as they are read, for minutes, to triggers that start a run for each message: the server's
memory stays flat, since it reads no more than it has written.

    scripts/soak flood [--scale SECONDS] [--seed S] [--set only=postgresql] [--set kinds=kafka,mqtt,nats]

One real server over HTTP, with SQLite, then with PostgreSQL, and five sources with messages of a kilobyte: a WebSocket
and an event stream, which send without end, and real brokers of Kafka, MQTT and NATS, which get `_A_SECOND` messages
for each second of the flood at its beginning, and push them as the server lets them. Its memory is measured once a few
hundred messages of each have run, then every second of the flood: at no moment may it hold `_MOST_MIB` more than
before. What a stream has sent and nobody has recorded is in the buffers of both ends: it may be `_MOST_AHEAD` messages.
Each message has run once and in order, as far as they came.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import nats
import sqlalchemy as sa
from aiokafka import AIOKafkaProducer
from paho.mqtt import publish as mqtt

from bench.cluster_callers import AnyApi
from bench.memory_watch import MemoryWatch, resident_mib
from dustrun.core.values.exact_json import loads_own
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events
from testkit.brokers import PASSWORD, Broker, KafkaBroker
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess
from testkit.streaming import Source, streaming

_MOST_MIB: Final = 60.0
_MOST_AHEAD: Final = 20_000
_WARM: Final = 300
_A_SECOND: Final = 300
_PADDING: Final = "x" * 1_000
_WITHIN_S: Final = 300.0
_SETTINGS: Final = {"outbound_allow": "127.0.0.1", "rate_limit_per_second": "0"}
Json = dict[str, Any]


class Queues:
    """Real brokers, and what leads to them. `put` gives one of them the next messages."""

    def __init__(self, folder: Path) -> None:
        self._broker = Broker(folder / "broker", "30s")
        self._kafka = KafkaBroker()
        self._last = {"kafka": 0, "mqtt": 0, "nats": 0}

    async def start(self, stack: AsyncExitStack) -> None:
        """Starts them, with what a trigger needs to begin."""
        for one in (self._broker, self._kafka):
            await one.start()
            stack.callback(one.stop)
        await self._broker.publish_nats()
        await self._kafka.make("numbers", 1)

    def trigger(self, kind: str) -> tuple[Json, Json]:
        """A connector, and a config."""
        ours = {"host": "127.0.0.1", "user": "dustrun", "password": PASSWORD, "tls": "disable"}
        if kind == "kafka":
            servers = {"servers": [f"127.0.0.1:{self._kafka.port}"], "tls": "disable"}
            return {"type": "kafka", "data": servers}, {"topic": "numbers"}
        if kind == "mqtt":
            return {"type": kind, "data": {**ours, "port": self._broker.port}}, {"topic": "plant/+", "clientId": "s"}
        return (
            {"type": kind, "data": {**ours, "port": self._broker.nats_port}},
            {"stream": "NUMBERS", "consumer": "s"},
        )

    async def put(self, kind: str, count: int) -> None:
        """So many more messages."""
        first = self._last[kind] + 1
        self._last[kind] += count
        texts = [json.dumps({"n": n, "padding": _PADDING}).encode() for n in range(first, first + count)]
        if kind == "mqtt":
            auth: Any = {"username": "dustrun", "password": PASSWORD}
            messages: Any = [("plant/7", text, 1, False) for text in texts]
            await asyncio.to_thread(mqtt.multiple, messages, hostname="127.0.0.1", port=self._broker.port, auth=auth)
        elif kind == "nats":
            client = await nats.connect(f"nats://127.0.0.1:{self._broker.nats_port}", user="dustrun", password=PASSWORD)
            for text in texts:
                await client.publish("numbers.all", text)
            await client.flush()
            await client.close()
        else:
            producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{self._kafka.port}")
            await producer.start()
            for text in texts:
                await producer.send("numbers", text, partition=0)
            await producer.stop()

    def sent(self, kind: str) -> int:
        """How many messages a broker has been given."""
        return self._last[kind]


KINDS: Final = "websocket,sse,kafka,mqtt,nats"


def run(scale: int | None = None, seed: int = 0, only: str = "", kinds: str = KINDS) -> Json:
    """A flood of `scale` seconds (default 120) with each store, from all `kinds` of sources at once."""
    found: Json = {"failures": []}
    for store in [only] if only else ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory(prefix="dustrun-flood-") as folder:
            found[store] = asyncio.run(_run(Path(folder), store, scale or 120, random.Random(seed), kinds.split(",")))
        found["failures"] += [f"{store}: {failure}" for failure in found[store].pop("failures")]
    return {"bounds": {"mibAboveIdle": _MOST_MIB, "ahead": _MOST_AHEAD}, **found}


async def _run(folder: Path, store: str, seconds: int, chance: random.Random, kinds: list[str]) -> Json:
    async with AsyncExitStack() as stack:
        settings = dict(_SETTINGS)
        if store == "postgresql":
            cluster = Cluster()
            stack.callback(cluster.end)
            settings["database_url"] = cluster.fresh()
        server = ServerProcess(folder / "data", settings)
        url = settings.get("database_url", f"sqlite:///file:{server.database_path}?mode=ro&uri=true")
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        stack.push_async_callback(server.stop)
        server.start()
        await server.wait_ready(120)
        api = AnyApi([server.base], server.owner_key, chance, timeout_s=20)
        stack.push_async_callback(api.close)
        streams = [kind for kind in kinds if kind in ("websocket", "sse")]
        sources = {kind: await stack.enter_async_context(streaming()) for kind in streams}
        workflows = {kind: await _publish(api, kind, _config(kind, source)) for kind, source in sources.items()}
        queues = Queues(folder)
        if queued := [kind for kind in kinds if kind not in streams]:
            await queues.start(stack)
        for kind in queued:
            connector, config = queues.trigger(kind)
            _, made = await api.call("POST", "/v1/connectors", {"name": kind, **connector})
            workflows[kind] = await _publish(api, kind, config, {"type": kind, "id": made["id"]})
            await _until(lambda kind=kind: _is_armed(engine, workflows[kind]))
            await queues.put(kind, _WARM)
            await _until(lambda kind=kind: _count(engine, workflows[kind]) >= _WARM)
        for kind, source in sources.items():
            source.padding = 1_000
            await _until(lambda source=source: bool(source.resumed))
            source.emit(_WARM)
            await _until(lambda kind=kind: _count(engine, workflows[kind]) >= _WARM)
        await asyncio.sleep(5)
        idle = resident_mib([server.server_pid])
        watch = MemoryWatch({"server": lambda: [server.server_pid]})
        for source in sources.values():
            source.emit(100_000_000)
        watching = asyncio.create_task(watch.work(1.0))
        putting = asyncio.gather(*(queues.put(kind, _A_SECOND * seconds) for kind in queued))
        await asyncio.sleep(seconds)
        await putting
        watching.cancel()
        most = max(mib for _, mib in watch.samples["server"])
        samples = watch.report()["server"]["mib"]
        found: Json = {"idleMib": round(idle, 1), "mostAboveIdleMib": round(most - idle, 1), "mib": samples}
        failures = []
        if most - idle > _MOST_MIB:
            failures.append(f"the server held {most - idle:.1f} MiB more than before the flood")
        for kind in kinds:
            sent = sources[kind].sent if kind in sources else queues.sent(kind)  # before what is recorded, which grows
            numbers = await asyncio.to_thread(_numbers, engine, workflows[kind])
            found[kind] = {"sent": sent, "taken": len(numbers), "ahead": sent - len(numbers)}
            if numbers != list(range(1, len(numbers) + 1)):
                failures.append(f"{kind}: not each message once and in order")
            if kind in sources and sent - len(numbers) > _MOST_AHEAD:
                failures.append(f"{kind}: {sent - len(numbers)} messages were sent ahead")
            if len(numbers) < 2 * _WARM:
                failures.append(f"{kind}: only {len(numbers)} messages were taken, so this proves little")
    return {**found, "seconds": seconds, "failures": failures}


def _config(kind: str, source: Source) -> Json:
    if kind == "sse":
        return {"url": f"{source.url}/sse"}
    return {
        "url": f"{source.url}/ws".replace("http", "ws", 1),
        "subscribe": [{"op": "subscribe"}],
        "filter": 'message.type == "tick"',
    }


async def _publish(api: AnyApi, kind: str, config: Json, connector: Json | None = None) -> str:
    root: Json = {"type": kind, "payload": config, "children": ["say"]}
    if connector is not None:
        root["connector"] = connector
    say = {"type": "log", "payload": {"message": "{{$trigger.body.message.n}}"}}
    nodes = {"root": root, "say": say}
    _, made = await api.call("POST", "/v1/workflows", {"name": kind, "description": "", "definition": {"nodes": nodes}})
    await api.call("POST", f"/v1/workflows/{made['id']}/publish", {})
    return str(made["id"])


async def _until(holds: Any) -> None:
    until = time.monotonic() + _WITHIN_S
    while not await asyncio.to_thread(holds):
        if time.monotonic() > until:
            raise TimeoutError("the first messages were not taken in time")
        await asyncio.sleep(0.2)


def _is_armed(engine: sa.Engine, workflow_id: str) -> bool:
    """Whether it has connected for the first time: what comes before that does not count."""
    query = sa.select(subscriptions.c.cursor).where(subscriptions.c.workflow_id == workflow_id)
    with engine.connect() as connection:
        return connection.execute(query).scalar_one() is not None


def _count(engine: sa.Engine, workflow_id: str) -> int:
    t = trigger_events.c
    with engine.connect() as connection:
        query = sa.select(sa.func.count()).where(t.workflow_id == workflow_id)
        return int(connection.execute(query).scalar_one())


def _numbers(engine: sa.Engine, workflow_id: str) -> list[int]:
    """The messages that have events, in the order in which they were recorded."""
    t = trigger_events.c
    with engine.connect() as connection:
        query = sa.select(t.payload).where(t.workflow_id == workflow_id).order_by(t.pk)
        return [int(loads_own(payload)["message"]["n"]) for (payload,) in connection.execute(query)]
