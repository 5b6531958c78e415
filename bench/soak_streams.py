"""Triggers over open connections, of queues, and of tables, whose servers are killed: each message starts one run, in
order.

    scripts/soak streams [--scale MESSAGES] [--seed S] [--set kills=60] [--set only=postgresql]

Real servers over HTTP: one with SQLite, then two that share PostgreSQL, of which one holds all connections. Eleven
workflows: a WebSocket that is resumed from a number, an event stream with ids, a managed table that is written over the
API, a topic of an MQTT broker (whose messages have no key), a mailbox, a stream of NATS, a FIFO queue of SQS, a topic
of Kafka, a table of a PostgreSQL database over a network that is cut, a calendar, and an interval of a second. While
messages come and rows are written, servers are killed with SIGKILL at random moments, half of them while they start,
and the sources break their connections. At the end each message, each row and each second has one event and one run,
and no gap is on record. They are in their order, but for MQTT and NATS, which do not keep it, rows of transactions that
commit late, and SQS: the server that stands for it gives messages of one group to two requests, one of which nobody
waits for any more.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from bench.cluster_callers import AnyApi
from bench.level_kills import Dates, Ticks
from testkit.brokers import PASSWORD, Broker, KafkaBroker, Mailbox, Queues
from testkit.news import serving
from testkit.outbox_world import Api
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess
from testkit.streaming import Source, streaming
from testkit.tcp_proxy import TcpProxy

Json = dict[str, Any]
_SETTINGS = {"outbound_allow": "127.0.0.1", "rate_limit_per_second": "0", "min_trigger_interval_ms": "100"}
_LONGEST_S = 300.0
_RESUME = '{"op": "subscribe", "since": cursor}'
_TABLE = {"name": "orders", "primaryKey": "n", "columns": [{"name": "n", "type": "integer"}]}


def _triggers(websocket: Source, sse: Source) -> dict[str, Json]:
    return {
        "websocket": {
            "url": f"{websocket.url}/ws".replace("http", "ws", 1),
            "subscribe": [{"op": "subscribe"}],
            "filter": 'message.type == "tick"',
            "cursor": "message.n ?? null",
            "resume": _RESUME,
        },
        "sse": {"url": f"{sse.url}/sse"},
        "table-row": {"table": "orders"},
    }


def run(scale: int | None = None, seed: int = 0, *, kills: str = "60", only: str = "") -> Json:
    """`scale` messages (default 2,000) of each source, and so many rows, and so many kills: half with each store."""
    stores = [only] if only else ["sqlite", "postgresql"]
    found: Json = {"failures": []}
    for store in stores:
        with tempfile.TemporaryDirectory(prefix="dustrun-streams-") as folder:
            share = (scale or 2000) // len(stores), int(kills) // len(stores)
            found[store] = asyncio.run(_run(Path(folder), store, *share, random.Random(seed)))
        found["failures"] += [f"{store}: {failure}" for failure in found[store].pop("failures")]
    return found


def _servers(folder: Path, store: str, stack: AsyncExitStack) -> tuple[list[ServerProcess], str]:
    """One server with SQLite, or two that share PostgreSQL; and the store's URL."""
    if store == "sqlite":
        one = ServerProcess(folder / "data", _SETTINGS)
        return [one], f"sqlite:///file:{one.database_path}?mode=ro&uri=true"
    cluster = Cluster()
    stack.callback(cluster.end)
    settings = {**_SETTINGS, "database_url": cluster.fresh(), "shared": "1"}
    logs = [folder / "a.log", folder / "b.log"]
    return [ServerProcess(folder / "data", settings, log_path=log) for log in logs], settings["database_url"]


