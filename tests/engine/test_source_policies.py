"""The statement `sources` of a policy: what shapes a spend decides whether a person is asked, in every mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outbox import address
from rehearsals import Studio, open_studio, pay, told
from testkit.chain.contracts import World

Nodes = dict[str, Any]


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain) as studio:
            rules: dict[str, Any] = {"amount": {"allow": ["definition", "starter", "chain"]}}
            rules["recipient"] = {"allow": ["definition", "starter"], "otherwise": "deny"}
            await studio.let(sources=rules)
            yield studio


async def asked(studio: Studio, run_id: str) -> list[str]:
    """Why a run waits for a person; empty if it has ended well."""
    run = await studio.bench.until(run_id, lambda run: run["status"] in ("waiting", "success", "failure"))
    if run["status"] == "waiting":
        items = (await studio.api.get("/v1/approvals")).data["items"]
        return [one["message"] for one in items if one["runId"] == run_id and one["status"] == "pending"]
    assert run["status"] == "success", told(run)
    return []


async def test_what_a_spend_hangs_on_asks_denies_or_passes_by_its_field(studio: Studio) -> None:
    """Constants and payloads of a starter pass; an amount by the clock asks, a recipient by it is denied. Also where
    another run is called, and in a simulation as live."""
    odd = "{{$now != '' ? '7' : '9'}}"
    passing = await studio.workflow({"pay": pay("{{$inputs.n}}")})
    started = await studio.api.post(f"/v1/workflows/{passing}/run", {"payload": {"n": "5"}})
    assert await asked(studio, started.data["runId"]) == []

    asking = await studio.workflow({"pay": pay(odd)})
    assert await _simulated(studio, asking) == ["ask"]
    (why,) = await asked(studio, (await studio.api.post(f"/v1/workflows/{asking}/run", {})).data["runId"])
    assert "The amount hangs on clock" in why, why

    unsaved = await studio.bench.start({"pay": pay(odd)})
    (why,) = await asked(studio, unsaved)
    assert "The amount hangs on clock" in why, "also in a definition that is not saved"

    denied = await studio.workflow({"pay": pay(1, to="{{$now != '' ? '" + address(2) + "' : '" + address(3) + "'}}")})
    assert await _simulated(studio, denied) == ["deny"]
    run = await studio.run(denied)
    assert (run["status"], "The recipient hangs on clock" in str(told(run))) == ("failure", True)

    helper = await studio.workflow({"say": {"type": "log", "payload": {"message": odd}}})
    call = {"type": "call-workflow", "payload": {"workflowId": helper}, "children": ["pay"]}
    calling = await studio.workflow({"call": call, "pay": pay("{{call.result.result.message}}")})
    (why,) = await asked(studio, (await studio.api.post(f"/v1/workflows/{calling}/run", {})).data["runId"])
    assert "The amount hangs on clock" in why

    inner = await studio.workflow({"pay": pay("{{$inputs.n}}")})
    call = {"type": "call-workflow", "payload": {"workflowId": inner, "payload": {"n": odd}}}
    (why,) = await _asked_anywhere(studio, await studio.workflow({"call": call}))
    assert "The amount hangs on clock" in why


async def _simulated(studio: Studio, workflow_id: str) -> list[str]:
    run = await studio.run(workflow_id, simulate=True)
    return [one["outcome"] for one in (await studio.effects(run))["policyVerdicts"]]


async def _asked_anywhere(studio: Studio, workflow_id: str) -> list[str]:
    before = {one["id"] for one in (await studio.api.get("/v1/approvals")).data["items"]}
    run_id = (await studio.api.post(f"/v1/workflows/{workflow_id}/run", {})).data["runId"]
    await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
    while True:
        items = (await studio.api.get("/v1/approvals")).data["items"]
        found = [one["message"] for one in items if one["id"] not in before]
        if found:
            return found


async def test_who_may_spend_and_saw_the_amount_is_not_asked_twice(studio: Studio) -> None:
    """An `approve` node stands for what its message shows by the same references."""
    make = studio.outbox.composition
    approver = await make.client_with("approval:decide", "wallet:spend")
    clerk = await make.client_with("approval:decide")
    ask = {"type": "approve", "payload": {"message": "Pay {{made.result.message}}?"}, "children": ["pay"]}
    made = {"type": "log", "payload": {"message": "{{$now != '' ? '7' : '9'}}"}, "children": ["ask"]}
    flow = await studio.workflow(
        {"made": made, "ask": ask, "pay": pay("{{string(int(made.result.message))}}", branch="approved")}
    )
    for by, questions in ((approver, 1), (clerk, 2)):
        run_id = (await studio.api.post(f"/v1/workflows/{flow}/run", {})).data["runId"]
        await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
        items = (await studio.api.get("/v1/approvals")).data["items"]
        (question,) = [one["id"] for one in items if one["runId"] == run_id]
        assert (await by.post(f"/v1/approvals/{question}/approve")).status == 200
        waits: list[str] = []
        if questions == 2:
            while not waits:
                items = (await studio.api.get("/v1/approvals")).data["items"]
                waits = [o["message"] for o in items if o["runId"] == run_id and o["status"] == "pending"]
            assert "The amount hangs on clock" in waits[0]
        else:
            assert (await studio.bench.ended(run_id))["status"] == "success"
