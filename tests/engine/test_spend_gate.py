"""What a run that spends needs: a rehearsal of every spend that it can reach, and an author who may spend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outbox import address
from rehearsals import SHOP, Run, Studio, open_studio, pay, say, second_wallet, told
from testkit.chain.contracts import World
from testkit.composition import Client

Nodes = dict[str, Any]
REHEARSAL, ACCEPTANCE = 409010, 409011
WRITER = ("workflow:create", "workflow:read", "workflow:update", "workflow:publish", "workflow:execute", "run:read")


@pytest.fixture
async def studio(tmp_path: Path, world: World, store_url: str) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
            yield studio


def define(nodes: Nodes) -> Nodes:
    """A definition whose root leads to the nodes that nobody names."""
    named = {child for one in nodes.values() for child in one.get("children", ())}
    root = {"type": "manual", "children": [node_id for node_id in nodes if node_id not in named]}
    return {"nodes": {"root": root, **nodes}}


def calls(workflow_id: str, *children: str, **more: Any) -> Nodes:
    """A node that calls a workflow with its own run's payload."""
    payload = {"workflowId": workflow_id, "payload": "{{$inputs}}", **more.pop("with_", {})}
    return {"type": "call-workflow", "payload": payload, "children": [*children], **more}


def either(test: str, then: Nodes, other: Nodes) -> Nodes:
    """Nodes `then` and `other`, one of which runs."""
    choose = {"type": "if", "payload": {"expression": test}, "children": ["then", "other"]}
    return {"choose": choose, "then": {**then, "branch": "then"}, "other": {**other, "branch": "else"}}


class Gated:
    """A workflow, and runs of it that the gate refuses or lets through."""

    def __init__(self, studio: Studio, workflow_id: str, client: Client | None = None) -> None:
        self.studio = studio
        self.id = workflow_id
        self.api = client or studio.api

    @classmethod
    async def make(cls, studio: Studio, nodes: Nodes, **fields: Any) -> Gated:
        """Stores it as the owner."""
        return cls(studio, (await studio.api.create_workflow(define(nodes), **fields))["id"])

    async def edit(self, nodes: Nodes, **more: Any) -> int:
        """Saves a draft; gives its version."""
        reply = await self.api.put(f"/v1/workflows/{self.id}", {"definition": define(nodes), **more})
        assert reply.status == 200, reply.body
        return int(reply.data["version"])

    async def passes(self, **body: Any) -> Run:
        """Runs to the end with success; a rehearsal passes, too."""
        reply = await self.api.post(f"/v1/workflows/{self.id}/run", body)
        assert reply.status == 200, reply.body
        run = await self.studio.bench.ended(reply.data["runId"])
        assert (run["status"], run["passed"]) == ("success", True), told(run)
        return run

    async def refused(self, code: int = REHEARSAL, **body: Any) -> list[str]:
        """Starts nothing and signs nothing; gives the fields that the refusal names."""
        nonce = self.studio.outbox.nonce()
        reply = await self.api.post(f"/v1/workflows/{self.id}/run", body)
        assert (reply.status, reply.code) == (409, code), reply.body
        assert self.studio.outbox.nonce() == nonce
        fields: list[str] = reply.fields
        return fields

    async def ladder(self, **query: Any) -> Nodes:
        """The version's ladder."""
        reply = await self.studio.api.get(f"/v1/workflows/{self.id}/ladder", **query)
        assert reply.status == 200, reply.body
        found: Nodes = reply.data
        return found

    async def accept(self, by: Client, version: int, **body: Any) -> tuple[int, int | None]:
        """Accepts a version; gives status and code."""
        reply = await by.post(f"/v1/workflows/{self.id}/versions/{version}/accept", body)
        return reply.status, reply.code


async def failed_by_gate(studio: Studio, run_id: str, node_id: str, code: str) -> None:
    """A run whose call was refused by the gate before anything was signed."""
    nonce = studio.outbox.nonce()
    run = await studio.bench.ended(run_id)
    error = run["executionState"][node_id]["error"]
    assert (run["status"], error["code"]) == ("failure", code), told(run)
    assert studio.outbox.nonce() == nonce