async def _run(folder: Path, store: str, count: int, kills: int, chance: random.Random) -> Json:
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        servers, url = _servers(folder, store, stack)
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        for server in servers:
            stack.push_async_callback(server.stop)
        websocket, sse = [await stack.enter_async_context(streaming()) for _ in range(2)]
        for server in servers:
            server.start()
            await server.wait_ready(120)
        api = AnyApi([one.base for one in servers], servers[0].owner_key, chance, timeout_s=20)
        stack.push_async_callback(api.close)
        await api.call("POST", "/v1/tables", _TABLE)
        workflows = {kind: await _publish(api, kind, config) for kind, config in _triggers(websocket, sse).items()}
        outside = await Outside.start(folder, stack)
        for kind, (connector, config) in outside.triggers().items():
            _, made = await api.call("POST", "/v1/connectors", {"name": kind, **connector})
            workflows[kind] = await _publish(api, kind, config, {"type": connector["type"], "id": made["id"]})
            await _until_armed(engine, workflows[kind])
        dates = Dates(await stack.enter_async_context(serving()), api, random.Random(chance.random()))
        await dates.publish()
        ticks = Ticks(api)
        await ticks.publish()
        for source in (websocket, sse):
            while not source.resumed:  # a WebSocket is open before it has said what it wants
                await asyncio.sleep(0.05)
            source.emit()  # from here on there is a cursor to go on from
        await _until(api, workflows["websocket"], 1)
        await _until(api, workflows["sse"], 1)
        killing = asyncio.create_task(_kill(servers, kills, chance))
        cuts = await asyncio.gather(
            *(_emit(source, count - 1, killing, random.Random(chance.random())) for source in (websocket, sse)),
            _write(api, count, killing),
            outside.put(count, random.Random(chance.random())),
            dates.show(range(max(1, count // 25))),
        )
        await killing
        again = await outside.broker.taken() - count
        found = {
            kind: await _judge(api, kind, workflow, count, again if kind == "mqtt" else 0)
            for kind, workflow in workflows.items()
        }
        found["calendar"] = await dates.judge()
        found["interval"] = await ticks.judge()
    failures = [failure for _, failures in found.values() for failure in failures]
    counts = {kind: counts for kind, (counts, _) in found.items()}
    cut = sum(one or 0 for one in cuts)
    seconds = round(time.monotonic() - begun, 1)
    return {"servers": len(servers), "kills": kills, "cuts": cut, **counts, "seconds": seconds, "failures": failures}


@dataclass(slots=True)
class Shop:
    """A database of somebody else, reached over a network that can be cut."""

    folder: str
    database: str
    proxy: TcpProxy

    @classmethod
    async def start(cls, stack: AsyncExitStack) -> Shop:
        """Starts it, with an empty table."""
        cluster = Cluster()
        stack.callback(cluster.end)
        url = sa.make_url(cluster.empty())
        folder = str(url.query["host"])
        proxy = TcpProxy(lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432"))
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        made = cls(folder, str(url.database), proxy)
        with made._connect() as connection:
            connection.execute("CREATE TABLE orders (n bigint PRIMARY KEY)")
        return made

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(f"host={self.folder} user=postgres dbname={self.database}")

    def trigger(self) -> tuple[Json, Json]:
        """A connector, and a config."""
        data = {"host": "127.0.0.1", "port": self.proxy.port, "database": self.database, "user": "postgres"}
        more = {"password": PASSWORD, "tls": "disable"}
        config = {"table": "orders", "keyColumn": "n", "cursorColumn": "n", "channel": "news", "pollMs": 1000}
        return {"type": "postgres", "data": {**data, **more}}, config

    async def put(self, numbers: range, chance: random.Random) -> None:
        """Rows, each by a transaction of its own; now and then those of the first half of them commit last."""
        late = numbers[: len(numbers) // 2] if chance.random() < 0.3 else range(0)
        await asyncio.to_thread(self._insert, numbers, late)
        if chance.random() < 0.05:
            await self.proxy.cut(0.2)

    def _insert(self, numbers: range, late: range) -> None:
        with self._connect() as first, self._connect() as last:  # `last` has its numbers before, and commits later
            for n in sorted(numbers, key=lambda n: n not in late):
                (last if n in late else first).execute("INSERT INTO orders VALUES (%s)", (n,))
                if n not in late:
                    first.execute("NOTIFY news")
                    first.commit()
            last.commit()


@dataclass(slots=True)
class Outside:
    """Brokers, a mailbox and a database, and what leads to them."""

    broker: Broker
    mailbox: Mailbox
    queues: Queues
    kafka: KafkaBroker
    shop: Shop
    queue_url: str = ""

    @classmethod
    async def start(cls, folder: Path, stack: AsyncExitStack) -> Outside:
        """Starts all of them, with what a trigger needs to begin."""
        made = cls(Broker(folder / "broker", "10s"), Mailbox(), Queues(), KafkaBroker(), await Shop.start(stack))
        made.mailbox.start()
        stack.callback(made.mailbox.stop)
        for one in (made.broker, made.queues, made.kafka):
            await one.start()
            stack.callback(one.stop)
        await made.mailbox.put(_mail(0))
        await made.broker.publish_nats()
        await made.kafka.make("numbers", 1)
        made.queue_url = await made.queues.queue("numbers.fifo", FifoQueue="true")
        return made

    def triggers(self) -> dict[str, tuple[Json, Json]]:
        """By kind: a connector, and a config."""
        closed = {"host": "127.0.0.1", "password": PASSWORD, "tls": "disable"}
        ours, mail = {**closed, "user": "dustrun"}, {**closed, "user": "orders", "port": self.mailbox.port}
        key = {**self.queues.key, "region": "eu-west-1"}
        hosts = [f"http://127.0.0.1:{self.queues.port}"]
        cluster = {"servers": [f"127.0.0.1:{self.kafka.port}"], "tls": "disable"}
        return {
            "mqtt": (
                {"type": "mqtt", "data": {**ours, "port": self.broker.port}},
                {"topic": "plant/+", "clientId": "soak"},
            ),
            "email-received": ({"type": "imap", "data": mail}, {"pollMs": 1000}),
            "nats": (
                {"type": "nats", "data": {**ours, "port": self.broker.nats_port}},
                {"stream": "NUMBERS", "consumer": "soak"},
            ),
            "sqs": (
                {"type": "aws", "data": key, "allowedHosts": hosts},
                {"queueUrl": self.queue_url, "visibilityS": 5},
            ),
            "kafka": ({"type": "kafka", "data": cluster}, {"topic": "numbers"}),
            "postgres-row": self.shop.trigger(),
        }

    async def put(self, count: int, chance: random.Random) -> int:
        """Messages come everywhere, some at once."""
        n = 0
        while n < count:
            some = range(n + 1, min(count, n + chance.randint(1, 8)) + 1)
            await asyncio.gather(
                self.broker.publish(*some),
                self.mailbox.put(*map(_mail, some)),
                self.broker.publish_nats(*some),
                self.queues.publish(self.queue_url, *some),
                self.kafka.publish("numbers", *some),
                self.shop.put(some, chance),
            )
            n = some[-1]
            await asyncio.sleep(chance.uniform(0.0, 0.5))
        return 0


def _mail(n: int) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = str(n)
    message.set_content("hello")
    return message


async def _until_armed(engine: sa.Engine, workflow_id: str) -> None:
    """Waits until the trigger has connected for the first time: what comes before that does not count."""
    query = sa.text("SELECT cursor FROM subscriptions WHERE workflow_id = :id")
    while True:
        with engine.connect() as connection:
            if connection.execute(query, {"id": workflow_id}).scalar_one() is not None:
                return
        await asyncio.sleep(0.05)


async def _publish(api: Api, kind: str, config: Json, connector: Json | None = None) -> str:
    say = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
    more = {} if connector is None else {"connector": connector}
    nodes = {"root": {"type": kind, "payload": config, "children": ["say"], **more}, "say": say}
    _, made = await api.call("POST", "/v1/workflows", {"name": kind, "description": "", "definition": {"nodes": nodes}})
    await api.call("POST", f"/v1/workflows/{made['id']}/publish", {}, accepts=(409_006,))
    return str(made["id"])


async def _emit(source: Source, count: int, killing: asyncio.Task[None], chance: random.Random) -> int:
    """Emits in bursts until all is emitted and nobody is killed any more; returns how often it cut connections."""
    cuts, left = 0, count
    while left or not killing.done():
        burst = min(left, chance.randint(0, 12))
        source.emit(burst)
        left -= burst
        if chance.random() < 0.05:
            source.cut()
            cuts += 1
        await asyncio.sleep(chance.uniform(0.0, 0.2))
    return cuts


async def _write(api: Api, count: int, killing: asyncio.Task[None]) -> int:
    """Writes rows in order; a call of unknown outcome is made again, and changes nothing if it was done."""
    for n in range(1, count + 1):
        await api.call("POST", "/v1/tables/orders/rows", {"rows": [{"n": n}], "mode": "upsert"})
        if not killing.done():
            await asyncio.sleep(0.01)
    return 0


async def _events(api: Api, workflow_id: str) -> list[Json]:
    found: list[Json] = []
    while True:
        path = f"/v1/workflows/{workflow_id}/trigger-events?limit=100&offset={len(found)}"
        _, page = await api.call("GET", path)
        found += page["items"]
        if not page["hasMore"]:
            return found[::-1]


async def _until(api: Api, workflow_id: str, count: int) -> list[Json]:
    until, found = time.monotonic() + _LONGEST_S, list[Json]()
    while len(found) < count and time.monotonic() < until:
        await asyncio.sleep(0.5)
        found = await _events(api, workflow_id)
    return found


async def _judge(api: Api, kind: str, workflow_id: str, count: int, again: int) -> tuple[Json, list[str]]:
    """`again`: how many messages their sender has sent twice, since its connection broke."""
    await _until(api, workflow_id, count)
    await asyncio.sleep(2)  # whatever would come twice
    events = await _events(api, workflow_id)
    numbers = [_number(kind, one["body"]) for one in events]
    if kind in ("mqtt", "nats", "sqs", "postgres-row"):
        numbers.sort()
    _, runs = await api.call("GET", f"/v1/workflows/{workflow_id}/runs/count")
    _, gaps = await api.call("GET", f"/v1/workflows/{workflow_id}/trigger-gaps")
    wanted, failures = list(range(1, count + 1)), []
    if lost := sorted(set(wanted) - set(numbers)):
        failures.append(f"{kind}: lost {lost[:5]} ({len(lost)})")
    if (twice := len(numbers) - len(set(numbers))) != again:
        bodies = [one["body"] for one in events if numbers.count(_number(kind, one["body"])) > 1]
        failures.append(f"{kind}: {twice} came twice, and {again} were sent twice: {bodies[:4]}")
    if not failures and sorted(set(numbers)) == wanted and numbers != sorted(numbers):
        failures.append(f"{kind}: not in order")
    if runs["total"] != len({one["runId"] for one in events if one["runId"]}) or runs["total"] != len(events):
        failures.append(f"{kind}: {len(events)} events and {runs['total']} runs do not match one to one")
    if gaps["items"]:
        failures.append(f"{kind}: {len(gaps['items'])} gaps, though its source keeps everything")
    more = {"sentTwice": again} if again else {}
    return {"messages": count, **more, "events": len(events), "runs": runs["total"]}, failures


def _number(kind: str, body: Json) -> int:
    if kind == "email-received":
        return int(body["mail"]["subject"])
    if kind == "postgres-row":
        return int(body["row"]["n"])
    return int(body["key"] if kind == "table-row" else body["message"]["n"])


async def _kill(servers: list[ServerProcess], kills: int, chance: random.Random) -> None:
    """Half of the kills come while a server starts."""
    for _ in range(kills):
        server = chance.choice(servers)
        if chance.random() < 0.5:
            await asyncio.sleep(chance.uniform(0.3, 3.0))
        else:
            await server.wait_ready(120)
            await asyncio.sleep(chance.uniform(0.0, 2.5))
        server.kill()
        server.start()
    for server in servers:
        await server.wait_ready(120)
