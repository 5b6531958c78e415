"""Streamed triggers in a whole server: each message once and in order, over broken connections, restarts and floods."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from dustrun.core.triggers.event import CursorMove
from dustrun.sdk import PolledEvent
from dustrun.sdk.context import NoConnection
from dustrun.sdk.trigger import Received
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events, trigger_gaps
from dustrun.trigger_host import streams
from dustrun.trigger_host.streams import Streams
from testkit.composition import Composition, composed
from testkit.streaming import Source, streaming

OPEN = {"outbound_allow": ["127.0.0.1"]}
SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
SUBSCRIBE: dict[str, Any] = {"subscribe": [{"op": "subscribe"}], "filter": 'message.type == "tick"'}
RESUME = {**SUBSCRIBE, "cursor": "message.n ?? null", "resume": '{"op": "subscribe", "since": cursor}'}


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    async with streaming() as source:
        yield source


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, **OPEN) as server:
        yield server


def config_of(kind: str, source: Source, **config: Any) -> dict[str, Any]:
    if kind == "sse":
        return {"url": f"{source.url}/sse", **config}
    return {"url": f"{source.url}/ws".replace("http", "ws", 1), **RESUME, **config}


async def publish(server: Composition, kind: str, config: dict[str, Any], connector: str | None = None) -> str:
    root: dict[str, Any] = {"type": kind, "payload": config, "children": ["say"]}
    if connector is not None:
        root["connector"] = {"type": "http-bearer", "id": connector}
    made = await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}})
    published = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert published.status == 200, published.body
    return str(made["id"])


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while True:
            found = holds()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


async def state_of(server: Composition) -> dict[str, Any]:
    names = ("cursor", "failures", "last_error", "state")
    (row,) = await server.rows(sa.select(*(subscriptions.c[name] for name in names)))
    return dict(zip(names, row, strict=True))


async def is_open(server: Composition) -> bool:
    found = await state_of(server)
    return found["cursor"] is not None and found["failures"] == 0


async def numbers(server: Composition) -> list[int]:
    found = await server.rows(sa.select(trigger_events.c.payload).order_by(trigger_events.c.pk))
    return [json.loads(payload)["message"]["n"] for (payload,) in found]


async def seen(server: Composition, count: int) -> list[int]:
    async def holds() -> bool:
        return len(await numbers(server)) >= count

    await until(holds)
    return await numbers(server)


async def gaps(server: Composition) -> list[tuple[str, dict[str, Any]]]:
    found = await server.rows(sa.select(trigger_gaps.c.state, trigger_gaps.c.range).order_by(trigger_gaps.c.pk))
    return [(state, json.loads(text)) for state, text in found]


@pytest.mark.both_stores
@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_each_message_starts_one_run_over_broken_connections_and_restarts(
    tmp_path: Path, store_url: str, source: Source, kind: str
) -> None:
    source.emit(3)
    async with composed(tmp_path, database_url=store_url, **OPEN) as server:
        await publish(server, kind, config_of(kind, source))
        await until(lambda: is_open(server))
        source.emit(40)
        await seen(server, 5)
        source.cut()
        source.emit(20)
        assert await seen(server, 60) == list(range(4, 64))
        assert source.connections == 1
    assert source.connections == 0
    source.emit(10)
    async with composed(tmp_path, database_url=store_url, **OPEN) as server:
        assert await seen(server, 70) == list(range(4, 74))
        assert await gaps(server) == []
        assert (await state_of(server))["failures"] == 0


@pytest.mark.both_stores
async def test_two_that_listen_at_once_start_one_run_a_message(server: Composition, source: Source) -> None:
    workflow_id = await publish(server, "sse", config_of("sse", source))
    await until(lambda: is_open(server))
    source.emit()
    await seen(server, 1)  # from here on there is an id to go on from
    parts = server.parts.triggers
    (sub,) = await parts.subscriptions.list_of(workflow_id)
    other = Streams(parts.intake, parts.subscriptions, parts.contexts)
    await other.arm(sub)
    try:
        await until(lambda: source.connections == 2)
        for _ in range(29):
            source.emit()
            await asyncio.sleep(0.01)
        assert await seen(server, 30) == list(range(1, 31))
    finally:
        await other.stop()
    assert await numbers(server) == list(range(1, 31))
    assert await gaps(server) == []


async def test_what_cannot_be_had_again_is_a_gap(server: Composition, source: Source) -> None:
    source.numbers = False
    await publish(server, "sse", config_of("sse", source, events=["even"]))
    await until(lambda: is_open(server))
    source.emit(4)
    assert await seen(server, 2) == [2, 4]
    source.cut()
    await until(lambda: source.connections == 0)
    source.emit(2)
    await until(lambda: source.connections == 1)

    async def told() -> bool:
        return len(await gaps(server)) == 1

    await until(told)
    source.emit(2)
    assert await seen(server, 3) == [2, 4, 8]
    ((state, range_),) = await gaps(server)
    assert (state, range_["from"] < range_["to"]) == ("lost", True)


async def test_a_number_that_is_left_out_is_a_gap(server: Composition, source: Source) -> None:
    source.leaves_out = frozenset({3, 4})
    await publish(server, "websocket", config_of("websocket", source, contiguous=True))
    await until(lambda: is_open(server))
    source.emit(6)
    assert await seen(server, 4) == [1, 2, 5, 6]
    assert await gaps(server) == [("lost", {"fromCursor": 3, "toCursor": 4})]


@pytest.mark.both_stores
async def test_what_is_on_record_under_its_former_key_starts_no_second_run(server: Composition, source: Source) -> None:
    workflow_id = await publish(server, "websocket", config_of("websocket", source))
    parts = server.parts.triggers

    async def take(key: str, message: int, formerly: str | None = None) -> bool:
        (sub,) = await parts.subscriptions.list_of(workflow_id)
        event = PolledEvent(key, {"message": message}, 1, formerly=formerly)
        fired = await parts.intake.take(sub, event, CursorMove(sub.row.cursor_version, sub.cursor))
        assert fired is not None
        return fired.is_duplicate

    await until(lambda: is_open(server))
    assert not await take("cursor:1", 7)
    assert await take("cursor:1:a", 7, "cursor:1")
    assert not await take("cursor:1:b", 8, "cursor:1"), "the same number, another message"
    assert not await take("cursor:2:a", 7, "cursor:2")
    await server.execute(sa.update(trigger_events).values(payload="null"))
    assert await take("cursor:1:c", 9, "cursor:1"), "what it said is not kept any more"


async def test_a_message_that_cannot_be_read_is_told_and_not_asked_for_again(
    server: Composition, source: Source
) -> None:
    await publish(server, "websocket", config_of("websocket", source))
    await until(lambda: is_open(server))
    source.emit()
    assert await seen(server, 1) == [1]
    source.padding = 5 << 20
    source.emit()

    async def told() -> bool:
        return len(await gaps(server)) == 1

    await until(told)
    source.padding = 0
    source.emit()
    assert await seen(server, 2) == [1, 3]
    assert source.resumed == [None, None], "from 1 on it would come again"
    source.cut()
    source.emit()
    assert await seen(server, 3) == [1, 3, 4]
    assert len(await gaps(server)) == 1


async def test_a_source_that_fails_is_told_and_tried_again(server: Composition, source: Source) -> None:
    source.status = 503
    await publish(server, "sse", config_of("sse", source))

    async def failed() -> bool:
        return bool((await state_of(server))["last_error"] == "The source answers with status 503.")

    await until(failed)
    source.status = 200
    await until(lambda: is_open(server))
    source.emit()
    assert await seen(server, 1) == [1]


async def test_a_source_that_opens_and_ends_at_once_is_tried_ever_later(server: Composition, source: Source) -> None:
    """Until a connection brings something."""
    workflow = await publish(server, "sse", config_of("sse", source))
    await until(lambda: is_open(server))
    parts = server.parts.triggers
    await server.trigger_host.stop()
    streams = Streams(parts.intake, parts.subscriptions, parts.contexts)
    source.ends = True
    waits = []
    for _ in range(4):
        (sub,) = await parts.subscriptions.list_of(workflow)
        waits.append(await streams.listen(sub))
    assert waits == [500, 1000, 2000, 4000]
    source.ends = False
    (sub,) = await parts.subscriptions.list_of(workflow)
    listening = asyncio.create_task(streams.listen(sub))
    await until(lambda: source.connections == 1)
    source.emit()
    assert await seen(server, 1) == [1]
    source.cut()
    assert await listening == 500


async def test_a_flood_is_held_back_and_taken_in_order(server: Composition, source: Source) -> None:
    await publish(server, "websocket", config_of("websocket", source, filter="(message.n ?? 0) % 500 == 1"))
    await until(lambda: is_open(server))
    source.emit(3000)
    assert await seen(server, 6) == [1, 501, 1001, 1501, 2001, 2501]


async def test_a_pause_closes_the_connection_and_a_resume_begins_then(server: Composition, source: Source) -> None:
    workflow_id = await publish(server, "sse", config_of("sse", source))
    await until(lambda: is_open(server))
    source.emit()
    await seen(server, 1)
    await server.owner.post(f"/v1/workflows/{workflow_id}/pause")
    await until(lambda: source.connections == 0)
    source.emit()
    await server.owner.post(f"/v1/workflows/{workflow_id}/resume")
    await until(lambda: source.connections == 1)
    source.emit()
    assert await seen(server, 2) == [1, 3]
    assert await gaps(server) == []


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_connector_opens_it_and_its_secret_is_never_shown(
    server: Composition, source: Source, kind: str
) -> None:
    source.needs = "Bearer secret-token-1"
    body = {
        "type": "http-bearer",
        "name": "s",
        "data": {"token": "secret-token-0"},
        "allowedHosts": [f"http://127.0.0.1:{source.url.rpartition(':')[2]}"],
    }
    made = (await server.owner.post("/v1/connectors", body)).data
    await publish(server, kind, config_of(kind, source), made["id"])

    async def refused() -> bool:
        return "401" in ((await state_of(server))["last_error"] or "")

    await until(refused)
    changed = await server.owner.put(f"/v1/connectors/{made['id']}", {"data": {"token": "secret-token-1"}})
    assert changed.status == 200, changed.body
    await until(lambda: is_open(server))
    source.emit()
    assert await seen(server, 1) == [1]


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_it_goes_nowhere_that_the_guard_forbids(
    tmp_path: Path, store_url: str, source: Source, kind: str
) -> None:
    port = source.url.rpartition(":")[2]
    allowed = {"outbound_allow": [f"127.0.0.1:{port}"]}
    async with streaming() as hidden, composed(tmp_path, database_url=store_url, **allowed) as server:
        source.leads_to = f"{hidden.url}/{'sse' if kind == 'sse' else 'ws'}"
        await publish(server, kind, config_of(kind, source))

        async def refused() -> bool:
            return "307" in ((await state_of(server))["last_error"] or "")

        await until(refused)
        assert (hidden.resumed, hidden.heard, hidden.connections) == ([], [], 0)
        root = {"type": kind, "payload": config_of(kind, hidden), "children": ["say"]}
        made = await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}})
        answer = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
        assert [one["field"] for one in answer.body["details"]] == ["nodes.root.payload.url"]


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_test_listens_for_a_moment(server: Composition, source: Source, kind: str) -> None:
    async def emit() -> None:
        await until(lambda: bool(source.resumed))  # a WebSocket is open before it has said what it wants
        source.emit()

    soon = asyncio.create_task(emit())
    tested = (await server.owner.post(f"/v1/triggers/{kind}/test", {"config": config_of(kind, source)})).data
    await soon
    assert (tested["origin"], tested["event"]["message"]["n"]) == ("recent", 1)
    await until(lambda: source.connections == 0)


async def test_a_source_that_does_not_open_gives_its_turn_to_others() -> None:
    never = asyncio.Event()

    async def silent() -> AsyncIterator[Received]:
        try:
            await never.wait()
            yield Received((), None)
        finally:
            await never.wait()  # nor does it end

    async with asyncio.timeout(30):
        with pytest.raises(NoConnection, match="No connection was made within"):
            await streams._in_time(silent(), 0.05, 0.05)

    async def late() -> AsyncIterator[Received]:
        raise TimeoutError("its own")
        yield

    with pytest.raises(TimeoutError, match="its own"):
        await streams._in_time(late())


async def test_a_connection_whose_closing_hangs_is_left() -> None:
    never = asyncio.Event()

    async def hangs(cancelled: int) -> None:
        for _ in range(cancelled):
            with contextlib.suppress(asyncio.CancelledError):
                await never.wait()

    async def source() -> AsyncIterator[Received]:
        try:
            yield Received((), None)
        finally:
            await never.wait()

    class Gone:
        async def find(self, _: str) -> None:
            return None

    gone = cast(Any, Gone())
    listening = Streams(gone, gone, gone, 0.05)
    async with asyncio.timeout(30):
        for cancelled in (1, 2, 9):  # it ends, ends when it is cancelled again, does not end
            task = listening._tasks["sub"] = asyncio.create_task(hangs(cancelled))
            await asyncio.sleep(0)
            await listening.disarm("sub")
            assert (len(listening), task.done()) == (0, cancelled < 9)
            await listening._keep("sub", task)  # who comes after it
        opened = source()
        await anext(opened)
        await streams._close(opened, 0.05)  # after the source has closed the connection
        never.set()
        await asyncio.gather(task)
