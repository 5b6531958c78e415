"""Launches of workflows that spend: held to their own rehearsal, by a decider who may spend from the wallets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.core.run.state import Mode
from dustrun.errors import Code, DustrunError
from dustrun.services.runs.launching.decision import LaunchRequest
from rehearsals import Run, Studio, error, open_studio, pay, second_wallet, told
from testkit.chain.contracts import World

DECIDER = ("approval:decide", "workflow:execute", "run:read")
Json = dict[str, Any]
UNITS = {"name": "units", "type": "number", "default": 700}


@pytest.fixture
async def studio(tmp_path: Path, world: World, store_url: str) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
            yield studio


async def proposed(studio: Studio, workflow: str, mode: Mode = Mode.LIVE) -> Json:
    """A launch that waits for a person."""
    rehearsal = await studio.run(workflow, simulate=True)
    assert rehearsal["passed"], told(rehearsal)
    key = (await studio.api.post("/v1/api-keys", {"name": "assistant", "scope": "mcp"})).data["key"]
    parts = studio.outbox.composition.parts
    principal = await parts.access.keys.find(key)
    assert principal is not None
    asked = LaunchRequest(workflow_id=workflow, version=1, mode=mode, rehearsal_run_id=rehearsal["id"])
    found = await parts.launches.propose(principal, asked)
    assert found.approval is not None
    return {"id": found.approval.id, "binding": found.approval.binding, "runId": found.run_id}


async def approved(studio: Studio, asked: Json) -> Run:
    """The launched run, once it has ended."""
    reply = await studio.api.post(f"/v1/approvals/{asked['id']}/approve", {"binding": asked["binding"]})
    assert reply.status == 200, reply.body
    return await studio.bench.ended(asked["runId"])


async def test_a_launch_pays_what_its_rehearsal_showed(studio: Studio) -> None:
    workflow = await studio.workflow({"pay": pay(700)})
    asked = await proposed(studio, workflow)
    before = studio.outbox.nonce()
    run = await approved(studio, asked)
    assert (run["status"], studio.outbox.nonce()) == ("success", before + 1), told(run)


async def test_a_launch_is_held_to_its_own_rehearsal(studio: Studio) -> None:
    workflow = await studio.workflow({"pay": pay("{{$vars.units}}")}, defs=[UNITS])
    asked = await proposed(studio, workflow)
    assert (await studio.api.post(f"/v1/workflows/{workflow}/variables/units/value", {"value": 900})).status == 200
    newest = await studio.run(workflow, simulate=True)  # which shows more, and is not what a person looked at
    assert newest["passed"], told(newest)
    before = studio.outbox.nonce()
    run = await approved(studio, asked)
    failure = error(run, "pay")
    assert (failure["code"], studio.outbox.nonce()) == ("REFUSED", before), told(run)
    assert "rehearsal of its launch" in failure["message"]
    retried = await studio.api.post(f"/v1/runs/{run['id']}/retry")  # a retry stays held to it
    again = await studio.bench.ended(retried.data["runId"])
    assert (error(again, "pay")["code"], studio.outbox.nonce()) == ("REFUSED", before)


async def test_the_decider_spends_from_the_wallets(studio: Studio) -> None:
    workflow = await studio.workflow({"pay": pay(700)})
    asked = await proposed(studio, workflow)
    path, bound = f"/v1/approvals/{asked['id']}/approve", {"binding": asked["binding"]}
    composition = studio.outbox.composition
    poor = await composition.client_with(*DECIDER)
    other = {"name": "o", "permissions": [*DECIDER, "wallet:spend"], "walletIds": [await second_wallet(studio)]}
    elsewhere = composition.client((await studio.api.post("/v1/api-keys", other)).data["key"])
    for client in (poor, elsewhere):
        refused = await client.post(path, bound)
        assert (refused.status, refused.code) == (403, Code.PERMISSION_MISSING)
    own = {"name": "m", "permissions": [*DECIDER, "wallet:spend"], "walletIds": [studio.outbox.wallet_id]}
    mine = composition.client((await studio.api.post("/v1/api-keys", own)).data["key"])
    assert (await mine.post(path, bound)).status == 200
    assert (await studio.bench.ended(asked["runId"]))["status"] == "success"


async def test_what_the_workflow_requires_is_asked_before_a_person_is(studio: Studio) -> None:
    workflow = await studio.workflow({"pay": pay(700)}, requireRehearsal="dust")
    with pytest.raises(DustrunError) as caught:
        await proposed(studio, workflow)
    assert caught.value.code is Code.REHEARSAL_MISSING
    run = await approved(studio, await proposed(studio, workflow, Mode.DUST))
    assert (run["mode"], run["status"]) == ("dust", "success"), told(run)
    assert (await approved(studio, await proposed(studio, workflow)))["status"] == "success"
