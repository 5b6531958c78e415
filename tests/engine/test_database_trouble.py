"""PostgreSQL dies, or the connection to it, while runs start and advance: none is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import runs
from dustrun.storage.runs.runs import OpenRun
from echoing import echoing
from engine.conftest import OWN_ACTIONS, Bench, Definition, attempts, let_go, trial
from testkit.composition import composed
from testkit.postgres import Cluster

Store = tuple[Bench, str]


@pytest.fixture
async def store(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Store]:
    """A server on a fresh database, and its URL."""
    url = cluster.fresh()
    async with composed(tmp_path, database_url=url, actions_dir=OWN_ACTIONS) as composition:
        yield Bench(composition), url
    cluster.drop(url)


def _body(run_id: str, nodes: Definition) -> dict[str, object]:
    first = next(iter(nodes))
    return {"runId": run_id, "definition": {"nodes": {"root": {"type": "manual", "children": [first]}, **nodes}}}


@pytest.mark.parametrize("keeping", [True, False])
async def test_a_run_whose_creation_is_unknown_runs_if_it_was_created(
    cluster: Cluster, store: Store, keeping: bool
) -> None:
    bench, url = store
    name = f"unknown{keeping}"
    early = asyncio.create_task(bench.events("run_x"))
    with cluster.commits_that_die(url, "runs", keeping=keeping) as die:
        asked = asyncio.create_task(bench.api.post("/v1/runs", _body("run_x", {"a": trial(name=name)})))
        await asyncio.to_thread(die, asked.done)
        reply = await asked
    assert (reply.status, reply.code) == (503, 503002)
    assert reply.body["details"][0]["runId"] == "run_x"
    assert "retry-after" in reply.response.headers
    if not keeping:
        assert (await bench.api.get("/v1/runs/run_x")).status == 404
        assert (await bench.api.post("/v1/runs", _body("run_x", {"a": trial(name=name)}))).status == 200
    assert (await bench.ended("run_x"))["status"] == "success"
    assert Counter(name for name, _ in attempts())[name] == 1
    events = await bench.events("run_x")
    assert events[-1] == ("run_finished", None)
    assert await early == events


async def test_what_is_claimed_meanwhile_does_not_hide_that_a_run_was_being_created(
    cluster: Cluster, tmp_path: Path
) -> None:
    url = cluster.fresh()
    async with composed(tmp_path, database_url=url, actions_dir=OWN_ACTIONS, shared=True) as composition:
        bench, engine = Bench(composition), composition.engine
        with cluster.commits_that_die(url, "runs", keeping=True) as die:
            asked = asyncio.create_task(bench.api.post("/v1/runs", _body("run_y", {"a": trial(name="meanwhile")})))
            died = asyncio.create_task(asyncio.to_thread(die, asked.done))
            while not engine._unconfirmed:
                await asyncio.sleep(0)
            engine.adopt([])  # as with each claim, before it is known whether the run is on disk
            await died
        assert (await asked).code == 503002
        run = await bench.ended("run_y")
    cluster.drop(url)
    assert (run["status"], run["executionState"]["a"]["status"]) == ("success", "success")
    assert Counter(name for name, _ in attempts())["meanwhile"] == 1


def _claim(url: str, run_id: str, holder: str) -> OpenRun:
    """Claims a run past the writer, whose connection has just died, while commits are not answered."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL synchronous_commit = local"))
        change = sa.update(runs).where(runs.c.id == run_id).values(claimed_by=holder)
        names = ("pk", "id", "org_id", "workflow_id", "concurrency_key", "status", "wake_at", "cancel_requested_at")
        facts = (*(runs.c[name] for name in names), sa.null(), sa.false())
        row = connection.execute(change.returning(*facts)).one()
    engine.dispose()
    return OpenRun(*row)


