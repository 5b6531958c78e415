"""Several processes on one PostgreSQL, of which Temporal says which one advances a run: one dies, one is frozen and
wakes up late, Temporal forgets everything. No run is lost, and none ends twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bench import soak_chaos, soak_steady
from testkit.machines import CLUSTER, Machines, machines_on
from testkit.outside import Outside, outside_server
from testkit.postgres import Cluster
from testkit.tcp_proxy import TcpProxy
from testkit.temporal import TemporalServer

TAKE_OVER_S = 15.0


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    async with outside_server() as found:
        yield found


@pytest.fixture
def own_temporal(tmp_path: Path) -> Iterator[TemporalServer]:
    """A Temporal that a test may wipe."""
    server = TemporalServer(tmp_path)
    server.start()
    yield server
    server.end(kill=True)


@pytest.fixture
async def machines(tmp_path: Path, cluster: Cluster, own_temporal: TemporalServer) -> AsyncIterator[Machines]:
    async with machines_on(tmp_path, cluster, own_temporal) as found:
        yield found


def _reading(outside: Outside) -> dict[str, Any]:
    """A run that asks once, then says what it got."""
    nodes = {
        "root": {"type": "manual", "children": ["ask"]},
        "ask": {"type": "http-request", "payload": {"method": "GET", "url": f"{outside.base}/a"}, "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "{{$nodes.ask.result.body.number}}"}},
    }
    return {"definition": {"nodes": nodes}}


async def _begin(machines: Machines, outside: Outside, *names: str) -> str:
    """Starts servers and a run, which asks outside by now; its id."""
    machines.add("api", "api,triggers")
    for name in names:
        machines.add(name, "engine")
    await machines.start()
    found = await machines.post("api", "/v1/runs", _reading(outside))
    await outside.until(1)
    run_id: str = found["runId"]
    return run_id


async def _check(machines: Machines, run_id: str, outside: Outside) -> None:
    """The run ended once, with the second answer, and its stream has every event once."""
    run = await machines.ended("api", run_id)
    state = run["executionState"]
    assert (run["status"], state["say"]["result"]["message"]) == ("success", "2")
    assert outside.asked == ["/a", "/a"]
    async with machines.session.get(f"{machines.servers['api'].base}/v1/runs/{run_id}/stream") as answer:
        lines = [line for line in (await answer.text()).splitlines() if line.startswith(("id: ", "event: "))]
    numbers = [int(line[4:]) for line in lines if line.startswith("id: ")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [line[7:] for line in lines if line.startswith("event: run_")] == ["run_started", "run_finished"]


async def test_a_frozen_engine_loses_its_run_and_what_it_finds_later_does_not_count(
    machines: Machines, outside: Outside
) -> None:
    run_id = await _begin(machines, outside, "one", "two")
    frozen = machines.servers[machines.name_of(machines.holder(run_id))]
    frozen.freeze()
    began = asyncio.get_running_loop().time()
    await outside.until(2)
    assert asyncio.get_running_loop().time() - began < TAKE_OVER_S
    frozen.thaw()
    outside.go_on.set()  # the frozen one gets its answer, under a fence that is not the newest
    await _check(machines, run_id, outside)
    assert frozen.is_alive
    second = await machines.post("api", "/v1/runs", _reading(outside))  # it goes on working
    assert (await machines.ended("api", second["runId"]))["status"] == "success"


@pytest.mark.long
@pytest.mark.parametrize("how", ["cut", "hold"])
async def test_an_engine_that_cannot_reach_the_store_gives_its_runs_back(
    machines: Machines, outside: Outside, how: str
) -> None:
    """Only its way to PostgreSQL is gone: Temporal still hears from it, and would leave its runs with it."""
    url = sa.make_url(machines.direct)
    proxy = TcpProxy(lambda: asyncio.open_unix_connection(f"{url.query['host']}/.s.PGSQL.5432"))
    await proxy.start()
    through = f"postgresql+psycopg://postgres@127.0.0.1:{proxy.port}/{url.database}"
    machines.add("api", "api,triggers")
    machines.add("cut-off", "engine", database_url=through)
    await machines.start()
    run_id = (await machines.post("api", "/v1/runs", _reading(outside)))["runId"]
    await outside.until(1)
    machines.add("well", "engine")
    await machines.start("well")
    loop = asyncio.get_running_loop()
    away = asyncio.ensure_future(getattr(proxy, how)(40))
    began = loop.time()
    await outside.until(2)
    assert loop.time() - began < TAKE_OVER_S
    say = {"root": {"type": "manual", "children": ["say"]}, "say": {"type": "log", "payload": {"message": "hello"}}}
    for _ in range(10):  # it is asked for nothing while it is away
        began = loop.time()
        later = await machines.post("api", "/v1/runs", {"definition": {"nodes": say}})
        assert (await machines.ended("api", later["runId"]))["status"] == "success"
        assert loop.time() - began < TAKE_OVER_S
    assert not away.done()
    outside.go_on.set()
    await _check(machines, run_id, outside)
    await away
    second = await machines.post("api", "/v1/runs", {"definition": {"nodes": say}})
    assert (await machines.ended("api", second["runId"]))["status"] == "success"
    assert machines.servers["cut-off"].is_alive
    await proxy.stop()


@pytest.mark.long
async def test_a_killed_engine_and_a_wiped_temporal_lose_no_run(
    machines: Machines, outside: Outside, own_temporal: TemporalServer
) -> None:
    run_id = await _begin(machines, outside, "one")
    waiting = {"root": {"type": "manual", "children": ["nap"]}, "nap": {"type": "delay", "payload": {"delayMs": 6000}}}
    napping = await machines.post("api", "/v1/runs", {"definition": {"nodes": waiting}})
    machines.servers["one"].kill()
    own_temporal.wipe()
    accepted = await machines.post("api", "/v1/runs", {"definition": {"nodes": waiting}})  # it waits on disk
    async with machines.session.get(f"{machines.servers['api'].base}/readyz") as answer:
        assert answer.status == 200
    own_temporal.start()
    machines.add("two", "engine")
    await machines.start("two")
    await _check(machines, run_id, outside)
    for one in (napping, accepted):
        assert (await machines.ended("api", one["runId"]))["status"] == "success"


@pytest.mark.long
def test_chaos_at_a_small_scale() -> None:
    """The proof of `scripts/soak chaos`, with one fault of each kind."""
    found = soak_chaos.run(8, 3, users="4")
    assert found["failures"] == []
    assert found["faults"]["all"] == 8


@pytest.mark.long
def test_mixed_load_with_triggers_armed_at_a_small_scale() -> None:
    """The proof of `scripts/soak steady`, for seconds and not for half an hour."""
    found = soak_steady.run(8, 3, users="3")
    assert found["failures"] == []
    assert min(found["triggerEvents"][name] for name in ("webhook", "schedule", "transfers", "http-poll", "rss")) > 0
    assert set(found["memory"]) == {*CLUSTER, "PostgreSQL", "Temporal"}
