"""Rows of a PostgreSQL database start runs: each value once, in order, also of transactions that commit late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from dustrun.storage.db.trigger_tables import subscriptions, trigger_events
from testkit.composition import Composition, composed
from testkit.postgres import Cluster
from testkit.tcp_proxy import TcpProxy

SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
ORDERS = """
CREATE TABLE orders (id bigint PRIMARY KEY, status text, changed timestamptz NOT NULL DEFAULT clock_timestamp());
INSERT INTO orders VALUES (1, 'before')
"""
CONFIG: dict[str, Any] = {"table": "orders", "cursorColumn": "changed", "channel": "news"}


@dataclass(slots=True)
class Shop:
    """A database of somebody else, reached over a network that can be cut."""

    url: str
    proxy: TcpProxy

    def say(self, statement: str) -> None:
        """Executes a statement, and tells those who listen."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)
            connection.execute("NOTIFY news")


@pytest.fixture
async def shop(cluster: Cluster) -> AsyncIterator[Shop]:
    url = sa.make_url(cluster.empty())
    folder = str(url.query["host"])
    proxy = TcpProxy(lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432"))
    await proxy.start()
    shop = Shop(f"host={folder} user=postgres dbname={url.database}", proxy)
    shop.say(ORDERS)
    yield shop
    await proxy.stop()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Composition]:
    async with composed(tmp_path, outbound_allow=["127.0.0.1"]) as server:
        yield server


async def connector(server: Composition, shop: Shop, **more: Any) -> str:
    database = shop.url.rpartition("=")[2]
    data = {"host": "127.0.0.1", "port": shop.proxy.port, "database": database, "user": "postgres", "tls": "disable"}
    body = {"type": "postgres", "name": "shop", "data": {**data, "password": "pw_0123456789", **more}}
    made = await server.owner.post("/v1/connectors", body)
    assert made.status == 200, made.body
    return str(made.data["id"])


async def publish(server: Composition, connector_id: str, **config: Any) -> str:
    reference = {"type": "postgres", "id": connector_id}
    root = {"type": "postgres-row", "connector": reference, "payload": {**CONFIG, **config}, "children": ["say"]}
    made = await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}})
    published = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert published.status == 200, published.body
    return str(made["id"])


async def state(server: Composition) -> tuple[str | None, str | None]:
    ((cursor, error),) = await server.rows(sa.select(subscriptions.c.cursor, subscriptions.c.last_error))
    return cursor, error


async def until_open(server: Composition) -> None:
    async with asyncio.timeout(60):
        while (found := await state(server))[0] is None or found[1] is not None:
            await asyncio.sleep(0.02)


async def seen(server: Composition, count: int) -> list[tuple[int, str]]:
    t = trigger_events.c
    async with asyncio.timeout(60):
        while len(found := await server.rows(sa.select(t.payload).order_by(t.pk))) < count:
            await asyncio.sleep(0.02)
    rows = [json.loads(payload)["row"] for (payload,) in found]
    return [(row["id"], row["status"]) for row in rows]


async def test_added_and_changed_rows_start_runs_in_order_over_a_broken_network(
    server: Composition, shop: Shop
) -> None:
    await publish(server, await connector(server, shop), condition='row.status != "draft"')
    await until_open(server)
    later = "clock_timestamp() + n * interval '1 microsecond'"  # no two at one time, between which no order is promised
    shop.say(f"INSERT INTO orders SELECT n, 'new', {later} FROM generate_series(2, 120) AS n")
    assert await seen(server, 119) == [(n, "new") for n in range(2, 121)]
    await shop.proxy.cut(0.1)
    shop.say("UPDATE orders SET status = 'paid', changed = clock_timestamp() WHERE id IN (5, 7)")
    shop.say("UPDATE orders SET status = 'draft', changed = clock_timestamp() WHERE id = 8")
    shop.say("UPDATE orders SET changed = clock_timestamp() WHERE id = 9")
    assert sorted((await seen(server, 122))[119:121]) == [(5, "paid"), (7, "paid")]
    assert (await seen(server, 122))[121:] == [(9, "new")]


async def test_a_row_that_is_committed_late_is_found_and_told_once(server: Composition, shop: Shop) -> None:
    await publish(server, await connector(server, shop), cursorColumn="id", channel=None, pollMs=100)
    await until_open(server)
    with psycopg.connect(shop.url) as late:
        late.execute("INSERT INTO orders VALUES (2, 'late')")
        shop.say("INSERT INTO orders VALUES (3, 'early')")
        assert await seen(server, 1) == [(3, "early")]
    assert await seen(server, 2) == [(3, "early"), (2, "late")]
    shop.say("INSERT INTO orders VALUES (4, 'next')")
    await shop.proxy.cut(0.05)
    assert await seen(server, 3) == [(3, "early"), (2, "late"), (4, "next")]
    shop.say("INSERT INTO orders VALUES (5, 'last')")
    assert [one for one, _ in await seen(server, 4)] == [3, 2, 4, 5]


async def test_what_is_wrong_is_said_without_the_password(server: Composition, shop: Shop) -> None:
    await publish(server, await connector(server, shop), cursorColumn="status")

    async def says(text: str) -> None:
        async with asyncio.timeout(60):
            while text not in ((await state(server))[1] or ""):
                await asyncio.sleep(0.02)

    await says('The column "status" is text')
    assert "pw_0123456789" not in ((await state(server))[1] or "")


async def test_a_database_that_the_guard_forbids_is_not_reached(tmp_path: Path, shop: Shop) -> None:
    async with composed(tmp_path) as server:
        await publish(server, await connector(server, shop))
        async with asyncio.timeout(60):
            while "outbound_allow" not in ((await state(server))[1] or ""):
                await asyncio.sleep(0.02)