async def test_a_limited_run_that_is_claimed_while_its_creation_is_in_doubt_begins(
    cluster: Cluster, tmp_path: Path
) -> None:
    """It was created as nobody's, so its claim is what tells that it is this process's."""
    url = cluster.fresh()
    async with composed(tmp_path, database_url=url, actions_dir=OWN_ACTIONS, shared=True) as composition:
        bench, engine = Bench(composition), composition.engine
        definition = _body("", {"a": trial(name="limited")})["definition"]
        flow = await bench.api.create_workflow(definition, concurrency={"max": 1})
        with cluster.commits_that_die(url, "runs", keeping=True) as die:
            asked = asyncio.create_task(bench.api.post(f"/v1/workflows/{flow['id']}/run", {"runId": "run_z"}))
            died = asyncio.create_task(asyncio.to_thread(die, asked.done))
            while not engine._unconfirmed:
                await asyncio.sleep(0)
            run = _claim(url, "run_z", composition.parts.database.name)
            engine.adopt([run])
            assert run.pk in engine._known  # not left to another process: no other takes it while this one lives
            await died
        assert (await asked).code == 503002
        ended = await bench.ended("run_z")
    cluster.drop(url)
    assert (ended["status"], ended["executionState"]["a"]["status"]) == ("success", "success")
    assert Counter(name for name, _ in attempts())["limited"] == 1


@pytest.mark.parametrize("keeping", [True, False])
async def test_a_result_whose_commit_is_unknown_is_looked_up_and_never_made_again(
    cluster: Cluster, store: Store, keeping: bool
) -> None:
    bench, url = store
    first, second, beside = f"r1{keeping}", f"r2{keeping}", f"r3{keeping}"
    nodes = {
        "a": trial(name=first, held=True, children=["b"]),
        "b": trial(name=second),
        "c": trial(name=beside, held=True),
    }
    run_id = await bench.start(nodes)
    await bench.until(run_id, lambda run: run["executionState"]["a"]["status"] == "running")
    with cluster.commits_that_die(url, "events", keeping=keeping) as die:
        let_go(first)
        await asyncio.to_thread(die)
    let_go(beside)
    run = await bench.ended(run_id)
    assert run["status"] == "success"
    assert {state["status"] for state in run["executionState"].values()} == {"success"}
    seen = Counter(name for name, _ in attempts())
    assert [seen[name] for name in (first, second, beside)] == [1, 1, 1]
    kinds = Counter(await bench.events(run_id))
    assert set(kinds.values()) == {1}


@asynccontextmanager
async def _held_writes(owner: Any) -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """Holds what nodes write into tables or variables: when one is reached, and whether it may go on."""
    reached, may_go_on, write_for = asyncio.Event(), asyncio.Event(), owner.write_for

    async def held(*words: Any, **more: Any) -> Any:
        reached.set()
        await may_go_on.wait()
        return await write_for(*words, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, "write_for", held)
        yield reached, may_go_on