@pytest.mark.both_stores
async def test_every_spend_of_the_closure_needs_a_rehearsal_before_a_live_run(studio: Studio) -> None:
    """Draft, pinned version, published, retried, edited child: one rule for each; each branch has its own rehearsal."""
    child = await Gated.make(studio, {"pay": pay("{{$inputs.units}}")})
    nodes = either("$inputs.big", calls(child.id), pay(3, to=address(2)))
    parent = await Gated.make(studio, nodes, requireRehearsal="simulate")
    big, small = {"big": True, "units": "5"}, {"big": False}
    assert await parent.refused(payload=big) == ["nodes.other", "nodes.pay"]
    assert await parent.refused(payload=big, version=1) == ["nodes.other", "nodes.pay"]
    publish = await studio.api.post(f"/v1/workflows/{parent.id}/publish")
    assert (publish.status, publish.code) == (409, REHEARSAL)
    first = await parent.passes(simulate=True, payload=small)
    await parent.passes(dustTest=True, payload=big)  # another mode than the one that is required
    assert await parent.refused(payload=small) == ["nodes.pay"]
    await parent.passes(simulate=True, payload=big)
    shown = await parent.ladder()
    by_node = {node["nodeId"]: node for node in shown["nodes"]}
    assert (shown["rehearsed"], by_node["other"]["simulate"]["runId"]) == (True, first["id"])
    assert {name: by_node["pay"][name] is not None for name in ("simulate", "dust", "live")} == {
        "simulate": True,
        "dust": True,
        "live": False,
    }
    assert (by_node["pay"]["workflowId"], by_node["pay"]["version"]) == (child.id, 1)
    await parent.passes(payload=big)
    failing = await studio.run(parent.id, payload={"big": True, "units": str(10**30)})
    assert failing["status"] == "failure"

    await child.edit({"pay": pay("{{$inputs.units}}", to=address(9))})
    assert await parent.refused(payload=small) == ["nodes.other", "nodes.pay"]
    retried = await studio.api.post(f"/v1/runs/{failing['id']}/retry")
    assert (retried.status, retried.code) == (409, REHEARSAL)
    publish = await studio.api.post(f"/v1/workflows/{parent.id}/publish")
    assert (publish.status, publish.code) == (409, REHEARSAL)
    await child.edit({"pay": pay("{{$inputs.units}}")})  # the same definition again, so the same digest
    assert (await studio.api.post(f"/v1/workflows/{parent.id}/publish")).status == 200
    await parent.passes(payload=small)


async def test_spends_that_were_not_carried_out_do_not_count(studio: Studio) -> None:
    """Pinned, skipped, and loops without items."""
    pinned = {"hash": "0x" + "1" * 64, "status": "success"}
    each = {"type": "for-each", "payload": {"array": "{{$inputs.rows}}"}, "loopBody": ["pay"]}
    one = await Gated.make(studio, {"pay": pay(1, pinned=pinned)}, requireRehearsal="simulate")
    await one.passes(simulate=True)
    assert await one.refused() == ["nodes.pay"]
    two = await Gated.make(studio, {"pay": pay(1, dust="skip")}, requireRehearsal="dust")
    assert (await studio.run(two.id, dustTest=True))["status"] == "success"
    assert await two.refused() == ["nodes.pay"]
    assert (await two.ladder())["nodes"][0]["dust"] is None
    definition = {"nodes": {"root": {"type": "manual", "children": ["each"]}, "each": each, "pay": pay(1)}}
    made = await studio.api.create_workflow(definition, requireRehearsal="simulate")
    three = Gated(studio, made["id"])
    await three.passes(simulate=True, payload={"rows": []})
    assert await three.refused(payload={"rows": [1]}) == ["nodes.pay"]
    rung = (await three.passes(simulate=True, payload={"rows": [1, 2]}))["id"]
    assert (await three.ladder())["nodes"][0]["simulate"]["runId"] == rung
    await three.passes(payload={"rows": [1]})


