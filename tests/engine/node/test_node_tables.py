"""`read-table` and `write-table` in runs: what is written once, what a simulation sees, what the report says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.core.run.state import Mode
from dustrun.sdk.tables import TableChange
from dustrun.services.data.managed_tables import WritingNode
from dustrun.services.runs.engine_port import RunFacts
from dustrun.storage.db.tables import table_writes
from dustrun.storage.runs import runs
from engine.conftest import Bench, Definition, trial

COLUMNS = [
    {"name": "id", "type": "text"},
    {"name": "n", "type": "integer"},
    {"name": "mail", "type": "text", "unique": True},
]


@pytest.fixture
async def table(bench: Bench) -> Bench:
    """A bench whose organisation has the table `people` with two rows."""
    await bench.api.post("/v1/tables", {"name": "people", "columns": COLUMNS})
    rows = [{"id": "a", "n": 1, "mail": "a@x"}, {"id": "b", "n": 2, "mail": "b@x"}]
    await bench.api.post("/v1/tables/people/rows", {"rows": rows})
    return bench


def read(*children: str, **payload: Any) -> Definition:
    return {"type": "read-table", "payload": {"table": "people", **payload}, "children": [*children]}


def write(*children: str, mode: str = "insert", **payload: Any) -> Definition:
    return {"type": "write-table", "payload": {"table": "people", "mode": mode, **payload}, "children": [*children]}


def result(run: dict[str, Any], node_id: str) -> Any:
    assert run["executionState"][node_id]["status"] == "success", run["executionState"][node_id]
    return run["executionState"][node_id]["result"]


async def stored(bench: Bench) -> dict[str, Any]:
    items = (await bench.api.get("/v1/tables/people/rows")).data["items"]
    return {item["values"]["id"]: item["values"] for item in items}


ALL = {
    "add": write("set", rows={"id": "c", "n": "{{$trigger.body.n}}"}),
    "set": write("put", mode="update", where={"n": {"$gte": 2}}, values={"mail": None}),
    "put": write("drop", mode="upsert", rows=[{"id": "a", "n": 10}, {"id": "d", "n": 0, "mail": "b@x"}]),
    "drop": write("see", mode="delete", where={"id": "b"}),
    "see": read(sort="-n"),
}
WRITTEN = {
    "a": {"id": "a", "n": 10, "mail": "a@x"},
    "c": {"id": "c", "n": 5, "mail": None},
    "d": {"id": "d", "n": 0, "mail": "b@x"},
}


async def test_run_changes_rows_and_reads_them_back(table: Bench) -> None:
    run = await table.run(ALL, payload={"n": 5})
    assert result(run, "set") == {"keys": ["b", "c"], "inserted": 0, "updated": 2, "deleted": 0}
    assert result(run, "put") == {"keys": ["a", "d"], "inserted": 1, "updated": 1, "deleted": 0}
    assert [row["id"] for row in result(run, "see")["rows"]] == ["a", "c", "d"]
    assert result(run, "see")["first"]["n"] == 10
    assert await stored(table) == WRITTEN
    effects = (await table.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert [(item["mode"], item["keys"], item["written"]) for item in effects["tableWrites"]] == [
        ("insert", ["c"], True),
        ("update", ["b", "c"], True),
        ("upsert", ["a", "d"], True),
        ("delete", ["b"], True),
    ]
    assert effects["requests"] == []


async def test_simulation_reads_back_what_it_wrote_and_changes_nothing(table: Bench) -> None:
    before = await stored(table)
    run = await table.run(ALL, payload={"n": 5}, simulate=True)
    assert {row["id"]: row for row in result(run, "see")["rows"]} == WRITTEN
    assert not run["executionState"]["see"].get("assumed")
    assert await stored(table) == before
    effects = (await table.api.get(f"/v1/runs/{run['id']}/effects")).data
    assert [item["written"] for item in effects["tableWrites"]] == [False] * 4
    fresh = await table.run({"see": read()}, simulate=True)
    assert result(fresh, "see")["count"] == 2


async def test_simulation_keeps_to_unique_values_of_both_layers(table: Bench) -> None:
    nodes = {
        "free": write("take", mode="update", where={"id": "a"}, values={"mail": "new@x"}),
        "take": write("again", rows={"id": "c", "mail": "a@x"}),
        "again": write(rows={"id": "d", "mail": "new@x"}),
    }
    run = await table.run(nodes, simulate=True)
    assert result(run, "take")["inserted"] == 1
    assert "new@x" in run["executionState"]["again"]["error"]["message"]
    assert (await table.run({"live": write(rows={"id": "z", "mail": "new@x"})}))["status"] == "success"


async def test_values_that_rest_on_assumptions_are_marked(table: Bench) -> None:
    post = {"type": "http-request", "payload": {"method": "POST", "url": "https://api.example.com/"}}
    nodes = {
        "post": {**post, "children": ["add"]},
        "add": write("mine", "other", rows={"id": "c", "mail": "{{post.result.url}}"}),
        "mine": read(where={"id": "c"}),
        "other": read(where={"id": "a"}),
    }
    state = (await table.run(nodes, simulate=True))["executionState"]
    assert [state[name].get("assumed", False) for name in ("post", "add", "mine", "other")] == [True, True, True, False]


@pytest.mark.both_stores
async def test_write_is_made_once_whatever_is_retried(table: Bench) -> None:
    """A run that fails after its write is retried: the write keeps its result and is not made again."""
    nodes = {"add": write("broken", rows={"n": 7, "id": "c"}), "broken": trial(outcomes=["permanent"])}
    run = await table.run(nodes)
    assert run["status"] == "failure"
    await table.api.delete("/v1/tables/people/rows/c")
    again = (await table.api.post(f"/v1/runs/{run['id']}/retry", {})).data
    second = await table.ended(again["runId"])
    assert result(second, "add")["keys"] == ["c"]
    assert set(await stored(table)) == {"a", "b"}
    writes = await table.composition.rows(sa.select(sa.func.count()).select_from(table_writes))
    assert writes == [(1,)]


async def test_write_of_an_attempt_that_was_forgotten_is_not_made_again(table: Bench) -> None:
    """As after a crash between the write's commit and the node's: the same node comes again, and gets its answer."""
    run_id = await table.start({"pause": {"type": "delay", "payload": {"delayMs": 600_000}}})
    await table.until(run_id, lambda run: run["status"] == "waiting")
    parts = table.composition.parts
    org_id = (await table.composition.rows(sa.text("SELECT id FROM organizations")))[0][0]
    row = await parts.database.read(lambda tx: runs.find(tx, org_id, run_id))
    assert row is not None
    facts = RunFacts(
        row.pk, run_id, org_id, None, "", None, Mode.LIVE, "root", "api", {}, run_id, None, 0, "key", fence=row.fence
    )
    change, node = TableChange("people", "insert", ({"n": 1, "id": "k"},)), WritingNode("add", "key-of-the-node")
    first, *others = await asyncio.gather(
        *(parts.data.tables.write_for(facts, change, node, assumed=False) for _ in range(5))
    )
    assert {repr(other) for other in others} == {repr(first)}
    assert set(await stored(table)) == {"a", "b", "k"}
    await table.api.post(f"/v1/runs/{run_id}/cancel", {})


BAD_NODES = [
    (write(rows={"id": "a"}), 'a row whose "id"'),
    (write(rows={"id": "c", "n": "x"}), "rows[0].n must be an integer"),
    ({**write(rows={"id": "c"}), "payload": {"table": "nobody", "rows": {"id": "c"}}}, "no table"),
    (write(mode="update", where={}, values={"n": 1}), "at least one condition"),
    (write(mode="update", where={"id": "a"}, values={"id": "z"}), "cannot be changed"),
    (read(where={"nope": 1}), "where.nope is not a column of the table"),
    (read(sort="nope"), "is not a sortable column"),
]


async def test_what_cannot_be_done_fails_the_node_and_says_why(table: Bench) -> None:
    for node, words in BAD_NODES:
        error = (await table.run({"node": node}))["executionState"]["node"]["error"]
        assert words in error["message"], node
        assert not error["retryable"]
    assert set(await stored(table)) == {"a", "b"}


async def test_errors_of_tables_have_their_own_codes_in_every_mode(table: Bench) -> None:
    nodes: Definition = {
        "missing": {"type": "read-table", "payload": {"table": "nobody"}},
        "taken": write(rows={"id": "c", "n": 1, "mail": "a@x"}),
        "wrong": write(rows={"id": "c", "n": "many"}),
    }
    for node in nodes.values():
        node["onError"] = "continue"
    for mode in ({}, {"simulate": True}, {"dustTest": True}):
        run = await table.run(nodes, **mode)
        codes = {name: run["executionState"][name]["error"]["code"] for name in nodes}
        assert codes == {"missing": "TABLE_UNKNOWN", "taken": "TABLE_VALUE_TAKEN", "wrong": "INVALID_INPUT"}, mode
