"""The event log, replays, and what the ends of runs lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.core.triggers.event import TriggerEvent
from dustrun.services.triggers.ended_runs import EndedRuns
from dustrun.services.triggers.subscriptions import Subscriptions
from dustrun.storage.db import store_facts
from dustrun.storage.db.tables import organizations
from dustrun.storage.db.trigger_tables import trigger_events
from services.triggers.test_intake import BELL, OWN, count_runs, fire, published, server
from testkit.composition import Composition, composed

__all__ = ["server"]  # the fixture
FAIL = {"type": "log", "payload": {"message": "{{1 / $trigger.body.n}}"}}


def after(*workflow_ids: str, **payload: Any) -> dict[str, Any]:
    watch = {"type": "workflow-finished", "payload": {"workflowIds": list(workflow_ids), **payload}}
    say = {"type": "log", "payload": {"message": "{{$trigger.body.status}} {{$trigger.body.depth}}"}}
    return {"nodes": {"root": {**watch, "children": ["say"]}, "say": say}}


async def until(found: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(60):
        while not (value := await found()):
            await asyncio.sleep(0.01)
    return value


async def events_of(server: Composition, workflow_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await server.owner.get(f"/v1/workflows/{workflow_id}/trigger-events")).data["items"]
    return items


async def test_a_replay_is_a_new_event_that_points_to_the_first_and_obeys_limits(server: Composition) -> None:
    workflow_id, sub = await published(server, maxRuns=1)
    (first,) = await fire(server, sub, "a")
    replay = f"/v1/trigger-events/{first.event_id}/replay"
    held = (await server.owner.post(replay)).data
    assert (held["action"], held["reason"], held["runIds"]) == ("skipped", "exhausted", [])
    done = (await server.owner.post(replay, {"ignoreLimits": True})).data
    assert (done["action"], len(done["runIds"])) == ("triggered", 1)
    newest, older, origin = await events_of(server, workflow_id)
    assert [newest["replayOf"], older["replayOf"], origin["replayOf"]] == [first.event_id, first.event_id, None]
    again = (await server.owner.post(f"/v1/trigger-events/{newest['id']}/replay", {"ignoreLimits": True})).data
    assert (await server.owner.get(f"/v1/trigger-events/{again['eventId']}")).data["replayOf"] == first.event_id
    assert (await server.owner.get(f"/v1/workflows/{workflow_id}")).data["remainRuns"] == 0


async def test_one_handler_hears_of_every_workflow_and_never_of_what_it_led_to(server: Composition) -> None:
    """Two handlers that fail themselves: each hears of the other's runs, but not of those that it led to."""
    fails = {"nodes": {"root": {"type": "manual", "children": ["do"]}, "do": FAIL}}
    failing = await server.owner.create_workflow(fails, name="fails")
    handler = {"nodes": {"root": {"type": "run-finished", "payload": {}, "children": ["do"]}, "do": FAIL}}
    handlers = [await server.owner.create_workflow(handler, name=name) for name in ("one", "two")]
    for one in handlers:
        assert (await server.owner.post(f"/v1/workflows/{one['id']}/publish")).status == 200
    run = (await server.owner.post(f"/v1/workflows/{failing['id']}/run", {"payload": {"n": 0}})).data

    async def settled() -> list[list[tuple[str, str | None, list[str]]]] | None:
        found = [await events_of(server, one["id"]) for one in handlers]
        if any(len(events) < 3 for events in found):
            return None
        return [sorted((e["outcome"], e["reason"], e["body"]["through"]) for e in events) for events in found]

    ids = [failing["id"], *(one["id"] for one in handlers)]
    first, second = await until(settled)
    assert [(outcome, reason) for outcome, reason, _ in first] == [
        ("skipped", "circle"),
        ("started", None),
        ("started", None),
    ]
    assert sorted(through for _, _, through in first) == sorted([[ids[0]], [ids[0], ids[2]], [ids[0], ids[1], ids[2]]])
    assert len(second) == 3
    heard = [e for e in await events_of(server, ids[1]) if e["body"]["runId"] == run["runId"]]
    assert [(e["body"]["workflowName"], e["body"]["status"], e["body"]["depth"]) for e in heard] == [
        ("fails", "failure", 1)
    ]
    assert heard[0]["body"]["error"]["message"]
    await asyncio.sleep(0.3)
    assert [len(await events_of(server, one["id"])) for one in handlers] == [3, 3]


