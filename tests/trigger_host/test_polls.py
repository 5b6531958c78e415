"""Polled triggers in a whole server: what is new, once, in order; failures; pauses; restarts; two that look at once."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import runs
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events
from dustrun.trigger_host.polls import Polls
from testkit.composition import Composition, composed
from testkit.news import News, serving

QUICK = {"outbound_allow": ["127.0.0.1"], "min_trigger_interval_ms": 100}
SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
_MANY = 997
ITEMS = {"items": "body.items", "itemKey": "item.id", "newestFirst": True, "pollMs": 100}


@pytest.fixture
async def news() -> AsyncIterator[News]:
    async with serving() as news:
        news.content = listed(1)
        yield news


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url, **QUICK) as server:
        yield server


def listed(last: int) -> dict[str, Any]:
    """A list with its newest item first."""
    return {"items": [{"id": number, "text": f"n{number}"} for number in range(last, 0, -1)]}


async def test_a_source_is_asked_with_a_body_and_page_by_page(server: Composition, news: News) -> None:
    """As GraphQL is: the cursor of the next page is a field of the body."""

    def page(ids: list[int], after: str | None) -> dict[str, Any]:
        return {"data": {"orders": [{"id": one} for one in ids], "after": after}}

    news.pages = {'"after":"p2"': page([3, 4], None), "query": page([1, 2], "p2")}
    config = {
        "url": news.url,
        "method": "POST",
        "body": {"query": "{orders}", "after": None},
        "items": "body.data.orders",
        "itemKey": "item.id",
        "nextPage": 'body.data.after == null ? null : {"after": body.data.after}',
        "pollMs": 100,
    }
    await publish(server, "http-poll", config)
    news.pages = {'"after":"p2"': page([3, 4, 5], None), "query": page([1, 2, 6], "p2")}
    await until(lambda: has_events(server, 2))
    assert sorted(one["item"]["id"] for _, one in await events(server)) == [5, 6]
    assert {json.loads(body)["after"] for _, body in news.sent} == {None, "p2"}


async def test_pages_stay_with_their_host(server: Composition, news: News) -> None:
    news.content = {"items": [], "next": "http://127.0.0.2:9/x"}
    config = {"url": news.url, "items": "body.items", "itemKey": "item.id", "nextPage": "body.next", "pollMs": 100}
    workflow_id = await publish(server, "http-poll", config)
    assert "another host" in (await state_of(server, workflow_id))["last_error"]


async def test_a_known_item_whose_part_changes_starts_another_run(server: Composition, news: News) -> None:
    def orders(**statuses: str) -> dict[str, Any]:
        return {"items": [{"id": name, "status": status} for name, status in statuses.items()]}

    news.content = orders(a="open", b="open")
    config = {"url": news.url, "items": "body.items", "itemKey": "item.id", "changeOf": "item.status", "pollMs": 100}
    await publish(server, "http-poll", config)
    steps = [orders(a="paid", b="open"), orders(b="open", c="open"), orders(a="open", b="open"), orders(a="paid")]
    for count, content in enumerate(steps, start=1):
        news.content = content
        await until(partial(has_events, server, count))
    found = [(one["key"], one["change"], one["item"]["status"]) for _, one in await events(server)]
    assert found == [
        ("a", "changed", "paid"),
        ("c", "added", "open"),
        ("a", "changed", "open"),
        ("a", "changed", "paid"),
    ]


def feed(*titles: str) -> str:
    items = "".join(f"<item><guid>{title}</guid><title>{title}</title></item>" for title in reversed(titles))
    return f"<rss version='2.0'><channel><title>News</title>{items}</channel></rss>"


def workflow(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": {"root": {"type": kind, "payload": config, "children": ["say"]}, "say": SAY}}


async def publish(server: Composition, kind: str, config: dict[str, Any], **fields: Any) -> str:
    """Publishes, and waits for the first look."""
    made = await server.owner.create_workflow(workflow(kind, config), **fields)
    published = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert published.status == 200, published.body
    await until(lambda: has_looked(server, made["id"]))
    return str(made["id"])


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.02)


async def has_looked(server: Composition, workflow_id: str) -> bool:
    state = await state_of(server, workflow_id)
    return state["cursor"] is not None or state["failures"] > 0


async def state_of(server: Composition, workflow_id: str) -> dict[str, Any]:
    names = ("cursor", "failures", "last_error", "state", "state_reason")
    query = sa.select(*(subscriptions.c[name] for name in names)).where(subscriptions.c.workflow_id == workflow_id)
    (row,) = await server.rows(query)
    return dict(zip(names, row, strict=True))


async def events(server: Composition) -> list[tuple[str, dict[str, Any]]]:
    t = trigger_events.c
    found = await server.rows(sa.select(t.outcome, t.payload).order_by(t.pk))
    return [(outcome, json.loads(payload)) for outcome, payload in found]


async def shown(server: Composition, count: int) -> list[str]:
    """The texts of the items of so many events; all must have started a run."""
    await until(lambda: has_events(server, count))
    found = await events(server)
    assert {outcome for outcome, _ in found} == {"started"}
    return [body["item"].get("text") or body["item"]["title"] for _, body in found]


async def has_events(server: Composition, count: int) -> bool:
    return len(await events(server)) >= count


async def looks(news: News, count: int) -> None:
    """Waits until the source was asked so many more times."""
    wanted = len(news.asked) + count
    async with asyncio.timeout(60):
        while len(news.asked) < wanted:
            await asyncio.sleep(0.02)


async def test_new_items_start_runs_once_and_oldest_first(server: Composition, news: News) -> None:
    workflow_id = await publish(server, "http-poll", {**ITEMS, "url": news.url})
    await looks(news, 2)
    assert await events(server) == []
    assert news.unchanged >= 1
    news.content = listed(4)
    assert await shown(server, 3) == ["n2", "n3", "n4"]
    news.content = listed(70)
    found = await shown(server, 69)
    await looks(news, 2)
    assert found == [f"n{number}" for number in range(2, 71)]
    assert len(await events(server)) == 69
    page = (await server.owner.get(f"/v1/workflows/{workflow_id}/runs/count")).data
    assert page["total"] == 69


async def test_items_of_a_feed_start_runs(server: Composition, news: News) -> None:
    news.content = feed("a", "b")
    await publish(server, "rss", {"url": news.url, "pollMs": 100, "fireOnFirst": True})
    assert await shown(server, 2) == ["a", "b"]
    news.content = feed("a", "b", "c")
    assert await shown(server, 3) == ["a", "b", "c"]


async def test_a_changed_value_starts_a_run(server: Composition, news: News) -> None:
    news.content = {"status": "up", "at": 1}
    await publish(server, "http-poll", {"url": news.url, "value": "body.status", "pollMs": 100})
    news.content = {"status": "up", "at": 2}
    await looks(news, 2)
    news.content = {"status": "down", "at": 3}
    await until(lambda: has_events(server, 1))
    news.content = {"status": "up", "at": 4}
    await until(lambda: has_events(server, 2))
    found = [(body["previous"], body["value"]) for _, body in await events(server)]
    assert found == [("up", "down"), ("down", "up")]


async def test_a_source_that_fails_is_told_and_loses_nothing(server: Composition, news: News) -> None:
    workflow_id = await publish(server, "http-poll", {**ITEMS, "url": news.url})
    news.status, news.content = 500, listed(2)
    await until(lambda: has_failures(server, workflow_id, 2))
    shown_state = (await server.owner.get(f"/v1/workflows/{workflow_id}/trigger-info")).data["triggers"][0]
    assert shown_state["lastError"] == "The source answers with status 500."
    assert shown_state["state"] == "armed"
    news.status, news.content = 200, {"items": "none"}
    await until(lambda: has_error(server, workflow_id, "is not a list"))
    news.content = listed(3)
    assert await shown(server, 2) == ["n2", "n3"]
    state = await state_of(server, workflow_id)
    assert (state["failures"], state["last_error"]) == (0, None)


async def has_failures(server: Composition, workflow_id: str, count: int) -> bool:
    return bool((await state_of(server, workflow_id))["failures"] >= count)


async def has_error(server: Composition, workflow_id: str, text: str) -> bool:
    return text in ((await state_of(server, workflow_id))["last_error"] or "")


async def test_looks_that_fail_keep_nothing_in_memory(server: Composition, news: News) -> None:
    """What a look remembers may be large, and the collector seldom comes by."""
    news.content = listed(_MANY)
    workflow_id = await publish(server, "http-poll", {**ITEMS, "url": news.url})
    gc.collect()
    gc.disable()
    try:
        news.status = 500
        await until(lambda: has_failures(server, workflow_id, 5))
        lists = [one for one in gc.get_objects() if type(one) is list and len(one) == _MANY]
        cursors = [one for one in lists if all(type(item) is str and len(item) == 16 for item in one)]
    finally:
        gc.enable()
    assert len(cursors) <= 1  # of a look that is under way


async def test_a_source_that_asks_for_patience_gets_it(server: Composition, news: News) -> None:
    news.status, news.headers = 429, {"Retry-After": "3600"}
    await publish(server, "http-poll", {**ITEMS, "url": news.url})
    info = sa.select(subscriptions.c.next_at, subscriptions.c.armed_at)
    ((next_at, armed_at),) = await server.rows(info)
    assert 3_600_000 <= next_at - armed_at < 3_660_000
    assert len(news.asked) == 1


CANNOT_RUN: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("http-poll", {"url": "http://169.254.169.254/latest"}, "url", "it is a metadata address"),
    ("rss", {"url": "ftp://example.com/feed"}, "url", "must start with"),
    ("rss", {"url": "http://127.0.0.1:9/", "pollMs": 100}, "pollMs", "every 60000 ms at most"),
    ("http-poll", {"url": "http://127.0.0.1:9/", "items": "body.["}, "items", "Does not parse"),
    ("http-poll", {"url": "http://127.0.0.1:9/", "items": "boby.x"}, "items", 'Did you mean "body"?'),
    ("http-poll", {"url": "http://127.0.0.1:9/", "itemKey": "item.id"}, "", "`itemKey` needs `items`"),
    ("http-poll", {"url": "http://127.0.0.1:9/", "headers": {"Host": "x"}}, "url", "is set by the server"),
)


async def test_what_cannot_run_is_not_published(tmp_path: Path) -> None:
    settings = {"outbound_allow": ["127.0.0.1"], "min_trigger_interval_ms": 60_000}
    async with composed(tmp_path, **settings) as server:
        for kind, config, field, message in CANNOT_RUN:
            made = await server.owner.create_workflow(workflow(kind, config))
            refused = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
            assert refused.status == 400, config
            details = [(one["field"], one["message"]) for one in refused.body["details"]]
            at = f"nodes.root.payload.{field}".rstrip(".")
            assert any(one == at and message in text for one, text in details), details


async def test_a_rehearsing_trigger_only_simulates(server: Composition, news: News) -> None:
    workflow_id = await publish(server, "http-poll", {**ITEMS, "url": news.url, "mode": "simulate"}, maxRuns=1)
    news.content = listed(3)
    await shown(server, 2)
    assert {mode for (mode,) in await server.rows(sa.select(runs.c.mode))} == {"simulate"}
    assert (await server.owner.get(f"/v1/workflows/{workflow_id}")).data["remainRuns"] == 1


@pytest.mark.parametrize("catch_up", [False, True])
async def test_what_came_during_a_pause(server: Composition, news: News, catch_up: bool) -> None:
    workflow_id = await publish(server, "http-poll", {**ITEMS, "url": news.url, "catchUp": catch_up})
    await server.owner.post(f"/v1/workflows/{workflow_id}/pause")
    news.content = listed(2)
    await server.owner.post(f"/v1/workflows/{workflow_id}/resume")
    await looks(news, 2)
    news.content = listed(3)
    expected = ["n2", "n3"] if catch_up else ["n3"]
    assert await shown(server, len(expected)) == expected


async def test_max_runs_hold_and_what_comes_then_is_recorded(server: Composition, news: News) -> None:
    workflow_id = await publish(server, "http-poll", {**ITEMS, "url": news.url}, maxRuns=2)
    news.content = listed(6)
    await until(lambda: has_events(server, 2))
    await until(lambda: is_paused(server, workflow_id))
    outcomes = [outcome for outcome, _ in await events(server)]
    assert outcomes.count("started") == 2
    assert set(outcomes) <= {"started", "skipped"}


async def is_paused(server: Composition, workflow_id: str) -> bool:
    return bool((await state_of(server, workflow_id))["state"] == "paused")


@pytest.mark.both_stores
async def test_two_that_look_at_the_same_time_start_one_run_an_item(server: Composition, news: News) -> None:
    workflow_id = await publish(server, "http-poll", {**ITEMS, "url": news.url})
    parts = server.parts.triggers
    others = [Polls(parts.intake, parts.subscriptions, parts.contexts) for _ in range(3)]
    (sub,) = await parts.subscriptions.list_of(workflow_id)
    for other in others:
        await other.start()
        await other.arm(sub)
    try:
        for last in range(2, 42, 4):
            news.content = listed(last)
            await looks(news, 3)
        found = await shown(server, 37)
        await looks(news, 8)
    finally:
        for other in others:
            await other.stop()
    assert found == [f"n{number}" for number in range(2, 39)]
    assert len(await server.rows(sa.select(runs.c.id))) == 37


@pytest.mark.both_stores
async def test_events_that_were_seen_survive_a_restart_though_the_source_forgets_them(
    tmp_path: Path, store_url: str, news: News
) -> None:
    """The cursor has what was seen and not yet taken, as a crash between two events leaves it."""
    left = [{"key": f"k{n}", "payload": {"item": {"text": f"n{n}"}}, "at": 1} for n in (2, 3)]
    async with composed(tmp_path, database_url=store_url, **QUICK) as server:
        await publish(server, "http-poll", {**ITEMS, "url": news.url, "pollMs": 3_000})
    async with composed(tmp_path, database_url=store_url, **QUICK) as server:
        ((cursor,),) = await server.rows(sa.select(subscriptions.c.cursor))
        stored = {**json.loads(cursor), "left": left}
        changes = {"cursor": json.dumps(stored), "next_at": 1, "cursor_version": subscriptions.c.cursor_version + 1}
        await server.execute(sa.update(subscriptions).values(**changes))
    news.content = listed(1)
    async with composed(tmp_path, database_url=store_url, **QUICK) as server:
        assert await shown(server, 2) == ["n2", "n3"]
        assert "left" not in json.loads((await server.rows(sa.select(subscriptions.c.cursor)))[0][0])
