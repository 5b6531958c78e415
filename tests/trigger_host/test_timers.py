"""Schedules in a whole server: on time, missed, overlapping, across restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events
from testkit.composition import Composition, composed

MINUTE = 60_000
HOUR = 60 * MINUTE


def last_time() -> int:
    """The last time of the hourly schedule."""
    return (clock.now_ms() - LAST_MINUTE * MINUTE) // HOUR * HOUR + LAST_MINUTE * MINUTE


def workflow(node_type: str, config: dict[str, Any], step: dict[str, Any] | None = None) -> dict[str, Any]:
    say = step or {"type": "log", "payload": {"message": "{{$trigger.body.scheduledAt}}"}}
    return {
        "nodes": {"root": {"type": node_type, "payload": config, "children": ["say"]}, "say": say},
        "triggerNodeIds": ["root"],
    }


EVERY_SECOND = {"schedule": "* * * * * *"}
LAST_MINUTE = (datetime.now(UTC).minute - 5) % 60
HOURLY = {"schedule": f"{LAST_MINUTE} * * * *"}
"""Its last time was at least five minutes ago, so it is missed if nobody fired it."""
SLOW = {"type": "delay", "payload": {"delayMs": 600_000}}


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as server:
        yield server


async def published(server: Composition, definition: dict[str, Any]) -> Subscription:
    made = await server.owner.create_workflow(definition)
    assert (await server.owner.post(f"/v1/workflows/{made['id']}/publish")).status == 200
    (sub,) = await server.parts.triggers.subscriptions.list_of(made["id"])
    return sub


async def events(server: Composition) -> list[tuple[str, str, str | None]]:
    columns = (trigger_events.c.key, trigger_events.c.outcome, trigger_events.c.reason)
    return [tuple(row) for row in await server.rows(sa.select(*columns).order_by(trigger_events.c.pk))]


async def until(server: Composition, count: int) -> list[tuple[str, str, str | None]]:
    async with asyncio.timeout(60):
        while len(found := await events(server)) < count:
            await asyncio.sleep(0.05)
    return found


async def rewound(server: Composition, sub: Subscription, back_ms: int, run: str | None = None) -> int:
    """Sets a schedule's place back, as if nobody had watched since; the host reads it as at a start. It is paused
    meanwhile, so that the host reads it only afterwards."""
    place = last_time() - back_ms
    cursor = {"next": place, **({"run": run} if run else {})}
    await server.owner.post(f"/v1/workflows/{sub.row.workflow_id}/pause")
    moved = {"cursor": json.dumps(cursor), "next_at": place, "cursor_version": subscriptions.c.cursor_version + 1}
    await server.execute(sa.update(subscriptions).where(subscriptions.c.id == sub.id).values(**moved))
    await server.owner.post(f"/v1/workflows/{sub.row.workflow_id}/resume")
    return place


async def test_a_schedule_fires_each_time_once_and_on_time(server: Composition) -> None:
    sub = await published(server, workflow("cronjob", EVERY_SECOND))
    found = await until(server, 3)
    times = [int(key) for key, _, _ in found]
    assert times == list(range(times[0], times[0] + 1000 * len(times), 1000))
    assert {(outcome, reason) for _, outcome, reason in found} == {("started", None)}
    assert sub.row.armed_at < times[0] <= sub.row.armed_at + 1000
    runs = (await server.owner.get(f"/v1/runs?workflowId={sub.row.workflow_id}")).data
    assert {run["triggerSource"] for run in runs["items"]} == {"cronjob"}


async def test_the_payload_tells_the_time(server: Composition) -> None:
    await published(server, workflow("cronjob", {**EVERY_SECOND, "timezone": "Asia/Kolkata"}))
    ((key, _, _), *_) = await until(server, 1)
    run = (await server.owner.get("/v1/runs")).data["items"][-1]
    body = (await server.owner.get(f"/v1/runs/{run['id']}")).data["executionState"]["root"]["result"]["body"]
    assert body["timezone"] == "Asia/Kolkata"
    assert body["localTime"].endswith("+05:30")
    assert int(key) % 1000 == 0


@pytest.mark.parametrize(
    ("on_missed", "expected"),
    [
        ("once", [("0", "started", None)]),
        ("all", [("missed -3", "skipped", "missed"), *((f"{-hours}", "started", None) for hours in (2, 1, 0))]),
        ("skip", [("missed -3", "skipped", "missed")]),
    ],
)
async def test_what_was_missed(
    server: Composition, on_missed: str, expected: list[tuple[str, str, str | None]]
) -> None:
    config = {**HOURLY, "onMissed": on_missed, "missedCap": 3, "catchUp": True}
    sub = await published(server, workflow("cronjob", config))
    start = await rewound(server, sub, 3 * HOUR)
    found = await until(server, len(expected))
    last = start + 3 * HOUR

    def named(key: str) -> str:
        word, _, at = key.rpartition(" ")
        return f"{word} {(int(at) - last) // HOUR}".strip()

    assert [(named(key), outcome, reason) for key, outcome, reason in found] == expected


@pytest.mark.parametrize("overlap", ["allow", "skip"])
async def test_overlapping_runs(server: Composition, overlap: str) -> None:
    await published(server, workflow("cronjob", {**EVERY_SECOND, "overlap": overlap}, SLOW))
    found = await until(server, 4)
    assert found[0][1] == "started"
    then = ("started", None) if overlap == "allow" else ("skipped", "overlap")
    assert {(outcome, reason) for _, outcome, reason in found[1:]} == {then}


@pytest.mark.both_stores
async def test_a_queued_time_starts_when_the_run_before_has_ended(server: Composition) -> None:
    sub = await published(server, workflow("cronjob", {**EVERY_SECOND, "overlap": "queue"}, SLOW))
    ((first, _, _),) = await until(server, 1)
    async with asyncio.timeout(60):
        while len((await only(server, sub)).cursor.get("waiting", [])) < 2:
            await asyncio.sleep(0.05)
    assert len(await events(server)) == 1
    run = (await server.owner.get("/v1/runs")).data["items"][0]
    await server.owner.post(f"/v1/runs/{run['id']}/cancel")
    found = await until(server, 2)
    assert found[1] == (str(int(first) + 1000), "started", None)


async def only(server: Composition, sub: Subscription) -> Subscription:
    found = await server.parts.triggers.subscriptions.find(sub.id)
    assert found is not None
    return found


async def test_a_single_time_ends_the_trigger(server: Composition) -> None:
    at = clock.now_ms() + 4_000
    text = clock.to_rfc3339(at)
    await published(server, workflow("schedule", {"at": text}))
    found = await until(server, 1)
    assert found == [(str(at), "started", None)]
    columns = (subscriptions.c.state, subscriptions.c.state_reason, subscriptions.c.next_at)
    assert await server.rows(sa.select(*columns)) == [("ended", "over", None)]


@pytest.mark.both_stores
async def test_a_restart_goes_on_without_losing_or_doubling(tmp_path: Path, store_url: str) -> None:
    for _ in range(3):
        async with composed(tmp_path, database_url=store_url) as server:
            if not await events(server):
                await published(server, workflow("cronjob", {**EVERY_SECOND, "onMissed": "all", "missedCap": 100}))
            known = len(await events(server))
            found = await until(server, known + 2)
    times = [int(key) for key, _, _ in found]
    assert times == list(range(times[0], times[0] + 1000 * len(times), 1000))


async def test_schedules_go_on_after_a_start_that_failed(server: Composition) -> None:
    """A process that is to watch while the store is away tries again; nothing of the attempt may be left."""
    await published(server, workflow("cronjob", EVERY_SECOND))
    await server.trigger_host.stop()
    await server.execute(sa.text("ALTER TABLE store_facts RENAME TO away"))
    with pytest.raises(Exception, match="store_facts"):
        await server.trigger_host.start()
    await server.execute(sa.text("ALTER TABLE away RENAME TO store_facts"))
    await server.trigger_host.start()
    known = len(await events(server))
    await until(server, known + 2)


COULD_NOT_RUN: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("cronjob", {"schedule": "0 0 31 2 *"}, "schedule", "never fires"),
    ("cronjob", {"schedule": "61 * * * *"}, "schedule", "'61' does not fit the minute field"),
    ("cronjob", {"schedule": "@hourly", "timezone": "Europe/Berln"}, "timezone", "did you mean 'Europe/Berlin'?"),
    ("cronjob", {"schedule": "* * * * * *", "jitterMs": 1000}, "jitterMs", "Must be less than"),
    ("schedule", {"at": "2020-01-01T00:00:00Z"}, "at", "its last time has passed"),
    (
        "schedule",
        {"rrule": "DTSTART:20200101T000000Z\nRRULE:FREQ=DAILY;COUNT=2"},
        "rrule",
        "its last time has passed",
    ),
    ("schedule", {"rrule": "DTSTART:20200101T000000Z\nRRULE:FREQ=DAYLY"}, "", "FREQ is one of"),
    ("schedule", {}, "", "Give either rrule or at."),
)


async def test_publishing_refuses_what_could_not_run(server: Composition) -> None:
    for node_type, config, field, message in COULD_NOT_RUN:
        made = await server.owner.create_workflow(workflow(node_type, config))
        refused = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
        assert refused.status == 400, config
        found = [one["field"] for one in refused.body["details"] if message in one["message"]]
        assert found, (config, refused.body)
        assert found[0].startswith(f"nodes.root.payload{'.' if field else ''}{field}"), config


async def test_publishing_refuses_what_fires_too_often(tmp_path: Path) -> None:
    async with composed(tmp_path, min_trigger_interval_ms=60_000) as server:
        for config in ({"schedule": "*/30 * * * * *"}, {"schedule": "0,59 0 0 * * *"}):
            made = await server.owner.create_workflow(workflow("cronjob", config))
            refused = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
            assert "this server allows at least 60 s" in refused.body["details"][0]["message"]
