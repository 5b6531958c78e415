"""Hooks are told of what happens: everything, once it arrives only once, in the order of each run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from aiohttp import web

from dustrun.services.attention import DiskWatch
from dustrun.storage.db.tables import hook_deliveries
from testkit.composition import composed
from testkit.receiver import Received, Receiver

from .conftest import FAST, World

SAY = {"type": "log", "payload": {"message": "hello"}}
FAIL = {"type": "stop", "payload": {"status": "failure", "message": "no funds"}}
WAIT = {"type": "wait", "payload": {"timeoutMs": 3_600_000}}


async def test_a_run_is_told_from_start_to_end(world: World) -> None:
    hook = await world.hook("run.*", "node.*")
    run = await world.run(await world.flow(say=SAY, end=FAIL))
    got = await world.receiver.until(6)
    assert [one.type for one in got] == [
        *("run.started", "node.started", "node.succeeded"),
        *("node.started", "node.succeeded", "run.failed"),
    ]
    assert all(one.message is not None for one in got)
    last = got[-1].data
    assert last["runId"] == run
    assert last["status"] == "failure"
    assert last["links"]["run"].endswith(f"/v1/runs/{run}")
    assert "result" not in got[2].data
    log = [await world.ended(one["id"]) for one in await world.deliveries(f"&endpointId={hook['id']}&runId={run}")]
    assert [entry["status"] for entry in log] == ["success"] * 6
    assert log[0]["responseBody"] == "thanks"
    assert log[0]["retryCount"] == 0


async def test_only_subscribed_types_workflows_and_modes_are_told(world: World) -> None:
    watched, other = await world.flow(say=SAY), await world.flow(end=FAIL, more=SAY)
    await world.hook("run.succeeded", workflowIds=[watched])
    await world.run(other)
    await world.run(watched, simulate=True)
    told = await world.run(watched)
    got = await world.receiver.until(1)
    await world.hook("run.failed", modes=["simulate"])
    failed = await world.run(other, simulate=True)
    got = await world.receiver.until(2)
    assert [(one.type, one.data["runId"]) for one in got] == [("run.succeeded", told), ("run.failed", failed)]
    assert got[1].data["mode"] == "simulate"
    assert got[1].data["error"]["message"] == "no funds"


@pytest.mark.both_stores
async def test_a_failing_receiver_gets_everything_later_and_in_order(world: World) -> None:
    refused: list[str] = []

    def answer(one: Received) -> web.StreamResponse:
        key = one.headers["webhook-id"]
        refused.append(key)
        return web.Response(status=500, text="down") if refused.count(key) == 1 else web.Response(status=204)

    world.receiver.answer = answer
    await world.hook("run.*", "node.*")
    flow = await world.flow(say=SAY)
    runs = [await world.run(flow) for _ in range(3)]
    got = await world.receiver.until(12)
    for run in runs:
        mine = [one.type for one in got if one.data["runId"] == run]
        assert mine == ["run.started", "node.started", "node.succeeded", "run.succeeded"]
    entry = await world.ended((await world.deliveries())[0]["id"])
    assert (entry["status"], entry["retryCount"]) == ("success", 1)
    assert [(a["status"], a.get("error")) for a in entry["attempts"]] == [
        (500, "The receiver answered 500."),
        (204, None),
    ]


async def test_a_delivery_is_given_up_and_the_next_of_its_run_follows(world: World) -> None:
    world.receiver.answer = lambda one: web.Response(status=500 if one.type == "run.started" else 200)
    await world.hook("run.*", maxRetries=1)
    await world.run(await world.flow(say=SAY))
    await world.receiver.until(1)
    log = [await world.ended(entry["id"]) for entry in await world.deliveries()]
    assert [(entry["eventType"], entry["status"], entry["retryCount"]) for entry in log] == [
        ("run.started", "failure", 1),
        ("run.succeeded", "success", 0),
    ]
    world.receiver.answer = lambda _: web.Response()
    retried = (await world.api.post(f"/v1/hook-deliveries/{log[0]['id']}/retry")).data
    assert retried["status"] == "retrying"
    got = await world.receiver.until(2)
    assert got[-1].headers["webhook-id"] == log[0]["id"]
    await world.ended(log[0]["id"])
    again = await world.api.post(f"/v1/hook-deliveries/{log[1]['id']}/retry")
    assert again.status == 409
    replayed = (await world.api.post(f"/v1/hook-deliveries/{log[1]['id']}/replay")).data
    got = await world.receiver.until(3)
    assert got[-1].headers["webhook-id"] == replayed["id"] != log[1]["id"]
    assert got[-1].raw == got[0].raw
    assert replayed["replayOf"] == log[1]["id"]


async def test_a_slow_receiver_holds_up_neither_runs_nor_other_hooks(world: World, receiver: Receiver) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    slow = await asyncio.start_server(never, "127.0.0.1", 0)
    port = slow.sockets[0].getsockname()[1]
    await world.hook("*", url=f"http://127.0.0.1:{port}/")
    await world.hook("run.*")
    flow = await world.flow(say=SAY)
    for _ in range(20):
        await world.run(flow)
    got = await receiver.until(40)
    assert len(got) == 40
    assert receiver.most_inside <= 4
    slow.close()


@pytest.mark.both_stores
async def test_a_restart_goes_on_where_it_stopped(tmp_path: Path, store_url: str, receiver: Receiver) -> None:
    settings = {"outbound_allow": "127.0.0.1", "hook_retry_s": FAST, "database_url": store_url}
    receiver.answer = lambda _: web.Response(status=503)
    async with composed(tmp_path, **settings) as server:
        world = World(server, receiver)
        await world.hook("run.*", "node.*")
        run = await world.run(await world.flow(say=SAY, hold=WAIT))
        async with asyncio.timeout(60):
            while not receiver.got:
                await asyncio.sleep(0.01)
    receiver.answer = lambda _: web.Response()
    async with composed(tmp_path, **settings) as server:
        await receiver.until(5)
        await server.owner.post(f"/v1/runs/{run}/cancel")
        await receiver.until(9)
    assert receiver.types()[0] == "run.started"
    assert receiver.types()[-1] == "run.cancelled"
    ids = [one.headers["webhook-id"] for one in receiver.taken]
    assert len(set(ids)) == len(ids)


async def test_a_run_that_was_under_way_joins_at_its_next_activity(world: World) -> None:
    run = await world.run(await world.flow(hold=WAIT))
    async with asyncio.timeout(60):
        while (await world.api.get(f"/v1/runs/{run}")).data["status"] != "waiting":
            await asyncio.sleep(0.01)
    await world.hook("*")
    await world.api.post(f"/v1/runs/{run}/cancel")
    got = await world.receiver.until(3)
    assert [one.type for one in got] == ["run.resumed", "node.cancelled", "run.cancelled"]


async def test_a_paused_workflow_is_told(world: World) -> None:
    flow = await world.flow(say=SAY)
    await world.api.post(f"/v1/workflows/{flow}/publish")
    await world.hook("workflow.*")
    await world.api.post(f"/v1/workflows/{flow}/pause")
    got = await world.receiver.until(1)
    assert (got[0].type, got[0].data["workflowId"]) == ("workflow.paused", flow)


async def test_a_hook_that_fails_for_days_is_disabled_and_others_are_told(
    tmp_path: Path, store_url: str, receiver: Receiver
) -> None:
    settings = {"outbound_allow": "127.0.0.1", "hook_retry_s": FAST, "hook_disable_days": 1e-6}
    receiver.answer = lambda one: web.Response(status=500 if one.path == "/bad" else 200)
    async with composed(tmp_path, database_url=store_url, **settings) as server:
        world = World(server, receiver)
        bad = await world.hook("run.*", url=f"{receiver.url}/bad")
        await world.hook("hook.*", url=f"{receiver.url}/good")
        await world.run(await world.flow(say=SAY))
        got = await receiver.until(1)
        assert got[0].data["hookId"] == bad["id"]
        shown = (await world.api.get(f"/v1/hooks/{bad['id']}")).data
        assert shown["status"] == "disabled"
        assert "The receiver answered 500." in shown["disabledReason"]
        receiver.answer = lambda _: web.Response()
        await world.api.post(f"/v1/hooks/{bad['id']}/enable")
        await receiver.until(3)
    assert [one.type for one in receiver.taken[1:]] == ["run.started", "run.succeeded"]


async def test_a_disk_that_becomes_low_and_is_not_any_more_is_told_once_to_who_operates_the_server(
    world: World, tmp_path: Path
) -> None:
    await world.hook("server.*")
    other = await world.server.other_owner()
    url = f"{world.receiver.url}/other"
    assert (await other.post("/v1/hooks", {"name": "o", "url": url, "subscribedEventTypes": ["*"]})).status == 200
    watch = DiskWatch(world.server.parts.writer, tmp_path, low_bytes=1 << 62)
    await watch.look()
    await watch.look()
    await world.receiver.until(1)  # what is delivered at once may overtake
    watch.low_bytes = 0
    await watch.look()
    got = await world.receiver.until(2)
    assert [one.type for one in got] == ["server.disk-low", "server.disk-recovered"]
    assert got[0].data["message"].endswith("a full disk stops every run.")
    assert got[0].data["name"]
    assert [one.path for one in got] == ["/", "/"]


async def test_a_receiver_that_is_gone_is_left_alone(world: World) -> None:
    world.receiver.answer = lambda _: web.Response(status=410)
    hook = await world.hook("run.*")
    await world.run(await world.flow(say=SAY))
    async with asyncio.timeout(60):
        while (await world.api.get(f"/v1/hooks/{hook['id']}")).data["status"] != "disabled":
            await asyncio.sleep(0.01)
    assert len(world.receiver.got) == 1


async def test_nothing_is_derived_without_hooks(world: World) -> None:
    flow = await world.flow(say=SAY)
    await world.api.post(f"/v1/workflows/{flow}/publish")
    await world.run(flow)
    await world.api.post(f"/v1/workflows/{flow}/pause")
    await world.hook("*")
    assert await world.deliveries() == []
    assert world.receiver.got == []


async def test_a_dust_run_is_told_as_one_and_a_hook_for_live_runs_is_not_told(world: World) -> None:
    flow = await world.flow(say=SAY)
    live = await world.hook("run.*", modes=["live"])
    both = await world.hook("run.*")
    dust = await world.run(flow, dustTest=True)
    real = await world.run(flow)
    await world.receiver.until(6)
    told: dict[str, list[tuple[str, str]]] = {live["id"]: [], both["id"]: []}
    for one in await world.deliveries():
        if one["eventType"] == "run.succeeded":
            told[one["endpointId"]].append((one["runId"], one["requestBody"]["data"]["mode"]))
    assert told == {live["id"]: [(real, "live")], both["id"]: [(dust, "dust"), (real, "live")]}


async def test_deliveries_are_kept_for_seven_days(world: World) -> None:
    await world.hook("run.*")
    await world.run(await world.flow(say=SAY))
    await world.receiver.until(2)
    retention, made = world.server.parts.access.retention, hook_deliveries.c.created_at
    counts = []
    for days in (6, 2):
        await world.server.execute(sa.update(hook_deliveries).values(created_at=made - days * 86_400_000))
        await retention.sweep_deliveries()
        counts.append(len(await world.deliveries()))
    assert counts == [2, 0]
    await world.run(await world.flow(say=SAY))  # what is new goes on as before
    await world.receiver.until(4)
