"""A person stops a turn: no model is asked again, and nothing that it proposed can start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from api.test_conversation_launches import SETTINGS, Stage
from api.test_conversation_turns import conversation, turn
from testkit.composition import composed
from testkit.model_server import Reply, serving_model

pytestmark = pytest.mark.both_stores


async def test_turn_that_is_stopped(tmp_path: Path, store_url: str) -> None:
    async with (
        serving_model(Reply("late", delay_s=60)) as model,
        composed(tmp_path, database_url=store_url, **SETTINGS) as server,
    ):
        owner = server.owner
        await owner.post("/v1/connectors", model.connector())
        chat = await conversation(owner)
        path = f"/v1/conversations/{chat}/turns"
        message = (await owner.post(path, {"text": "Hi"})).data["messageId"]
        async with asyncio.timeout(60):
            while not model.asked:
                await asyncio.sleep(0.01)
        stranger = await server.client_with("chat:read", "chat:write")
        assert (await stranger.post(f"{path}/{message}/stop")).status == 403
        colleague = await server.client_with("assistant:use", "chat:read", "chat:write")
        assert "the key that asked" in (await colleague.post(f"{path}/{message}/stop")).body["message"]
        assert (await owner.post(f"/v1/conversations/{await conversation(owner)}/turns/{message}/stop")).status == 404
        for _ in range(2):  # the second finds it ended
            ended = (await owner.post(f"{path}/{message}/stop")).data
            assert ended == {"messageId": message, "status": "failed", "failure": "STOPPED"}
        assert [one.type for one in await server.parts.data.turns.list_events(chat, 0)] == [
            "turn_started",
            "turn_failed",
        ]
        model.replies[:] = [Reply("Hello.")]
        again = await turn(owner, chat)  # the conversation goes on at once
        assert (again["status"], len(model.asked)) == ("complete", 2)
        assert (await owner.post(f"{path}/{again['id']}/stop")).data["status"] == "complete"


async def test_turn_that_waits_is_stopped_with_its_question(tmp_path: Path, store_url: str) -> None:
    async with serving_model() as model:
        stage = Stage(tmp_path, store_url, model)
        async with stage.open() as server:
            await stage.prepare(server)
            await stage.begin(server)
            question = await stage.waiting(server)
            path = f"/v1/conversations/{stage.chat}/turns/{stage.message}/stop"
            assert (await server.owner.post(path)).data["failure"] == "STOPPED"
            asked = len(model.asked)
            approval = f"/v1/approvals/{question['approvalId']}"
            late = await server.owner.post(f"{approval}/approve", {"binding": question["binding"]})
            assert late.status == 409
            shown = (await server.owner.get(approval)).data
            assert (shown["status"], shown["comment"]) == ("rejected", "The turn was stopped.")
            assert (await stage.events(server))[-2:] == ["approval_decided", "turn_failed"]
            message = await stage.until(server.owner, "failed")
            assert [one["decision"] for one in message["parts"] if one["type"] == "approval"] == ["rejected"]
        async with stage.open() as server:  # and a restart wakes nothing
            assert await stage.live(server) == []
            assert (await stage.until(server.owner, "failed"))["failure"] == "STOPPED"
            assert len(model.asked) == asked
