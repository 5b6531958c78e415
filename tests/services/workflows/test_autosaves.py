"""Autosaves of one editing session replace one another; what something has used stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import Definition
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.transitions import AUTOSAVE_PAUSE_MS, AUTOSAVE_SPAN_MS, Autosave, decide_draft
from dustrun.services.workflows.workflows import NewWorkflow, make_row
from dustrun.storage.db.tables import audit
from testkit.composition import Client, Composition, composed

Json = dict[str, Any]
PAY: Json = {"type": "send-native", "payload": {"chainId": 1, "recipient": "0x" + "1" * 40, "amount": "1000"}}
WRITER = ("workflow:create", "workflow:read", "workflow:update", "workflow:publish")


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as server:
        yield server


def saying(text: Any, **nodes: Json) -> Json:
    root = {"type": "manual", "children": ["say", *nodes]}
    return {"nodes": {"root": root, "say": {"type": "log", "payload": {"message": str(text)}}, **nodes}}


def calling(workflow_id: str, version: int) -> Json:
    return {"type": "call-workflow", "payload": {"workflowId": workflow_id, "version": version}}


class Draft:
    """A workflow that somebody edits."""

    def __init__(self, by: Client, made: Json) -> None:
        self.by = by
        self.id, self.version = made["id"], int(made["version"])

    @classmethod
    async def make(cls, by: Client) -> Draft:
        return cls(by, await by.create_workflow(saying("begun")))

    async def save(self, definition: Json, by: Client | None = None, session: str | None = "tab") -> int:
        """Saves over what was seen last; the new version."""
        body = {"definition": definition, "expectedCurrentVersion": self.version}
        body |= {"autosave": session} if session is not None else {}
        self.version = (await (by or self.by).put(f"/v1/workflows/{self.id}", body)).data["version"]
        return self.version

    async def versions(self) -> list[int]:
        found = (await self.by.get(f"/v1/workflows/{self.id}/versions")).data["items"]
        return sorted(one["version"] for one in found)

    async def run(self, **body: Any) -> Json:
        return dict((await self.by.post(f"/v1/workflows/{self.id}/run", {"simulate": True, **body})).data)


async def test_autosaves_of_a_session_leave_one_version(server: Composition) -> None:
    draft = await Draft.make(server.owner)
    for number in range(5):
        await draft.save(saying(number))
    assert (draft.version, await draft.versions()) == (6, [1, 6])
    stale = {"definition": saying("stale"), "expectedCurrentVersion": 5, "autosave": "tab"}
    refused = await server.owner.put(f"/v1/workflows/{draft.id}", stale)
    assert (refused.code, await draft.versions()) == (409001, [1, 6])
    gone = await server.owner.post(f"/v1/workflows/{draft.id}/run", {"version": 5, "simulate": True})
    assert gone.status == 404
    changed = (await server.owner.get(f"/v1/workflows/{draft.id}/versions/6/diff")).data
    assert (changed["from"], [one["nodeId"] for one in changed["nodesChanged"]]) == (1, ["say"])
    rows = await server.rows(sa.select(audit.c.action).where(audit.c.subject == draft.id))
    assert [row[0] for row in rows].count("workflow.update") == 5


async def test_what_has_been_used_stays(server: Composition) -> None:
    draft, owner = await Draft.make(server.owner), server.owner
    kept = [1]

    async def keep(used: int) -> None:
        kept.append(used)
        await draft.save(saying(f"after {used}"))
        await draft.save(saying(f"later than {used}"))
        assert await draft.versions() == [*kept, draft.version]

    await draft.save(saying("run"))
    ran = await draft.run()
    await keep(draft.version)
    assert (await owner.get(f"/v1/runs/{ran['runId']}")).data["workflowVersion"] == 2
    again = await draft.run(version=2)
    assert (await owner.get(f"/v1/runs/{again['runId']}")).data["workflowVersion"] == 2

    await owner.create_workflow({"nodes": {"root": {"type": "manual", "children": ["c"]}, "c": calling(draft.id, 4)}})
    await keep(4)
    kept.append(draft.version)
    await draft.save(saying("itself", itself=calling(draft.id, draft.version)))
    assert await draft.versions() == [*kept, draft.version]

    await draft.save(saying("published"))
    assert (await owner.post(f"/v1/workflows/{draft.id}/publish")).status == 200
    assert (await owner.delete(f"/v1/workflows/{draft.id}")).status == 200  # what was live is a draft again
    assert (await owner.post(f"/v1/workflows/{draft.id}/unarchive")).status == 200
    await keep(draft.version)

    kept.append(draft.version)
    await draft.save(saying("from elsewhere"), session="other tab")
    kept.append(draft.version)
    await draft.save(saying("by hand"), session=None)
    kept.append(draft.version)
    await draft.save(saying("begun again"))
    assert await draft.versions() == [*kept, draft.version]


async def test_a_draft_that_was_tested_on_the_past_stays(server: Composition) -> None:
    def at_noon(text: str) -> Json:
        tick = {"type": "cronjob", "payload": {"schedule": "0 12 * * *"}, "children": ["say"]}
        return {"nodes": {"tick": tick, "say": saying(text)["nodes"]["say"]}, "triggerNodeIds": ["tick"]}

    draft = await Draft.make(server.owner)
    await draft.save(at_noon("never tested"))
    await draft.save(at_noon("tested"))
    nothing_then = {"from": "2026-01-05T13:00:00Z", "to": "2026-01-05T20:00:00Z", "waitMs": 60_000}
    tested = (await server.owner.post(f"/v1/workflows/{draft.id}/backtest", nothing_then)).data
    assert (tested["status"], tested["version"], tested["eventsFound"]) == ("done", 3, 0), "no run keeps it"
    await draft.save(at_noon("changed"))
    await draft.save(at_noon("changed again"))
    assert await draft.versions() == [1, 3, 5]
    kept = (await server.owner.get(f"/v1/workflows/{draft.id}/versions/3")).data["definition"]
    assert kept["nodes"]["say"]["payload"] == {"message": "tested"}


async def test_an_accepted_draft_and_one_of_another_key_stay(server: Composition) -> None:
    writer = await server.client_with(*WRITER)
    draft = await Draft.make(server.owner)
    await draft.save(saying("mine"))
    await draft.save(saying("theirs", pay=PAY), by=writer)
    assert await draft.versions() == [1, 2, 3]
    accepted = await server.owner.post(f"/v1/workflows/{draft.id}/versions/3/accept", {})
    assert accepted.data["accepted"], accepted.data
    await draft.save(saying("theirs again", pay={**PAY, "payload": {**PAY["payload"], "amount": "2000"}}), by=writer)
    await draft.save(saying("once more", pay={**PAY, "payload": {**PAY["payload"], "amount": "3000"}}), by=writer)
    assert await draft.versions() == [1, 2, 3, 5]
    ladder = (await server.owner.get(f"/v1/workflows/{draft.id}/ladder")).data["acceptance"]
    assert (ladder["accepted"], ladder["againstVersion"]) == (False, 3)


@pytest.mark.both_stores
async def test_no_run_loses_its_version_to_an_autosave(server: Composition) -> None:
    draft = await Draft.make(server.owner)

    async def edit() -> None:
        for number in range(20):
            await draft.save(saying(number))

    async def runs() -> list[Json]:
        found: list[Json] = []
        while len(found) < 20:
            reply = await server.owner.post(f"/v1/workflows/{draft.id}/run", {"simulate": True})
            found += [reply.data] if reply.status != 503 else []  # it changed too fast; nothing was started
        return found

    _, *started = await asyncio.gather(edit(), runs(), runs())
    left = set(await draft.versions())
    for run in (one for some in started for one in some):
        assert (await server.owner.get(f"/v1/runs/{run['runId']}")).data["workflowVersion"] in left


@given(waits=st.lists(st.integers(0, 2 * AUTOSAVE_PAUSE_MS), min_size=1, max_size=40))
def test_a_history_keeps_a_version_of_each_pause_and_each_span(waits: list[int]) -> None:
    definition = Definition.model_validate(saying("begun"))
    by = Principal("key_1", "org_1", frozenset())
    row = make_row(by, NewWorkflow(name="flow", description="", definition=definition))
    now, since = 0, -AUTOSAVE_SPAN_MS - 1
    for wait in waits:
        now += wait
        changes, replaced = decide_draft(row, Autosave("key_1", "tab", now))
        goes_on = wait <= AUTOSAVE_PAUSE_MS and now - since <= AUTOSAVE_SPAN_MS
        assert replaced == (row.draft_version if goes_on else None)
        since = since if goes_on else now
        row = replace(row, **changes)
        assert exact_json.loads(row.autosave or "")["since"] == since
