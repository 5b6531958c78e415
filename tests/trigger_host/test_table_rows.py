"""Rows of managed tables start runs: each change once and in order, whoever made it; nothing of simulations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import runs, table_changes
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events, trigger_gaps
from dustrun.trigger_host.polls import Polls
from testkit.composition import Composition, composed

COLUMNS = [{"name": "id", "type": "integer"}, {"name": "status", "type": "text"}]
SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as server:
        await server.owner.post("/v1/tables", {"name": "orders", "primaryKey": "id", "columns": COLUMNS})
        yield server


async def publish(server: Composition, *, then: dict[str, Any] | None = None, **config: Any) -> str:
    root = {"type": "table-row", "payload": {"table": "orders", **config}, "children": ["then"]}
    made = await server.owner.create_workflow({"nodes": {"root": root, "then": then or SAY}})
    published = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert published.status == 200, published.body
    return str(made["id"])


async def write(server: Composition, *rows: tuple[int, str], mode: str = "upsert") -> None:
    given = [{"id": key, "status": status} for key, status in rows]
    assert (await server.owner.post("/v1/tables/orders/rows", {"rows": given, "mode": mode})).status == 200


async def events(server: Composition) -> list[tuple[str, str | None, dict[str, Any]]]:
    t = trigger_events.c
    found = await server.rows(sa.select(t.outcome, t.reason, t.payload).order_by(t.pk))
    return [(outcome, reason, json.loads(payload)) for outcome, reason, payload in found]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.02)


async def seen(server: Composition, count: int) -> list[tuple[str, int, str | None, str | None]]:
    """The change, key, new and old status of so many events, once all changes are looked at."""

    async def holds() -> bool:
        return len(await events(server)) >= count

    await until(holds)
    return [
        (body["change"], body["key"], (body["row"] or {}).get("status"), (body["previous"] or {}).get("status"))
        for _, _, body in await events(server)
    ]


async def test_each_change_starts_one_run_in_order_and_what_was_there_before_none(server: Composition) -> None:
    await write(server, (1, "open"))
    await publish(server, changes=["added", "changed", "removed"])
    await write(server, (1, "paid"), (2, "open"))
    await write(server, (1, "paid"))  # nothing is another
    await write(server, (2, "paid"))
    await write(server, (2, "open"))
    assert (await server.owner.delete("/v1/tables/orders/rows/1")).status == 200
    assert await seen(server, 5) == [
        ("changed", 1, "paid", "open"),
        ("added", 2, "open", None),
        ("changed", 2, "paid", "open"),
        ("changed", 2, "open", "paid"),
        ("removed", 1, None, "paid"),
    ]
    (_, _, first), *_ = await events(server)
    assert first["changedColumns"] == ["status"]
    assert (first["runId"], first["depth"], first["table"]) == (None, 1, "orders")
    await server.parts.access.retention.sweep_table_changes()
    assert await server.rows(sa.select(table_changes.c.seq)) == []
    await write(server, (3, "open"))
    assert (await seen(server, 6))[-1] == ("added", 3, "open", None)


async def test_columns_and_condition_choose_and_a_condition_that_fails_is_told(server: Composition) -> None:
    await publish(server, condition='row.status == "paid" && previous.status != "paid"')
    await write(server, (1, "open"))  # `previous` is null: it cannot be evaluated, since `row.status` is no "paid"
    await write(server, (1, "paid"))
    await write(server, (2, "paid"))
    assert await seen(server, 2) == [("changed", 1, "paid", "open"), ("added", 2, "paid", None)]
    assert [(outcome, reason) for outcome, reason, _ in await events(server)] == [
        ("started", None),
        ("failed", "filter"),
    ]


async def test_many_changes_at_once_start_a_run_each(server: Composition) -> None:
    await publish(server)
    await write(server, *((n, "open") for n in range(130)))
    assert [key for _, key, _, _ in await seen(server, 130)] == list(range(130))
    assert len(await server.rows(sa.select(runs.c.id))) == 130


async def test_what_a_node_writes_counts_once_and_what_a_simulation_writes_never(server: Composition) -> None:
    await publish(server, condition="row.id == 7")
    write_it = {"type": "write-table", "payload": {"table": "orders", "rows": {"id": 7, "status": "new"}}}
    writer = {"nodes": {"root": {"type": "manual", "children": ["w"]}, "w": write_it}}
    made = await server.owner.create_workflow(writer)
    for simulate in (True, False):
        ran = await server.owner.post(f"/v1/workflows/{made['id']}/run", {"simulate": simulate})
        assert ran.status == 200, ran.body
    assert await seen(server, 1) == [("added", 7, "new", None)]
    ((_, _, body),) = await events(server)
    assert body["runId"] == ran.data["runId"]


async def test_a_workflow_that_writes_its_own_table_stops_at_the_depth(server: Composition) -> None:
    again = {
        "type": "write-table",
        "payload": {"table": "orders", "rows": {"id": "{{$trigger.body.key + 1}}", "status": "x"}},
    }
    await publish(server, then=again)
    await write(server, (0, "x"))
    found = await seen(server, 11)
    assert [key for _, key, _, _ in found] == list(range(11))
    told = await events(server)
    assert [(outcome, reason) for outcome, reason, _ in told] == [("started", None)] * 10 + [("skipped", "depth")]
    assert [body["depth"] for _, _, body in told] == list(range(1, 12))


async def test_a_pause_is_passed_over_unless_it_catches_up_and_what_is_not_kept_is_a_gap(server: Composition) -> None:
    for catch_up in (False, True):
        workflow_id = await publish(server, catchUp=catch_up)
        assert (await server.owner.post(f"/v1/workflows/{workflow_id}/pause")).status == 200
    await write(server, (1, "open"), (2, "open"), (3, "open"))
    await server.execute(sa.delete(table_changes).where(table_changes.c.seq <= 2))
    for (one,) in await server.rows(sa.select(subscriptions.c.workflow_id)):
        assert (await server.owner.post(f"/v1/workflows/{one}/resume")).status == 200
    assert await seen(server, 1) == [("added", 3, "open", None)]
    gaps = await server.rows(sa.select(trigger_gaps.c.workflow_id, trigger_gaps.c.state, trigger_gaps.c.range))
    ((of, state, range_),) = gaps
    found = json.loads(range_)
    assert (of, state, found["from"], found["to"]) == (workflow_id, "lost", 1, 2)
    shown = (await server.owner.get(f"/v1/workflows/{workflow_id}/trigger-gaps")).data["items"]
    assert [one["state"] for one in shown] == ["lost"]
    refused = await server.owner.post(f"/v1/workflows/{workflow_id}/trigger-gaps/{shown[0]['id']}/replay")
    assert refused.status == 409


async def test_two_that_look_at_the_same_time_start_one_run_a_change(server: Composition) -> None:
    workflow_id = await publish(server)
    parts = server.parts.triggers
    (sub,) = await parts.subscriptions.list_of(workflow_id)
    others = [Polls(parts.intake, parts.subscriptions, parts.contexts) for _ in range(2)]
    for other in others:
        await other.start()
        await other.arm(sub)
    try:
        for n in range(30):
            await write(server, (n, "open"))
            for other in others:
                other.tables_changed(sub.row.org_id)
        found = await seen(server, 30)
    finally:
        for other in others:
            await other.stop()
    assert [key for _, key, _, _ in found] == list(range(30))
    assert len(await server.rows(sa.select(runs.c.id))) == 30


async def test_changes_that_are_committed_while_a_version_is_published_all_count_or_none(server: Composition) -> None:
    """A change counts from the transaction on that arms the trigger: none of a batch may be missing."""
    writes = [asyncio.create_task(write(server, *((n * 10 + m, "x") for m in range(10)))) for n in range(20)]
    await publish(server)
    await asyncio.gather(*writes)
    await write(server, (999, "last"))

    async def holds() -> bool:
        return any(body["key"] == 999 for _, _, body in await events(server))

    await until(holds)
    keys = [body["key"] for _, _, body in await events(server)]
    assert len(keys) == len(set(keys))
    assert len(keys) % 10 == 1
    ((count,),) = await server.rows(sa.text("SELECT change_count FROM managed_tables"))
    assert count == len(keys)


async def test_an_unknown_table_cannot_be_watched_and_a_test_shows_a_row(server: Composition) -> None:
    made = await server.owner.create_workflow(
        {"nodes": {"root": {"type": "table-row", "payload": {"table": "orderz"}, "children": ["say"]}, "say": SAY}}
    )
    refused = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert [(one["field"], one["message"]) for one in refused.body["details"]] == [
        ("nodes.root.payload.table", 'There is no table "orderz".')
    ]
    config = {"table": "orders"}
    assert (await server.owner.post("/v1/triggers/table-row/test", {"config": config})).data["origin"] == "sample"
    await write(server, (1, "open"))
    tested = (await server.owner.post("/v1/triggers/table-row/test", {"config": config})).data
    assert (tested["origin"], tested["event"]["row"]) == ("recent", {"id": 1, "status": "open"})
