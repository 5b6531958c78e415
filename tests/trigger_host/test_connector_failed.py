"""Connectors whose calls begin to fail are told once, until they work again: to workflows and to hooks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun.storage.db.tables import facts, hook_notices
from dustrun.storage.db.trigger_tables import trigger_events
from testkit.composition import Composition, composed
from testkit.news import News, serving
from testkit.streaming import streaming
from trigger_host.test_happened import SAY, publish, told, until
from trigger_host.test_polls import QUICK
from trigger_host.test_polls_with_connectors import FIRST, SECOND, connector, origin, rotate

HOOK = {"url": "https://hooks.example.com/in", "name": "h", "subscribedEventTypes": ["connector.*"]}
CALL: dict[str, Any] = {"root": {"type": "manual", "children": ["ask"]}}


async def caller(server: Composition, news: News, reference: dict[str, str]) -> str:
    ask = {"type": "http-request", "connector": reference, "payload": {"url": news.url}, "onError": "continue"}
    made = await server.owner.create_workflow({"nodes": {**CALL, "ask": ask}}, name="Caller")
    return str(made["id"])


async def run(server: Composition, workflow_id: str) -> str:
    run_id = str((await server.owner.post(f"/v1/workflows/{workflow_id}/run", {})).data["runId"])

    async def has_ended() -> bool:
        return (await server.owner.get(f"/v1/runs/{run_id}?summary=true")).data["status"] not in ("running", "waiting")

    await until(has_ended)
    return run_id


async def noted(server: Composition) -> list[str]:
    return [what for (what,) in await server.rows(sa.select(facts.c.what).where(facts.c.kind == "connector"))]


async def test_a_refused_credential_is_told_once_and_again_after_it_worked(tmp_path: Path, store_url: str) -> None:
    settings = {**QUICK, "outbound_allow": ["127.0.0.1", "hooks.example.com"], "database_url": store_url}
    async with composed(tmp_path, **settings) as server, serving() as news:
        assert (await server.owner.post("/v1/hooks", HOOK)).status == 200
        news.content, news.needs = {"n": 1}, f"Bearer {SECOND}"
        reference = await connector(server, news.url)
        every = ["refused", "reconnect", "unreachable", "recovered"]
        watcher = await publish(server, "connector-failed", what=every)
        calling = await caller(server, news, reference)
        run_id = await run(server, calling)
        await run(server, calling)  # it is known by then
        (first,) = await told(server, watcher, 1)
        about = {"what": "refused", "connectorId": reference["id"], "runId": run_id, "workflowId": calling}
        assert {name: first[name] for name in about} == about
        assert (first["message"], first["depth"], first["through"]) == (
            "127.0.0.1 answers with status 401.",
            1,
            [calling],
        )
        shown = (await server.owner.get(f"/v1/connectors/{reference['id']}")).data
        assert shown["failure"] == {"what": "refused", "message": first["message"]}
        assert shown["failingSince"] == first["at"]
        news.needs = f"Bearer {FIRST}"
        await run(server, calling)
        assert [one["what"] for one in await told(server, watcher, 2)] == ["refused", "recovered"]
        news.needs = f"Bearer {SECOND}"
        tested = (await server.owner.post(f"/v1/connectors/{reference['id']}/test", {"url": news.url})).data
        assert (tested["ok"], tested["status"]) == (False, 401)
        assert (await told(server, watcher, 3))[2]["runId"] is None
        await rotate(server, reference, data={"token": SECOND})
        assert (await server.owner.get(f"/v1/connectors/{reference['id']}")).data.get("failure") is None
        await run(server, calling)
        assert await noted(server) == ["refused", "recovered", "refused"]
        notices = await server.rows(sa.select(hook_notices.c.type, hook_notices.c.data).order_by(hook_notices.c.id))
        assert [kind for kind, _ in notices] == ["connector.failed", "connector.recovered", "connector.failed"]
        assert json.loads(notices[0][1])["reason"] == "refused"
        assert SECOND not in str(notices) + json.dumps(await told(server, watcher, 3))


async def test_a_host_must_fail_several_times_and_a_forbidden_resource_too(tmp_path: Path, store_url: str) -> None:
    settings = {**QUICK, "outbound_allow": ["127.0.0.1"], "database_url": store_url}
    async with composed(tmp_path, **settings) as server, serving() as news:
        news.content = {"n": 1}
        reference = await connector(server, news.url)
        calling = await caller(server, news, reference)
        for status, times, known in (
            (503, 4, 0),
            (200, 1, 0),
            (403, 2, 0),
            (429, 3, 0),
            (403, 1, 1),
            (404, 1, 2),
            (503, 5, 3),
        ):
            news.status = status
            for _ in range(times):
                await run(server, calling)
            assert len(await noted(server)) == known, status
        news.status = 400  # the token endpoint of an OAuth 2 connector refuses its client
        client = {"tokenUrl": news.url, "clientId": "dustrun", "clientSecret": FIRST}
        await run(
            server, await caller(server, news, await connector(server, news.url, "oauth2-client-credentials", **client))
        )
        assert await noted(server) == ["refused", "recovered", "unreachable", "reconnect"]


async def test_what_a_workflow_itself_led_to_starts_none_of_its_runs(tmp_path: Path) -> None:
    """It calls with the connector that it hears of, which works for one host and not for the other."""
    settings = {**QUICK, "outbound_allow": ["127.0.0.1"]}
    async with composed(tmp_path, **settings) as server, serving() as works, serving() as refuses:
        works.content, refuses.needs = {"n": 1}, f"Bearer {SECOND}"
        body = {
            "type": "http-bearer",
            "name": "both",
            "data": {"token": FIRST},
            "allowedHosts": [origin(works.url), origin(refuses.url)],
        }
        made = (await server.owner.post("/v1/connectors", body)).data
        reference = {"type": made["type"], "id": made["id"]}
        good, bad = [await caller(server, news, reference) for news in (works, refuses)]
        await server.owner.post(f"/v1/workflows/{bad}/publish")
        config = {"pollMs": 1000, "what": ["refused", "recovered"]}
        nodes = {
            "root": {"type": "connector-failed", "payload": config, "children": ["call"]},
            "call": {"type": "call-workflow", "payload": {"workflowId": bad}},
        }
        watcher = (await server.owner.create_workflow({"nodes": nodes}, name="Watcher"))["id"]
        published = await server.owner.post(f"/v1/workflows/{watcher}/publish")
        assert published.status == 200, published.body
        t = trigger_events.c
        query = sa.select(t.outcome, t.reason).where(t.workflow_id == watcher).order_by(t.pk)

        async def has_called() -> bool:
            return len(refuses.asked) == 2

        async def has_events() -> bool:
            return len(await server.rows(query)) == 3

        await run(server, bad)
        await until(has_called)  # its own call is refused too, which is known by then
        await run(server, good)
        await until(has_events)
        assert await server.rows(query) == [("started", None), ("started", None), ("skipped", "circle")]
        assert await noted(server) == ["refused", "recovered", "refused"]


async def test_a_websocket_counts_and_works_again_with_a_new_secret(tmp_path: Path) -> None:
    settings = {**QUICK, "outbound_allow": ["127.0.0.1"]}
    async with composed(tmp_path, **settings) as server, streaming() as source:
        watcher = await publish(server, "connector-failed", what=["refused", "recovered"])
        source.needs = f"Bearer {SECOND}"
        reference = await connector(server, source.url)
        config = {"url": f"{source.url}/ws".replace("http", "ws", 1), "subscribe": [{"op": "subscribe"}]}
        root = {"type": "websocket", "connector": reference, "payload": config, "children": ["say"]}
        made = await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}}, name="Follower")
        assert (await server.owner.post(f"/v1/workflows/{made['id']}/publish")).status == 200

        async def is_noted() -> bool:
            return await noted(server) == ["refused"]

        await until(is_noted)
        shown = (await server.owner.get(f"/v1/connectors/{reference['id']}")).data
        assert shown["failure"]["message"] == '"127.0.0.1" answers with status 401 instead of a WebSocket.'
        assert [one["what"] for one in await told(server, watcher, 1)][:1] == ["refused"]
        source.needs = f"Bearer {FIRST}"

        async def has_recovered() -> bool:
            return await noted(server) == ["refused", "recovered"]

        await until(has_recovered)


async def test_a_messaging_service_that_refuses_its_login_counts(tmp_path: Path) -> None:
    settings = {**QUICK, "outbound_allow": ["127.0.0.1"]}
    async with composed(tmp_path, **settings) as server, serving() as news:
        news.content, news.status = {"ok": True}, 401
        url = news.url.replace("http://", "json://bot:hunter2@")
        body = {"type": "apprise", "name": "ops", "data": {"url": url}}
        made = (await server.owner.post("/v1/connectors", body)).data
        tell = {
            "type": "notify",
            "connector": {"type": "apprise", "id": made["id"]},
            "payload": {"body": "hello"},
            "onError": "continue",
        }
        workflow = await server.owner.create_workflow({"nodes": {**CALL, "ask": tell}}, name="Teller")
        await run(server, workflow["id"])
        assert await noted(server) == ["refused"]
        shown = (await server.owner.get(f"/v1/connectors/{made['id']}")).data
        assert shown["failure"]["message"] == "The service did not accept the message: it answered 401."
        news.status = 200
        await run(server, workflow["id"])
        assert await noted(server) == ["refused", "recovered"]


async def test_a_program_that_does_not_start_or_says_nothing_counts(tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    named = f"{sys.executable} {program}"
    async with composed(tmp_path, mcp_commands=(named,)) as server:
        data = {"command": sys.executable, "args": [str(program)]}
        made = (await server.owner.post("/v1/connectors", {"type": "mcp", "name": "own", "data": data})).data

        async def look() -> int:
            return int((await server.owner.post(f"/v1/connectors/{made['id']}/tools", {})).status)

        program.write_text("")  # it ends at once
        assert [await look() for _ in range(4)] == [503] * 4
        assert await noted(server) == []
        await look()
        assert await noted(server) == ["unreachable"]
        shown = (await server.owner.get(f"/v1/connectors/{made['id']}")).data
        assert shown["failure"]["message"].endswith(" does not answer, 5 times in a row.")
        program.write_text('print("""{}""", flush=True); input()')
        await look()
        assert await noted(server) == ["unreachable", "recovered"]
