"""Keys that only simulate read from hosts that somebody has named, and from no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.errors import Code
from echoing import Echo, echoing
from testkit.composition import Client, Composition, composed
from testkit.model_server import Reply, serving_model

Json = dict[str, Any]


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing() as echo:
        yield echo


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, outbound_allow=("127.0.0.1", "localhost")) as composition:
        yield composition


@pytest.fixture
async def limited(server: Composition) -> Client:
    return await server.client_with("workflow:read", "workflow:simulate", "run:inline", "run:read")


def reading(url: str, **payload: Any) -> Json:
    ask = {"type": "http-request", "payload": {"url": url, **payload}}
    return {"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}}


def calling(workflow: Any, **payload: Any) -> Json:
    call = {"type": "call-workflow", "payload": {"workflowId": workflow, **payload}}
    return {"nodes": {"root": {"type": "manual", "children": ["call"]}, "call": call}}


async def simulate(api: Client, definition: Json, **body: Any) -> int:
    reply = await api.post("/v1/runs", {"definition": definition, "simulate": True, **body})
    return reply.code if reply.status != 200 else 0


async def test_host_that_nobody_named_is_refused(server: Composition, limited: Client, echo: Echo) -> None:
    assert await simulate(limited, reading(f"{echo.url}/echo")) == Code.HOST_NOT_ALLOWED
    assert echo.seen == []
    assert await simulate(server.owner, reading(f"{echo.url}/echo")) == 0


async def test_trial_of_a_trigger_asks_no_host_that_nobody_named(
    server: Composition, limited: Client, echo: Echo
) -> None:
    trial = {"config": {"url": f"{echo.url}/echo?secret=1", "pollMs": 60_000}}
    refused = await limited.post("/v1/triggers/http-poll/test", trial)
    assert (refused.code, refused.fields) == (Code.HOST_NOT_ALLOWED, ["config.url"])
    assert (await limited.post("/v1/triggers/cronjob/test", {"config": {"schedule": "0 9 * * *"}})).status == 200
    reader = await server.client_with("workflow:read")
    assert (await reader.post("/v1/triggers/http-poll/test", trial)).data["origin"] == "sample"
    assert echo.seen == []
    await server.owner.post("/v1/connectors", {"type": "http-bearer", "name": "x", "data": {"token": "0123456789"},
                                               "allowedHosts": [echo.url]})  # fmt: skip
    assert (await limited.post("/v1/triggers/http-poll/test", trial)).status == 200
    assert len(echo.seen) == 1


async def test_trial_of_a_trigger_asks_any_host_for_a_key_that_may_run(server: Composition, echo: Echo) -> None:
    trial = {"config": {"url": f"{echo.url}/echo", "pollMs": 60_000}}
    assert (await server.owner.post("/v1/triggers/http-poll/test", trial)).status == 200
    assert len(echo.seen) == 1


@pytest.mark.parametrize(
    "url",
    [
        "{{$trigger.body.url}}",
        "http://{{$trigger.body.host}}/x",
        "http://127.0.0.1{{':1'}}/x",
        "http://127.0.0.1:{{$trigger.body.port}}/",
        "{{'http://127.0.0.1'}}/x",
    ],
)
async def test_computed_host_is_refused(server: Composition, limited: Client, url: str) -> None:
    await server.owner.post("/v1/connectors", {"type": "http-bearer", "name": "x", "data": {"token": "0123456789"},
                                               "allowedHosts": ["http://127.0.0.1", "http://127.0.0.1:1"]})  # fmt: skip
    assert await simulate(limited, reading(url)) == Code.HOST_NOT_ALLOWED


async def test_host_of_a_live_version_or_a_connector_is_allowed(
    server: Composition, limited: Client, echo: Echo
) -> None:
    draft = await server.owner.create_workflow(reading(f"{echo.url}/other"))
    assert await simulate(limited, reading(f"{echo.url}/echo")) == Code.HOST_NOT_ALLOWED
    await server.owner.post(f"/v1/workflows/{draft['id']}/publish", {})
    assert await simulate(limited, reading(f"{echo.url}/echo?{{{{1}}}}")) == 0
    by_name = f"http://localhost:{echo.port}"
    assert await simulate(limited, reading(f"{by_name}/echo")) == Code.HOST_NOT_ALLOWED
    data = {"type": "http-bearer", "name": "x", "data": {"token": "0123456789"}, "allowedHosts": [by_name]}
    await server.owner.post("/v1/connectors", data)
    assert await simulate(limited, reading(f"{by_name}/echo")) == 0


async def test_called_workflows_are_looked_into(server: Composition, limited: Client, echo: Echo) -> None:
    inner = await server.owner.create_workflow(reading(f"{echo.url}/echo"))
    outer = await server.owner.create_workflow(calling(inner["id"]), name="outer")
    assert await simulate(limited, calling(outer["id"])) == Code.HOST_NOT_ALLOWED
    assert await simulate(limited, calling("{{$trigger.body.id}}")) == Code.HOST_NOT_ALLOWED
    assert await simulate(limited, calling(inner["id"], version="{{1}}")) == Code.HOST_NOT_ALLOWED
    open_one = await server.owner.create_workflow(reading("{{$trigger.body.url}}"), name="open")
    await server.owner.post(f"/v1/workflows/{open_one['id']}/publish", {})
    assert await simulate(limited, calling(open_one["id"], payload={"url": f"{echo.url}/x"})) == Code.HOST_NOT_ALLOWED
    reply = await limited.post(f"/v1/workflows/{inner['id']}/run", {"simulate": True})
    assert reply.code == Code.HOST_NOT_ALLOWED
    assert echo.seen == []


async def test_setting_and_the_persons_own_words_allow_hosts(tmp_path: Path, echo: Echo) -> None:
    by_name = f"http://localhost:{echo.port}"
    definition = {"definition": reading(f"{echo.url}/echo"), "waitS": 20}
    named = {"definition": reading(f"{by_name}/echo"), "waitS": 20}
    script = [Reply(calls=(("simulate", definition), ("simulate", named))), Reply("Done.")]
    allowed: Json = {"outbound_allow": ("127.0.0.1", "localhost"), "assistant_hosts": (by_name,)}
    async with serving_model(*script) as models, composed(tmp_path, **allowed) as server:
        await server.owner.post("/v1/connectors", models.connector())
        chat = (await server.owner.post("/v1/conversations", {})).data["id"]

        async def results(text: str) -> list[bool]:
            models.replies = list(script)
            begun = await server.owner.post(f"/v1/conversations/{chat}/turns", {"text": text})
            await next(iter(server.parts.data.turns.tasks()))
            path = f"/v1/conversations/{chat}/messages/{begun.data['messageId']}"
            parts = (await server.owner.get(path)).data["parts"]
            return [part["ok"] for part in parts if part["type"] == "tool_result"]

        assert await results("Try it.") == [False, True]
        assert await results(f"Ask {echo.url}/echo please.") == [True, True]
        assert await results("And again.") == [True, True]