@pytest.mark.both_stores
async def test_the_events_of_a_filter_are_replayed_once(server: Composition) -> None:
    workflow_id, sub = await published(server, maxRuns=1)
    await fire(server, sub, "a", "b", "c", "d")  # the last three are over the limit
    assert (await server.owner.post(f"/v1/workflows/{workflow_id}/refill", {"remainRuns": 10})).status == 200

    async def asked(**body: Any) -> list[tuple[str, int]]:
        body = {"workflowId": workflow_id, "reason": "exhausted", **body}
        answer = (await server.owner.post("/v1/trigger-events/replay", body)).data
        return [*((one["action"], len(one["runIds"])) for one in answer["items"]), ("more", answer["hasMore"])]

    assert await asked(limit=2) == [("none", 0), ("none", 0), ("more", True)]
    assert await asked(mode="simulate") == [("triggered", 1)] * 3 + [("more", False)]
    assert await asked(mode="simulate") == [("more", False)]
    assert await asked(mode="replay", limit=1) == [("triggered", 1), ("more", True)]
    both = await asyncio.gather(asked(mode="replay"), asked(mode="replay"))
    assert [("more", False)] == both[0][-1:] == both[1][-1:]
    assert await asked(mode="replay") == [("more", False)]
    events = await events_of(server, workflow_id)
    live = [one["replayOf"] for one in events if one["replayOf"] is not None and one["mode"] == "live"]
    assert (len(live), len(set(live))) == (3, 3)
    assert (await server.owner.post("/v1/trigger-events/replay", {"workflowId": "wf_no"})).status == 404


async def test_a_replay_with_an_idempotency_key_runs_once(server: Composition) -> None:
    _, sub = await published(server)
    (first,) = await fire(server, sub, "a")
    key = {"Idempotency-Key": "k1"}
    path = f"/v1/trigger-events/{first.event_id}/replay"
    answers = [(await server.owner.post(path, headers=key)).data for _ in range(2)]
    assert answers[0] == answers[1]
    assert await count_runs(server) == 2


@pytest.mark.both_stores
async def test_the_content_of_old_events_is_deleted_and_their_keys_stay(server: Composition) -> None:
    workflow_id, sub = await published(server)
    (first,) = await fire(server, sub, "a")
    await server.execute(sa.update(organizations).values(retention_days=1))
    day = 86_400_000
    await server.execute(sa.update(trigger_events).values(received_at=clock.now_ms() - 2 * day))
    await server.parts.access.retention.sweep()
    shown = (await server.owner.get(f"/v1/trigger-events/{first.event_id}")).data
    assert (shown["body"], shown["key"]) == (None, "a")
    assert (await fire(server, sub, "a"))[0].is_duplicate
    assert (await server.owner.post(f"/v1/trigger-events/{first.event_id}/replay")).status == 409
    assert len(await events_of(server, workflow_id)) == 1


async def test_events_are_hidden_from_other_organisations_and_limited_keys(server: Composition) -> None:
    workflow_id, sub = await published(server)
    other_id, _ = await published(server)
    (first,) = await fire(server, sub, "a")
    limited = (
        await server.owner.post(
            "/v1/api-keys", {"name": "l", "permissions": ["run:read", "workflow:execute"], "workflowIds": [other_id]}
        )
    ).data["key"]
    for client in (await server.other_owner(), server.client(limited)):
        assert (await client.get("/v1/trigger-events")).data["items"] == []
        assert (await client.get(f"/v1/trigger-events/{first.event_id}")).status == 404
        assert (await client.post(f"/v1/trigger-events/{first.event_id}/replay")).status == 404
        assert (await client.get(f"/v1/workflows/{workflow_id}/trigger-events")).status == 404


async def test_the_end_of_a_run_starts_what_waits_for_it_once(server: Composition) -> None:
    first = (await server.owner.create_workflow())["id"]
    second, _ = await published(server, after(first, statuses=["success"]))
    third, _ = await published(server, after(second))
    run = (await server.owner.post(f"/v1/workflows/{first}/run")).data["runId"]
    await server.owner.post(f"/v1/workflows/{first}/run", {"simulate": True})
    (event,) = await until(lambda: events_of(server, second))
    assert (event["body"]["runId"], event["body"]["depth"], event["key"]) == (run, 1, run)
    (last,) = await until(lambda: events_of(server, third))
    assert (last["body"]["runId"], last["body"]["depth"]) == (event["runId"], 2)
    assert len(await events_of(server, second)) == 1


