"""Messages of a server that speaks SQS start one run each, and are deleted after that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.trigger_tables import subscriptions, trigger_events
from testkit.brokers import Queues
from testkit.composition import Composition, composed
from testkit.tcp_proxy import TcpProxy
from trigger_host.test_happened import SAY, until

SETTINGS = {"outbound_allow": ["127.0.0.1"]}


class LossyProxy(TcpProxy):
    """Breaks connections that carry a word, as long as there is one."""

    word: bytes | None = None
    broken = 0

    def pass_on(self, chunk: bytes, *, is_from_client: bool) -> bytes | None:
        if self.word is not None and self.word in chunk:
            self.broken += 1
            return None
        return chunk


@pytest.fixture(scope="module")
def queues() -> Iterator[Queues]:
    queues = Queues()
    asyncio.run(queues.start())
    yield queues
    queues.stop()


async def publish(server: Composition, queues: Queues, queue_url: str, secret: str | None = None, **config: Any) -> str:
    key = {**queues.key, **({} if secret is None else {"secretAccessKey": secret}), "region": "eu-west-1"}
    host = "http://" + queue_url.split("/")[2]
    connector = {"type": "aws", "name": "q", "data": key, "allowedHosts": [host]}
    made = await server.owner.post("/v1/connectors", connector)
    assert made.status == 200, made.body
    root = {
        "type": "sqs",
        "connector": {"type": "aws", "id": made.data["id"]},
        "payload": {"queueUrl": queue_url, "visibilityS": 5, **config},
        "children": ["say"],
    }
    workflow = (await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}}))["id"]
    published = await server.owner.post(f"/v1/workflows/{workflow}/publish")
    assert published.status == 200, published.body
    return str(workflow)


async def seen(server: Composition, count: int) -> list[dict[str, Any]]:
    t = trigger_events.c

    async def holds() -> bool:
        return len(await server.rows(sa.select(t.pk))) >= count

    await until(holds)
    return [json.loads(row[0]) for row in await server.rows(sa.select(t.payload).order_by(t.pk))]


async def emptied(queues: Queues, queue_url: str) -> None:
    async def holds() -> bool:
        return await queues.left(queue_url) == 0

    await until(holds)


async def test_messages_start_runs_and_are_deleted(tmp_path: Path, queues: Queues) -> None:
    url = await queues.queue("orders")
    about = {"source": {"DataType": "String", "StringValue": "shop"}, "n": {"DataType": "Number", "StringValue": "7"}}
    await queues.publish(url, 1, MessageAttributes=about)
    async with composed(tmp_path, **SETTINGS) as server:
        await publish(server, queues, url)
        await queues.publish(url, *range(2, 26))
        found = await seen(server, 25)
        assert sorted(one["message"]["n"] for one in found) == list(range(1, 26))
        assert found[0]["attributes"] == {"source": "shop", "n": "7"}
        assert (found[0]["deliveries"], found[0]["groupId"]) == (1, None)
        await emptied(queues, url)


async def test_a_message_that_could_not_be_deleted_starts_no_second_run(tmp_path: Path, queues: Queues) -> None:
    url = await queues.queue("lossy.fifo", FifoQueue="true")
    proxy = LossyProxy(lambda: asyncio.open_connection("127.0.0.1", queues.port))
    await proxy.start()
    proxy.word = b"DeleteMessageBatch"
    async with composed(tmp_path, **SETTINGS) as server:
        await queues.publish(url, 1, 2, MessageGroupId="a", MessageDeduplicationId="x-1")  # the second is a duplicate
        await publish(server, queues, url.replace(f":{queues.port}/", f":{proxy.port}/"))
        first = await seen(server, 1)
        await until(lambda: _is(proxy.broken >= 1))
        proxy.word = None
        await emptied(queues, url)  # it came again, and was deleted then
        assert (await seen(server, 1)) == first
        assert (first[0]["message"], first[0]["groupId"], first[0]["deduplicationId"]) == ({"n": 1}, "a", "x-1")
        ((failures,),) = await server.rows(sa.select(subscriptions.c.failures))
        assert failures == 0
    await proxy.stop()


async def _is(holds: bool) -> bool:
    return holds


async def test_keys_filters_and_sizes(tmp_path: Path, queues: Queues) -> None:
    url = await queues.queue("keyed")
    async with composed(tmp_path, **SETTINGS) as server:
        await publish(server, queues, url, key="message.n", filter="message.n != 2", maxBytes=1024)
        large = {"Id": "l", "MessageBody": json.dumps({"n": 3, "text": "x" * 2000})}
        await queues.call("SendMessageBatch", {"QueueUrl": url, "Entries": [large]})
        for numbers in ((1, 2), (1,), (4,)):
            await queues.publish(url, *numbers)
        await emptied(queues, url)
        found = await seen(server, 3)
        assert sorted(str(one["message"]) for one in found) == ["None", "{'n': 1}", "{'n': 4}"]


async def test_a_wrong_secret_and_a_missing_queue_are_told(tmp_path: Path, queues: Queues) -> None:
    async with composed(tmp_path, **SETTINGS) as server:

        async def told(workflow: str) -> str:
            query = sa.select(subscriptions.c.last_error).where(subscriptions.c.workflow_id == workflow)
            ((found,),) = await server.rows(query)
            return str(found)

        wrong = await publish(server, queues, await queues.queue("closed"), "secret-9876543210")
        missing = await publish(server, queues, f"http://127.0.0.1:{queues.port}/123456789012/nowhere")

        async def holds() -> bool:
            return "403" in await told(wrong) and "QueueDoesNotExist" in await told(missing)

        await until(holds)
        assert "secret-9876543210" not in await told(wrong)

        async def fails() -> bool:
            found = await server.owner.get("/v1/connectors")
            return [one["failingSince"] is not None for one in found.data["items"]] == [False, True]

        await until(fails)
