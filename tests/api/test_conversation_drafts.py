"""Drafts of the assistant come from what there is and are saved once they are right; what it explains has a source."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.test_conversation_streaming import ended
from testkit.composition import BROKEN_DEFINITION, DEFINITION, Composition, composed
from testkit.model_server import Asked, ModelServer, Reply, serving_model
from testkit.turn_scripts import results_in

Json = dict[str, Any]
STOPS: Json = {
    "nodes": {
        "root": {"type": "manual", "children": ["end"]},
        "end": {"type": "stop", "payload": {"status": "failure", "message": "The shop is closed."}},
    },
    "triggerNodeIds": ["root"],
}


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with serving_model(Reply("Hello.")) as server:
        yield server


@pytest.fixture
async def server(tmp_path: Path, models: ModelServer) -> AsyncIterator[Composition]:
    async with composed(tmp_path, outbound_allow=("127.0.0.1",)) as composition:
        await composition.owner.post("/v1/connectors", models.connector())
        yield composition


async def turn(server: Composition, models: ModelServer, *calls: tuple[str, Json]) -> list[Json]:
    """The results of calls that a model makes one after the other."""
    seen: list[Json] = []

    def script(asked: Asked) -> Reply:
        seen[:] = results_in(asked)
        return Reply(calls=(calls[len(seen)],)) if len(seen) < len(calls) else Reply("Done.")

    models.script = script
    chat = (await server.owner.post("/v1/conversations", {})).data["id"]
    begun = await server.owner.post(f"/v1/conversations/{chat}/turns", {"text": "Hi"})
    message = await ended(server.owner, chat, begun.data["messageId"])
    assert message["status"] == "complete", message
    return seen


async def test_draft_with_errors_is_repaired_before_it_is_saved(server: Composition, models: ModelServer) -> None:
    def save(definition: Json, name: str) -> tuple[str, Json]:
        return ("save_workflow", {"name": name, "definition": definition})

    refused, saved = await turn(server, models, save(BROKEN_DEFINITION, "a"), save(DEFINITION, "b"))
    assert (refused["saved"], refused["valid"], refused["repairsLeft"]) == (False, False, 3)
    assert "no-such-type" in json.dumps(refused["untrusted"])
    assert saved["valid"] is True
    assert [one["name"] for one in (await server.owner.get("/v1/workflows")).data["items"]] == ["b"]
    seen = await turn(server, models, *(save(BROKEN_DEFINITION, f"n{count}") for count in range(4)))
    assert [one.get("saved", True) for one in seen] == [False, False, False, True]
    assert seen[3]["errorCount"] > 0


async def test_templates_are_found_by_some_of_the_words(server: Composition, models: ModelServer) -> None:
    found, template = await turn(
        server,
        models,
        ("search_templates", {"query": "post a new feed entry of our blog to the chat"}),
        ("get_template", {"id": "feed-to-chat"}),
    )
    assert any("feed" in line for line in found["templates"])
    assert template["id"] == "feed-to-chat"


async def test_failure_and_change_are_told_from_what_is_stored(server: Composition, models: ModelServer) -> None:
    """Why a run failed, which step, and what changed since: each answer names its run, step and field."""
    made = await server.owner.create_workflow(STOPS)
    run = (await server.owner.post(f"/v1/workflows/{made['id']}/run-sync", {"simulate": True})).data["runId"]
    louder = json.loads(json.dumps(STOPS).replace("closed", "shut"))
    await server.owner.put(f"/v1/workflows/{made['id']}", {"definition": louder, "expectedCurrentVersion": 1})
    summary, nodes, node, changed = await turn(
        server,
        models,
        ("get_report", {"runId": run}),
        ("get_report", {"runId": run, "what": "nodes"}),
        ("get_report", {"runId": run, "what": "nodes", "node": "end"}),
        ("compare_versions", {"workflowId": made["id"], "to": 2}),
    )
    assert (summary["runId"], summary["status"]) == (run, "failure")
    assert "The shop is closed." in json.dumps(summary["untrusted"]["error"])
    assert {one["path"] for one in nodes["untrusted"]["nodes"]} == {"root", "end"}
    assert (node["runId"], node["untrusted"]["path"]) == (run, "end")
    assert (changed["from"], changed["to"], changed["equal"]) == (1, 2, False)
    [field] = changed["untrusted"]["nodesChanged"]
    assert field["nodeId"] == "end"
    assert field["changes"][0]["after"] == "The shop is shut."