def _counts(url: str, counted: str) -> bool:
    """Whether a count over the tables of the store is not 0."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = bool(connection.execute(sa.text(f"SELECT count(*) FROM {counted}")).scalar_one())
    engine.dispose()
    return found


@pytest.mark.parametrize("keeping", [True, False])
async def test_rows_whose_commit_is_unknown_are_looked_up_and_written_once(
    cluster: Cluster, store: Store, keeping: bool
) -> None:
    bench, url = store
    columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "integer"}]
    await bench.api.post("/v1/tables", {"name": "people", "columns": columns})
    node = {"type": "write-table", "payload": {"table": "people", "rows": {"id": "a", "n": 1}}}
    async with _held_writes(bench.composition.parts.data.tables) as (reached, may_go_on):
        run_id = await bench.start({"write": node})
        await reached.wait()
        with cluster.commits_that_die(url, "table_writes", keeping=keeping) as die:
            may_go_on.set()
            await asyncio.to_thread(die, partial(_counts, url, "table_writes") if keeping else None)
    run = await bench.ended(run_id)
    assert run["status"] == "success", run["executionState"]
    assert run["executionState"]["write"]["result"]["inserted"] == 1
    rows = (await bench.api.get("/v1/tables/people/rows")).data["items"]
    assert [row["values"] for row in rows] == [{"id": "a", "n": 1}]


async def test_a_variable_that_may_be_written_is_looked_up_however_long_the_store_is_away(
    cluster: Cluster, store: Store
) -> None:
    """A node that has certainly written nothing fails after 8 seconds."""
    bench, url = store
    node = {"type": "increment-variable", "payload": {"name": "sum", "by": 1}}
    async with _held_writes(bench.composition.parts.data.variables) as (reached, may_go_on):
        run_id = await bench.start({"write": node})
        await reached.wait()
        with cluster.commits_that_die(url, "variable_writes", keeping=True):
            may_go_on.set()
            while not await asyncio.to_thread(_counts, url, "pg_stat_activity WHERE wait_event = 'SyncRep'"):
                await asyncio.sleep(0.02)
            await asyncio.to_thread(cluster.stop)  # the commit is on disk, and not answered
            await asyncio.sleep(9)
            await asyncio.to_thread(cluster.start)
    run = await bench.ended(run_id)
    assert run["status"] == "success", run["executionState"]
    assert run["executionState"]["write"]["result"]["value"] == 1


async def test_a_secret_is_masked_though_the_store_was_away_when_the_connectors_were_opened(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the result of a node without a connector, which comes first."""
    url, again, secret = cluster.fresh(), Timer(1, cluster.start), "s3cret-of-the-connector"
    async with echoing() as echo, composed(tmp_path, database_url=url, outbound_allow=("127.0.0.1",)) as composition:
        bench, connections = Bench(composition), composition.engine._deps.connections
        body = {"type": "http-bearer", "name": "b", "data": {"token": secret}, "allowedHosts": [echo.url]}
        made = (await bench.api.post("/v1/connectors", body)).data
        open_now = connections.open

        async def opened(*words: Any, **more: Any) -> Any:
            if again.ident is None:
                cluster.stop()
                again.start()
            return await open_now(*words, **more)

        monkeypatch.setattr(connections, "open", opened)
        node = {"type": "http-request", "retry": {"maxAttempts": 5, "backoffMs": 500}}
        first = {**node, "payload": {"url": f"{echo.url}/echo?a={secret}"}, "children": ["ask"]}
        ask = {**node, "payload": {"url": f"{echo.url}/echo"}}
        run_id = await bench.start(
            {"first": first, "ask": {**ask, "connector": {"type": made["type"], "id": made["id"]}}}
        )
        while again.ident is None:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(again.join)
        run = await bench.ended(run_id)
    cluster.drop(url)
    assert run["status"] == "success", run["executionState"]
    results = [run["executionState"][name]["result"] for name in ("first", "ask")]
    assert secret not in json.dumps(results)


async def test_a_cancel_whose_commit_is_unknown_happens_if_it_was_stored(cluster: Cluster, store: Store) -> None:
    bench, url = store
    run_id = await bench.start({"a": trial(name="cancelled", sleepMs=30_000)})
    await bench.until(run_id, lambda run: run["executionState"]["a"]["status"] == "running")
    with cluster.commits_that_die(url, "runs", keeping=True) as die:
        asked = asyncio.create_task(bench.api.post(f"/v1/runs/{run_id}/cancel"))
        await asyncio.to_thread(die, asked.done)
        assert (await asked).code == 503002
    assert (await bench.ended(run_id))["status"] == "cancelled"


