"""A turn that proposes a launch waits for a person, through restarts, and goes on with the decision, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.test_conversation_turns import distinct, lines
from dustrun.api.mcp.toolbox import McpToolbox
from dustrun.errors import Code
from dustrun.storage.db.tables import approvals
from dustrun.storage.runs import approvals as approval_rows
from testkit.composition import Client, Composition, composed
from testkit.model_server import ModelServer, Reply, serving_model
from testkit.turn_scripts import launching

Json = dict[str, Any]
SETTINGS: Json = {"outbound_allow": ("127.0.0.1",), "stream_heartbeat_s": 0.2}


class Stage:
    """A server, its model, a workflow, and a conversation in which the model proposes to start it."""

    def __init__(self, folder: Path, store_url: str, models: ModelServer) -> None:
        self.folder = folder
        self.store_url = store_url
        self.models = models
        self.workflow = self.chat = self.message = ""

    def open(self) -> Any:
        return composed(self.folder, database_url=self.store_url, **SETTINGS)

    async def prepare(self, server: Composition) -> None:
        await server.owner.post("/v1/connectors", self.models.connector())
        self.workflow = (await server.owner.create_workflow())["id"]
        self.models.script = launching(self.workflow)
        self.chat = (await server.owner.post("/v1/conversations", {})).data["id"]

    async def begin(self, server: Composition) -> None:
        path = f"/v1/conversations/{self.chat}/turns"
        self.message = (await server.owner.post(path, {"text": "Run it"})).data["messageId"]

    async def until(self, api: Client, *statuses: str) -> Json:
        """The message, once it is in one of these states."""
        async with asyncio.timeout(60):
            while True:
                found: Json = (await api.get(f"/v1/conversations/{self.chat}/messages/{self.message}")).data
                if found["status"] in statuses:
                    return found
                await asyncio.sleep(0.02)

    async def waiting(self, server: Composition) -> Json:
        """The question of the turn, once it waits."""
        message = await self.until(server.owner, "waiting", "failed", "complete")
        assert message["status"] == "waiting", message
        question: Json = message["parts"][-1]
        assert question["type"] == "approval"
        return question

    async def live(self, server: Composition) -> list[Json]:
        found: list[Json] = (await server.owner.get("/v1/runs?mode=live,dust")).data["items"]
        return found

    async def events(self, server: Composition) -> list[str]:
        """The types of the conversation's events; their numbers have no gap."""
        found = await server.parts.data.turns.list_events(self.chat, 0)
        assert [one.seq for one in found] == list(range(1, len(found) + 1))
        return distinct(one.type for one in found)


@pytest.fixture
async def stage(tmp_path: Path, store_url: str) -> AsyncIterator[Stage]:
    async with serving_model(Reply("Hello.")) as models:
        yield Stage(tmp_path, store_url, models)


async def approve(api: Client, question: Json) -> Any:
    return await api.post(f"/v1/approvals/{question['approvalId']}/approve", {"binding": question["binding"]})


@pytest.mark.both_stores
async def test_a_launch_waits_for_the_person_and_starts_once(stage: Stage) -> None:
    """The key in whose name the turn runs decides, by the binding; the turn goes on with the decision."""
    async with stage.open() as server:
        await stage.prepare(server)
        await stage.begin(server)
        question = await stage.waiting(server)
        approval = (await server.owner.get(f"/v1/approvals/{question['approvalId']}")).data
        assert (approval["kind"], approval["binding"]) == ("launch", question["binding"])
        assert approval["launch"]["runId"] == question["runId"]
        assert (question["mode"], question["decision"], await stage.live(server)) == ("live", None, [])
        second = await server.owner.post(f"/v1/conversations/{stage.chat}/turns", {"text": "Go on"})
        assert second.code == Code.TURN_OPEN
        wrong = {**question, "binding": "0" * 64}
        assert (await approve(server.owner, wrong)).code == Code.BINDING_MISMATCH
        clicks = await asyncio.gather(*(approve(server.owner, question) for _ in range(3)))
        assert sorted(reply.status for reply in clicks) == [200, 409, 409]
        message = await stage.until(server.owner, "complete", "failed")
        assert message["content"] == "I try it.\n\nI ask you.\n\nIt was approved."
        kinds = [part["type"] for part in message["parts"]]
        assert kinds == ["text", "tool_call", "tool_result", "run", "text", "tool_call", "tool_call", "approval",
                         "tool_result", "run", "tool_result", "text"]  # fmt: skip
        assert message["parts"][7]["decision"] == "approved"
        told = json.loads(message["parts"][8]["content"])
        assert (told["decision"], told["runId"]) == ("approved", question["runId"])
        runs = await stage.live(server)
        assert [(run["id"], run["mode"]) for run in runs] == [(question["runId"], "live")]
        assert set(message["runIds"]) == {question["runId"], message["parts"][3]["runId"]}
        assert await stage.events(server) == [
            "turn_started", "text_delta", "tool_started", "run_linked", "tool_finished", "text_delta", "tool_started",
            "approval_requested", "approval_decided", "run_linked", "tool_finished", "tool_started", "tool_finished",
            "text_delta", "turn_finished",
        ]  # fmt: skip
        assert len(stage.models.asked) == message["usage"]["requests"] == 3


