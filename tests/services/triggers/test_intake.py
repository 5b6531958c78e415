"""Events of triggers: what each one does to the tables, whatever comes at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.core.triggers.event import CursorMove, TriggerEvent
from dustrun.services.triggers.recording import CursorMoved, EventOutcome
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.db.tables import runs
from dustrun.storage.db.trigger_tables import trigger_events
from testkit.composition import Composition, composed

OWN = Path(__file__).parents[3] / "testkit/own_triggers"
BELL: dict[str, Any] = {
    "nodes": {
        "root": {"type": "bell", "payload": {}, "children": ["say"]},
        "hand": {"type": "manual", "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "{{$trigger.body.n}}"}},
    },
    "triggerNodeIds": ["root", "hand"],
}


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN) as server:
        yield server


async def published(server: Composition, definition: Any = BELL, **fields: Any) -> tuple[str, Subscription]:
    workflow = await server.owner.create_workflow(definition, **fields)
    await server.owner.post(f"/v1/workflows/{workflow['id']}/publish")
    return workflow["id"], await only(server, workflow["id"])


async def only(server: Composition, workflow_id: str) -> Subscription:
    (sub,) = await server.parts.triggers.subscriptions.list_of(workflow_id)
    return sub


def ring(key: str, n: int = 1) -> TriggerEvent:
    return TriggerEvent(key, {"n": n}, 1_700_000_000_000)


async def fire(server: Composition, sub: Subscription, *keys: str) -> list[EventOutcome]:
    return await asyncio.gather(*(server.parts.triggers.intake.fire(sub, ring(key)) for key in keys))


async def outcomes(server: Composition) -> dict[tuple[str, str | None], int]:
    columns = (trigger_events.c.outcome, trigger_events.c.reason)
    found = await server.rows(sa.select(*columns, sa.func.count()).group_by(*columns))
    return {(row[0], row[1]): row[2] for row in found}


async def count_runs(server: Composition) -> int:
    return int((await server.rows(sa.select(sa.func.count()).select_from(runs)))[0][0])


async def test_an_event_starts_a_run_of_the_published_version(server: Composition) -> None:
    workflow_id, sub = await published(server)
    (fired,) = await fire(server, sub, "a")
    assert (fired.action, len(fired.run_ids)) == ("triggered", 1)
    run = (await server.owner.get(f"/v1/runs/{fired.run_ids[0]}")).data
    shown = {name: run[name] for name in ("workflowId", "workflowVersion", "triggerNodeId", "triggerSource")}
    assert shown == {"workflowId": workflow_id, "workflowVersion": 1, "triggerNodeId": "root", "triggerSource": "bell"}
    assert run["executionState"]["root"]["result"]["n"] == 1


@pytest.mark.both_stores
async def test_a_redelivery_answers_with_the_first_run(server: Composition) -> None:
    _, sub = await published(server)
    first, *others = await fire(server, sub, *["same"] * 20)
    assert {(one.event_id, one.run_ids) for one in others} == {(first.event_id, first.run_ids)}
    assert sum(one.is_duplicate for one in (first, *others)) == 19
    assert (await outcomes(server), await count_runs(server)) == ({("started", None): 1}, 1)


@pytest.mark.both_stores
async def test_of_many_events_at_once_exactly_max_runs_start(server: Composition) -> None:
    workflow_id, sub = await published(server, maxRuns=7)
    by_hand = [server.owner.post(f"/v1/workflows/{workflow_id}/run", {"payload": {"n": 0}}) for _ in range(5)]
    await asyncio.gather(fire(server, sub, *map(str, range(40))), *by_hand)
    assert await outcomes(server) == {("started", None): 7, ("skipped", "exhausted"): 33}
    assert await count_runs(server) == 7 + 5
    workflow = (await server.owner.get(f"/v1/workflows/{workflow_id}")).data
    shown = {name: workflow[name] for name in ("status", "pausedReason", "remainRuns")}
    assert shown == {"status": "paused", "pausedReason": "max_runs_exhausted", "remainRuns": 0}
    await server.owner.post(f"/v1/workflows/{workflow_id}/refill", {"remainRuns": 2})
    await fire(server, await only(server, workflow_id), "x", "y", "z")
    assert await count_runs(server) == 7 + 5 + 2


async def test_a_cooldown_lets_one_event_through(server: Composition) -> None:
    workflow_id, sub = await published(server, cooldownMs=3_600_000)
    await server.owner.post(f"/v1/workflows/{workflow_id}/run", {"payload": {"n": 0}})
    await fire(server, sub, *map(str, range(20)))
    assert await outcomes(server) == {("started", None): 1, ("skipped", "cooldown"): 19}


@pytest.mark.both_stores
async def test_a_cursor_moves_with_its_event_and_only_once(server: Composition) -> None:
    _, sub = await published(server)
    intake = server.parts.triggers.intake
    move = CursorMove(sub.row.cursor_version, {"block": 5}, next_at=99)
    done = await asyncio.gather(
        intake.fire(sub, ring("a"), move), intake.fire(sub, ring("b"), move), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in done) == ["CursorMoved", "EventOutcome"]
    moved = await only(server, sub.row.workflow_id)
    assert (moved.cursor, moved.row.next_at) == ({"block": 5}, 99)
    assert await outcomes(server) == {("started", None): 1}
    with pytest.raises(CursorMoved):
        await intake.move(sub, move)


async def test_an_event_of_a_paused_workflow_is_recorded_and_starts_nothing(server: Composition) -> None:
    workflow_id, sub = await published(server)
    await server.owner.post(f"/v1/workflows/{workflow_id}/pause")
    (fired,) = await fire(server, sub, "a")
    assert (fired.action, fired.reason) == ("skipped", "paused")
    assert await count_runs(server) == 0


async def test_a_limit_or_a_repetition_is_told_before_what_no_run_could_start_with(server: Composition) -> None:
    """Also when the event before started a run, so that nobody looked in advance."""
    workflow_id, sub = await published(server)

    async def wrong(key: str) -> EventOutcome:
        event = TriggerEvent(key, {"n": 1}, 1_700_000_000_000, run_id="no id of a run")
        return await server.parts.triggers.intake.fire(sub, event)

    assert (await wrong("a")).reason == "refused"
    (first,) = await fire(server, sub, "b")
    again = await wrong("b")
    assert (again.is_duplicate, again.run_ids) == (True, first.run_ids)
    await fire(server, sub, "c")
    await server.owner.post(f"/v1/workflows/{workflow_id}/pause")
    assert (await wrong("d")).reason == "paused"


async def test_a_revoked_key_pauses_what_it_published(server: Composition) -> None:
    key = (await server.owner.post("/v1/api-keys", {"name": "p", "permissions": ["admin"]})).data
    workflow = await server.owner.create_workflow(BELL)
    await server.client(key["key"]).post(f"/v1/workflows/{workflow['id']}/publish")
    await server.owner.delete(f"/v1/api-keys/{key['id']}")
    (fired,) = await fire(server, await only(server, workflow["id"]), "a")
    assert (fired.action, fired.reason) == ("skipped", "key_revoked")
    assert (await server.owner.get(f"/v1/workflows/{workflow['id']}")).data["pausedReason"] == "key_revoked"
    assert (await server.owner.post(f"/v1/workflows/{workflow['id']}/resume")).status == 200
    (again,) = await fire(server, await only(server, workflow["id"]), "b")
    assert again.action == "triggered"
    run = (await server.owner.get(f"/v1/runs/{again.run_ids[0]}")).data
    assert run["triggeredBy"] != key["id"]
