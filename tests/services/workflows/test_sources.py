"""Whose hands shape a spend: whatever a key may not spend, it cannot have paid by what others run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import hands
from testkit.composition import Client, Composition, composed

Json = dict[str, Any]
ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
EDITOR = ("workflow:create", "workflow:read", "workflow:update", "workflow:publish", "workflow:execute", "run:read")
REFUSED, NEEDED = 403001, 409011


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as composition:
        yield composition


async def wallet_of(server: Composition) -> str:
    return str((await server.owner.post("/v1/wallets", {"name": "w"})).data["id"])


def pay(wallet: str, amount: str = "1", **more: Any) -> Json:
    payload = {"chainId": 1, "recipient": ADDRESS, "amount": amount}
    return {"type": "send-native", "connector": {"type": "wallet", "id": wallet}, "payload": payload, **more}


def define(nodes: Json, root: Json | None = None) -> Json:
    named = {child for one in nodes.values() for child in (*one.get("children", ()), *one.get("loopBody", ()))}
    first = [node_id for node_id in nodes if node_id not in named]
    return {"nodes": {"root": {"type": "manual", **(root or {}), "children": first}, **nodes}}


def say(text: str) -> Json:
    return {"type": "log", "payload": {"message": text}}


def calls(workflow_id: str, *children: str) -> Json:
    return {"type": "call-workflow", "payload": {"workflowId": workflow_id}, "children": [*children]}


async def limited(server: Composition, *permissions: str, by: Client | None = None, **limits: Any) -> Client:
    body = {"name": "limited", "permissions": [*permissions], **limits}
    return server.client((await (by or server.owner).post("/v1/api-keys", body)).data["key"])


class Payer:
    """A workflow of the owner that pays what its helper says."""

    def __init__(self, server: Composition, payer: str, helper: str, wallet: str) -> None:
        self.server, self.id, self.helper, self.wallet = server, payer, helper, wallet

    @classmethod
    async def make(cls, server: Composition, root: Json | None = None) -> Payer:
        wallet = await wallet_of(server)
        helper = (await server.owner.create_workflow(define({"say": say("1")})))["id"]
        nodes = {"ask": calls(helper, "pay"), "pay": pay(wallet, "{{ask.result.result.message}}")}
        payer = (await server.owner.create_workflow(define(nodes, root)))["id"]
        return cls(server, payer, helper, wallet)

    async def code(self, by: Client | None = None) -> int:
        """What the run call answers: 200, or a code."""
        reply = await (by or self.server.owner).post(f"/v1/workflows/{self.id}/run", {})
        return reply.code

    async def accept(self, by: Client) -> int:
        return (await by.post(f"/v1/workflows/{self.id}/versions/1/accept", {})).code

    async def withdraw(self, by: Client) -> int:
        return (await by.delete(f"/v1/workflows/{self.id}/versions/1/accept")).code


@pytest.mark.both_stores
@pytest.mark.both_stores
async def test_a_called_workflow_that_decides_a_spend_is_judged_by_its_author(server: Composition) -> None:
    """Also one that was edited with a key that may spend, but not here."""
    flow = await Payer.make(server)
    assert await flow.code() == 200
    editor = await server.client_with(*EDITOR)
    within = await limited(server, *EDITOR, "wallet:spend", workflowIds=[flow.helper])
    without = await limited(server, *EDITOR, "wallet:spend", walletIds=[await other_wallet(server)])
    for number, hand in enumerate((editor, within, without)):
        await hand.put(f"/v1/workflows/{flow.helper}", {"definition": define({"say": say(f"77{number}")})})
        refused = await server.owner.post(f"/v1/workflows/{flow.id}/run", {})
        assert (refused.status, refused.code) == (409, NEEDED), refused.body
        assert flow.helper in refused.body["message"]
        assert await flow.accept(hand) in (REFUSED, 404001)
    published = await server.owner.post(f"/v1/workflows/{flow.id}/publish")
    assert (published.status, published.code) == (409, NEEDED)

    assert await flow.accept(server.owner) == 200, "the author of the version may accept what others wrote"
    assert await flow.code() == 200
    assert await flow.withdraw(editor) == REFUSED
    assert await flow.withdraw(server.owner) == 200
    assert await flow.withdraw(server.owner) == 404016
    assert await flow.code() == NEEDED

    spender = await server.client_with(*EDITOR, "wallet:spend")
    assert await flow.accept(spender) == 200
    assert await flow.code() == 200
    await revoke(server, spender)
    assert await flow.code() == NEEDED, "an acceptance ends with its key"


async def test_a_definition_that_is_not_saved_is_judged_by_the_hands_in_what_it_calls(server: Composition) -> None:
    """It is written by who starts it, and by who starts the first of its retries."""
    flow = await Payer.make(server)
    asks = {"ask": calls(flow.helper, "pay"), "pay": pay(flow.wallet, "{{ask.result.result.message}}")}
    whole, beside = {"pay": calls(flow.id)}, {"pay": pay(flow.wallet, children=["ask"]), "ask": calls(flow.helper)}

    async def codes(nodes: Json, path: str = "/v1/runs") -> list[int]:
        forms: tuple[Json, ...] = ({}, {"simulate": True})
        return [(await server.owner.post(path, {"definition": define(nodes), **form})).code for form in forms]

    assert [await codes(nodes) for nodes in (asks, whole, beside)] == [[200, 200]] * 3
    first = (await server.owner.post("/v1/runs", {"definition": define(asks)})).data["runId"]
    editor = await server.client_with(*EDITOR)
    await editor.put(f"/v1/workflows/{flow.helper}", {"definition": define({"say": say("777")})})
    for path in ("/v1/runs", "/v1/runs/sync"):
        assert [await codes(nodes, path) for nodes in (asks, whole, beside)] == [[NEEDED, 200]] * 2 + [[200, 200]]
    refused = await server.owner.post("/v1/runs", {"definition": define(asks)})
    assert "Save it as a workflow" in refused.body["message"], refused.body
    while (await server.owner.get(f"/v1/runs/{first}")).data["finishedAt"] is None:
        await asyncio.sleep(0.01)
    assert (await server.owner.post(f"/v1/runs/{first}/retry", {})).code == NEEDED
    assert await flow.accept(server.owner) == 200
    assert [await codes(nodes) for nodes in (asks, whole)] == [[NEEDED, 200], [200, 200]]


async def other_wallet(server: Composition) -> str:
    return str((await server.owner.post("/v1/wallets", {"name": "other"})).data["id"])


async def revoke(server: Composition, client: Client) -> None:
    key_id = (await client.get("/v1/me")).data["keyId"]
    assert (await server.owner.delete(f"/v1/api-keys/{key_id}")).status == 200


async def test_keys_of_one_hand_fill_no_four_eyes(server: Composition) -> None:
    """Whoever makes keys has as many as they like."""
    maker = await server.client_with(*EDITOR, "wallet:spend", "key:write", "approval:decide")
    first, second, third = [
        await limited(server, *EDITOR, "wallet:spend", "approval:decide", by=maker) for _ in range(3)
    ]
    other = await server.client_with(*EDITOR, "wallet:spend", "approval:decide")
    wallet = await wallet_of(server)
    made = await server.owner.create_workflow(define({"pay": pay(wallet)}), acceptances=2)
    path = f"/v1/workflows/{made['id']}"
    assert [(await by.post(f"{path}/versions/1/accept", {})).code for by in (first, second, maker)] == [200] * 3
    assert len((await server.owner.get(f"{path}/ladder")).data["acceptance"]["acceptedBy"]) == 1
    assert (await first.post(f"{path}/run", {})).code == NEEDED
    assert (await other.post(f"{path}/versions/1/accept", {})).code == 200
    assert (await first.post(f"{path}/run", {})).code == 200

    own = await first.create_workflow(define({"pay": pay(wallet)}), acceptances=1)
    for sibling in (second, third, maker):
        assert (await sibling.post(f"/v1/workflows/{own['id']}/versions/1/accept", {})).code == REFUSED
    assert (await other.post(f"/v1/workflows/{own['id']}/versions/1/accept", {})).code == 200

    asking = await server.owner.create_workflow(define({"ask": {"type": "approve", "payload": {"message": "pay?"}}}))
    run_id = (await first.post(f"/v1/workflows/{asking['id']}/run", {})).data["runId"]
    question = await question_of(server, run_id)
    for by in (first, second, maker):
        assert (await by.post(f"/v1/approvals/{question}/approve")).code == REFUSED
    assert (await other.post(f"/v1/approvals/{question}/approve")).code == 200


async def question_of(server: Composition, run_id: str) -> str:
    while True:
        found = [one for one in (await server.owner.get("/v1/approvals")).data["items"] if one["runId"] == run_id]
        if found:
            return str(found[0]["id"])
        await asyncio.sleep(0.01)


async def test_who_may_not_spend_lets_nothing_go_on_that_was_stopped(server: Composition) -> None:
    """A pause is how a person stops payments; archiving and publishing again would be the same."""
    editor = await server.client_with(*EDITOR, "workflow:delete")
    flow = await Payer.make(server, {"type": "cronjob", "payload": {"schedule": "0 0 1 1 *"}})
    path = f"/v1/workflows/{flow.id}"
    assert (await server.owner.post(f"{path}/publish")).status == 200
    assert (await editor.post(f"{path}/pause")).status == 200, "stopping is free"
    assert (await editor.post(f"{path}/resume")).code == REFUSED
    assert (await server.owner.post(f"{path}/resume")).status == 200
    assert (await editor.post(f"{path}/pause")).status == 200
    assert (await editor.delete(path)).status == 200
    assert (await editor.post(f"{path}/unarchive")).status == 200
    assert (await editor.post(f"{path}/publish")).code == REFUSED

    harmless = (await server.owner.create_workflow(define({"say": say("x")})))["id"]
    for step in ("publish", "pause", "resume"):
        assert (await editor.post(f"/v1/workflows/{harmless}/{step}")).status == 200


async def test_an_administrator_of_some_workflows_reaches_no_wallet_beyond_them(server: Composition) -> None:
    """What concerns a wallet concerns every workflow, so a key that is limited to some may not."""
    wallet = await wallet_of(server)
    flow = (await server.owner.create_workflow())["id"]
    admin = await limited(server, "admin", workflowIds=[flow])
    path = f"/v1/wallets/{wallet}"
    anything = {"chains": ["*"], "assets": ["*"], "recipients": ["*"]}
    for method, at, body in (
        ("POST", f"{path}/export", {"password": "a long password for it"}),
        ("PUT", f"{path}/policy", {"policy": anything}),
        ("PUT", f"{path}/default", None),
        ("PATCH", path, {"name": "mine"}),
        ("DELETE", path, None),
        ("POST", "/v1/wallets", {"name": "mine"}),
        ("POST", "/v1/wallets/import", {"name": "mine", "privateKey": "0x" + "1" * 64}),
        ("POST", "/v1/transactions/release", {"walletId": wallet, "chainId": 1}),
        ("POST", "/v1/organizations", {"name": "mine"}),
        ("POST", "/v1/runs", {"definition": define({"pay": pay(wallet)})}),
    ):
        refused = await admin.send(method, at, body)
        assert (refused.status, refused.code) == (403, REFUSED), (method, at, refused.body)
    wider = await admin.post("/v1/api-keys", {"name": "free", "permissions": ["admin"]})
    assert wider.data["workflowIds"] == [flow], "what it makes has its limits"


@pytest.mark.both_stores
async def test_a_connector_that_decides_a_spend_is_judged_by_who_changed_it(server: Composition) -> None:
    """Whoever points it elsewhere answers for the system behind it."""
    wallet, editor = await wallet_of(server), await server.client_with(*EDITOR, "connector:write", "connector:read")
    made = await server.owner.post("/v1/connectors", bearer("https://one.example.com"))
    connector = {"type": "http-bearer", "id": made.data["id"]}
    ask = {"type": "http-request", "connector": connector, "payload": {"url": "https://one.example.com/x"}}
    shaped = {"ask": {**ask, "children": ["pay"]}, "pay": pay(wallet, "{{string(ask.result.body.n)}}")}
    beside = {"pay": pay(wallet, children=["ask"]), "ask": ask}
    flow, other = [(await server.owner.create_workflow(define(nodes)))["id"] for nodes in (shaped, beside)]
    run = f"/v1/workflows/{flow}/run"
    assert (await server.owner.post(run, {})).code == 200
    change = {"data": {"token": "a-token-of-the-editor"}, "allowedHosts": ["two.example.com"]}
    assert (await editor.send("PUT", f"/v1/connectors/{connector['id']}", change)).status == 200
    refused = await server.owner.post(run, {})
    assert (refused.code, "the connector" in refused.body["message"]) == (NEEDED, True), refused.body
    assert (await server.owner.post(f"/v1/workflows/{other}/run", {})).code == 200, "it shapes nothing there"
    accept = f"/v1/workflows/{flow}/versions/1/accept"
    assert (await server.owner.post(accept, {})).code == 200
    assert (await server.owner.post(run, {})).code == 200
    assert (await editor.send("PUT", f"/v1/connectors/{connector['id']}", {"name": "again"})).status == 200
    assert (await server.owner.post(run, {})).code == NEEDED, "an acceptance is of what was there"


def bearer(host: str) -> Json:
    data = {"token": "a-token-of-the-owner"}
    return {"type": "http-bearer", "name": "c", "data": data, "allowedHosts": [host.removeprefix("https://")]}


@pytest.mark.both_stores
@pytest.mark.both_stores
async def test_rows_that_decide_a_spend_are_judged_by_who_wrote_them(server: Composition) -> None:
    """By hand, and by runs: of an editor's version, and of an owner's that an editor starts or that reads such rows."""
    wallet, editor = await wallet_of(server), await server.client_with(*EDITOR, "table:write", "table:read")
    columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "text"}]
    for name in ("t", "u"):
        await server.owner.post("/v1/tables", {"name": name, "primaryKey": "id", "columns": columns})
    read = {"type": "read-table", "payload": {"table": "t"}, "children": ["pay"]}
    nodes = {"read": read, "pay": pay(wallet, "{{read.result.first.n}}")}
    flow = (await server.owner.create_workflow(define(nodes)))["id"]
    assert (await server.owner.post("/v1/tables/t/rows", {"rows": [{"id": "a", "n": "1"}]})).status == 200

    async def code() -> int:
        return (await server.owner.post(f"/v1/workflows/{flow}/run", {})).code

    async def accepted() -> None:
        assert await code() == NEEDED
        assert (await server.owner.post(f"/v1/workflows/{flow}/versions/1/accept", {})).code == 200
        assert await code() == 200

    async def write(by: Client, starter: Client, document: Json) -> None:
        made = (await by.create_workflow(define(document)))["id"]
        run_id = (await starter.post(f"/v1/workflows/{made}/run", {})).data["runId"]
        while (await server.owner.get(f"/v1/runs/{run_id}")).data["finishedAt"] is None:
            await asyncio.sleep(0.01)

    assert await code() == 200
    assert (await editor.post("/v1/tables/t/rows", {"mode": "upsert", "rows": [{"id": "a", "n": "777"}]})).status == 200
    await accepted()
    row = {"type": "write-table", "payload": {"table": "t", "mode": "upsert", "rows": {"id": "a", "n": "777"}}}
    await write(server.owner, server.owner, {"write": row})
    assert await code() == 200
    await write(editor, server.owner, {"write": row})
    await accepted()
    await write(server.owner, editor, {"write": row})
    await accepted()
    helper = (await server.owner.create_workflow(define({"say": say("1")})))["id"]
    await write(server.owner, server.owner, {"ask": calls(helper, "write"), "write": row})
    assert await code() == 200
    assert (await editor.post(f"/v1/workflows/{helper}/publish")).status == 200
    await write(server.owner, server.owner, {"ask": calls(helper, "write"), "write": row})
    await accepted()
    assert (await editor.post("/v1/tables/u/rows", {"rows": [{"id": "a", "n": "777"}]})).status == 200
    look = {"type": "read-table", "payload": {"table": "u"}, "children": ["write"]}
    await write(server.owner, server.owner, {"look": look, "write": row})
    await accepted()
    await write(server.owner, server.owner, {"look": look, "write": row})
    assert await code() == 200, "nobody else has written since"


async def test_who_may_not_spend_resumes_nothing_that_shapes_a_spend(server: Composition) -> None:
    """Also in a run that another one called, and by a signed link; a wait that shapes nothing is open."""
    wallet, editor = await wallet_of(server), await server.client_with(*EDITOR)
    wait = {"type": "wait", "payload": {"timeoutMs": 3_600_000}}
    inner = (await server.owner.create_workflow(define({"wait": wait, "say": say("x")})))["id"]
    cases = {
        "amount": {"wait": {**wait, "children": ["pay"]}, "pay": pay(wallet, "{{wait.result.triggerResult.n}}")},
        "whether": {"wait": {**wait, "children": ["pay"]}, "pay": pay(wallet, branch="resumed")},
        "beside": {"wait": wait, "pay": pay(wallet)},
    }
    found = {}
    for name, nodes in cases.items():
        made = (await server.owner.create_workflow(define(nodes)))["id"]
        run_id = (await server.owner.post(f"/v1/workflows/{made}/run", {})).data["runId"]
        found[name] = (await editor.post(f"/v1/runs/{run_id}/nodes/wait/resume", {"data": {"n": "777"}})).code
        if found[name] == REFUSED:
            assert (await server.owner.post(f"/v1/runs/{run_id}/nodes/wait/resume", {"data": {"n": "1"}})).code == 200
    assert found == {"amount": REFUSED, "whether": REFUSED, "beside": 200}

    called = {"call": calls(inner, "pay"), "pay": pay(wallet, "{{string(call.result.result.triggerResult.n)}}")}
    outer = (await server.owner.create_workflow(define(called)))["id"]
    run_id = (await server.owner.post(f"/v1/workflows/{outer}/run", {})).data["runId"]
    while not (listed := (await server.owner.get(f"/v1/runs?workflowId={inner}")).data["items"]):
        await asyncio.sleep(0.01)
    path = f"/v1/runs/{listed[0]['id']}/nodes/wait/resume"
    assert (await editor.post(path, {"data": {"n": "777"}})).code == REFUSED
    org_id = (await server.owner.get("/v1/me")).data["organizationId"]
    token = server.parts.waits.resumes._links.token(org_id, listed[0]["id"], "wait")
    by_link = await server.client(None).post(f"{path}?org={org_id}&token={token}", {"data": {"n": "777"}})
    assert by_link.code == REFUSED, by_link.body


async def test_a_signed_link_decides_no_spend(server: Composition) -> None:
    """Neither at an `approve` before a spend, nor in a run that another one called; one that decides nothing is open. A
    key that is limited to other wallets decides none either."""
    wallet = await wallet_of(server)
    elsewhere = await limited(server, "approval:decide", "run:read", walletIds=[await other_wallet(server)])
    decider = await limited(server, "approval:decide", "run:read", walletIds=[wallet])
    org_id = (await server.owner.get("/v1/me")).data["organizationId"]
    ask, yes = {"type": "approve", "payload": {"message": "Pay?"}}, {**say("yes"), "branch": "approved"}
    inner = (await server.owner.create_workflow(define({"ask": {**ask, "children": ["yes"]}, "yes": yes})))["id"]

    async def decided(flow: str, within: str) -> tuple[int, int, int]:
        assert (await server.owner.post(f"/v1/workflows/{flow}/run", {})).code == 200
        while not (asked := (await server.owner.get("/v1/approvals?status=pending")).data["items"]):
            await asyncio.sleep(0.01)
        (one,) = asked
        assert one["workflowId"] == within
        path = f"/v1/runs/{one['runId']}/nodes/ask/resume"
        token = server.parts.waits.resumes._links.token(org_id, one["runId"], "ask")
        answer = {"data": {"decision": "approved"}}
        by_link = (await server.client(None).post(f"{path}?org={org_id}&token={token}", answer)).code
        approve = f"/v1/approvals/{one['id']}/approve"
        codes = [(await client.post(approve)).code for client in (elsewhere, decider)]
        return by_link, codes[0], codes[1]

    paying = {"ask": {**ask, "children": ["pay"]}, "pay": pay(wallet, branch="approved")}
    calling = {"call": calls(inner, "pay"), "pay": pay(wallet, "{{call.result.result.message == 'yes' ? '1' : '2'}}")}
    hold = {"type": "wait", "payload": {"timeoutMs": 3_600_000}, "children": ["pay"]}
    beside = {"ask": ask, "hold": hold, "pay": pay(wallet, branch="resumed")}
    found = []
    for nodes in (paying, calling, beside):
        flow = (await server.owner.create_workflow(define(nodes)))["id"]
        found.append(await decided(flow, inner if nodes is calling else flow))
    assert found == [(REFUSED, REFUSED, 200), (REFUSED, REFUSED, 200), (200, 409009, 409009)]


async def test_what_is_shown_follows_the_version_that_a_call_runs_now(server: Composition) -> None:
    """Also where the same versions are called before and after."""
    wallet = await wallet_of(server)
    helper = (await server.owner.create_workflow(define({"say": say("1")})))["id"]
    path = f"/v1/workflows/{helper}"
    assert (await server.owner.post(f"{path}/publish")).status == 200
    assert (await server.owner.put(path, {"definition": define({"say": say("{{string($now)}}")})})).status == 200
    both = [{"type": "call-workflow", "payload": {"workflowId": helper, "version": number}} for number in (1, 2)]
    nodes = {"live": calls(helper, "pay"), "pay": pay(wallet, "{{live.result.result.message}}")}
    flow = (await server.owner.create_workflow(define({**nodes, "one": both[0], "two": both[1]})))["id"]

    async def shown() -> set[str]:
        (spend,) = (await server.owner.get(f"/v1/workflows/{flow}/sources")).data["items"]
        (amount,) = [one["sources"] for one in spend["fields"] if one["field"] == "amount"]
        return {one["source"] for one in amount} & {"clock", f"definition:{helper}@1#say.message"}

    assert await shown() == {f"definition:{helper}@1#say.message"}
    assert (await server.owner.post(f"{path}/publish")).status == 200
    assert await shown() == {"clock"}


async def test_who_chooses_the_version_that_a_call_runs_is_a_hand_in_the_spend(server: Composition) -> None:
    """By publishing a draft of somebody else, and by archiving and restoring, after which calls run the draft."""
    editor = await server.client_with(*EDITOR, "workflow:delete")
    for steps in (["publish"], ["archive", "unarchive"]):
        flow = await Payer.make(server)
        path = f"/v1/workflows/{flow.helper}"
        assert (await server.owner.post(f"{path}/publish")).status == 200
        draft = {"definition": define({"say": say("777")})}
        assert (await server.owner.put(path, draft)).status == 200
        pinned = {"type": "call-workflow", "payload": {"workflowId": flow.helper, "version": 1}, "children": ["pay"]}
        fixed = {"ask": pinned, "pay": pay(flow.wallet, "{{ask.result.result.message}}")}
        exact = (await server.owner.create_workflow(define(fixed)))["id"]
        assert await flow.code() == 200
        for step in steps:
            done = await (editor.delete(path) if step == "archive" else editor.post(f"{path}/{step}"))
            assert done.status == 200, done.body
        refused = await server.owner.post(f"/v1/workflows/{flow.id}/run", {})
        assert (refused.status, refused.code) == (409, NEEDED), refused.body
        assert "which version" in refused.body["message"]
        assert (await server.owner.post(f"/v1/workflows/{exact}/run", {})).code == 200, "it names its version"
        assert await flow.accept(server.owner) == 200
        assert await flow.code() == 200
        await server.owner.put(path, {"definition": define({"say": say("2")})})
        assert (await server.owner.post(f"{path}/publish")).status == 200
        assert await flow.accept(server.owner) == 200
        assert await flow.code() == 200

    flow = await Payer.make(server)
    path = f"/v1/workflows/{flow.helper}"
    assert (await server.owner.post(f"{path}/publish")).status == 200
    assert (await server.owner.delete(path)).status == 200
    assert (await server.owner.post(f"{path}/unarchive")).status == 200
    assert await flow.code() == 200, "an owner's own choice asks nobody"


async def test_who_guards_a_called_workflow_is_a_hand_in_what_its_failing_leads_to(server: Composition) -> None:
    """A call that is refused goes to the error branch, which may pay; also one that names its version."""
    editor, wallet = await server.client_with(*EDITOR), await wallet_of(server)
    changes: list[Json] = [{"requireRehearsal": "dust"}, {"acceptances": 2}, {"enforceRehearsal": {}}]
    for change in changes:
        helper = (await server.owner.create_workflow(define({"own": pay(wallet)})))["id"]
        ask = {"type": "call-workflow", "payload": {"workflowId": helper, "version": 1}, "onError": "branch"}
        nodes = {"ask": {**ask, "children": ["fine", "pay"]}, "fine": say("x"), "pay": pay(wallet, branch="error")}
        caller = (await server.owner.create_workflow(define(nodes)))["id"]
        path = f"/v1/workflows/{helper}"
        assert (await server.owner.post(f"/v1/workflows/{caller}/run", {})).code == 200
        assert (await editor.put(path, change)).status == 200
        refused = await server.owner.post(f"/v1/workflows/{caller}/run", {})
        assert (refused.status, refused.code) == (409, NEEDED), (change, refused.body)
        assert "what a workflow that it calls requires" in refused.body["message"]

    helper = (await server.owner.create_workflow(define({"own": pay(wallet)})))["id"]
    caller = (await server.owner.create_workflow(define({"ask": calls(helper)})))["id"]
    assert (await editor.put(f"/v1/workflows/{helper}", {"requireRehearsal": "dust"})).status == 200
    assert (await server.owner.post(f"/v1/workflows/{caller}/run", {})).code == 200, "here they only stop it"


async def test_who_published_before_that_was_kept_is_read_of_the_version(server: Composition) -> None:
    """Stores of before have no hands of it: the live version tells who published it; of others nobody is known."""
    editor, flow = await server.client_with(*EDITOR, "workflow:delete"), await Payer.make(server)
    path = f"/v1/workflows/{flow.helper}"

    async def forget() -> None:
        await server.execute(sa.delete(hands).where(hands.c.kind == "version"))

    assert (await server.owner.post(f"{path}/publish")).status == 200
    await forget()
    assert await flow.code() == 200
    await server.owner.put(path, {"definition": define({"say": say("777")})})
    assert (await editor.post(f"{path}/publish")).status == 200
    await forget()
    assert await flow.code() == NEEDED
    assert await flow.accept(server.owner) == 200
    assert await flow.code() == 200


async def test_who_deletes_what_a_spend_reads_is_a_hand_in_it(server: Composition) -> None:
    """That it is missing decides on a branch. An owner's own deletion asks nobody."""
    wallet, rights = await wallet_of(server), ("table:write", "connector:write", "workflow:update")
    editor, owner = await server.client_with(*EDITOR, *rights), server.owner
    key = {"type": "http-bearer", "data": {"token": "a-token-of-the-owner"}, "allowedHosts": ["one.example.com"]}
    columns = [{"name": "id", "type": "text"}]

    async def code(flow: str) -> int:
        return (await owner.post(f"/v1/workflows/{flow}/run", {})).code

    async def make(step: Json) -> str:
        shared = {"onError": "branch", "children": ["fine", "pay"]}
        nodes = {"step": {**step, **shared}, "fine": say("x"), "pay": {**pay(wallet), "branch": "error"}}
        return str((await owner.create_workflow(define(nodes)))["id"])

    for by, expected in ((editor, NEEDED), (owner, 200)):
        helper = (await owner.create_workflow(define({"say": say("{{$vars.v ?? 777}}")})))["id"]
        path = f"/v1/workflows/{helper}/variables/v"
        assert (await owner.put(path, {"type": "number", "default": 1})).status == 200
        gone = await by.delete(path)
        assert gone.status == 200, gone.body
        nodes = {"ask": calls(helper, "pay"), "pay": pay(wallet, "{{ask.result.result.message}}")}
        assert await code((await owner.create_workflow(define(nodes)))["id"]) == expected

        table = {"name": f"t{expected}", "primaryKey": "id", "columns": columns}
        assert (await owner.post("/v1/tables", table)).status in (200, 201)
        connector = (await owner.post("/v1/connectors", {"name": f"c{expected}", **key})).data["id"]
        reading = await make({"type": "read-table", "payload": {"table": table["name"]}})
        url = {"url": "https://one.example.com/x"}
        asking = await make(
            {"type": "http-request", "connector": {"type": "http-bearer", "id": connector}, "payload": url}
        )
        assert [await code(reading), await code(asking)] == [200, 200]
        assert (await by.delete(f"/v1/tables/{table['name']}")).status == 200
        assert (await by.delete(f"/v1/connectors/{connector}?force=true")).status == 200
        assert [await code(reading), await code(asking)] == [expected, expected]
        for flow in (reading, asking) if by is editor else ():
            refused = (await owner.post(f"/v1/workflows/{flow}/run", {})).body["message"]
            assert "deleted" in refused, refused
            assert (await owner.post(f"/v1/workflows/{flow}/versions/1/accept", {})).code == 200
            assert await code(flow) == 200
