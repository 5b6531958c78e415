"""Looks with a connector: its newest secret, to its own hosts, never without it, and nowhere to be seen."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from dustrun.storage.db.trigger_tables import subscriptions, trigger_events
from testkit.composition import Client, Composition, composed
from testkit.news import News, serving
from trigger_host.test_polls import QUICK, SAY, events, feed, has_error, listed, looks, shown, state_of, until

SETTINGS = {**QUICK, "outbound_allow": ["127.0.0.1", "localhost"]}
ITEMS = {"items": "body.items", "itemKey": "item.id", "newestFirst": True, "pollMs": 100}
FIRST, SECOND = "s3cret-of-orders/1", "s3cret-of-orders/2"


@pytest.fixture
async def news() -> AsyncIterator[News]:
    async with serving() as news:
        news.content = listed(1)
        yield news


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, **SETTINGS) as server:
        yield server


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def connector(server: Composition, url: str, type_: str = "http-bearer", **data: str) -> dict[str, str]:
    """A new connector, as a node names it."""
    body = {"type": type_, "name": type_, "data": data or {"token": FIRST}, "allowedHosts": [origin(url)]}
    made = (await server.owner.post("/v1/connectors", body)).data
    return {"type": made["type"], "id": made["id"]}


async def rotate(server: Composition, reference: dict[str, str], **change: Any) -> None:
    """Changes a connector; its workflows are not published again."""
    assert (await server.owner.send("PUT", f"/v1/connectors/{reference['id']}", change)).status == 200


def workflow(kind: str, config: dict[str, Any], reference: dict[str, str] | None) -> dict[str, Any]:
    root = {"type": kind, "payload": config, "children": ["say"], **({"connector": reference} if reference else {})}
    return {"nodes": {"root": root, "say": SAY}}


async def publish(server: Composition, definition: dict[str, Any]) -> str:
    """Publishes, and waits for the first look."""
    made = await server.owner.create_workflow(definition)
    published = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert published.status == 200, published.body

    async def has_looked() -> bool:
        state = await state_of(server, made["id"])
        return state["cursor"] is not None or state["failures"] > 0

    await until(has_looked)
    return str(made["id"])


async def error_of(server: Composition, workflow_id: str, text: str) -> str:
    await until(lambda: has_error(server, workflow_id, text))
    info = (await server.owner.get(f"/v1/workflows/{workflow_id}/trigger-info")).data
    return str(info["triggers"][0]["lastError"])


async def test_a_look_uses_the_newest_secret_and_never_goes_without(server: Composition, news: News) -> None:
    news.needs = f"Bearer {FIRST}"
    reference = await connector(server, news.url)
    workflow_id = await publish(server, workflow("http-poll", {**ITEMS, "url": news.url}, reference))
    await looks(news, 2)
    assert {asked["authorization"] for asked in news.asked} == {news.needs}
    assert "if-none-match" in news.asked[-1]
    await _rotate_while_it_fails(server, news, workflow_id, reference)
    await _narrow_the_hosts(server, news, workflow_id, reference)
    await _delete(server, news, workflow_id, reference)
    assert [body["item"]["text"] for _, body in await events(server)] == ["n2", "n3"]


async def _rotate_while_it_fails(server: Composition, news: News, workflow_id: str, reference: dict[str, str]) -> None:
    """A look at once when the connector is changed; what was seen stays seen, what the source said of it does not."""
    news.needs, news.content = f"Bearer {SECOND}", listed(2)
    assert await error_of(server, workflow_id, "401") == "The source answers with status 401."
    news.asked.clear()
    await rotate(server, reference, data={"token": SECOND})
    assert await shown(server, 1) == ["n2"]
    first = next(asked for asked in news.asked if asked["authorization"] == news.needs)
    assert "if-none-match" not in first
    await looks(news, 2)
    assert "if-none-match" in news.asked[-1]
    await rotate(server, reference, name="another name")
    news.content = listed(3)
    assert await shown(server, 2) == ["n2", "n3"]


async def _narrow_the_hosts(server: Composition, news: News, workflow_id: str, reference: dict[str, str]) -> None:
    await rotate(server, reference, allowedHosts=["api.example.com"], data={"token": SECOND})
    told = await error_of(server, workflow_id, "allowedHosts")
    assert told == (
        f'The credential of connector "another name" may not be sent to {origin(news.url)}: its allowedHosts are '
        "api.example.com."
    )
    await rotate(server, reference, allowedHosts=[origin(news.url)], data={"token": SECOND})
    await looks(news, 1)


async def _delete(server: Composition, news: News, workflow_id: str, reference: dict[str, str]) -> None:
    path = f"/v1/connectors/{reference['id']}"
    refused = await server.owner.send("DELETE", path)
    assert (refused.status, refused.body["details"][0]["workflowId"]) == (409, workflow_id)
    assert (await server.owner.send("DELETE", f"{path}?force=true")).status == 200
    told = await error_of(server, workflow_id, "There is no connector")
    assert told == f'There is no connector "{reference["id"]}"; it may have been deleted.'
    news.needs = None
    asked, failures = len(news.asked), (await state_of(server, workflow_id))["failures"]

    async def fails_again() -> bool:
        return int((await state_of(server, workflow_id))["failures"]) > int(failures)

    await until(fails_again)
    assert len(news.asked) == asked, "it asked without a credential"


async def test_a_secret_that_the_source_repeats_is_nowhere_to_be_seen(
    server: Composition, news: News, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    reference = await connector(server, news.url)
    encoded = base64.b64encode(f"x{FIRST}".encode()).decode()
    watch = {**ITEMS, "url": news.url, "itemKey": "item.text"}
    workflow_id = await publish(server, workflow("http-poll", watch, reference))
    news.content = {"items": [{"text": f"it is {FIRST}", FIRST: encoded}, *listed(1)["items"]]}
    await until(lambda: _has_events(server, 1))
    news.content = {"items": FIRST, "why": f"Bearer {FIRST}"}
    tested = await server.owner.post(
        "/v1/triggers/http-poll/test",
        {"config": {"url": news.url, "value": "body"}, "connectorId": reference["id"]},
    )
    assert (tested.data["origin"], tested.data["event"]["value"]["items"]) == ("recent", "•••")
    failing = {"config": {"url": news.url, "items": f"[body.nothing, '{FIRST}'].x"}, "connectorId": reference["id"]}
    failed = (await server.owner.post("/v1/triggers/http-poll/test", failing)).data
    assert failed["origin"] == "sample"
    ((payload, key),) = await server.rows(sa.select(trigger_events.c.payload, trigger_events.c.key))
    ((cursor,),) = await server.rows(sa.select(subscriptions.c.cursor))
    runs = (await server.owner.get(f"/v1/workflows/{workflow_id}/runs")).data["items"]
    run = (await server.owner.get(f"/v1/runs/{runs[0]['id']}")).body
    assert json.loads(payload)["item"] == {"text": "it is •••", "•••": "eH•••Q=="}
    told = [tested.body, failed["note"], payload, key, cursor, run, caplog.text]
    assert not [one for one in told if FIRST in str(one) or encoded in str(one)]


async def _has_events(server: Composition, count: int) -> bool:
    return len(await events(server)) >= count


async def test_a_redirect_takes_the_secret_to_no_other_host(server: Composition, news: News) -> None:
    async with serving() as other:
        other.content = listed(1)
        reference = await connector(server, news.url, "http-query", name="api_key", value=FIRST)
        news.leads_to = other.url.replace("127.0.0.1", "localhost")
        workflow_id = await publish(server, workflow("http-poll", {**ITEMS, "url": news.url}, reference))
        told = await error_of(server, workflow_id, "may not be sent to http://localhost")
        assert FIRST not in told
        assert other.asked == []
        assert news.asked
        news.leads_to = None
        await rotate(server, reference, name="now")
        await looks(news, 2)
        assert (await state_of(server, workflow_id))["failures"] == 0


async def test_a_changed_connector_is_looked_with_at_once(server: Composition, news: News) -> None:
    reference, spare = await connector(server, news.url), await connector(server, news.url)
    await publish(server, workflow("http-poll", {**ITEMS, "url": news.url, "pollMs": 3_600_000}, reference))
    asked = len(news.asked)
    await rotate(server, spare, data={"token": SECOND})
    await rotate(server, reference, data={"token": SECOND})

    async def is_asked() -> bool:
        return len(news.asked) > asked

    await until(is_asked)
    assert [one["authorization"] for one in news.asked[asked:]] == [f"Bearer {SECOND}"]


async def test_another_connector_is_another_source(server: Composition, news: News) -> None:
    """It numbers its items alike; what the first account was shown says nothing about what the second one is."""
    first, second = await connector(server, news.url), await connector(server, news.url, token=SECOND)
    news.content = listed(2)
    definition = workflow("http-poll", {**ITEMS, "url": news.url}, first)
    workflow_id = await publish(server, definition)
    news.content = listed(3)
    assert await shown(server, 1) == ["n3"]
    news.content, news.needs = listed(2), f"Bearer {SECOND}"
    definition["nodes"]["root"]["connector"] = second
    assert (await server.owner.send("PUT", f"/v1/workflows/{workflow_id}", {"definition": definition})).status == 200
    assert (await server.owner.post(f"/v1/workflows/{workflow_id}/publish")).status == 200
    await until(lambda: _is_looked_at(news))
    assert "if-none-match" not in next(asked for asked in news.asked if asked["authorization"] == news.needs)
    news.content = listed(3)
    assert await shown(server, 2) == ["n3", "n3"]


async def _is_looked_at(news: News) -> bool:
    """The second account was asked, and then again with what it had answered."""
    return any(asked["authorization"] == news.needs and "if-none-match" in asked for asked in news.asked)


async def test_a_feed_behind_a_password_is_read_after_a_restart(tmp_path: Path, store_url: str, news: News) -> None:
    news.content = feed("a")
    news.needs = f"Basic {base64.b64encode(f'me:{FIRST}'.encode()).decode()}"
    async with composed(tmp_path, database_url=store_url, **SETTINGS) as server:
        reference = await connector(server, news.url, "http-basic", username="me", password=FIRST)
        await publish(server, workflow("rss", {"url": news.url, "pollMs": 100}, reference))
    news.content = feed("a", "b")
    async with composed(tmp_path, database_url=store_url, **SETTINGS) as server:
        assert await shown(server, 1) == ["b"]
    assert {asked.get("authorization") for asked in news.asked} == {news.needs}


async def _problems(api: Client, definition: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = (await api.post("/v1/workflows/validate", {"definition": definition})).data
    listed = [(one, "error") for one in found["errors"]] + [(one, "warning") for one in found["warnings"]]
    return [(one["code"], one["field"], severity) for one, severity in listed]


async def test_what_cannot_run_is_told_before_it_is_published(server: Composition, news: News) -> None:
    api, url = server.owner, news.url
    reference = await connector(server, url)
    watch = {**ITEMS, "url": url}

    async def problems(kind: str = "http-poll", config: Any = watch, named: Any = reference) -> Any:
        return await _problems(api, workflow(kind, config, named))

    assert await problems() == []
    at = "nodes.root.connector"
    assert await problems(named={**reference, "id": "conn_none"}) == [("unknown_connector", f"{at}.id", "error")]
    assert await problems(named={**reference, "type": "http-basic"}) == [("connector_type", f"{at}.type", "error")]
    assert await problems(named={**reference, "type": "apprise"}) == [
        ("connector_type", f"{at}.type", "error"),
        ("connector_type", f"{at}.type", "error"),
    ]
    elsewhere = {**watch, "url": "http://localhost:9/"}
    assert await problems(config=elsewhere) == [("connector_host", "nodes.root.payload.url", "error")]
    assert await problems("webhook", {}) == [("connector_unused", at, "warning")]
    made = await api.create_workflow(workflow("http-poll", elsewhere, reference))
    refused = await api.post(f"/v1/workflows/{made['id']}/publish")
    assert (refused.status, refused.fields) == (400, ["nodes.root.payload.url"])
    exported = (await api.get(f"/v1/workflows/{made['id']}/export")).body
    assert reference["id"] not in json.dumps(exported)
    assert "unbound:connector-1" in json.dumps(exported)


async def test_a_token_in_the_headers_is_warned_of(server: Composition, news: News) -> None:
    headers = {"Authorization": f"Bearer {FIRST}", "X-Api-Key": "{{$env.KEY}}", "Accept": "text/xml", "X-Author": "me"}
    definition = workflow("rss", {"url": news.url, "headers": headers}, None)
    call = {"type": "http-request", "payload": {"url": news.url, "headers": {**headers, "Cookie": "a=1"}}}
    definition["nodes"] |= {"ask": call}
    definition["nodes"]["root"]["children"] = ["say", "ask"]
    found = (await server.owner.post("/v1/workflows/validate", {"definition": definition})).data
    assert [(one["field"], one["code"]) for one in found["warnings"]] == [
        ("nodes.root.payload.headers.Authorization", "secret_in_header"),
        ("nodes.root.payload.headers.X-Api-Key", "secret_in_header"),
        ("nodes.ask.payload.headers.Authorization", "secret_in_header"),
        ("nodes.ask.payload.headers.Cookie", "secret_in_header"),
    ]
    assert "http-bearer" in found["warnings"][0]["message"]
    assert FIRST not in str(found)


async def test_a_limited_key_names_no_connector_of_others(server: Composition, news: News) -> None:
    reference, spare = await connector(server, news.url), await connector(server, news.url)
    await publish(server, workflow("http-poll", {**ITEMS, "url": news.url}, reference))
    own = await server.owner.create_workflow(workflow("manual", {}, None))
    body = {"name": "limited", "permissions": ["admin"], "workflowIds": [own["id"]]}
    limited = server.client((await server.owner.post("/v1/api-keys", body)).data["key"])

    async def save(named: dict[str, str]) -> Any:
        definition = workflow("http-poll", {**ITEMS, "url": news.url}, named)
        return await limited.send("PUT", f"/v1/workflows/{own['id']}", {"definition": definition})

    refused = await save(reference)
    assert (refused.status, refused.fields) == (400, ["definition.nodes.root.connector.id"])
    test = {"config": {**ITEMS, "url": news.url}, "connectorId": reference["id"]}
    refused = await limited.post("/v1/triggers/http-poll/test", test)
    assert (refused.status, refused.fields) == (400, ["connectorId"])
    assert (await save(spare)).status == 200
    seen = [one["id"] for one in (await limited.get("/v1/connectors")).data["items"]]
    assert seen == [spare["id"]]
    for kind, named, message in (
        ("token-price", spare["id"], "uses no connector"),
        ("http-poll", "conn_none", "There is no connector"),
    ):
        config = server.parts.catalog.triggers[kind].example_config
        refused = await server.owner.post(f"/v1/triggers/{kind}/test", {"config": config, "connectorId": named})
        assert (refused.status, message in refused.body["details"][0]["message"]) == (400, True), refused.body
