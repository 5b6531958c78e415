"""Text that is shown while a model writes it, and models that stop, lie or go on without an end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from testkit.composition import Client, Composition, composed
from testkit.model_server import ModelServer, Reply, serving_model

Json = dict[str, Any]
LONG = "One word after the other, so that it takes a while to say them all. " * 4
TOKEN = "sk-model-0123456789"


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with serving_model(Reply("Hello.")) as server:
        yield server


@pytest.fixture
async def server(tmp_path: Path, models: ModelServer) -> AsyncIterator[Composition]:
    async with composed(tmp_path, outbound_allow=("127.0.0.1",)) as composition:
        yield composition


async def begin(server: Composition, models: ModelServer, type_: str = "llm-openai") -> tuple[str, str]:
    owner = server.owner
    made = (await owner.post("/v1/connectors", models.connector(type_))).data["id"]
    chat = (await owner.post("/v1/conversations", {})).data["id"]
    begun = await owner.post(f"/v1/conversations/{chat}/turns", {"text": "Hi", "connectorId": made})
    return chat, begun.data["messageId"]


async def ended(api: Client, chat: str, message: str) -> Json:
    async with asyncio.timeout(180):
        while True:
            found: Json = (await api.get(f"/v1/conversations/{chat}/messages/{message}")).data
            if found["status"] in ("complete", "failed"):
                return found
            await asyncio.sleep(0.02)


async def deltas(server: Composition, chat: str) -> list[str]:
    from dustrun.core.values.exact_json import loads

    found = await server.parts.data.turns.list_events(chat, 0)
    return [loads(one.data)["text"] for one in found if one.type == "text_delta"]


@pytest.mark.parametrize("type_", ["llm-openai", "llm-anthropic"])
async def test_text_is_shown_while_it_is_written(server: Composition, models: ModelServer, type_: str) -> None:
    """Each piece is in the message before the answer has ended, and ends with a whole word."""
    goes_on = threading.Event()
    models.replies = [
        Reply(LONG, calls=(("list_runs", {"limit": 1}),), pause_s=0.02, tokens=(70, 30), goes_on=goes_on),
        Reply("Done.", whole=True, tokens=(70, 30)),
    ]
    chat, message = await begin(server, models, type_)
    partial = ""
    async with asyncio.timeout(180):
        while len(await deltas(server, chat)) < 2:
            await asyncio.sleep(0.01)
        partial = (await server.owner.get(f"/v1/conversations/{chat}/messages/{message}")).data["parts"][0]["text"]
    assert LONG.startswith(partial)
    assert partial.endswith(" ")
    assert len(partial) < len(LONG)
    goes_on.set()
    found = await ended(server.owner, chat, message)
    assert [part["type"] for part in found["parts"]] == ["text", "tool_call", "tool_result", "text"]
    assert found["parts"][0]["text"] == LONG
    assert found["parts"][1]["args"] == {"limit": 1}
    shown = await deltas(server, chat)
    assert "".join(shown) == LONG + "Done."
    assert len(shown) > 3
    assert (found["usage"]["inputTokens"], found["usage"]["outputTokens"]) == (140, 60)


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (Reply(LONG, pause_s=0.01, cuts=True), True),
        (Reply(LONG, pause_s=0.01, ends_early=True), True),
        (Reply("", calls=(("save_workflow", {"name": "x", "definition": {"nodes": {}}}),), ends_early=True), False),
        (Reply("", calls=(("simulate", {"definition": {"x": "y" * 10_000_000}}),)), False),
        (Reply("x", status=429, raw=b"slow down", headers={"retry-after": "30"}), False),
        (Reply("x", raw=b"data: {\n\n", headers={"content-type": "text/event-stream"}), False),
    ],
    ids=["cut", "ends-early", "half-json", "10-megabytes", "429", "no-json"],
)
async def test_answer_that_does_not_end_is_no_answer(
    server: Composition, models: ModelServer, reply: Reply, kept: bool
) -> None:
    """Nothing of it is carried out, nothing is asked again, and what was shown stays."""
    models.replies = [reply]
    chat, message = await begin(server, models)
    found = await ended(server.owner, chat, message)
    assert (found["status"], found["failure"], len(models.asked)) == ("failed", "MODEL", 1)
    assert [part["type"] for part in found["parts"]] == ["text"] * kept
    shown = "".join(await deltas(server, chat))
    assert found["content"] == shown
    assert LONG.startswith(shown)
    assert (found["usage"]["costUsd"] != "0") == kept
    assert float(found["usage"]["costUsd"]) < 0.5
    assert (await server.owner.get("/v1/workflows")).data["items"] == []
    assert (await server.owner.get("/v1/runs")).data["items"] == []


async def test_secret_that_a_model_says_is_hidden_in_every_piece(server: Composition, models: ModelServer) -> None:
    models.replies = [
        Reply(f"It is {TOKEN} and {LONG}", calls=(("list_workflows", {"query": TOKEN}),), pause_s=0.02),
        Reply("Done."),
    ]
    chat, message = await begin(server, models)
    found = await ended(server.owner, chat, message)
    assert "It is ••• and" in found["content"]
    assert TOKEN not in str(found)
    events = await server.parts.data.turns.list_events(chat, 0)
    assert TOKEN not in "".join(one.data for one in events)


async def test_a_token_opens_only_what_its_key_could_read(server: Composition, models: ModelServer) -> None:
    chat, message = await begin(server, models)
    await ended(server.owner, chat, message)
    conversation, activity = f"/v1/conversations/{chat}/stream", "/v1/activity/stream"
    follows, both = await server.client_with("run:stream"), await server.client_with("run:stream", "chat:read")
    refused = await follows.post("/v1/stream-tokens", {"stream": conversation})
    assert (refused.status, '"chat:read"' in refused.body["message"]) == (403, True)
    for stream in (conversation, activity):
        url = (await both.post("/v1/stream-tokens", {"stream": stream})).data["url"]
        token = url.partition("?token=")[2]
        principal = await server.parts.streams.use_token(token, stream)
        assert principal.permissions == {"chat:read" if stream == conversation else "run:stream"}
    assert (await follows.post("/v1/stream-tokens", {"stream": activity})).status == 200
