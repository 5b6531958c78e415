"""Inbound requests over HTTP: what starts a run, once, and what never does."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.core.text import standard_webhooks
from dustrun.settings import Settings
from dustrun.storage.db.tables import runs
from dustrun.storage.db.trigger_tables import trigger_events, webhook_secrets
from testkit.composition import Composition, composed

TRIGGER = "root"

Json = dict[str, Any]
SAY: Json = {"type": "log", "payload": {"message": "{{$trigger.body.n}}"}}


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, wrong_keys_per_second=1) as server:
        yield server


class Hook:
    """A published webhook, and those who send to it."""

    def __init__(self, server: Composition, workflow_id: str, made: Json) -> None:
        self.server = server
        self.workflow_id = workflow_id
        self.path = "/" + made["url"].split("/", 3)[3]
        self.signing = made["signingSecret"]
        self.http = server.client(None).http

    @classmethod
    async def make(
        cls, server: Composition, config: Json | None = None, node: Json | None = None, **fields: Any
    ) -> Hook:
        nodes = {"root": {"type": "webhook", "payload": config or {}, "children": ["do"]}, "do": node or SAY}
        workflow = await server.owner.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]}, **fields)
        assert (await server.owner.post(f"/v1/workflows/{workflow['id']}/publish")).status == 200
        return cls(server, workflow["id"], await rotated(server, workflow["id"]))

    async def send(self, body: Any = None, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        content = json.dumps(body).encode() if not isinstance(body, bytes) else body
        sent = {"Content-Type": "application/json", **(headers or {})}
        return await self.http.request(
            options.get("method", "POST"), options.get("path", self.path), content=content, headers=sent
        )

    async def told(self, *args: Any, **options: Any) -> tuple[int, Any, Any]:
        """(status, action or code, reason) of an answer."""
        reply = await self.send(*args, **options)
        found = reply.json()
        data = found.get("data")
        return (reply.status_code, data["action"], data["reason"]) if data else (reply.status_code, found["code"], None)

    async def events(self) -> list[tuple[str, str | None]]:
        """(outcome, reason) of every event, oldest first."""
        found = sa.select(trigger_events.c.outcome, trigger_events.c.reason).order_by(trigger_events.c.pk)
        return [(row[0], row[1]) for row in await self.server.rows(found)]

    async def count_runs(self) -> int:
        return int((await self.server.rows(sa.select(sa.func.count()).select_from(runs)))[0][0])


async def rotated(server: Composition, workflow_id: str, **body: Any) -> Json:
    made: Json = (await server.owner.post(f"/v1/workflows/{workflow_id}/webhooks/{TRIGGER}/rotate", body)).data
    return made


def signed(hook: Hook, body: bytes, message_id: str = "msg_1", at_ms: int | None = None) -> dict[str, str]:
    at_s = (clock.now_ms() if at_ms is None else at_ms) // 1000
    return standard_webhooks.headers(standard_webhooks.key_of(hook.signing), message_id, at_s, body)


async def test_a_request_starts_a_run(server: Composition) -> None:
    hook = await Hook.make(server)
    reply = await hook.send({"n": "seven"}, {"X-Order": "17", "Authorization": "Bearer abc"}, path=hook.path + "?a=b")
    data = reply.json()["data"]
    assert (reply.status_code, data["action"], len(data["runIds"])) == (202, "triggered", 1)
    run = (await server.owner.get(f"/v1/runs/{data['runIds'][0]}")).data
    seen = run["executionState"]["root"]["result"]
    assert (seen["n"], seen["body"], seen["query"], seen["source"]) == ("seven", {"n": "seven"}, {"a": "b"}, "webhook")
    assert (seen["headers"]["x-order"], seen["headers"]["authorization"]) == ("17", "•••")
    everything = json.dumps([list(map(str, row)) for row in await server.rows(sa.select(trigger_events))])
    assert hook.path.rsplit("/", 1)[1] not in everything
    assert "Bearer abc" not in everything


async def test_what_is_refused_starts_nothing_and_is_recorded(server: Composition) -> None:
    hook = await Hook.make(server, {"auth": {"type": "standard-webhooks"}, "inputSchema": {"required": ["n"]}})
    body = b'{"n":1}'
    old = clock.now_ms() - 301_000
    cases: list[tuple[tuple[int, int], bytes, dict[str, str], str, str]] = [
        ((401, 401010), body, {}, "POST", "signature"),
        ((401, 401010), b'{"n":2}', signed(hook, body), "POST", "signature"),
        ((401, 401011), body, signed(hook, body, at_ms=old), "POST", "timestamp"),
        ((405, 405001), body, signed(hook, body), "PUT", "method"),
        ((413, 413001), b'"' + b"x" * 1_048_576 + b'"', {}, "POST", "too_large"),
        ((415, 415001), body, {**signed(hook, body), "Content-Type": "application/pdf"}, "POST", "content_type"),
        ((415, 415001), body, {**signed(hook, body), "Content-Encoding": "gzip"}, "POST", "content_type"),
        ((400, 400001), b"{", signed(hook, b"{"), "POST", "body"),
        ((400, 400081), b"{}", signed(hook, b"{}", "msg_2"), "POST", "payload"),
    ]
    for (status, code), sent, headers, method, _ in cases:
        assert await hook.told(sent, headers, method=method) == (status, code, None)
    assert await hook.events() == [("failed", reason) for *_, reason in cases]
    reply = await hook.send(body, signed(hook, body), method="GET")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    newest = (await server.owner.get("/v1/trigger-events?platform=webhook")).data["items"][0]
    assert (newest["reason"], newest["metadata"]["method"], newest["runId"]) == ("method", "GET", None)
    assert (await server.owner.post(f"/v1/trigger-events/{newest['id']}/replay", {})).code == 409006
    assert await hook.count_runs() == 0
    assert await hook.told(body, signed(hook, body)) == (202, "triggered", None)  # forged ids are not in its way


async def test_a_replayed_id_is_answered_with_the_first_run(server: Composition) -> None:
    hook = await Hook.make(server, {"auth": {"type": "standard-webhooks"}})
    body = b'{"n":1}'
    first = (await hook.send(body, signed(hook, body))).json()["data"]
    again = await hook.send(body, signed(hook, body))
    data = again.json()["data"]
    assert again.status_code == 200
    assert {**data, "reason": None} == first
    assert data["reason"] == "duplicate"
    assert await hook.count_runs() == 1


@pytest.mark.parametrize(
    ("dedupe", "same", "other", "none"),
    [
        ({"header": "X-Id"}, ({"n": 1}, {"X-Id": "a"}), ({"n": 1}, {"X-Id": "b"}), ({"n": 1}, {})),
        ({"expression": "{{$trigger.body.n}}"}, ({"n": 1}, {}), ({"n": 2}, {}), ({"m": 1}, {})),
    ],
)
async def test_dedupe(server: Composition, dedupe: Json, same: Any, other: Any, none: Any) -> None:
    hook = await Hook.make(server, {"dedupe": dedupe})
    assert [(await hook.told(*one))[1:] for one in (same, same, other)] == [
        ("triggered", None),
        ("triggered", "duplicate"),
        ("triggered", None),
    ]
    assert (await hook.told(*none))[:2] == (400, 400001)
    assert await hook.count_runs() == 2


@pytest.mark.both_stores
async def test_a_stripe_event_that_is_delivered_again_runs_once(server: Composition) -> None:
    """Each delivery is signed at its own time: with `hmac` alone, this ran twice."""
    hook, own = await Hook.make(server, {"auth": {"type": "stripe"}}), "whsec_of_stripe_itself"
    hook.path = "/" + (await rotated(server, hook.workflow_id, signingSecret=own))["url"].split("/", 3)[3]
    body, told = b'{"id":"evt_1","n":1}', []
    for at in (clock.now_ms() // 1000 - 60, clock.now_ms() // 1000):
        mac = hmac.new(own.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        told.append(await hook.told(body, {"Stripe-Signature": f"t={at},v1={mac}"}))
    assert told == [(202, "triggered", None), (200, "triggered", "duplicate")]
    assert await hook.count_runs() == 1


async def test_one_number_is_one_id(server: Composition) -> None:
    hook = await Hook.make(server, {"dedupe": {"expression": "{{$trigger.body.n}}"}})
    told = [(await hook.told(body))[1:] for body in (b'{"n":1}', b'{"n":1.0}', b'{"n":10e-1}', b'{"n":10}')]
    assert told == [("triggered", None), ("triggered", "duplicate"), ("triggered", "duplicate"), ("triggered", None)]


async def test_a_sender_that_only_asks_for_an_answer_starts_nothing(server: Composition) -> None:
    hook, own = await Hook.make(server, {"auth": {"type": "slack"}}), "the signing secret of slack"
    hook.path = "/" + (await rotated(server, hook.workflow_id, signingSecret=own))["url"].split("/", 3)[3]
    body, at = b'{"type":"url_verification","challenge":"3eZbrw1a"}', str(clock.now_ms() // 1000)
    mac = hmac.new(own.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()
    answer = await hook.send(body, {"X-Slack-Signature": f"v0={mac}", "X-Slack-Request-Timestamp": at})
    assert (answer.status_code, answer.json()) == (200, {"challenge": "3eZbrw1a"})
    assert (await hook.send(body, {"X-Slack-Signature": "v0=00", "X-Slack-Request-Timestamp": at})).status_code == 401
    assert await hook.events() == [("skipped", "handshake"), ("failed", "signature")]
    assert await hook.count_runs() == 0


async def test_publishing_warns_of_a_webhook_that_would_spend_twice(server: Composition) -> None:
    calls = await server.owner.create_workflow(name="called")
    node: Json = {"type": "call-workflow", "payload": {"workflowId": calls["id"]}}
    found = {}
    for name, config in (("bare", {}), ("stripe", {"auth": {"type": "stripe"}}), ("rehearses", {"mode": "simulate"})):
        nodes = {"root": {"type": "webhook", "payload": config, "children": ["do"]}, "do": node}
        workflow = await server.owner.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]}, name=name)
        published = (await server.owner.post(f"/v1/workflows/{workflow['id']}/publish")).data
        found[name] = [one["code"] for one in published.get("warnings", [])]
    assert found == {"bare": ["webhook_without_id"], "stripe": [], "rehearses": []}


async def test_a_payload_that_is_refused_leaves_its_id_to_the_one_that_is_not(server: Composition) -> None:
    hook = await Hook.make(server, {"dedupe": {"header": "X-Id"}, "inputSchema": {"required": ["n"]}})
    sent = {"X-Id": "a"}
    assert [(await hook.told(body, sent))[1:] for body in ({}, {"n": 1}, {"n": 1}, {})] == [
        (400081, None),
        ("triggered", None),
        ("triggered", "duplicate"),
        ("triggered", "duplicate"),
    ]
    assert (await hook.events(), await hook.count_runs()) == ([("failed", "payload"), ("started", None)], 1)
    query = sa.select(trigger_events.c.id).where(trigger_events.c.outcome == "failed")
    ((failed,),) = await server.rows(query)
    draft = {"root": {"type": "webhook", "payload": {}, "children": ["do"]}, "do": SAY}
    changed = {"definition": {"nodes": draft, "triggerNodeIds": ["root"]}}
    assert (await server.owner.put(f"/v1/workflows/{hook.workflow_id}", changed)).status == 200
    assert (await server.owner.post(f"/v1/workflows/{hook.workflow_id}/publish")).status == 200
    replayed = await server.owner.post(f"/v1/trigger-events/{failed}/replay")
    assert replayed.data["action"] == "triggered", replayed.body


async def test_a_rehearsal_that_is_retried_sees_the_headers_of_its_request(server: Composition) -> None:
    wrong = {
        "type": "stop",
        "payload": {"status": "failure", "message": "{{$trigger.headers['x-n']}} {{$trigger.query.q}}"},
    }
    hook = await Hook.make(server, {"mode": "simulate"}, wrong)
    run_id = (await hook.send({}, {"X-N": "7"}, path=hook.path + "?q=a")).json()["data"]["runIds"][0]
    for _ in range(2):
        while (run := (await server.owner.get(f"/v1/runs/{run_id}")).data)["finishedAt"] is None:
            await asyncio.sleep(0.01)
        assert (run["mode"], run["executionState"]["do"]["result"]["message"]) == ("simulate", "7 a")
        run_id = (await server.owner.post(f"/v1/runs/{run_id}/retry")).data["id"]


async def test_header_and_hmac(server: Composition) -> None:
    hook = await Hook.make(server, {"auth": {"type": "header", "header": "X-Token"}})
    assert (await hook.told({}, {"X-Token": hook.signing}))[0] == 202
    assert (await hook.told({}, {"X-Token": "no"}))[0] == 401
    own = "the secret of another service"
    hook = await Hook.make(server, {"auth": {"type": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256="}})
    await rotated(server, hook.workflow_id, signingSecret=own)
    signature = "sha256=" + hmac.new(own.encode(), b'{"n":1}', hashlib.sha256).hexdigest()
    assert (await hook.told(b'{"n":1}', {"X-Hub-Signature-256": signature}))[0] == 202
    stored = await server.rows(sa.select(webhook_secrets.c.hash, webhook_secrets.c.sealed))
    assert own not in str(stored)
    assert hook.signing not in str(stored)


async def test_addresses_are_replaced_with_an_overlap(server: Composition) -> None:
    hook = await Hook.make(server)
    made = await rotated(server, hook.workflow_id)
    assert made["previousExpiresAt"] is not None
    fresh = "/" + made["url"].split("/", 3)[3]
    assert [(await hook.told({}, path=path))[0] for path in (hook.path, fresh)] == [202, 202]
    await rotated(server, hook.workflow_id, overlapMs=0)
    assert [(await hook.told({}, path=path))[0] for path in (hook.path, fresh)] == [404, 404]
    listed = (await server.owner.get(f"/v1/workflows/{hook.workflow_id}/webhooks")).data
    assert [(one["nodeId"], one["auth"], len(one["addresses"])) for one in listed] == [("root", "secret-url", 1)]
    assert (await server.owner.delete(f"/v1/workflows/{hook.workflow_id}/webhooks/{TRIGGER}")).status == 200
    assert (await server.owner.post(f"/v1/workflows/{hook.workflow_id}/webhooks/do/rotate")).code == 404022
    reader = await server.client_with("workflow:read", "workflow:update", "workflow:execute")
    assert (await reader.post(f"/v1/workflows/{hook.workflow_id}/webhooks/{TRIGGER}/rotate")).status == 403
    stranger = await server.other_owner()
    assert (await stranger.post(f"/v1/workflows/{hook.workflow_id}/webhooks/{TRIGGER}/rotate")).status == 404


async def test_a_workflow_that_must_not_run_skips(server: Composition) -> None:
    hook = await Hook.make(server, cooldownMs=60_000, maxRuns=2)
    url = f"/v1/workflows/{hook.workflow_id}"
    assert (await hook.told({}))[1:] == ("triggered", None)
    assert await hook.told({}) == (200, "skipped", "cooldown")
    await server.owner.post(f"{url}/pause")
    assert await hook.told({}) == (200, "skipped", "paused")
    await server.owner.delete(url)
    assert await hook.told({}) == (200, "skipped", "ended")
    assert await hook.count_runs() == 1
    assert [reason for _, reason in await hook.events()] == [None, "cooldown", "paused", "ended"]


async def test_a_draft_listens_to_nobody(server: Composition) -> None:
    nodes = {"root": {"type": "webhook", "payload": {}, "children": ["do"]}, "do": SAY}
    workflow = await server.owner.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]})
    hook = Hook(server, workflow["id"], await rotated(server, workflow["id"]))
    assert await hook.told({}) == (404, 404022, None)
    assert await hook.count_runs() == 0


@pytest.mark.both_stores
async def test_exactly_n_of_many_at_once(server: Composition) -> None:
    hook = await Hook.make(server, maxRuns=10)
    told = await asyncio.gather(*(hook.told({"n": n}) for n in range(60)))
    assert sorted(told).count((202, "triggered", None)) == 10
    assert {one for one in told if one[0] != 202} == {(200, "skipped", "exhausted")}
    assert await hook.count_runs() == 10
    workflow = (await server.owner.get(f"/v1/workflows/{hook.workflow_id}")).data
    assert (workflow["status"], workflow["pausedReason"]) == ("paused", "max_runs_exhausted")


async def test_respond_node_answers_and_nothing_of_it_acts_for_the_server(server: Composition) -> None:
    answer = {
        "status": 201,
        "headers": {"X-Order": "{{$trigger.body.n}}"},
        "body": "<p>hi</p>",
        "contentType": "text/html",
    }
    hook = await Hook.make(server, {"respond": "respond"}, {"type": "respond", "payload": answer})
    reply = await hook.send({"n": "17"})
    assert (reply.status_code, reply.text, reply.headers["x-order"]) == (201, "<p>hi</p>", "17")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"].startswith("sandbox;")
    assert (reply.headers["x-content-type-options"], "set-cookie" in reply.headers) == ("nosniff", False)
    empty = await Hook.make(server, {"respond": "respond"}, {"type": "respond", "payload": {"status": 204}})
    reply = await empty.send({})
    assert (reply.status_code, reply.content, reply.headers.get("content-type")) == (204, b"", None)


async def test_waiting_for_the_result(server: Composition) -> None:
    hook = await Hook.make(server, {"respond": "result"})
    data = (await hook.send({"n": "hi"})).json()["data"]
    assert (data["status"], data["result"]) == ("success", {"message": "hi"})
    wait = {"type": "wait", "payload": {"timeoutMs": 60_000}}
    slow = await Hook.make(server, {"respond": "result", "timeoutMs": 100}, wait)
    reply = await slow.send({})
    assert (reply.status_code, reply.json()["data"]["action"]) == (202, "triggered")


async def test_guesses_from_the_addresses_of_one_network_count_together(server: Composition) -> None:
    """A host has 2**64 addresses of IPv6."""
    told = []
    for number in range(100):
        transport = httpx.ASGITransport(server.app, client=(f"2001:db8::{number:x}", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            told.append((await http.post(f"/v1/webhooks/dwh_{number}")).status_code)
    assert set(told) == {404, 429}


async def test_guesses_and_floods_of_refusals_are_slowed_down(server: Composition) -> None:
    hook = await Hook.make(server, {"auth": {"type": "header", "header": "X-Token"}})
    guesses = await asyncio.gather(*(hook.told({}, path=f"/v1/webhooks/dwh_{n}") for n in range(100)))
    assert {one[0] for one in guesses} == {404, 429}
    wrong = await asyncio.gather(*(hook.told({}, {"X-Token": "no"}) for _ in range(100)))
    assert {one[0] for one in wrong} == {401, 429}
    assert len(await hook.events()) == [one[0] for one in wrong].count(401)
    assert (await hook.told({}, {"X-Token": hook.signing}))[0] == 202


async def test_strangers_with_an_address_use_up_its_budget_and_not_the_organisations(tmp_path: Path) -> None:
    limits: Json = {"rate_limit_per_second": 40, "webhook_requests_per_second": 1}
    async with composed(tmp_path, **limits) as server:
        first, second = await Hook.make(server), await Hook.make(server)
        answers = await asyncio.gather(*(first.send({"n": 1}) for _ in range(120)))
        assert {answer.status_code for answer in answers} == {202, 429}
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) > 60
        assert (refused[0].json()["code"], refused[0].json()["message"]) == (
            429001,
            "Too many requests to this webhook; wait a moment.",
        )
        assert int(refused[0].headers["Retry-After"]) >= 1
        assert len(await first.events()) == len(answers) - len(refused), "what is beyond leaves no event"
        assert (await second.told({"n": 1}))[0] == 202
        assert (await server.owner.get("/v1/workflows")).status == 200


async def test_a_webhooks_budget_stays_below_that_of_its_organisation() -> None:
    assert Settings(rate_limit_per_second=40).requests_per_webhook == 10
    assert Settings(rate_limit_per_second=0).requests_per_webhook == 1000
    assert Settings(webhook_requests_per_second=3).requests_per_webhook == 3


async def test_a_request_is_taken_while_every_reader_is_busy(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        hook = await Hook.make(server, {"auth": {"type": "standard-webhooks"}})
        assert (await hook.told({"n": 0}, signed(hook, b'{"n": 0}')))[:2] == (202, "triggered")
        free = threading.Event()
        reading = [asyncio.ensure_future(server.parts.database.read(lambda _: free.wait(60))) for _ in range(20)]
        try:
            async with asyncio.timeout(60):
                told = await hook.told({"n": 1}, signed(hook, b'{"n": 1}', "msg_2"))
        finally:
            free.set()
            await asyncio.gather(*reading)
        assert told[:2] == (202, "triggered")


async def test_a_busy_webhook_asks_for_what_is_published_now(server: Composition) -> None:
    """Each change comes right after a request to the same address, while what that found is still in memory."""
    hook = await Hook.make(server)
    assert (await hook.told({"n": 1}))[0] == 202
    nodes = {"root": {"type": "webhook", "payload": {"auth": {"type": "standard-webhooks"}}, "children": ["do"]}}
    draft = {"definition": {"nodes": {**nodes, "do": SAY}, "triggerNodeIds": ["root"]}}
    assert (await server.owner.put(f"/v1/workflows/{hook.workflow_id}", draft)).status == 200
    assert (await server.owner.post(f"/v1/workflows/{hook.workflow_id}/publish")).status == 200
    assert await hook.told({"n": 2}) == (401, 401010, None)
    body = b'{"n":3}'
    assert (await hook.told(body, signed(hook, body)))[0] == 202
    old = hook.path, signed(hook, body, "msg_2")
    made = await rotated(server, hook.workflow_id, overlapMs=0)
    assert await hook.told(body, old[1], path=old[0]) == (404, 404022, None)
    hook.path, hook.signing = "/" + made["url"].split("/", 3)[3], made["signingSecret"]
    assert await hook.told(body, old[1]) == (401, 401010, None)
    assert (await hook.told(body, signed(hook, body, "msg_3")))[0] == 202
    assert (await server.owner.post(f"/v1/workflows/{hook.workflow_id}/pause")).status == 200
    assert await hook.told(body, signed(hook, body, "msg_4")) == (200, "skipped", "paused")
    assert (await server.owner.delete(f"/v1/workflows/{hook.workflow_id}/webhooks/{TRIGGER}")).status == 200
    assert await hook.told(body, signed(hook, body, "msg_5")) == (404, 404022, None)
    assert await hook.count_runs() == 3


async def test_an_old_address_and_what_it_signs_expire_in_time(server: Composition) -> None:
    hook = await Hook.make(server, {"auth": {"type": "standard-webhooks"}})
    made = await rotated(server, hook.workflow_id, overlapMs=3_000)
    path, body = "/" + made["url"].split("/", 3)[3], b"{}"
    deadline = clock.now_ms() + 3_000
    assert (await hook.told(body, signed(hook, body, "msg_1"), path=path))[0] == 202, "the new address, the old secret"
    await asyncio.sleep(max(0, deadline - clock.now_ms()) / 1000 + 0.01)
    assert await hook.told(body, signed(hook, body, "msg_2"), path=path) == (401, 401010, None)
    assert (await hook.told(body, signed(hook, body, "msg_3")))[0] == 404
