"""What streams over many runs tell besides: events that start no run, without a place in the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from services.triggers.test_intake import fire, published, server
from testkit.composition import Composition

__all__ = ["server"]


async def frames(server: Composition, path: str, key: str | None = None) -> AsyncGenerator[dict[str, str]]:
    """The frames of a stream as they come; the composition has no socket, so the application is called."""
    sent: asyncio.Queue[bytes] = asyncio.Queue()
    headers = [(b"authorization", f"Bearer {key or server.owner_key}".encode())]
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.put_nowait(message.get("body", b""))
        else:
            assert message["status"] == 200, message

    task = asyncio.get_running_loop().create_task(server.app(scope, receive, send))
    try:
        text = ""
        while True:
            text += (await sent.get()).decode()
            *whole, text = text.split("\n\n")
            for one in whole:
                fields = dict(line.split(": ", 1) for line in one.splitlines() if not line.startswith(":"))
                if "event" in fields or "retry" in fields:
                    yield fields
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("of_workflow", [False, True])
async def test_an_event_that_starts_no_run_is_told_once_and_has_no_place(
    server: Composition, of_workflow: bool
) -> None:
    other, bell = await published(server, cooldownMs=3_600_000), await published(server, cooldownMs=3_600_000)
    path = f"/v1/workflows/{bell[0]}/runs/stream" if of_workflow else "/v1/activity/stream"
    expected = [bell[0]] if of_workflow else [other[0], bell[0]]
    stream = frames(server, path)
    assert "retry" in await anext(stream)
    for _, sub in (other, bell):
        for key in ("a", "b", "b"):
            await fire(server, sub, key)
    found: list[dict[str, str]] = []
    async with asyncio.timeout(60):
        while len([one for one in found if one["event"] == "trigger_skipped"]) < len(expected):
            found.append(await anext(stream))
    await stream.aclose()
    skipped = [json.loads(one["data"]) for one in found if one["event"] == "trigger_skipped"]
    assert [one["workflowId"] for one in skipped] == expected
    assert {"id" in one for one in found if one["event"] == "trigger_skipped"} == {False}
    assert {"id" in one for one in found if one["event"] == "run_started"} == {True}
    recorded = (await server.owner.get(f"/v1/trigger-events/{skipped[-1]['eventId']}")).data
    assert (recorded["outcome"], recorded["key"]) == ("skipped", "b")
    assert (skipped[-1]["reason"], skipped[-1]["message"]) == ("cooldown", recorded["errorMessage"])


async def test_changes_of_workflows_are_told_once_and_nothing_else(server: Composition) -> None:
    stream = frames(server, "/v1/activity/stream")
    assert "retry" in await anext(stream)
    flow = {"nodes": {"root": {"type": "manual"}}, "triggerNodeIds": ["root"]}
    made = await server.owner.create_workflow(flow)
    path = f"/v1/workflows/{made['id']}"
    for _ in range(2):  # the second changes nothing
        await server.owner.put(path, {"name": "renamed"})
    refused = await server.owner.put(path, {"name": "lost", "expectedCurrentVersion": 7})
    assert refused.status == 409
    await server.owner.post(f"{path}/publish")
    last = await server.owner.create_workflow(flow)
    told: list[str] = []
    async with asyncio.timeout(60):
        while last["id"] not in told:
            frame = await anext(stream)
            assert (frame["event"], "id" in frame) == ("workflow_changed", False)
            told.append(json.loads(frame["data"])["workflowId"])
    await stream.aclose()
    assert told == [made["id"]] * 3 + [last["id"]]


async def test_a_limited_key_hears_of_its_own_workflows_alone(server: Composition) -> None:
    flow = {"nodes": {"root": {"type": "manual"}}, "triggerNodeIds": ["root"]}
    other, own = await server.owner.create_workflow(flow), await server.owner.create_workflow(flow)
    limits = {"permissions": ["run:stream", "workflow:read"], "workflowIds": [own["id"]]}
    key = (await server.owner.post("/v1/api-keys", {"name": "limited", **limits})).data["key"]
    stream = frames(server, "/v1/activity/stream", key)
    assert "retry" in await anext(stream)
    for one in (other, own):
        assert (await server.owner.put(f"/v1/workflows/{one['id']}", {"name": "renamed"})).status == 200
    async with asyncio.timeout(60):
        frame = await anext(stream)
    await stream.aclose()
    assert (frame["event"], json.loads(frame["data"])["workflowId"]) == ("workflow_changed", own["id"])
