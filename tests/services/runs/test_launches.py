"""Launches: what matches a rehearsal, who decides, and that one decision starts one run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.core.run.state import Mode
from dustrun.errors import Code, DustrunError
from dustrun.services.access.principal import Principal
from dustrun.services.runs.launching.decision import LaunchRequest
from dustrun.services.runs.launching.launches import Launch
from dustrun.storage.db.tables import approvals, runs
from testkit.composition import Client, Composition, composed

DECIDER = ("approval:decide", "workflow:execute", "run:read")
PAYLOAD = {"text": "hello", "exact": 1}


def saying(message: str = "{{$trigger.body.text}}") -> dict[str, Any]:
    """A workflow with one node."""
    say = {"type": "log", "payload": {"message": message}, "children": []}
    return {"nodes": {"root": {"type": "manual", "children": ["say"]}, "say": say}}


class Stage:
    """A server, a workflow, an assistant's key and a decider's."""

    def __init__(self, composition: Composition, keys: dict[str, dict[str, Any]], workflow_id: str) -> None:
        self.composition = composition
        self.owner = composition.owner
        self.keys = keys
        self.decider = composition.client(keys["decider"]["key"])
        self.assistant = composition.client(keys["assistant"]["key"])
        self.workflow_id = workflow_id

    @classmethod
    async def make(cls, composition: Composition) -> Stage:
        bodies: dict[str, dict[str, Any]] = {
            "assistant": {"scope": "mcp"},
            "decider": {"permissions": list(DECIDER)},
        }
        keys = {
            name: (await composition.owner.post("/v1/api-keys", {"name": name, **body})).data
            for name, body in bodies.items()
        }
        workflow = await composition.owner.create_workflow(saying())
        return cls(composition, keys, workflow["id"])

    async def principal(self, key: str) -> Principal:
        found = await self.composition.parts.access.keys.find(key)
        assert found is not None
        return found

    async def rehearse(self, **body: Any) -> str:
        """A passed simulation."""
        sent = {"payload": PAYLOAD, "simulate": True, **body}
        run = await self.owner.post(f"/v1/workflows/{self.workflow_id}/run-sync", sent)
        assert run.data["status"] == "success", run.body
        found: str = run.data["runId"]
        return found

    async def request(self, **changes: Any) -> LaunchRequest:
        run = changes.pop("rehearsal_run_id", None) or await self.rehearse()
        asked = LaunchRequest(
            workflow_id=self.workflow_id, version=1, mode=Mode.LIVE, rehearsal_run_id=run, payload=PAYLOAD
        )
        return replace(asked, **changes)

    async def propose(self, asked: LaunchRequest, key: str | None = None, **options: Any) -> Launch:
        by = await self.principal(key or self.keys["assistant"]["key"])
        return await self.composition.parts.launches.propose(by, asked, **options)

    async def asked(self, **changes: Any) -> dict[str, Any]:
        """A pending approval of a launch, as the API shows it."""
        launch = await self.propose(await self.request(**changes))
        assert launch.approval is not None
        return (await self.owner.get(f"/v1/approvals/{launch.approval.id}")).data  # type: ignore[no-any-return]

    async def approve(self, asked: dict[str, Any], by: Client | None = None, **body: Any) -> Any:
        sent = {"binding": asked["binding"], **body}
        return await (by or self.decider).post(f"/v1/approvals/{asked['id']}/approve", sent)

    async def live(self) -> list[str]:
        """The runs that are no simulations."""
        return [one["id"] for one in (await self.owner.get("/v1/runs?mode=live,dust")).data["items"]]


@pytest.fixture
async def stage(tmp_path: Path, store_url: str) -> AsyncIterator[Stage]:
    async with composed(tmp_path, database_url=store_url) as composition:
        yield await Stage.make(composition)


async def mismatch(stage: Stage, asked: LaunchRequest) -> list[str]:
    """The fields in which a rehearsal does not match."""
    with pytest.raises(DustrunError) as caught:
        await stage.propose(asked)
    assert caught.value.code is Code.REHEARSAL_MISMATCH
    return [one["field"] for one in caught.value.public_details()]


async def test_a_person_decides_and_the_run_is_the_rehearsed_one(stage: Stage) -> None:
    asked = await stage.asked()
    assert (asked["kind"], asked["status"], asked["mode"]) == ("launch", "pending", "live")
    assert len(asked["binding"]) == 64
    run_id = asked["launch"]["runId"]
    assert run_id == f"run_{asked['binding'][:40]}"
    assert asked["launch"] == {
        "version": 1,
        "runId": run_id,
        "rehearsalRunId": asked["runId"],
        "proposedBy": stage.keys["assistant"]["id"],
    }
    why = f"the key {stage.keys['assistant']['id']} asks to start it; a person must decide"
    listed = (await stage.owner.get("/v1/approvals")).data["items"]
    assert [(one["id"], one["why"]) for one in listed] == [(asked["id"], why)]
    assert await stage.live() == []
    decided = await stage.approve(asked, comment="go")
    assert (decided.data["status"], decided.data["comment"]) == ("approved", "go")
    run = (await stage.owner.get(f"/v1/runs/{run_id}")).data
    assert (run["mode"], run["payload"], run["rehearsalRunId"]) == ("live", PAYLOAD, asked["runId"])
    assert (run["triggeredBy"], run["triggerSource"]) == (stage.keys["decider"]["id"], "launch")
    late = await stage.approve(asked)
    assert (late.status, late.code) == (409, Code.APPROVAL_DECIDED)
    assert await stage.live() == [run_id]


async def test_a_rehearsal_must_show_exactly_the_launch(stage: Stage) -> None:
    asked = await stage.request()
    for payload in ({}, {**PAYLOAD, "text": "hallo"}, {**PAYLOAD, "exact": True}, {**PAYLOAD, "more": 1}):
        assert await mismatch(stage, replace(asked, payload=payload)) == ["payload"], payload
    assert await mismatch(stage, replace(asked, prop_values={"a": 1})) == ["propValues"]
    await stage.owner.put(f"/v1/workflows/{stage.workflow_id}", {"definition": saying("other")})
    assert await mismatch(stage, replace(asked, version=2)) == ["version"]
    other = await stage.owner.create_workflow(saying("x"), name="other")
    assert await mismatch(stage, replace(asked, workflow_id=other["id"])) == ["workflowId"]
    real = await stage.owner.post(f"/v1/workflows/{stage.workflow_id}/run-sync", {"payload": PAYLOAD, "version": 1})
    assert await mismatch(stage, replace(asked, rehearsal_run_id=real.data["runId"])) == ["rehearsalRunId"]
    assert (await stage.propose(asked)).approval is not None  # it matches until it is too old
    fresh = await stage.request(rehearsal_run_id=await stage.rehearse(version=1))
    old = sa.update(runs).where(runs.c.id == fresh.rehearsal_run_id).values(started_at=runs.c.started_at - 3_700_000)
    await stage.composition.execute(old)
    assert await mismatch(stage, fresh) == ["rehearsalRunId"]
    with pytest.raises(DustrunError) as caught:
        await stage.propose(await stage.request(mode=Mode.SIMULATE))
    assert caught.value.code is Code.BODY_INVALID
    with pytest.raises(DustrunError) as caught:
        await stage.propose(await stage.request(rehearsal_run_id="run_none"))
    assert caught.value.code is Code.RUN_UNKNOWN


async def test_a_rehearsal_serves_one_launch(stage: Stage) -> None:
    asked = await stage.request()
    first, again = await stage.propose(asked), await stage.propose(asked)
    assert first.approval is not None
    assert again == first  # a repeated proposal is the same question
    assert await mismatch(stage, replace(asked, mode=Mode.DUST)) == ["rehearsalRunId"]
    rejected = await stage.decider.post(f"/v1/approvals/{first.approval.id}/reject", {"comment": "no"})
    assert rejected.data["status"] == "rejected"
    assert await mismatch(stage, asked) == ["rehearsalRunId"]
    assert (await stage.approve({"id": first.approval.id, "binding": first.approval.binding})).status == 409
    assert await stage.live() == []


@pytest.mark.both_stores
async def test_two_clicks_at_once_start_one_run(stage: Stage) -> None:
    asked = await stage.asked()
    answers = await asyncio.gather(*(stage.approve(asked) for _ in range(6)))
    assert sorted(one.status for one in answers) == [200, 409, 409, 409, 409, 409]
    assert await stage.live() == [asked["launch"]["runId"]]


async def test_a_repeated_decision_with_a_key_is_answered_alike(stage: Stage) -> None:
    asked = await stage.asked()
    body, headers = {"binding": asked["binding"]}, {"Idempotency-Key": "once"}
    path = f"/v1/approvals/{asked['id']}/approve"
    first, again = [await stage.decider.post(path, body, headers=headers) for _ in range(2)]
    assert (first.status, again.status, first.data) == (200, 200, again.data)
    assert first.data["status"] == "approved"
    assert await stage.live() == [asked["launch"]["runId"]]


async def test_what_may_start_starts_once(stage: Stage) -> None:
    asked = await stage.request()
    found = await asyncio.gather(*(stage.propose(asked, stage.composition.owner_key) for _ in range(3)))
    assert {one.run_id for one in found} == {found[0].run_id}
    assert all(one.has_started for one in found)
    assert await stage.live() == [found[0].run_id]
    assert await mismatch(stage, asked) == ["rehearsalRunId"]


async def test_an_assistant_always_asks_and_its_key_may_decide(stage: Stage) -> None:
    launch = await stage.propose(await stage.request(), stage.composition.owner_key, as_assistant=True)
    assert launch.approval is not None
    shown = {"id": launch.approval.id, "binding": launch.approval.binding}
    heard: list[str] = []
    stage.composition.parts.launches.on_decided.append(lambda row: heard.append(row.status))
    assert (await stage.approve(shown, stage.owner)).data["status"] == "approved"
    assert (await stage.live(), heard) == ([launch.run_id], ["approved"])


async def test_only_another_hand_with_the_rights_approves(stage: Stage) -> None:
    asked = await stage.asked()
    owner, composition = stage.owner, stage.composition
    for lacking in DECIDER[:2]:
        client = await composition.client_with(*(one for one in DECIDER if one != lacking))
        refused = await stage.approve(asked, client)
        assert (refused.status, refused.code) == (403, Code.PERMISSION_MISSING), lacking
    proposer = (await owner.post("/v1/api-keys", {"name": "p", "permissions": [*DECIDER, "key:write"]})).data
    client = composition.client(proposer["key"])
    made = await client.post("/v1/api-keys", {"name": "child", "permissions": [*DECIDER]})
    launch = await stage.propose(await stage.request(), proposer["key"])  # it has no wallet:spend, so it proposes
    assert launch.approval is not None
    own = {"id": launch.approval.id, "binding": launch.approval.binding}
    for hand in (client, composition.client(made.data["key"])):
        refused = await stage.approve(own, hand)
        assert (refused.status, refused.code) == (403, Code.PERMISSION_MISSING)
        assert "proposed" in refused.body["message"]
    other = await owner.create_workflow(saying(), name="other")
    limited = {"name": "l", "permissions": [*DECIDER], "workflowIds": [other["id"]]}
    stranger = composition.client((await owner.post("/v1/api-keys", limited)).data["key"])
    for client in (stranger, await composition.other_owner()):
        assert (await client.get(f"/v1/approvals/{asked['id']}")).code == Code.APPROVAL_UNKNOWN
        assert (await stage.approve(asked, client)).code == Code.APPROVAL_UNKNOWN
    assert await stage.live() == []
    assert (await stage.approve(asked)).status == 200


async def test_a_decision_names_what_was_looked_at(stage: Stage) -> None:
    asked, path = await stage.asked(), "/v1/approvals/{}/approve"
    missing = await stage.decider.post(path.format(asked["id"]), {})
    assert (missing.status, missing.fields) == (400, ["binding"])
    other = await stage.decider.post(path.format(asked["id"]), {"binding": "0" * 64})
    assert (other.status, other.code) == (409, Code.BINDING_MISMATCH)
    assert await stage.live() == []


async def test_an_old_question_starts_nothing(stage: Stage) -> None:
    asked = await stage.asked()
    over = sa.update(approvals).where(approvals.c.id == asked["id"]).values(expires_at=approvals.c.created_at - 1)
    await stage.composition.execute(over)
    late = await stage.approve(asked)
    assert (late.status, late.code) == (409, Code.APPROVAL_DECIDED)
    assert (await stage.owner.get(f"/v1/approvals/{asked['id']}")).data["status"] == "timed_out"
    assert (await stage.owner.get("/v1/approvals")).data["items"] == []
    found = (await stage.owner.get("/v1/approvals?status=timed_out,approved")).data["items"]
    assert [one["id"] for one in found] == [asked["id"]]
    assert await stage.live() == []


async def test_a_called_workflow_that_changes_stops_the_launch(stage: Stage) -> None:
    inner = (await stage.owner.create_workflow(saying("inner"), name="inner"))["id"]
    call = {"type": "call-workflow", "payload": {"workflowId": inner, "payload": {}}, "children": []}
    outer = {"nodes": {"root": {"type": "manual", "children": ["call"]}, "call": call}}
    stage.workflow_id = (await stage.owner.create_workflow(outer, name="outer"))["id"]
    asked = await stage.asked()
    waiting = await stage.request()
    await stage.owner.put(f"/v1/workflows/{inner}", {"definition": saying("changed")})
    late = await stage.approve(asked)
    assert (late.status, late.code) == (409, Code.REHEARSAL_MISMATCH)
    assert await mismatch(stage, waiting) == ["version"]
    assert await stage.live() == []
    again = await stage.asked()
    assert (await stage.approve(again)).status == 200
    async with asyncio.timeout(60):
        while (await stage.owner.get(f"/v1/runs/{again['launch']['runId']}")).data["status"] != "success":
            await asyncio.sleep(0.02)


async def test_an_archived_workflow_is_not_launched(stage: Stage) -> None:
    asked, waiting = await stage.asked(), await stage.request()
    assert (await stage.owner.delete(f"/v1/workflows/{stage.workflow_id}")).status == 200
    assert (await stage.approve(asked)).code == Code.REHEARSAL_MISMATCH
    assert await mismatch(stage, waiting) == ["workflowId"]
    assert await stage.live() == []


@pytest.mark.both_stores
async def test_a_question_outlives_a_restart(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as composition:
        stage = await Stage.make(composition)
        asked, key = await stage.asked(), stage.keys["decider"]["key"]
    async with composed(tmp_path, database_url=store_url) as composition:
        answer = await composition.client(key).post(
            f"/v1/approvals/{asked['id']}/approve", {"binding": asked["binding"]}
        )
        assert answer.status == 200, answer.body
        found = (await composition.client(key).get(f"/v1/runs/{asked['launch']['runId']}")).data
        assert found["rehearsalRunId"] == asked["runId"]
