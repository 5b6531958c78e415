"""Hooks as callers make them: what is refused, who may, secrets and their rotation, tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from dustrun.storage.db.tables import hooks as table
from testkit.composition import composed

from .conftest import World

SAY = {"type": "log", "payload": {"message": "hello"}}
REFUSED = [
    "http://example.com/",
    "ftp://example.com/",
    "https://10.0.0.1/",
    "https://127.0.0.2/",
    "https://localhost/",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[::ffff:a00:1]/",
    "https://[64:ff9b::a00:1]/",
    "https://[fe80::1]/",
    "https://169.254.169.254/latest/meta-data",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://0/",
    "https://user:pass@example.com/",
    "https://example.com\\@10.0.0.1/",
    "https://metadata.localhost/",
    "not a url",
]


async def test_addresses_that_are_not_public_are_refused(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        hook = (await server.owner.post("/v1/hooks", {"name": "good", "url": "https://8.8.8.8/"})).data
        for url in REFUSED:
            made = await server.owner.post("/v1/hooks", {"name": "bad", "url": url})
            assert made.status == 400, url
            assert (url, made.status, made.fields) == (url, 400, ["url"])
            changed = await server.owner.put(f"/v1/hooks/{hook['id']}", {"url": url})
            assert (url, changed.status, changed.fields) == (url, 400, ["url"])


async def test_redirects_are_not_followed(world: World) -> None:
    world.receiver.answer = lambda one: web.Response(status=307, headers={"Location": "/inside"})
    hook = await world.hook("run.*")
    sent = (await world.api.post(f"/v1/hooks/{hook['id']}/test")).data
    assert (sent["status"], sent["responseStatus"]) == ("failure", 307)
    assert "redirects are not followed" in sent["errorMessage"]
    assert [one.path for one in world.receiver.got] == ["/"]


async def test_an_address_that_becomes_private_is_refused_when_it_is_sent(world: World) -> None:
    hook = await world.hook("run.*")
    await world.server.execute(sa.update(table).values(url="http://127.0.0.2:9/"))
    sent = (await world.api.post(f"/v1/hooks/{hook['id']}/test")).data
    assert sent["status"] == "failure"
    assert "may not be reached" in sent["errorMessage"]


async def test_bad_bodies_name_the_field(world: World) -> None:
    async def fields(**given: object) -> list[str]:
        reply = await world.api.post("/v1/hooks", {"name": "x", "url": world.receiver.url, **given})
        assert reply.status == 400
        return reply.fields

    assert await fields(subscribedEventTypes=["run.exploded"]) == ["subscribedEventTypes"]
    assert await fields(subscribedEventTypes=[]) == ["subscribedEventTypes"]
    assert await fields(workflowIds=["wf_" + "0" * 26]) == ["workflowIds"]
    assert await fields(modes=["dry"]) == ["modes[0]"]
    assert await fields(maxRetries=99) == ["maxRetries"]


@pytest.mark.both_stores
async def test_a_secret_is_shown_once_and_rotates_with_an_overlap(world: World) -> None:
    hook = await world.hook("run.*")
    old = hook["secret"]
    shown = (await world.api.get(f"/v1/hooks/{hook['id']}")).body
    assert old not in str(shown)
    rotated = (await world.api.post(f"/v1/hooks/{hook['id']}/rotate-secret", {"overlapHours": 1})).data
    await world.api.post(f"/v1/hooks/{hook['id']}/test")
    got = world.receiver.got[-1]
    for secret in (old, rotated["secret"]):
        assert Webhook(secret).verify(got.raw, got.headers)["type"] == "hook.ping"
    last = (await world.api.post(f"/v1/hooks/{hook['id']}/rotate-secret", {"overlapHours": 0})).data
    assert last["previousSecretUntil"] is None
    await world.api.post(f"/v1/hooks/{hook['id']}/test")
    got = world.receiver.got[-1]
    assert Webhook(last["secret"]).verify(got.raw, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(rotated["secret"]).verify(got.raw, got.headers)
    stored = await world.server.rows(sa.select(table))
    assert "whsec_" not in str(stored)


async def test_the_answer_is_cut_and_masked(world: World) -> None:
    hook = await world.hook("run.*")
    world.receiver.answer = lambda _: web.Response(text=f"{hook['secret']} sk_{'a' * 40} " + "x" * 100_000)
    sent = (await world.api.post(f"/v1/hooks/{hook['id']}/test")).data
    assert sent["status"] == "success"
    assert len(sent["responseBody"]) <= 1024
    assert hook["secret"] not in sent["responseBody"]
    assert "a" * 40 not in sent["responseBody"]


async def test_a_disabled_hook_waits_and_is_not_told_of_what_it_missed(world: World) -> None:
    flow = await world.flow(say=SAY)
    hook = await world.hook("run.*")
    await world.run(flow)
    await world.receiver.until(2)
    off = (await world.api.post(f"/v1/hooks/{hook['id']}/disable")).data
    assert (off["status"], off["disabledReason"]) == ("disabled", "Disabled by hand.")
    await world.run(flow)
    on = (await world.api.post(f"/v1/hooks/{hook['id']}/enable")).data
    assert (on["status"], on["disabledReason"]) == ("active", None)
    run = await world.run(flow)
    got = await world.receiver.until(4)
    assert [one.data["runId"] for one in got[2:]] == [run, run]


async def test_a_deleted_hook_is_told_nothing_and_its_log_stays(world: World) -> None:
    flow = await world.flow(say=SAY)
    world.receiver.answer = lambda _: web.Response(status=500)
    hook = await world.hook("run.*")
    await world.run(flow)
    while not world.receiver.got:
        await world.api.get("/v1/hooks")
    await world.api.delete(f"/v1/hooks/{hook['id']}")
    assert (await world.api.get(f"/v1/hooks/{hook['id']}")).status == 404
    log = await world.deliveries()
    assert {entry["status"] for entry in log} == {"failure"}
    assert (await world.api.post(f"/v1/hook-deliveries/{log[0]['id']}/retry")).status == 409
    assert (await world.api.post(f"/v1/hook-deliveries/{log[0]['id']}/replay")).status == 409


async def test_other_organisations_and_limited_keys_see_no_hooks(world: World) -> None:
    flow = await world.flow(say=SAY)
    hook = await world.hook("run.*")
    await world.run(flow)
    await world.receiver.until(2)
    delivery = (await world.deliveries())[0]["id"]
    other = await world.server.other_owner()
    assert (await other.get("/v1/hooks")).data["items"] == []
    assert (await other.get("/v1/hook-deliveries")).data["items"] == []
    for path in (f"/v1/hooks/{hook['id']}", f"/v1/hook-deliveries/{delivery}"):
        assert (await other.get(path)).status == 404
    body = {"name": "one", "permissions": ["hook:read", "hook:write"], "workflowIds": [flow]}
    limited = world.server.client((await world.api.post("/v1/api-keys", body)).data["key"])
    for path in ("/v1/hooks", "/v1/hook-deliveries", f"/v1/hooks/{hook['id']}"):
        assert (await limited.get(path)).status == 403
    assert (await limited.post("/v1/hooks", {"name": "x", "url": world.receiver.url})).status == 403


async def test_an_organisation_has_a_number_of_hooks(world: World) -> None:
    for _ in range(20):
        await world.hook("run.failed")
    reply = await world.api.post("/v1/hooks", {"name": "x", "url": world.receiver.url})
    assert (reply.status, reply.code) == (409, 409090)