async def test_a_stopped_database_is_503_and_runs_go_on_when_it_is_back(cluster: Cluster, store: Store) -> None:
    bench, _ = store
    run_id = await bench.start({"a": trial(name="down1", sleepMs=200, children=["b"]), "b": trial(name="down2")})
    cluster.stop()
    try:
        reply = await bench.api.post("/v1/runs", _body("run_down", {"a": trial(name="down3")}))
        assert (reply.status, reply.code, reply.response.headers["retry-after"]) == (503, 503001, "2")
        assert (await bench.api.get(f"/v1/runs/{run_id}")).code == 503001
        await asyncio.sleep(0.5)
    finally:
        cluster.start()
    assert (await bench.ended(run_id))["status"] == "success"
    assert (await bench.api.post("/v1/runs", _body("run_down", {"a": trial(name="down3")}))).status == 200
    assert (await bench.ended("run_down"))["status"] == "success"
    seen = Counter(name for name, _ in attempts())
    assert [seen[name] for name in ("down1", "down2", "down3")] == [1, 1, 1]


async def test_restarts_of_the_database_under_load_lose_and_double_nothing(cluster: Cluster, store: Store) -> None:
    bench, _ = store
    restarting = True

    async def start(number: int) -> str:
        run_id = f"run_load{number}"
        nodes = {
            "a": trial(name=f"{run_id}a", sleepMs=30, children=["d"]),
            "d": {"type": "delay", "payload": {"delayMs": 200}, "children": ["b"]},
            "b": trial(name=f"{run_id}b", sleepMs=30),
        }
        while True:
            reply = await bench.api.post("/v1/runs", _body(run_id, nodes))
            if reply.status == 200 or reply.code == 400079:
                return run_id
            assert reply.code in (503001, 503002), reply.body
            await asyncio.sleep(0.1)

    async def load(caller: int) -> list[str]:
        started: list[str] = []
        while restarting:
            started.append(await start(caller * 10_000 + len(started)))
            await asyncio.sleep(0.02)
        return started

    callers = [asyncio.create_task(load(caller)) for caller in range(6)]
    for mode in ("immediate", "fast", "immediate"):
        await asyncio.sleep(0.4)
        await asyncio.to_thread(cluster.stop, mode)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(cluster.start)
    await asyncio.sleep(0.3)
    restarting = False
    run_ids = [run_id for started in await asyncio.gather(*callers) for run_id in started]
    assert len(run_ids) > 20
    async with asyncio.timeout(60):
        for run_id in run_ids:
            while (await bench.api.get(f"/v1/runs/{run_id}?summary=true")).body.get("data", {}).get(
                "status"
            ) != "success":
                await asyncio.sleep(0.05)
    seen = Counter(name for name, _ in attempts())
    assert {name: seen[name] for run_id in run_ids for name in (f"{run_id}a", f"{run_id}b") if seen[name] != 1} == {}
    for run_id in run_ids[::10]:
        assert set(Counter(await bench.events(run_id)).values()) == {1}


@pytest.mark.parametrize("ends", ["its time limit", "a cancel"])
async def test_a_write_into_a_table_ends_as_what_it_came_to(store: Store, ends: str) -> None:
    bench, url = store
    await bench.api.post("/v1/tables", {"name": "notes", "columns": [{"name": "text", "type": "text"}]})
    write: Definition = {"type": "write-table", "payload": {"table": "notes", "rows": {"text": "x"}}, "timeoutMs": 200}
    if ends == "a cancel":
        del write["timeoutMs"]
    engine = sa.create_engine(url)
    with engine.connect() as holder:
        holder.execute(sa.text("LOCK TABLE table_writes IN EXCLUSIVE MODE"))
        run_id = await bench.start({"write": write})
        with engine.connect() as looker:
            waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not looker.execute(waiting).scalar():
                looker.rollback()
                await asyncio.sleep(0.02)
        asked = None
        if ends == "a cancel":
            asked = asyncio.create_task(bench.api.post(f"/v1/runs/{run_id}/cancel"))
        await asyncio.sleep(0.6)  # three times the limit
        holder.rollback()
    engine.dispose()
    run = await bench.ended(run_id)
    if asked is not None:
        await asked
    assert run["status"] == ("success" if asked is None else run["status"])
    node = run["executionState"]["write"]
    assert (node["status"], node["result"]["inserted"]) == ("success", 1), node
    assert len((await bench.api.get("/v1/tables/notes/rows")).data["items"]) == 1