async def test_a_version_that_is_no_longer_run_is_not_judged(studio: Studio) -> None:
    """The refused draft is replaced by one that was rehearsed: started by itself, and by a call."""
    flow = await Gated.make(studio, {"pay": pay(5)}, requireRehearsal="simulate")
    parent = await Gated.make(studio, {"call": calls(flow.id)}, requireRehearsal="simulate")
    await flow.passes(simulate=True)
    await parent.passes(simulate=True)
    await flow.edit({"pay": pay(6)})
    assert await flow.refused() == ["nodes.pay"]
    await flow.edit({"pay": pay(5)})
    await flow.passes()
    await flow.edit({"pay": pay(6)})
    assert await flow.refused() == ["nodes.pay"]
    await flow.edit({"pay": pay(5)})
    await parent.passes()


async def test_a_retried_dust_test_counts_only_for_the_closure_of_its_whole_chain(studio: Studio) -> None:
    """What a retry keeps was carried out together with what was called then."""
    called = await Gated.make(studio, {"broken": {"type": "http-request", "payload": {"url": "http://127.0.0.1:9/"}}})
    first = await Gated.make(studio, {"pay": pay(5, "call"), "call": calls(called.id)}, requireRehearsal="dust")
    broken = await studio.run(first.id, dustTest=True)
    assert broken["status"] == "failure"
    await called.edit({"say": say("Nothing to do.")})
    again = await studio.api.post(f"/v1/runs/{broken['id']}/retry")
    retried = await studio.bench.ended(again.data["runId"])
    assert (retried["status"], retried["passed"]) == ("success", True), told(retried)
    assert await first.refused() == ["nodes.pay"]
    await first.passes(dustTest=True)
    await first.passes()


async def test_calls_are_judged_again_when_they_begin(studio: Studio) -> None:
    """A child that is edited while its caller waits, a call that computes its workflow, a call of an inline run."""
    child = await Gated.make(studio, {"pay": pay(5)}, requireRehearsal="simulate")
    inline = await studio.bench.start({"call": calls(child.id)})
    await failed_by_gate(studio, inline, "call", "REHEARSAL_MISSING")
    ask = {"type": "approve", "payload": {"message": "Go on?", "allowStarter": True}, "children": ["call"]}
    nodes = either("$inputs.ask", ask, say("No question.", "call"))
    parent = await Gated.make(studio, {**nodes, "call": calls(child.id, join="any")}, requireRehearsal="simulate")
    await parent.passes(simulate=True, payload={"ask": False})
    asking = {"payload": {"ask": True}}
    waiting = (await studio.api.post(f"/v1/workflows/{parent.id}/run", asking)).data["runId"]
    await studio.bench.until(waiting, lambda run: run["executionState"].get("then", {}).get("status") == "waiting")
    await child.edit({"pay": pay(6)})
    question = (await studio.api.get("/v1/approvals")).data["items"][0]["id"]
    assert (await studio.api.post(f"/v1/approvals/{question}/approve")).status == 200
    await failed_by_gate(studio, waiting, "call", "REHEARSAL_MISSING")

    open_child = await Gated.make(studio, {"pay": pay(7)})
    computed = {"call": calls("{{$inputs.which}}")}
    outer = await Gated.make(studio, computed, requireRehearsal="simulate")
    body = {"payload": {"which": open_child.id}}
    assert (await outer.ladder())["callsAny"] is True
    begun = (await studio.api.post(f"/v1/workflows/{outer.id}/run", body)).data["runId"]
    await failed_by_gate(studio, begun, "call", "REHEARSAL_MISSING")
    await open_child.passes(simulate=True)
    await outer.passes(**body)


async def test_a_retry_of_what_a_run_called_is_judged_as_the_call_was(studio: Studio) -> None:
    child = await Gated.make(studio, {"pay": pay("{{$inputs.units}}")})
    parent = await Gated.make(studio, {"call": calls(child.id)}, requireRehearsal="simulate")
    await parent.passes(simulate=True, payload={"units": "5"})
    begun = await studio.api.post(f"/v1/workflows/{parent.id}/run", {"payload": {"units": "many"}})
    assert (await studio.bench.ended(begun.data["runId"]))["status"] == "failure"
    called = (await studio.api.get(f"/v1/workflows/{child.id}/runs")).data["items"][0]["id"]
    retried = await studio.api.post(f"/v1/runs/{called}/retry")
    assert (await studio.bench.ended(retried.data["runId"]))["status"] == "failure"
    await child.edit({"pay": pay(6)})
    for run_id in (called, retried.data["runId"]):
        refused = await studio.api.post(f"/v1/runs/{run_id}/retry")
        assert (refused.status, refused.code) == (409, REHEARSAL), refused.body