async def test_hooks_and_the_activity_hear_of_a_proposal(stage: Stage) -> None:
    async with stage.open() as server:
        await stage.prepare(server)
        hook = {"name": "told", "url": "http://127.0.0.1:9/x", "subscribedEventTypes": ["launch.*"]}
        await server.owner.post("/v1/hooks", hook)
        heard = lines(server.owner, "/v1/activity/stream", "launch_proposed")
        first = asyncio.ensure_future(last_of(heard))
        await asyncio.sleep(0)
        await stage.begin(server)
        question = await stage.waiting(server)
        told = json.loads((await first)[6:])
        about = {"approvalId": question["approvalId"], "runId": question["rehearsalRunId"], "mode": "live"}
        assert about.items() <= told.items()
        assert told["workflowId"] == stage.workflow
        async with asyncio.timeout(60):
            while not (made := (await server.owner.get("/v1/hook-deliveries")).data["items"]):
                await asyncio.sleep(0.02)
        body = (await server.owner.get(f"/v1/hook-deliveries/{made[0]['id']}")).data
        assert made[0]["eventType"] == "launch.proposed"
        assert question["approvalId"] in json.dumps(body)


async def test_a_rejection_is_told_with_its_reason(stage: Stage) -> None:
    async with stage.open() as server:
        await stage.prepare(server)
        await stage.begin(server)
        question = await stage.waiting(server)
        await server.owner.post(f"/v1/approvals/{question['approvalId']}/reject", {"comment": "too much"})
        message = await stage.until(server.owner, "complete", "failed")
        assert message["content"].endswith("It was rejected.")
        told = json.loads(message["parts"][8]["content"])
        assert (told["started"], told["untrusted"]) == (False, {"comment": "too much"})
        assert await stage.live(server) == []
        assert "approval_decided" in await stage.events(server)


@pytest.mark.both_stores
@pytest.mark.parametrize("decision", ["approved", "expired"])
async def test_a_restart_goes_on_waiting(stage: Stage, decision: str) -> None:
    async with stage.open() as server:
        await stage.prepare(server)
        await stage.begin(server)
        question = await stage.waiting(server)
    asked = len(stage.models.asked)
    async with stage.open() as server:
        assert await stage.waiting(server) == question
        assert len(stage.models.asked) == asked
        if decision == "expired":
            await server.execute(sa.update(approvals).values(expires_at=1))
            server.parts.data.turns.decided(await question_row(server, question))
        else:
            assert (await approve(server.owner, question)).status == 200
        message = await stage.until(server.owner, "complete", "failed")
        assert message["content"].endswith(f"It was {decision}.")
        assert len(await stage.live(server)) == (decision == "approved")
        assert (message["usage"]["requests"], len(stage.models.asked)) == (3, 3)
        shown = (await server.owner.get(f"/v1/approvals/{question['approvalId']}")).data
        assert shown["status"] == {"approved": "approved", "expired": "timed_out"}[decision]


async def last_of(lines: AsyncIterator[str]) -> str:
    return [line async for line in lines][-1]


async def question_row(server: Composition, question: Json) -> Any:
    org_id = (await server.owner.get("/v1/me")).data["organizationId"]
    return await server.parts.database.read(lambda tx: approval_rows.find(tx, org_id, question["approvalId"]))


STEPS = 15
"""Events of the whole turn."""


FEW = (1, 4, 8, 10, 15)


@pytest.mark.parametrize("steps", [FEW, pytest.param(range(1, STEPS + 1), marks=pytest.mark.long)], ids=["few", "all"])
async def test_a_server_that_stops_at_a_step_loses_no_part_and_starts_nothing_twice(
    stage: Stage, steps: Sequence[int]
) -> None:
    """The turn is cut off as soon as its stream has so many events; then another start takes it up. `soak turns` really
    kills servers."""
    async with stage.open() as server:
        await stage.prepare(server)
        ends = {at: await cut_turn(stage, server, at, is_down=False) for at in steps}
        assert await cut_turn(stage, server, 8, is_down=True) == ends[8] == ends[15] == "complete"
        assert ends[1] == ends[4] == "INTERRUPTED"
        assert set(ends.values()) == {"INTERRUPTED", "complete"}


async def cut_turn(stage: Stage, server: Composition, at: int, *, is_down: bool) -> str:
    """One turn that is cut off, and how the next start ends it. `is_down`: the person decides before that."""
    owner, turns = server.owner, server.parts.data.turns
    asked, live = len(stage.models.asked), len(await stage.live(server))
    stage.chat = (await owner.post("/v1/conversations", {})).data["id"]
    reader = turns.watch(stage.chat)
    await stage.begin(server)
    question: Json | None = None
    async with asyncio.timeout(60):
        while len(shown := await stage.events(server)) < at:
            if shown[-1] == "approval_requested" and question is None:
                question = await stage.waiting(server)
                await approve(owner, question)
            await reader.wait(0.05)
    for task in turns.tasks():
        task.cancel()
    await asyncio.gather(*turns.tasks(), return_exceptions=True)
    shown = await stage.events(server)
    parts = (await stage.until(owner, "streaming", "waiting", "complete"))["parts"]
    if is_down:
        await approve(owner, parts[-1])
    await turns.start(McpToolbox(server.parts))
    message = await stage.until(owner, "waiting", "failed", "complete")
    if message["status"] == "waiting" and not is_down and question is None:
        question = message["parts"][-1]
        await approve(owner, question)
    message = await stage.until(owner, "failed", "complete")
    turns.leave(stage.chat, reader)
    kept = [{**part, "decision": None} if part["type"] == "approval" else part for part in message["parts"]]
    assert kept[: len(parts)] == [{**one, "decision": None} if one["type"] == "approval" else one for one in parts]
    assert (await stage.events(server))[: len(shown)] == shown
    assert len(stage.models.asked) - asked <= message["usage"]["requests"] <= 3  # counted before it is sent
    was_approved = any(part["type"] == "approval" for part in message["parts"])
    assert len(await stage.live(server)) - live == was_approved
    return str(message["failure"] or message["status"])
