"""`notify` and `send-webhook` in whole runs: with the secrets of connectors, which no record shows."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from standardwebhooks import Webhook

from dustrun.core.values.exact_json import loads
from dustrun.storage.db.tables import executions
from engine.conftest import Bench
from outbound.loopback import Seen, json_answer, serving
from testkit.composition import composed
from testkit.ports import free_port

SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, whole").decode()


@pytest.fixture
async def bench(tmp_path: Path, store_url: str) -> AsyncIterator[Bench]:
    async with composed(tmp_path, database_url=store_url, outbound_allow=("127.0.0.1",)) as composition:
        yield Bench(composition)


async def connector(bench: Bench, kind: str, **data: str) -> dict[str, str]:
    made = await bench.api.post("/v1/connectors", {"type": kind, "name": kind, "data": data})
    return {"type": kind, "id": made.data["id"]}


async def shown(bench: Bench, run: dict[str, Any]) -> str:
    """All that the API says of a run."""
    effects = await bench.api.http.get(f"/v1/runs/{run['id']}/effects")
    events = await bench.api.http.get(f"/v1/runs/{run['id']}/stream")
    return f"{run}{effects.text}{events.text}"


async def test_messages_go_out_with_the_secrets_of_connectors(bench: Bench) -> None:
    async with serving(lambda _: json_answer('{"ok": true}')) as server:
        where = server.url.removeprefix("http://")
        nodes = {
            "hook": {
                "type": "send-webhook",
                "payload": {"url": f"{server.url}/hook", "type": "order.paid", "data": {"n": "{{$trigger.body.n}}"}},
                "connector": await connector(bench, "webhook-secret", secret=SECRET),
                "children": ["tell"],
            },
            "tell": {
                "type": "notify",
                "payload": {"body": "answered {{hook.result.status}}"},
                "connector": await connector(bench, "apprise", url=f"json://bot:hunter2hunter2@{where}/tell"),
            },
        }
        simulated = await bench.run(nodes, payload={"n": 7}, simulate=True)
        assert simulated["status"] == "success"
        assert server.seen == []
        run = await bench.run(nodes, payload={"n": 7})
        assert run["status"] == "success", run["executionState"]
        hook, tell = server.seen
        assert Webhook(SECRET).verify(hook.body, hook.headers)["data"] == {"n": 7}
        assert run["executionState"]["hook"]["result"]["id"] == hook.headers["webhook-id"]
        assert (tell.path, loads(tell.body)["message"]) == ("/tell", "answered 200")
        assert run["executionState"]["tell"]["result"] == {"service": "JSON"}
    for told in (await shown(bench, run), await shown(bench, simulated)):
        assert SECRET not in told
        assert "hunter2" not in told
        assert '"order.paid"' in told


async def test_secret_given_as_a_field_is_in_no_record(bench: Bench) -> None:
    async with serving(lambda _: json_answer("{}")) as server:
        payload = {"url": server.url, "secret": "{{$trigger.body.key}}"}
        definition = {"hook": {"type": "send-webhook", "payload": payload}}
        run = await bench.run(definition, payload={"key": SECRET})
        assert run["status"] == "success", run["executionState"]
        Webhook(SECRET).verify(server.seen[0].body, server.seen[0].headers)
    inputs = await bench.composition.rows(sa.select(executions.c.input).where(executions.c.path == "hook"))
    assert [loads(text)["secret"] for (text,) in inputs] == ["•••"]


async def test_what_a_refused_write_sent_is_told(bench: Bench) -> None:
    """Three writes of a live run fail: one was answered, one was not sent, of one nobody knows."""

    def answer(seen: Seen) -> web.StreamResponse:
        if seen.path == "/gone":
            assert seen.request.transport is not None
            seen.request.transport.abort()
        return web.Response(status=503)

    async with serving(answer) as server:
        where = server.url.removeprefix("http://")
        post = {"method": "POST", "json": {"n": 1}}
        nodes: dict[str, Any] = {
            "refused": {"type": "http-request", "payload": {**post, "url": f"{server.url}/refused"}},
            "signed": {"type": "send-webhook", "payload": {"url": f"{server.url}/signed", "secret": SECRET}},
            "told": {
                "type": "notify",
                "payload": {"body": "n"},
                "connector": await connector(bench, "apprise", url=f"json://{where}/told"),
            },
            "nobody": {"type": "http-request", "payload": {**post, "url": f"http://127.0.0.1:{free_port()}/"}},
            "gone": {"type": "http-request", "payload": {**post, "url": f"{server.url}/gone"}},
        }
        for node in nodes.values():
            node["onError"] = "continue"
        ids = {"simulate": (await bench.run(nodes, simulate=True))["id"], "live": await bench.start(nodes)}
        settled = ("success", "failure", "uncertain")  # a run waits for a person while a node is uncertain
        await bench.until(
            ids["live"],
            lambda run: [run["executionState"].get(name, {}).get("status") in settled for name in nodes] == [True] * 5,
        )
        seen = sorted(one.path for one in server.seen)
    told = {
        mode: {
            one["nodeId"]: (one["sent"], one["answered"], one["status"])
            for one in (await bench.api.get(f"/v1/runs/{run_id}/effects")).data["requests"]
        }
        for mode, run_id in ids.items()
    }
    assert seen == ["/gone", "/refused", "/signed", "/told"]
    assert told["live"] == {
        "refused": (True, 503, "failure"),
        "signed": (True, 503, "failure"),
        "told": (True, 503, "failure"),
        "nobody": (False, None, "failure"),
        "gone": (True, None, "uncertain"),
    }
    assert told["simulate"] == dict.fromkeys(nodes, (False, None, "success"))