async def test_workflows_that_would_start_each_other_for_ever_are_not_published(server: Composition) -> None:
    first = (await server.owner.create_workflow())["id"]
    second, _ = await published(server, after(first))
    third, _ = await published(server, after(second))
    await server.owner.put(f"/v1/workflows/{first}", {"definition": after(third)})
    refused = await server.owner.post(f"/v1/workflows/{first}/publish")
    assert (refused.status, refused.fields) == (400, ["nodes.root.payload.workflowIds[0]"])
    missing = await server.owner.create_workflow(after(f"wf_{'0' * 26}"))
    assert (await server.owner.post(f"/v1/workflows/{missing['id']}/publish")).status == 400


@pytest.mark.both_stores
async def test_failures_in_a_row_pause_the_workflow(tmp_path: Path, store_url: str) -> None:
    settings = {"database_url": store_url, "actions_dir": OWN, "pause_after_failures": 2}
    nodes = {"root": BELL["nodes"]["root"] | {"children": ["say"]}, "say": FAIL}
    async with composed(tmp_path, **settings) as server:
        workflow_id, sub = await published(server, {"nodes": nodes})
        intake = server.parts.triggers.intake
        for key, n in (("a", 0), ("b", 1), ("c", 0), ("d", 0)):
            fired = await intake.fire(sub, TriggerEvent(key, {"n": n}, 0))
            path = f"/v1/runs/{fired.run_ids[0]}"
            await until(lambda path=path: _ended(server, path))  # type: ignore[misc]
        workflow = await until(lambda: _paused(server, workflow_id))
        assert workflow["pausedReason"] == "consecutive_failures"
        assert (await intake.fire(sub, TriggerEvent("e", {"n": 1}, 0))).reason == "paused"


async def test_ends_of_triggered_runs_are_written_only_when_one_fails(tmp_path: Path, store_url: str) -> None:
    nodes = {"root": BELL["nodes"]["root"] | {"children": ["say"]}, "say": FAIL}
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN) as server:
        _, sub = await published(server, {"nodes": nodes})
        intake, parts = server.parts.triggers.intake, server.parts
        subscriptions = Subscriptions(parts.database, parts.catalog)
        follower = EndedRuns(parts.database, parts.writer, parts.catalog, subscriptions, intake, 10)
        await follower.begin()

        async def end_of(key: str, n: int) -> str | None:
            """How far the store says that ends were followed, after a run has ended and was followed."""
            fired = await intake.fire(sub, TriggerEvent(key, {"n": n}, 0))
            await until(lambda: _ended(server, f"/v1/runs/{fired.run_ids[0]}"))
            while await follower.follow():
                pass
            return await parts.database.read(lambda tx: store_facts.find(tx, "ended_runs_followed"))

        begun = await parts.database.read(lambda tx: store_facts.find(tx, "ended_runs_followed"))
        assert [await end_of("a", 1), await end_of("b", 1)] == [begun, begun]
        assert int(await end_of("c", 0) or 0) > int(begun or 0)


async def _ended(server: Composition, path: str) -> Any:
    return (await server.owner.get(path)).data["finishedAt"]


async def _paused(server: Composition, workflow_id: str) -> Any:
    found = (await server.owner.get(f"/v1/workflows/{workflow_id}")).data
    return found if found["status"] == "paused" else None


async def test_an_event_that_came_while_too_many_runs_were_kept_starts_its_run_once_there_is_room(
    tmp_path: Path, store_url: str
) -> None:
    """It is kept as failed, with its payload, and replayed; meanwhile nothing else of it is lost."""
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN, max_runs=1) as server:
        workflow_id, sub = await published(server)
        first, second = [(await fire(server, sub, key))[0] for key in ("a", "b")]
        assert (first.action, second.action, second.reason) == ("triggered", "skipped", "quota")
        assert second.message is not None
        assert second.message.startswith("The organisation keeps 1 runs, and may keep 1 (setting max_runs).")
        assert [event["outcome"] for event in await events_of(server, workflow_id)] == ["failed", "started"]
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN, max_runs=2) as server:
        replayed = (await server.owner.post(f"/v1/trigger-events/{second.event_id}/replay")).data
        assert (replayed["action"], len(replayed["runIds"])) == ("triggered", 1)
        run = (await server.owner.get(f"/v1/runs/{replayed['runIds'][0]}")).data
        assert run["executionState"]["root"]["result"]["n"] == 1
