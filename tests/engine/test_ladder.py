"""The ladder: simulate, dust, live. What a rung allows, and live spends that are held to their rehearsal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outbox import address
from rehearsals import SHOP, Run, Studio, balance, call, error, hand, node, open_studio, pay, result, told
from testkit.chain.contracts import World

Nodes = dict[str, Any]


@pytest.fixture
async def studio(tmp_path: Path, world: World) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain) as studio:
            yield studio


class Guarded:
    """A workflow whose live spends are held to a simulation."""

    def __init__(self, studio: Studio, workflow_id: str) -> None:
        self.studio = studio
        self.id = workflow_id

    @classmethod
    async def make(cls, studio: Studio, nodes: Nodes, **rule: Any) -> Guarded:
        """Stores it with the guard."""
        guard = {"tolerancePercent": 0, **rule}
        return cls(studio, await studio.workflow(nodes, enforceRehearsal=guard))

    async def simulate(self, **payload: Any) -> Run:
        """Simulates, and it passes."""
        run = await self.studio.run(self.id, simulate=True, payload=payload)
        assert run["passed"], told(run)
        return run

    async def live(self, **payload: Any) -> Run:
        """Runs for real."""
        return await self.studio.run(self.id, payload=payload)

    async def refused(self, path: str = "pay", **payload: Any) -> dict[str, Any]:
        """Runs for real and is refused before anything of the node is signed."""
        before = self.studio.outbox.nonce()
        run = await self.live(**payload)
        found: dict[str, Any] = error(run, path)
        assert found is not None, "the guard let it through"
        assert found["code"] == "REFUSED", told(run)
        assert self.studio.outbox.nonce() == before
        return found


async def test_two_modes_at_once_are_refused(studio: Studio) -> None:
    workflow = await studio.workflow({"pay": pay(1)})
    reply = await studio.api.post(f"/v1/workflows/{workflow}/run", {"simulate": True, "dustTest": True})
    assert (reply.status, reply.code, reply.fields) == (400, 400077, ["dustTest"])
    definition = {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay(1)}}
    reply = await studio.api.post("/v1/runs", {"definition": definition, "simulate": True, "dustTest": True})
    assert (reply.status, reply.code) == (400, 400077)


async def _ladder(studio: Studio, workflow: str) -> dict[str, Any]:
    found: dict[str, Any] = (await studio.api.get(f"/v1/workflows/{workflow}")).data["ladder"]
    return found


async def test_rungs_are_those_of_the_version_and_gate_publishing(studio: Studio) -> None:
    workflow = await studio.workflow({"pay": pay(5)}, requireRehearsal="dust")
    publish = f"/v1/workflows/{workflow}/publish"
    simulated = await studio.run(workflow, simulate=True)
    assert await _ladder(studio, workflow) == {"simulate": simulated["id"], "dust": None, "live": None}
    refused = await studio.api.post(publish, {})
    assert (refused.status, refused.code) == (409, 409010)
    assert "dustTest" in refused.body["message"]
    dusted = await studio.run(workflow, dustTest=True)
    assert (dusted["status"], dusted["passed"]) == ("success", True)
    assert (await studio.api.post(publish, {})).status == 200
    live = await studio.run(workflow)
    assert await _ladder(studio, workflow) == {
        "simulate": simulated["id"],
        "dust": dusted["id"],
        "live": live["id"],
    }
    changed = {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay(6)}}
    assert (await studio.api.put(f"/v1/workflows/{workflow}", {"definition": changed})).status == 200
    assert await _ladder(studio, workflow) == {"simulate": None, "dust": None, "live": None}
    again = await studio.api.post(publish, {})
    assert (again.status, again.code) == (409, 409010)


async def test_a_rehearsal_that_failed_or_assumed_is_no_rung(studio: Studio) -> None:
    workflow = await studio.workflow({"pay": pay("{{$inputs.units}}")}, requireRehearsal="simulate")
    failed = await studio.run(workflow, simulate=True, payload={"units": str(10**30)})
    assert failed["status"] == "failure"
    assert await _ladder(studio, workflow) == {"simulate": None, "dust": None, "live": None}
    refused = await studio.api.post(f"/v1/workflows/{workflow}/publish", {})
    assert "simulate" in refused.body["message"]
    assert (await studio.run(workflow, simulate=True, payload={"units": "1"}))["passed"]
    assert (await studio.api.post(f"/v1/workflows/{workflow}/publish", {})).status == 200


async def test_what_was_rehearsed_passes_and_more_does_not(studio: Studio) -> None:
    """What is paid follows the state, so that it is another amount than the rehearsed one without another payload."""
    nodes = {"has": balance(SHOP, "pay"), "pay": pay("{{int(has.result.balance) + 1000}}", to=address(2))}
    guarded = await Guarded.make(studio, nodes, tolerancePercent=10)
    assert "no passed simulation" in (await guarded.refused())["message"]
    await guarded.simulate()
    run = await guarded.live()
    assert run["status"] == "success", told(run)
    studio.witness.pay(SHOP, 100)
    assert (await guarded.live())["status"] == "success"  # ten percent more is tolerated
    studio.witness.pay(SHOP, 1)
    found = await guarded.refused()
    assert "rehearsed 1000" in found["message"]
    assert "Simulate with the payload of this run" in found["message"]
    await guarded.simulate()
    assert (await guarded.live())["status"] == "success"
    dust = await studio.run(guarded.id, dustTest=True)
    assert dust["status"] == "success", told(dust)  # a dust test is a rehearsal itself


async def test_elsewhere_another_asset_or_another_call_is_refused(studio: Studio) -> None:
    """The way that is taken hangs on the state."""
    usdc = studio.witness.addresses["usdc"]
    where = "{{has.result.balance == '0' ? '" + address(2) + "' : '" + address(3) + "'}}"
    mint = "mint(address to, uint256 value)"
    nodes = {
        "has": balance(SHOP, "pay", "hand", "call"),
        "pay": pay(5, to=where, onError="continue"),
        "hand": hand("{{has.result.balance == '0' ? 'USDC' : 'DAI'}}", 5, onError="continue", to=address(4)),
        "call": call(usdc, mint, args=[address(5), "{{has.result.balance == '0' ? '7' : '8'}}"], onError="continue"),
    }
    guarded = await Guarded.make(studio, nodes, tolerancePercent=100)
    await guarded.simulate()
    assert (await guarded.live())["status"] == "success"
    studio.witness.pay(SHOP, 1)
    nonce = studio.outbox.nonce()
    run = await guarded.live()
    assert {name: error(run, name)["code"] for name in ("pay", "hand", "call")} == dict.fromkeys(
        ("pay", "hand", "call"), "REFUSED"
    )
    assert address(2) in error(run, "pay")["message"]
    assert "calldata" in error(run, "call")["message"]
    assert studio.outbox.nonce() == nonce


async def test_another_payload_or_version_is_no_match_and_an_old_one_neither(studio: Studio) -> None:
    guarded = await Guarded.make(studio, {"pay": pay("{{$inputs.units}}")}, maxAgeMs=600_000)
    await guarded.simulate(units="5", note="a")
    assert (await guarded.live(note="a", units="5"))["status"] == "success"  # the order of keys says nothing
    assert "no passed simulation" in (await guarded.refused(units="4", note="a"))["message"]
    changes = {"definition": {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay(5)}}}
    assert (await studio.api.put(f"/v1/workflows/{guarded.id}", changes)).status == 200
    assert "no passed simulation" in (await guarded.refused(units="5", note="a"))["message"]
    await guarded.simulate(units="5", note="a")
    rule = {"enforceRehearsal": {"tolerancePercent": 0, "maxAgeMs": 1000}}
    assert (await studio.api.put(f"/v1/workflows/{guarded.id}", rule)).status == 200
    await asyncio.sleep(1.2)
    assert "maxAgeMs" in (await guarded.refused(units="5", note="a"))["message"]


async def test_items_of_a_loop_are_matched_by_their_paths(studio: Studio) -> None:
    """A row more, a row that is more, rows that changed places."""
    usdc, tell = studio.witness.addresses["usdc"], "balanceOf(address) returns (uint256)"
    nodes = {
        "has": node("read-contract", "each", payload={"contract": usdc, "function": tell, "args": [SHOP]}),
        "each": {
            "type": "for-each",
            "payload": {
                "array": "{{[1, 2, 3].slice(0, int(has.result.value) + 2)}}",
                "concurrency": 2,
                "onItemError": "continue",
            },
            "loopBody": ["pay"],
        },
        "pay": pay("{{$index + 1}}", to=address(9)),
    }
    guarded = await Guarded.make(studio, nodes)
    await guarded.simulate()
    run = await guarded.live()
    assert run["status"] == "success", told(run)
    studio.witness.send("usdc", "transfer", SHOP, 1)
    nonce = studio.outbox.nonce()
    run = await guarded.live()
    items = result(run, "each")["iterations"]
    assert [one["status"] for one in items] == ["success", "success", "failure"]
    assert items[2]["error"]["code"] == "REFUSED"
    assert "no such transaction" in items[2]["error"]["message"]
    assert studio.outbox.nonce() == nonce + 2


async def test_a_rule_holds_for_what_its_runs_call(studio: Studio) -> None:
    """The called workflow has no rule of its own, and its payload is never the same twice."""
    callee = await studio.workflow({"pay": pay("{{$inputs.units}}", to=address(9))})
    calls = {"workflowId": callee, "payload": {"units": "{{int(has.result.balance) + 7}}", "at": "{{$now}}"}}
    each = {"type": "for-each", "payload": {"array": [1, 2], "onItemError": "continue"}, "loopBody": ["call"]}
    nodes = {
        "has": balance(SHOP, "each"),
        "each": each,
        "call": {"type": "call-workflow", "payload": calls},
    }
    guarded = await Guarded.make(studio, nodes)
    refused = await guarded.live()
    assert [one["status"] for one in result(refused, "each")["iterations"]] == ["failure", "failure"]
    await guarded.simulate()
    run = await guarded.live()
    assert run["status"] == "success", told(run)
    studio.witness.pay(SHOP, 1)
    nonce = studio.outbox.nonce()
    run = await guarded.live()
    items = result(run, "each")["iterations"]
    assert [one["status"] for one in items] == ["failure", "failure"]
    assert "rehearsed 7" in items[0]["error"]["message"]
    assert studio.outbox.nonce() == nonce
    changed = {"definition": {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay(1)}}}
    assert (await studio.api.put(f"/v1/workflows/{callee}", changed)).status == 200
    run = await guarded.live()
    assert "version" in result(run, "each")["iterations"][0]["error"]["message"]
    assert studio.outbox.nonce() == nonce


async def test_a_retry_of_what_a_run_called_keeps_the_rule_of_its_caller(studio: Studio) -> None:
    """So does a retry of that retry, and what a retried run calls itself."""
    inner = await studio.workflow({"pay": pay("{{$inputs.units}}")})
    passed_on = {"units": "{{$inputs.units}}"}
    callee = await studio.workflow(
        {"call": {"type": "call-workflow", "payload": {"workflowId": inner, "payload": passed_on}}}
    )
    calls = {"type": "call-workflow", "payload": {"workflowId": callee, "payload": passed_on}}
    guarded = await Guarded.make(studio, {"call": calls})
    nonce = studio.outbox.nonce()
    assert (await guarded.live(units=7))["status"] == "failure"
    for workflow_id in (inner, callee, inner, callee):
        failed = (await studio.api.get(f"/v1/workflows/{workflow_id}/runs")).data["items"][0]
        again = (await studio.api.post(f"/v1/runs/{failed['id']}/retry")).data["runId"]
        run = await studio.bench.ended(again)
        assert run["status"] == "failure", told(run)
        assert "no passed simulation" in run["error"]["message"]
    assert studio.outbox.nonce() == nonce
    await guarded.simulate(units=7)
    run = await studio.bench.ended((await studio.api.post(f"/v1/runs/{run['id']}/retry")).data["runId"])
    assert (run["status"], studio.outbox.nonce()) == ("success", nonce + 1), told(run)


async def test_a_signature_is_never_rehearsed(studio: Studio) -> None:
    guarded = await Guarded.make(studio, {"sign": {"type": "sign-message", "payload": {"message": "x"}}})
    await guarded.simulate()
    assert "cannot be rehearsed" in (await guarded.refused("sign"))["message"]