async def test_what_others_wrote_spends_only_once_it_is_accepted(studio: Studio) -> None:
    """Edited, restored and imported by a key that may not spend."""
    writer = await studio.outbox.composition.client_with(*WRITER)
    flow = await Gated.make(studio, {"pay": pay(1)}, requireRehearsal="simulate")
    for body in ({"requireRehearsal": "none"}, {"acceptances": 0, "requireRehearsal": "none"}):
        assert (await writer.put(f"/v1/workflows/{flow.id}", body)).status == 403
    assert (await writer.put(f"/v1/workflows/{flow.id}", {"requireRehearsal": "dust"})).status == 200
    assert (await studio.api.put(f"/v1/workflows/{flow.id}", {"requireRehearsal": "none"})).status == 200

    guard = {"tolerancePercent": 1, "maxAgeMs": 60_000}
    for by, enforced, code in (
        (writer, guard, 200),
        (writer, {**guard, "tolerancePercent": 2}, 403),
        (writer, {"tolerancePercent": 1}, 403),
        (writer, None, 403),
        (writer, {"tolerancePercent": 0, "maxAgeMs": 50_000}, 200),
        (studio.api, None, 200),
    ):
        changed = await by.put(f"/v1/workflows/{flow.id}", {"enforceRehearsal": enforced})
        assert changed.status == code, (enforced, changed.body)

    assert await Gated(studio, flow.id, writer).edit({"pay": pay(9, to=address(2))}) == 2
    assert await flow.refused(ACCEPTANCE) == ["version"]
    assert await flow.refused(ACCEPTANCE, dustTest=True) == ["version"]
    publish = await studio.api.post(f"/v1/workflows/{flow.id}/publish")
    assert (publish.status, publish.code) == (409, ACCEPTANCE)
    await flow.passes(simulate=True)
    await flow.passes(version=1)
    status = (await flow.ladder())["acceptance"]
    assert (status["accepted"], status["needed"], status["againstVersion"]) == (False, 1, 1)
    assert status["differences"] == {
        "added": [],
        "removed": [],
        "changed": [
            {
                "workflowId": flow.id,
                "nodeId": "pay",
                "changes": [
                    {"path": "payload.recipient", "before": SHOP, "after": address(2)},
                    {"path": "payload.amount", "before": "1", "after": "9"},
                ],
            }
        ],
        "otherNodes": [],
    }
    assert await flow.accept(writer, 2) == (403, 403001)
    assert await flow.accept(studio.api, 2, expectedDigest="0" * 64) == (409, 409001)
    assert await flow.accept(studio.api, 2, expectedDigest=status["digest"]) == (200, 200)
    await flow.passes()

    reply = await writer.post(f"/v1/workflows/{flow.id}/rollback", {"targetVersion": 1})
    assert reply.data["version"] == 3
    assert await flow.refused(ACCEPTANCE) == ["version"]
    file = (await writer.get(f"/v1/workflows/{flow.id}/export")).data["content"]
    imported = (await writer.post("/v1/workflows/import", {"content": file})).data["workflow"]["id"]
    assert await Gated(studio, imported).refused(ACCEPTANCE, dustTest=True) == ["version"]
    inline = await studio.api.post("/v1/runs", {"definition": define({"call": calls(imported)})})
    assert (inline.status, inline.fields) == (409, ["version"])


