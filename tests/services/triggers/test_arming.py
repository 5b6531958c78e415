"""What publishing, pausing and archiving do to subscriptions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from dustrun.core.triggers.event import CursorMove
from services.triggers.test_intake import BELL, count_runs, fire, only, outcomes, published, server
from testkit.composition import Composition

__all__ = ["server"]  # the fixture


def changed(**payload: Any) -> Any:
    definition = copy.deepcopy(BELL)
    definition["nodes"]["root"]["payload"] = payload
    return definition


async def republish(server: Composition, workflow_id: str, definition: Any) -> None:
    await server.owner.put(f"/v1/workflows/{workflow_id}", {"definition": definition})
    assert (await server.owner.post(f"/v1/workflows/{workflow_id}/publish")).status == 200


async def test_a_draft_is_not_armed_and_publishing_arms_only_what_fires_by_itself(server: Composition) -> None:
    workflow = await server.owner.create_workflow(BELL)
    assert await server.parts.triggers.subscriptions.list_of(workflow["id"]) == []
    await server.owner.post(f"/v1/workflows/{workflow['id']}/publish")
    sub = await only(server, workflow["id"])
    assert (sub.row.node_id, sub.row.state, sub.row.version, sub.row.mode) == ("root", "armed", 1, "live")


@pytest.mark.both_stores
async def test_a_new_version_keeps_the_cursor_of_a_trigger_that_watches_the_same(server: Composition) -> None:
    workflow_id, sub = await published(server)
    await server.parts.triggers.intake.move(sub, CursorMove(0, {"block": 7}))
    more = copy.deepcopy(BELL)
    more["nodes"]["say"]["payload"]["message"] = "changed"
    await republish(server, workflow_id, more)
    kept = await only(server, workflow_id)
    assert (kept.id, kept.row.version, kept.cursor) == (sub.id, 2, {"block": 7})
    await republish(server, workflow_id, changed(name="back"))
    moved = await only(server, workflow_id)
    assert (moved.id, moved.row.version, moved.cursor) == (sub.id, 3, None)


async def test_a_resumed_trigger_begins_at_the_resume_unless_it_catches_up(server: Composition) -> None:
    for payload, cursor in (({}, None), ({"catchUp": True}, {"block": 7})):
        workflow_id, sub = await published(server, changed(**payload))
        await server.parts.triggers.intake.move(sub, CursorMove(0, {"block": 7}))
        await server.owner.post(f"/v1/workflows/{workflow_id}/pause")
        paused = await only(server, workflow_id)
        assert (paused.row.state, paused.cursor) == ("paused", {"block": 7})
        await server.owner.post(f"/v1/workflows/{workflow_id}/resume")
        resumed = await only(server, workflow_id)
        assert (resumed.row.state, resumed.cursor) == ("armed", cursor)
        assert (resumed.row.armed_at >= paused.row.updated_at) == (cursor is None)


async def test_an_archived_workflow_ends_its_triggers_and_comes_back_as_a_draft(server: Composition) -> None:
    workflow_id, _ = await published(server)
    await server.owner.delete(f"/v1/workflows/{workflow_id}")
    ended = await only(server, workflow_id)
    assert (ended.row.state, ended.row.state_reason) == ("ended", "archived")
    await server.owner.post(f"/v1/workflows/{workflow_id}/unarchive")
    assert (await only(server, workflow_id)).row.state == "ended"
    await server.owner.post(f"/v1/workflows/{workflow_id}/publish")
    assert (await only(server, workflow_id)).row.state == "armed"


async def test_a_trigger_that_is_no_longer_there_ends(server: Composition) -> None:
    workflow_id, sub = await published(server)
    await republish(
        server, workflow_id, {"nodes": {"root": {"type": "manual", "children": ["say"]}, "say": BELL["nodes"]["say"]}}
    )
    assert ((await only(server, workflow_id)).row.state) == "ended"
    (fired,) = await fire(server, sub, "late")
    assert (fired.action, fired.reason, await count_runs(server)) == ("skipped", "ended", 0)


async def test_events_under_an_old_version_run_the_new_one(server: Composition) -> None:
    workflow_id, old = await published(server)
    await republish(server, workflow_id, changed(catchUp=True))
    (fired,) = await fire(server, old, "a")
    run = (await server.owner.get(f"/v1/runs/{fired.run_ids[0]}")).data
    assert run["workflowVersion"] == 2


@pytest.mark.both_stores
async def test_a_watching_trigger_rehearses_counts_nothing_and_is_made_live(
    server: Composition, tmp_path: Path
) -> None:
    workflow_id, sub = await published(server, changed(mode="simulate"), maxRuns=1)
    await fire(server, sub, "a", "b")
    workflow = (await server.owner.get(f"/v1/workflows/{workflow_id}")).data
    assert (workflow["status"], workflow["remainRuns"]) == ("active", 1)
    base = f"/v1/workflows/{workflow_id}/trigger-rehearsal"
    page = (await server.owner.get(base)).data
    assert page["events"] == [{"outcome": "started", "reason": None, "count": 2}]
    assert page["effects"]["runs"] == 2
    live = (await server.owner.post(f"{base}/go-live", {"triggerNodeId": "root"})).data
    assert [one["mode"] for one in live["triggers"]] == ["live"]
    assert (await server.owner.post(f"{base}/go-live")).status == 409
    await fire(server, sub, "c", "d")
    assert await outcomes(server) == {("started", None): 3, ("skipped", "exhausted"): 1}
    await republish(server, workflow_id, {**changed(mode="simulate"), "inputSchema": [{"key": "n"}]})
    assert (await only(server, workflow_id)).row.mode == "simulate"


async def test_who_may_not_spend_publishes_no_trigger_that_spends(server: Composition) -> None:
    wallet = (await server.owner.post("/v1/wallets", {"name": "w"})).data["id"]
    pay = {
        "type": "send-native",
        "connector": {"type": "wallet", "id": wallet},
        "payload": {"chainId": 1, "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "amount": "1"},
    }
    definition = {"nodes": {"root": {"type": "bell", "payload": {}, "children": ["pay"]}, "pay": pay}}
    workflow = await server.owner.create_workflow(definition)
    publisher = await server.client_with("workflow:publish", "workflow:read")
    refused = await publisher.post(f"/v1/workflows/{workflow['id']}/publish")
    assert (refused.status, refused.code) == (403, 403001)
    assert await server.parts.triggers.subscriptions.list_of(workflow["id"]) == []
    assert (await server.owner.post(f"/v1/workflows/{workflow['id']}/publish")).status == 200


async def test_a_version_that_nobody_accepted_is_not_armed(server: Composition) -> None:
    wallet = (await server.owner.post("/v1/wallets", {"name": "w"})).data["id"]
    pay = {
        "type": "send-native",
        "connector": {"type": "wallet", "id": wallet},
        "payload": {"chainId": 1, "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "amount": "1"},
    }
    author = await server.client_with("workflow:create", "workflow:update", "workflow:read")
    workflow = await author.create_workflow(
        {"nodes": {"root": {"type": "bell", "payload": {}, "children": ["pay"]}, "pay": pay}}
    )
    refused = await server.owner.post(f"/v1/workflows/{workflow['id']}/publish")
    assert (refused.status, refused.code) == (409, 409011)
    assert await server.parts.triggers.subscriptions.list_of(workflow["id"]) == []
