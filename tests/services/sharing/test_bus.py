"""Several servers on one store: what one commits is seen by all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from dustrun import clock
from dustrun.errors import Conflict
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import ProcessLock
from dustrun.storage.db.tables import activity, api_keys, web_sessions
from services.access.test_people import ADA, Browser
from services.streaming.test_notices import frames
from testkit.approving import decide_at_once
from testkit.composition import Composition, composed
from testkit.postgres import Cluster
from testkit.sharing import activity_of, ended, events_of, sharing, until

WAITING: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "children": ["hold"]},
        "hold": {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "went on"}},
    },
    "triggerNodeIds": ["root"],
}


@pytest.fixture
async def two(tmp_path: Path, cluster: Cluster) -> AsyncIterator[list[Composition]]:
    url = cluster.fresh()
    async with sharing(tmp_path, url) as servers:
        yield servers
    cluster.drop(url)


async def test_run_of_one_server_is_streamed_by_another(two: list[Composition]) -> None:
    here, there = (server.owner for server in two)
    flow = await here.create_workflow(WAITING)
    reading = asyncio.create_task(events_of(there, "run_1"))
    reply = await here.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_1", "payload": {}})
    assert reply.status == 200, reply.body

    async def waits() -> bool:
        return bool((await there.get("/v1/runs/run_1")).data["status"] == "waiting")

    await until(waits)
    await there.post("/v1/runs/run_1/nodes/hold/resume", {"data": {}})
    assert (await ended(there, "run_1"))["status"] == "success"
    seen = await reading
    assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][1] == "run_finished"
    assert seen == await events_of(here, "run_1")


async def test_stream_moves_between_servers_and_misses_nothing(two: list[Composition]) -> None:
    here, there = (server.owner for server in two)
    flow = await here.create_workflow()
    runs = [f"run_{number}" for number in range(6)]
    for number, run_id in enumerate(runs):
        await (here, there)[number % 2].post(f"/v1/workflows/{flow['id']}/run", {"runId": run_id, "payload": {}})
    for run_id in runs:
        whole = await events_of(here, run_id)
        assert [number for number, _ in whole] == list(range(1, len(whole) + 1))
        assert whole == whole[:2] + await events_of(there, run_id, after=2)


async def test_activity_of_all_servers_comes_in_the_order_of_commits(two: list[Composition]) -> None:
    here, there = (server.owner for server in two)
    flow = await here.create_workflow()
    heard: list[tuple[int, str]] = []

    async def read() -> None:
        async for cursor, kind in activity_of(there, "/v1/activity/stream?lastEventId=0"):
            heard.append((cursor, kind))
            if sum(kind == "run_finished" for _, kind in heard) == 40:
                return

    reading = asyncio.create_task(read())
    starts = [
        (here, there)[number % 2].post(f"/v1/workflows/{flow['id']}/run", {"payload": {}}) for number in range(40)
    ]
    await asyncio.gather(*starts)
    async with asyncio.timeout(60):
        await reading
    stored = [row[0] for row in await two[0].rows(sa.select(activity.c.id).order_by(activity.c.id))]
    assert [cursor for cursor, _ in heard] == stored


async def test_lost_connections_delay_but_lose_nothing(two: list[Composition], cluster: Cluster) -> None:
    here, there = (server.owner for server in two)
    flow = await here.create_workflow(WAITING)
    reading = asyncio.create_task(events_of(there, "run_1"))
    url = str(two[0].parts.database.engine.url.render_as_string(hide_password=False))
    listening = sa.text(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND right(application_name, 7) = 'listens' AND query <> ''"
    )

    async def both_listen() -> bool:
        return len(await two[0].rows(listening.columns(pid=sa.Integer))) == 2

    await until(both_listen)
    assert cluster.kill_connections(url, "%listens") == 2
    await here.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_1", "payload": {}})
    await there.post("/v1/runs/run_1/nodes/hold/resume", {"data": {}})
    seen = await reading
    assert seen == await events_of(here, "run_1")
    assert seen[-1][1] == "run_finished"


async def test_run_is_answered_and_cancelled_by_servers_that_do_not_advance_it(two: list[Composition]) -> None:
    here, there = (server.owner for server in two)
    flow = await here.create_workflow(WAITING)
    await here.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_1", "payload": {}})
    reading = asyncio.create_task(events_of(there, "run_1"))
    await there.post("/v1/runs/run_1/cancel")
    assert (await ended(here, "run_1"))["status"] == "cancelled"
    assert (await reading)[-1][1] == "run_finished"


async def test_a_workflow_that_is_changed_on_one_server_is_told_by_another(two: list[Composition]) -> None:
    here, there = two
    stream = frames(there, "/v1/activity/stream", here.owner_key)
    assert "retry" in await anext(stream)
    flow = await here.owner.create_workflow(WAITING)
    async with asyncio.timeout(60):
        frame = await anext(stream)
    await stream.aclose()
    assert (frame["event"], json.loads(frame["data"])["workflowId"]) == ("workflow_changed", flow["id"])


async def test_revoked_key_ends_on_every_server(two: list[Composition]) -> None:
    here, there = two
    made = (await here.owner.post("/v1/api-keys", {"name": "test", "permissions": ["workflow:read"]})).data
    elsewhere = there.client(made["key"])
    assert (await elsewhere.get("/v1/workflows")).status == 200  # cached there from now on
    key_id = made["id"]
    await here.owner.delete(f"/v1/api-keys/{key_id}")

    async def is_refused() -> bool:
        return (await elsewhere.get("/v1/workflows")).status == 401

    await until(is_refused, 4)


@pytest.mark.parametrize("is_heard", [True, False])
async def test_streams_of_a_revoked_key_end_on_every_server(two: list[Composition], is_heard: bool) -> None:
    """In the middle of the stream: those opened with the key, and with a token that it made."""
    here, there = two
    flow = await here.owner.create_workflow(WAITING)
    await here.owner.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_1", "payload": {}})

    async def is_waiting() -> bool:
        return bool((await here.owner.get("/v1/runs/run_1")).data["status"] == "waiting")

    await until(is_waiting)
    body = {"name": "test", "permissions": ["run:stream"], "workflowIds": [flow["id"]]}
    made = (await here.owner.post("/v1/api-keys", body)).data
    elsewhere, stranger = there.client(made["key"]), there.client(None)
    token = (await elsewhere.post("/v1/stream-tokens", {"stream": "/v1/activity/stream"})).data["url"]
    reading = [  # the transport answers once a stream has ended
        asyncio.create_task(client.http.get(path))
        for client, path in ((elsewhere, "/v1/runs/run_1/stream"), (stranger, token))
    ]

    async def are_open() -> bool:
        hub = there.parts.streams.hub
        return bool(hub._runs) and bool(hub._activity)

    await until(are_open)
    if is_heard:
        await here.owner.delete(f"/v1/api-keys/{made['id']}")
    else:
        revoked = sa.update(api_keys).where(api_keys.c.id == made["id"]).values(revoked_at=clock.now_ms())
        await here.execute(revoked)  # past the API, which would tell
    async with asyncio.timeout(4 if is_heard else 60):
        answers = await asyncio.gather(*reading)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert "run_waiting" in answers[0].text
    assert "run_finished" not in answers[0].text
    assert (await stranger.http.get(token)).status_code == 401


@pytest.mark.parametrize("is_heard", [True, False])
async def test_a_session_that_one_server_ends_is_dead_on_the_other(two: list[Composition], is_heard: bool) -> None:
    """Its requests at once, its open stream as soon as the other server is told, or looks."""
    here, there = two
    made = (await here.owner.post("/v1/people", ADA)).data
    browser = Browser(there)
    assert await browser.redeem(made["url"]) == 200
    reading = asyncio.create_task(browser.http.get("/v1/activity/stream"))

    async def is_open() -> bool:
        return bool(there.parts.streams.hub._activity)

    await until(is_open)
    if is_heard:
        path = f"/v1/people/{made['id']}/sessions"
        (session,) = (await here.owner.get(path)).data["items"]
        assert (await here.owner.delete(f"{path}/{session['id']}")).status == 200
    else:
        await here.execute(sa.delete(web_sessions))  # past the API, which would tell
    assert (await browser.send("GET", "/v1/me"))[0] == 401
    async with asyncio.timeout(4 if is_heard else 60):
        assert (await reading).status_code == 200


async def test_key_that_was_revoked_unheard_changes_no_policy(two: list[Composition]) -> None:
    here, there = two
    rights = ["wallet:admin", "wallet:write"]
    made = (await here.owner.post("/v1/api-keys", {"name": "test", "permissions": rights})).data
    elsewhere = there.client(made["key"])
    body = {"name": "sender", "privateKey": f"0x{1:064x}"}
    wallet = (await elsewhere.post("/v1/wallets/import", body)).data  # cached there from now on
    await here.execute(sa.update(api_keys).where(api_keys.c.id == made["id"]).values(revoked_at=1))
    policy = {"chains": ["*"], "assets": ["*"], "recipients": ["*"]}
    reply = await elsewhere.put(f"/v1/wallets/{wallet['id']}/policy", {"policy": policy})
    assert (reply.status, "was revoked" in reply.body["message"]) == (401, True)


async def test_one_server_answers_calls_and_another_advances_runs(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.fresh()
    shares: dict[str, Any] = {"database_url": url, "shared": True}
    async with (
        composed(tmp_path, **shares, roles=("api",)) as answers,
        composed(tmp_path, **shares, roles=("engine", "triggers")) as advances,
    ):
        flow = await answers.owner.create_workflow(WAITING)
        await answers.owner.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_1", "payload": {}})

        async def waits() -> bool:
            return bool((await answers.owner.get("/v1/runs/run_1")).data["status"] == "waiting")

        async def only_the_engine_has_it() -> bool:  # what it has in memory follows what is on disk
            return (answers.engine.waiting, advances.engine.waiting) == (0, 1)

        await until(waits)
        await until(only_the_engine_has_it)
        await answers.owner.post("/v1/runs/run_1/nodes/hold/resume", {"data": {}})
        seen = await events_of(answers.owner, "run_1")
        assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
        assert seen[-1][1] == "run_finished"
        asks = {"root": {"type": "manual", "children": ["say"]}, "say": {"type": "respond", "payload": {"body": [7]}}}
        flow = await answers.owner.create_workflow({"nodes": asks, "triggerNodeIds": ["root"]})
        told = await answers.owner.post(f"/v1/workflows/{flow['id']}/run-sync", {"payload": {}})
        assert (told.status, told.data["response"]["body"]) == (200, [7])
    cluster.drop(url)


async def test_waiting_run_of_a_server_that_stops_goes_on_elsewhere(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.fresh()
    async with sharing(tmp_path, url, 1) as (stays,):
        flow = await stays.owner.create_workflow(WAITING)
        async with sharing(tmp_path, url, 1) as (leaves,):
            await leaves.owner.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_1", "payload": {}})
        await stays.owner.post("/v1/runs/run_1/nodes/hold/resume", {"data": {}})
        assert (await ended(stays.owner, "run_1"))["status"] == "success"
    cluster.drop(url)


async def test_limit_of_a_workflow_holds_for_all_servers(two: list[Composition]) -> None:
    here, there = (server.owner for server in two)
    flow = await here.create_workflow(WAITING, concurrency={"max": 1, "onLimit": "queue"})
    for number, client in enumerate((here, there, here)):
        await client.post(f"/v1/workflows/{flow['id']}/run", {"runId": f"run_{number}", "payload": {}})
    for number in range(3):

        async def waits(run_id: str = f"run_{number}") -> bool:
            return bool((await here.get(f"/v1/runs/{run_id}")).data["status"] == "waiting")

        await until(waits)
        states = [(await there.get(f"/v1/runs/run_{other}")).data["status"] for other in range(3)]
        assert states.count("waiting") == 1
        await there.post(f"/v1/runs/run_{number}/nodes/hold/resume", {"data": {}})
        assert (await ended(here, f"run_{number}"))["status"] == "success"


async def test_approval_is_decided_once_whichever_servers_are_asked(two: list[Composition]) -> None:
    await decide_at_once([server.owner for server in two], 4)


async def test_server_alone_and_servers_that_share_keep_each_other_out(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.fresh()
    async with sharing(tmp_path, url, 1):
        with pytest.raises(Conflict, match="shared"):
            async with composed(tmp_path, database_url=url):
                pass
    async with composed(tmp_path, database_url=url):
        with pytest.raises(Conflict, match="shared"):
            async with sharing(tmp_path, url, 1):
                pass
    cluster.drop(url)


async def test_sqlite_is_not_shared(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs PostgreSQL"):
        Settings(data_dir=tmp_path, shared=True)
    database = Database(f"sqlite:///{tmp_path / 'dustrun.db'}", is_shared=True)
    with pytest.raises(Conflict, match="needs PostgreSQL"):
        ProcessLock(database, tmp_path).take()
    database.close()