async def test_an_acceptance_holds_for_what_was_called_then(studio: Studio) -> None:
    """At any depth, and for keys that are limited to some wallets."""
    make = studio.outbox.composition
    writer = await make.client_with(*WRITER)
    child = await Gated.make(studio, {"pay": pay(1)})
    middle = await Gated.make(studio, {"call": calls(child.id)})
    made = await writer.create_workflow(define({"call": calls(middle.id)}))
    parent = Gated(studio, made["id"])
    assert await parent.refused(ACCEPTANCE) == ["version"]
    assert await parent.accept(studio.api, 1) == (200, 200)
    await parent.passes()
    await child.edit({"pay": pay(2)})  # by the owner, who may spend
    await middle.passes()
    assert await parent.refused(ACCEPTANCE) == ["version"]
    status = (await parent.ladder())["acceptance"]
    assert status["againstVersion"] == 1
    assert [(one["workflowId"], one["nodeId"]) for one in status["differences"]["changed"]] == [(child.id, "pay")]
    assert await parent.accept(studio.api, 1) == (200, 200)
    await parent.passes()
    await Gated(studio, child.id, writer).edit({"pay": pay(3)})
    assert await middle.refused(ACCEPTANCE) == ["version"]

    other = await second_wallet(studio)
    permissions = [*WRITER, "wallet:spend"]
    body = {"name": "limited", "permissions": permissions, "walletIds": [other]}
    limited = make.client((await studio.api.post("/v1/api-keys", body)).data["key"])
    own = {"type": "wallet", "id": other}
    mine = Gated(studio, (await limited.create_workflow(define({"pay": pay(1, connector=own)})))["id"])
    await mine.passes(dustTest=True)
    await Gated(studio, mine.id, limited).edit({"pay": pay(1)})
    assert await mine.refused(ACCEPTANCE) == ["version"]
    assert await mine.accept(limited, 2) == (403, 403001)
    body = {"name": "one", "permissions": permissions, "workflowIds": [parent.id]}
    narrow = make.client((await studio.api.post("/v1/api-keys", body)).data["key"])
    assert await parent.accept(narrow, 1) == (403, 403001)
    seen = (await narrow.get(f"/v1/workflows/{parent.id}/ladder")).data
    assert (seen["nodes"], seen["acceptance"]["differences"]["changed"]) == ([], [])
    assert await child.accept(limited, 3) == (403, 403001)


async def test_four_eyes_are_two_people(studio: Studio) -> None:
    """With `acceptances` an author who may spend needs others, and none of them counts twice."""
    make = studio.outbox.composition
    permissions = [*WRITER, "wallet:spend", "key:write", "key:read"]
    author, second, third = [await make.client_with(*permissions) for _ in range(3)]
    flow = Gated(studio, (await author.create_workflow(define({"pay": pay(1)}), acceptances=2))["id"])
    assert await flow.refused(ACCEPTANCE) == ["version"]
    assert await flow.accept(author, 1) == (403, 403001)
    file = (await author.get(f"/v1/workflows/{flow.id}/export")).data["content"]
    imported = (await author.post("/v1/workflows/import", {"content": file})).data["workflow"]
    assert (imported["acceptances"], imported["id"] != flow.id) == (2, True)
    made = await author.post("/v1/api-keys", {"name": "puppet", "permissions": permissions})
    assert await flow.accept(make.client(made.data["key"]), 1) == (403, 403001)
    for by in (second, second):
        assert await flow.accept(by, 1) == (200, 200)
    assert (await flow.ladder())["acceptance"]["needed"] == 2
    assert len((await flow.ladder())["acceptance"]["acceptedBy"]) == 1
    assert await flow.refused(ACCEPTANCE) == ["version"]
    assert (await second.put(f"/v1/workflows/{flow.id}", {"acceptances": 1})).status == 403
    assert await flow.accept(third, 1) == (200, 200)
    await flow.passes()
    assert (await studio.api.put(f"/v1/workflows/{flow.id}", {"acceptances": 0})).status == 200


