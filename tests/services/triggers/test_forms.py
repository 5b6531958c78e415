"""Public forms over HTTP: what a link starts, how often, in whose name, and what it never tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.settings import Settings
from dustrun.storage.db.tables import api_keys, audit, runs
from dustrun.storage.db.trigger_tables import form_links
from testkit.composition import Client, Composition, Reply, composed
from testkit.outside import outside_server

Json = dict[str, Any]
SCHEMA: Json = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
ANSWER: Json = {"type": "respond", "payload": {"status": 201, "body": {"got": "{{$trigger.body.n}}"}}}
PAY: Json = {"type": "send-native", "payload": {"chainId": 1, "recipient": "0x" + "1" * 40, "amount": "1000"}}
CLOSED = 409023


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    settings: dict[str, Any] = {"form_submissions_per_second": 0, "outbound_allow": ("127.0.0.1",)}
    async with composed(tmp_path, database_url=store_url, **settings) as server:
        yield server


def flow(node: Json | None = None, **nodes: Json) -> Json:
    root = {"type": "manual", "payload": {"inputSchema": SCHEMA}, "children": ["do"]}
    return {"nodes": {"root": root, "do": node or ANSWER, **nodes}, "triggerNodeIds": ["root"]}


async def published(server: Composition, definition: Json | None = None, **fields: Any) -> str:
    made = await server.owner.create_workflow(definition or flow(), **fields)
    assert (await server.owner.post(f"/v1/workflows/{made['id']}/publish")).status == 200
    return str(made["id"])


class Form:
    """A link to a form, and the public that has it."""

    def __init__(self, server: Composition, made: Json) -> None:
        self.id = made["id"]
        self.workflow_id = made["workflowId"]
        self.secret = made["url"].rsplit("/", 1)[1]
        self.public = server.client(None)
        self.owner = server.owner

    @classmethod
    async def make(cls, server: Composition, definition: Json | None = None, **body: Any) -> Form:
        workflow_id = await published(server, definition)
        return cls(server, (await server.owner.post(f"/v1/workflows/{workflow_id}/forms", body)).data)

    async def send(self, values: Any, submission_id: str | None = None) -> Reply:
        body = {"values": values} if submission_id is None else {"values": values, "submissionId": submission_id}
        return await self.public.post(f"/v1/forms/{self.secret}", body)

    async def end_of(self, submission_id: str) -> Json:
        while True:
            found = await self.public.get(f"/v1/forms/{self.secret}/submissions/{submission_id}")
            if found.data["status"] != "running":
                return dict(found.data)
            await asyncio.sleep(0.01)

    async def show(self) -> Json:
        return dict((await self.public.get(f"/v1/forms/{self.secret}")).data)

    async def state(self) -> tuple[str, int]:
        [found] = (await self.owner.get(f"/v1/workflows/{self.workflow_id}/forms")).data
        return found["state"], found["runs"]


async def _count_runs(server: Composition) -> int:
    return int((await server.rows(sa.select(sa.func.count()).select_from(runs)))[0][0])


async def test_a_form_from_its_link_to_its_answer(server: Composition) -> None:
    form = await Form.make(server, mode="live", title="Refund", description="Ask here", maxRuns=3)
    shown = {"title": "Refund", "description": "Ask here", "mode": "live", "isOpen": True, "message": None}
    assert await form.show() == {**shown, "inputSchema": SCHEMA}
    refused = await form.send({"n": "seven"})
    assert (refused.code, refused.fields) == (400081, ["values.n"])
    sent = (await form.send({"n": 7}, "chosen-by-sender-1")).data
    assert sent["submissionId"] == "chosen-by-sender-1"
    answer = {"status": 201, "body": {"got": 7}}
    assert await form.end_of("chosen-by-sender-1") == {**sent, "status": "done", "answer": answer}
    [run] = (await server.owner.get("/v1/runs")).data["items"]
    whole = (await server.owner.get(f"/v1/runs/{run['id']}")).data
    me = (await server.owner.get("/v1/me")).data
    assert [whole[name] for name in ("workflowVersion", "mode", "triggerSource", "triggeredBy")] == [
        1, "live", "form", me["keyId"],
    ]  # fmt: skip
    assert await form.state() == ("open", 1)
    stored = repr(await server.rows(sa.select(form_links))) + repr(await server.rows(sa.select(audit)))
    assert form.secret not in stored
    listed = (await server.owner.get(f"/v1/workflows/{form.workflow_id}/forms")).body
    assert form.secret not in json.dumps(listed)


async def test_a_form_whose_answers_name_who_is_paid_is_warned_of(server: Composition) -> None:
    wallet = (await server.owner.post("/v1/wallets", {"name": "w", "isDefault": True})).data
    text: Json = {"type": "object", "properties": {"to": {"type": "string"}}}
    root = {"type": "manual", "payload": {"inputSchema": text}, "children": ["do"]}
    to_answer = {"nodes": {"root": root, "do": {**PAY, "payload": {**PAY["payload"], "recipient": "{{$inputs.to}}"}}}}
    warned = []
    for definition in (to_answer, {"nodes": {"root": root, "do": PAY}}):
        workflow_id = await published(server, definition)
        warned.append((await server.owner.post(f"/v1/workflows/{workflow_id}/forms", {})).data["warnings"])
    assert wallet["isDefault"]
    assert [len(one) for one in warned] == [1, 0]
    assert '"do" pays whom the answers name (`$trigger.to`)' in warned[0][0]


@pytest.mark.both_stores
async def test_a_link_starts_exactly_as_many_runs_as_it_may(server: Composition) -> None:
    form = await Form.make(server, maxRuns=5)
    names = [f"submission-number-{number:02}" for number in range(12)]
    replies = await asyncio.gather(*(form.send({"n": 1}, name) for name in names * 2))
    first, second = replies[: len(names)], replies[len(names) :]
    good = [name for name, reply in zip(names, first, strict=True) if reply.status == 200]
    assert [reply.status == 200 for reply in first] == [reply.status == 200 for reply in second]
    assert (len(good), {reply.code for reply in replies if reply.status != 200}) == (5, {CLOSED})
    assert (await _count_runs(server), await form.state()) == (5, ("usedUp", 5))
    again = await form.send({"n": 1}, good[0])
    assert (again.status, again.data["submissionId"]) == (200, good[0])
    assert (await form.end_of(good[0]))["answer"]["body"] == {"got": 1}
    assert (await form.show())["message"] == "This form has been answered as often as it may be."
    assert await _count_runs(server) == 5


async def test_what_closes_a_form(server: Composition) -> None:
    form = await Form.make(server, mode="live")
    at = f"/v1/workflows/{form.workflow_id}"
    done = (await form.send({"n": 1}, "before-it-was-closed")).data

    async def refused() -> tuple[int, str, str]:
        reply = await form.send({"n": 1})
        assert (await form.show())["inputSchema"] is None
        return reply.code, (await form.state())[0], reply.body["message"]

    await server.owner.post(f"{at}/pause")
    code, state, told = await refused()
    assert (code, state) == (CLOSED, "paused")
    assert "pause" not in told
    await server.owner.post(f"{at}/resume")
    assert (await server.owner.put(at, {"cooldownMs": 3_600_000})).status == 200
    assert (await refused())[:2] == (CLOSED, "cooldown")
    assert (await server.owner.put(at, {"cooldownMs": None})).status == 200
    row = sa.update(form_links).where(form_links.c.id == form.id)
    await server.execute(row.values(expires_at=clock.now_ms() - 1))
    assert (await refused())[:2] == (CLOSED, "expired")
    assert (await form.end_of(done["submissionId"]))["status"] == "done"
    await server.execute(row.values(expires_at=clock.now_ms() + 60_000))
    await server.execute(sa.update(api_keys).values(expires_at=clock.now_ms() + 60_000, revoked_at=clock.now_ms()))
    assert (await form.send({"n": 1})).code == CLOSED
    await server.execute(sa.update(api_keys).values(revoked_at=sa.null()))
    revoked = (await server.owner.delete(f"{at}/forms/{form.id}")).data
    assert (revoked["state"], revoked["runs"]) == ("revoked", 1)
    for reply in (
        await form.public.get(f"/v1/forms/{form.secret}"),
        await form.send({"n": 1}),
        await form.public.get(f"/v1/forms/{form.secret}/submissions/{done['submissionId']}"),
    ):
        assert reply.code == 404023
    assert await _count_runs(server) == 1


async def test_a_live_form_counts_as_a_trigger_of_its_workflow_does(server: Composition) -> None:
    workflow_id = await published(server, maxRuns=2)
    made = (await server.owner.post(f"/v1/workflows/{workflow_id}/forms", {"mode": "live"})).data
    form = Form(server, made)
    replies = await asyncio.gather(*(form.send({"n": number}) for number in range(6)))
    assert sorted(reply.status for reply in replies) == [200, 200, 409, 409, 409, 409]
    workflow = (await server.owner.get(f"/v1/workflows/{workflow_id}")).data
    assert (workflow["status"], workflow["pausedReason"]) == ("paused", "max_runs_exhausted")


async def test_nothing_inner_is_told(server: Composition) -> None:
    secret = "inner-" + "s3cret" * 4
    quiet = await Form.make(server, flow({"type": "log", "payload": {"message": secret}}))
    sent = (await quiet.send({"n": 1})).data
    assert await quiet.end_of(sent["submissionId"]) == {**sent, "status": "done", "answer": None}
    broken = await Form.make(server, flow({"type": "log", "payload": {"message": f"{secret} {{{{1 / 0}}}}"}}))
    sent = (await broken.send({"n": 1})).data
    found = await broken.end_of(sent["submissionId"])
    assert found == {**sent, "status": "failed", "answer": None}
    assert secret not in json.dumps([await quiet.show(), await broken.show(), found])
    unknown = await quiet.public.get(f"/v1/forms/{quiet.secret}/submissions/{sent['submissionId']}")
    assert unknown.code == 404023  # it is another form's


async def test_whoever_makes_a_link_may_do_what_it_starts(server: Composition) -> None:
    plain, pays = await published(server), await published(server, flow(PAY))
    publisher = await server.client_with("workflow:publish", "workflow:read")
    simulator = await server.client_with("workflow:publish", "workflow:simulate")
    runner = await server.client_with("workflow:publish", "workflow:execute")
    spender = await server.client_with("workflow:publish", "workflow:execute", "wallet:spend")

    async def code(client: Client, workflow_id: str, mode: str) -> int:
        reply = await client.post(f"/v1/workflows/{workflow_id}/forms", {"mode": mode})
        return 200 if reply.status == 200 else reply.code

    modes = ("simulate", "dust", "live")
    assert [await code(publisher, plain, mode) for mode in modes] == [403001] * 3
    assert [await code(simulator, plain, mode) for mode in modes] == [200, 403001, 403001]
    assert [await code(runner, plain, mode) for mode in modes] == [200] * 3
    assert [await code(runner, pays, mode) for mode in modes] == [200, 403001, 403001]
    assert [await code(spender, pays, mode) for mode in modes] == [200] * 3
    other = await server.other_owner()
    assert (await other.get(f"/v1/workflows/{plain}/forms")).code == 404001
    assert await code(other, plain, "simulate") == 404001
    limited = (
        await server.owner.post("/v1/api-keys", {"name": "k", "permissions": ["admin"], "workflowIds": [pays]})
    ).data["key"]
    assert await code(server.client(limited), plain, "simulate") == 404001


async def test_a_version_that_spends_later_is_not_spent_from_by_a_form_that_may_not(server: Composition) -> None:
    workflow_id = await published(server)
    runner = await server.client_with("workflow:publish", "workflow:execute")
    form = Form(server, (await runner.post(f"/v1/workflows/{workflow_id}/forms", {"mode": "live"})).data)
    assert (await form.send({"n": 1})).status == 200
    at = f"/v1/workflows/{workflow_id}"
    assert (await server.owner.put(at, {"definition": flow(PAY)})).status == 200
    assert (await form.send({"n": 2})).status == 200, "a draft changes nothing"
    assert (await server.owner.post(f"{at}/publish")).status == 200
    refused = await form.send({"n": 3})
    assert (refused.code, refused.body["details"]) == (CLOSED, [])
    assert "wallet" not in refused.body["message"]
    assert (await _count_runs(server), await form.state()) == (2, ("open", 2))


async def test_a_spend_that_was_not_rehearsed_is_not_started_by_a_form(server: Composition) -> None:
    workflow_id = await published(server, flow(PAY))
    assert (await server.owner.put(f"/v1/workflows/{workflow_id}", {"requireRehearsal": "simulate"})).status == 200
    made = await server.owner.post(f"/v1/workflows/{workflow_id}/forms", {"mode": "live"})
    refused = await Form(server, made.data).send({"n": 1})
    assert (refused.code, await _count_runs(server)) == (CLOSED, 0)


async def test_a_rehearsed_form_sends_what_was_written_to_what_it_reads(server: Composition) -> None:
    """So the page of a form may not say that nothing is sent (web/tests/truth.test.ts)."""
    async with outside_server(holds="/none") as outside:
        ask = {
            "type": "http-request",
            "payload": {"url": outside.base + "/of-{{$trigger.body.n}}"},
            "children": ["tell"],
        }
        tell = {"type": "http-request", "payload": {"url": outside.base + "/told", "method": "POST"}}
        form = await Form.make(server, flow(ask, tell=tell), mode="simulate")
        sent = await form.send({"n": 7})
        assert (await form.end_of(sent.data["submissionId"]))["status"] == "done"
        assert outside.asked == ["/of-7"]


async def test_what_is_no_form_gets_no_link(server: Composition) -> None:
    draft = (await server.owner.create_workflow(flow()))["id"]
    assert (await server.owner.post(f"/v1/workflows/{draft}/forms")).code == 404010
    asks_nothing = await published(server, {"nodes": {"root": {"type": "manual", "children": ["do"]}, "do": ANSWER}})
    assert (await server.owner.post(f"/v1/workflows/{asks_nothing}/forms")).code == 400228
    at = f"/v1/workflows/{await published(server)}/forms"
    for body in (
        {"maxRuns": 0},
        {"maxRuns": 100_001},
        {"expiresAt": "2020-01-01T00:00:00Z"},
        {"expiresAt": "2999-01-01T00:00:00Z"},
        {"mode": "both"},
    ):
        assert (await server.owner.post(at, body)).code == 400001, body
    assert (await server.owner.delete(f"{at}/frm_none")).code == 404023


async def test_guesses_and_floods_are_slowed_down(tmp_path: Path) -> None:
    async with composed(tmp_path, wrong_keys_per_second=1, form_submissions_per_second=1) as server:
        form = await Form.make(server, maxRuns=1_000)
        sent = [reply.status for reply in await asyncio.gather(*(form.send({"n": 1}) for _ in range(60)))]
        assert (set(sent), sent.count(200) >= 20) == ({200, 429}, True)
        guesses = [(await form.public.get(f"/v1/forms/dfm_{number}")).status for number in range(25)]
        assert (guesses[:20], guesses[-1]) == ([404] * 20, 429)
        assert (await form.show())["isOpen"], "those who have a link are not held up by guesses"


async def test_strangers_with_a_link_use_up_its_budget_and_not_the_organisations(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"rate_limit_per_second": 40, "form_requests_per_second": 1}
    async with composed(tmp_path, form_submissions_per_second=0, **limits) as server:
        first, second = await Form.make(server), await Form.make(server)
        answers = await asyncio.gather(*(first.public.get(f"/v1/forms/{first.secret}") for _ in range(120)))
        assert {answer.status for answer in answers} == {200, 429}
        refused = [answer for answer in answers if answer.status == 429]
        assert len(refused) > 60
        assert (refused[0].code, refused[0].body["message"]) == (
            429001,
            "Too many requests to this form; wait a moment.",
        )
        assert int(refused[0].response.headers["Retry-After"]) >= 1
        assert (await second.public.get(f"/v1/forms/{second.secret}")).status == 200
        assert (await server.owner.get("/v1/workflows")).status == 200


async def test_a_links_budget_stays_below_that_of_its_organisation() -> None:
    assert Settings(rate_limit_per_second=40).requests_per_link == 10
    assert Settings(rate_limit_per_second=0).requests_per_link == 100
    assert Settings(form_requests_per_second=3).requests_per_link == 3