@pytest.mark.both_stores
async def test_variables_that_shape_a_spend_are_judged_by_who_wrote_them(studio: Studio) -> None:
    """Anybody may change them who may edit; what they shape waits until somebody who may spend has accepted that."""
    make, other = studio.outbox.composition, await second_wallet(studio)
    writer = await make.client_with(*WRITER)
    body = {"name": "limited", "permissions": [*WRITER, "wallet:spend"], "walletIds": [other]}
    limited = make.client((await studio.api.post("/v1/api-keys", body)).data["key"])
    rate = await Gated.make(studio, {"read": {"type": "get-variable", "payload": {"name": "units"}}})
    beside = await Gated.make(studio, {"call": calls(rate.id, "pay"), "pay": pay(1)})
    shaped = await Gated.make(studio, {"call": calls(rate.id, "pay"), "pay": pay("{{call.result.result.value}}")})
    own = {"type": "wallet", "id": other}
    mine = await Gated.make(studio, {"pay": pay("{{$vars.units}}", connector=own)})
    for flow in (rate, mine):
        path = f"/v1/workflows/{flow.id}/variables/units"
        assert (await studio.api.put(path, {"type": "any", "default": "3"})).status == 200
        assert (await limited.post(f"{path}/value", {"value": "4"})).status == 200
    await mine.passes()
    await beside.passes()
    assert await shaped.refused(ACCEPTANCE) == ["version"], "the key may spend, but from another wallet"
    assert await shaped.accept(studio.api, 1) == (200, 200)
    await shaped.passes()
    assert (await writer.post(f"/v1/workflows/{rate.id}/variables/units/value", {"value": "5"})).status == 200
    assert await shaped.refused(ACCEPTANCE) == ["version"]
    assert (await studio.api.post(f"/v1/workflows/{rate.id}/variables/units/value", {"value": "6"})).status == 200
    refused = await studio.api.post(f"/v1/workflows/{shaped.id}/run", {})
    assert 'the variable "units"' in refused.body["message"], "one write of an owner says nothing about the others"
    assert await shaped.accept(studio.api, 1) == (200, 200)
    await shaped.passes()
    await beside.passes()


async def test_what_a_run_wrote_is_judged_by_its_author_and_its_starter(studio: Studio) -> None:
    """A draft without a spend needs no acceptance, but the live version that spends reads what it wrote."""
    writer = await studio.outbox.composition.client_with(*WRITER)
    flow = await Gated.make(studio, {"pay": pay("{{$vars.units}}")})
    path = f"/v1/workflows/{flow.id}/variables/units"
    await studio.api.put(path, {"type": "number", "default": 3})
    assert (await studio.api.post(f"/v1/workflows/{flow.id}/publish")).status == 200
    put = {"put": {"type": "set-variable", "payload": {"name": "units", "value": 7}}}
    assert await Gated(studio, flow.id, writer).edit(put) == 2
    await Gated(studio, flow.id, writer).passes(version=2, simulate=True)
    await flow.passes(version=1)
    await flow.passes(version=2)
    assert await flow.refused(ACCEPTANCE, version=1) == ["version"], "its author may not spend"
    assert await flow.accept(studio.api, 1) == (200, 200)
    await flow.passes(version=1)
    await studio.api.put(f"/v1/workflows/{flow.id}", {"definition": define(put | {"say": say("mine")})})
    await flow.passes(version=3)
    await flow.passes(version=1)
    await Gated(studio, flow.id, writer).passes(version=3)
    assert await flow.refused(ACCEPTANCE, version=1) == ["version"], "nor may its starter"


async def test_inline_runs_need_four_eyes_where_the_policy_of_the_wallet_asks_for_them(studio: Studio) -> None:
    """`acceptances` cannot hold for a definition that nobody saved; `approvalAbove` holds for every run."""
    make, permissions = studio.outbox.composition, ["run:inline", "wallet:spend", "run:read", "approval:decide"]
    await studio.let(approvalAbove={"usd": "0"})
    spender, second = await make.client_with(*permissions, "key:write"), await make.client_with("approval:decide")
    made = await spender.post("/v1/api-keys", {"name": "puppet", "permissions": ["approval:decide"]})
    for body in ({}, {"dustTest": True}):
        before = studio.witness.native(SHOP)
        reply = await spender.post("/v1/runs", {"definition": define({"pay": pay(10**15)}), **body})
        run_id = reply.data["runId"]
        await studio.bench.until(run_id, lambda run: run["status"] == "waiting")
        questions = (await studio.api.get("/v1/approvals")).data["items"]
        (question,) = [one["id"] for one in questions if one["runId"] == run_id]
        for by in (spender, make.client(made.data["key"])):
            assert (await by.post(f"/v1/approvals/{question}/approve")).status == 403
        assert studio.witness.native(SHOP) == before
        assert (await second.post(f"/v1/approvals/{question}/approve")).status == 200
        assert (await studio.bench.ended(run_id))["status"] == "success"
        assert studio.witness.native(SHOP) > before
